"""Loaded models: tokens, runs, hooks, caches."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from lorascope import _native, _progress
from lorascope._cache import Cache
from lorascope._interventions import Intervention, positions_of, units_of

#: One prompt or several: texts, or token ids (lists, NumPy arrays, torch tensors).
Prompts = Union[str, Sequence[str], Sequence[int], Sequence[Sequence[int]], np.ndarray]
#: Hook names: one, several, or a function that says of each name whether it is meant.
Names = Union[str, Iterable[str], Callable[[str], bool]]
#: Called with the array at a hook point; what it returns, or leaves in the array, goes on.
HookFunction = Callable[[np.ndarray, "Hook"], Optional[np.ndarray]]

# Large, and computed only where somebody asks: TransformerLens too leaves them out.
_ON_REQUEST = ("hook_result", "hook_q_input", "hook_k_input", "hook_v_input", "hook_mlp_in", "hook_lora_result")


class Hook:
    """Where a function was called."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        #: Name of the hook point.
        self.name = name

    def layer(self) -> int:
        """The layer, from 0.

        Raises:
            ValueError: the point is in no layer.
        """
        parts = self.name.split(".")
        if parts[0] != "blocks":
            raise ValueError(f"`{self.name}` is in no layer")
        return int(parts[1])

    def __repr__(self) -> str:
        return f"Hook({self.name!r})"


def _trampoline(function: HookFunction) -> Callable[[Any, str], None]:
    def call(buffer: Any, name: str) -> None:
        array = np.asarray(buffer)
        returned = function(array, Hook(name))
        if returned is None or returned is array:
            return
        returned = np.asarray(returned)
        if returned.shape != array.shape:
            raise ValueError(f"the function at `{name}` returned the shape {returned.shape} instead of {array.shape}")
        array[...] = returned

    return call


class Model:
    """A base model with its adapters, loaded once; adapters are never merged.

    Made by :meth:`load`. Runs let other Python threads go on, and ctrl-C ends them at the next layer.
    """

    #: Type of all numbers.
    dtype = np.dtype("float32")

    def __init__(self, native: _native.Model, base: str) -> None:
        self._native = native
        self.base = base
        spec = native.spec()
        #: Family, e.g. ``"gemma2"``.
        self.family: str = spec["family"]
        #: Number of layers.
        self.n_layers: int = spec["n_layers"]
        #: Query heads of a layer.
        self.n_heads: int = spec["n_heads"]
        #: Key/value heads of a layer.
        self.n_key_value_heads: int = spec["n_key_value_heads"]
        #: Width of the residual stream.
        self.d_model: int = spec["d_model"]
        #: Width of a head.
        self.d_head: int = spec["d_head"]
        #: Width of the MLP.
        self.d_mlp: int = spec["d_mlp"]
        #: Number of tokens of the vocabulary.
        self.d_vocab: int = spec["d_vocab"]
        #: Longest prompt.
        self.n_ctx: int = spec["n_ctx"]
        #: Names of all models: ``"base"`` first, then adapters and controls.
        self.models: List[str] = [name for name, _ in native.models()]
        #: Names of adapters and controls.
        self.adapters: List[str] = self.models[1:]
        #: How each control was made.
        self.controls: Dict[str, str] = {name: made for name, made in native.models() if made is not None}

    @classmethod
    def load(
        cls,
        base: Union[str, "os.PathLike[str]"],
        adapters: Optional[Mapping[str, Union[str, "os.PathLike[str]"]]] = None,
        *,
        checkpoints: Optional[Mapping[str, Union[str, "os.PathLike[str]"]]] = None,
        controls: Sequence[str] = (),
        nf4: Optional[str] = None,
        memory: Union[str, int] = "3GiB",
        seed: int = 0,
        progress: Union[_progress.Progress, bool, None] = None,
    ) -> "Model":
        """Loads a base and its adapters, by the names that the command line takes.

        Args:
            base: A folder, a ``.gguf`` file, a hub id, or ``"organism"``, the embedded model.
            adapters: Names of your choice, each with a PEFT folder, a hub id, or ``"organism:hybrid"`` and the like.
            checkpoints: Names with folders of checkpoints, each of which becomes an adapter ``NAME@STEP``.
            controls: Adapters that learned nothing, as further models: ``"random"``, ``"shuffled:moral"``, ``"random:moral@3"``.
            nf4: ``"stored"``, ``"f16"`` or ``"bf16"``: rounds the base through bitsandbytes NF4 from that type first.
            memory: Memory for packed weights; with less, weights are packed anew in every run, with the same results.
            seed: Seed of controls that name none.
            progress: Called as ``progress(what, done, total)``; by default a line in terminals and notebooks, ``False`` for none.

        Raises:
            Error: what can't be found or read, or doesn't fit together.
        """
        pairs = [(name, os.fspath(path)) for name, path in (adapters or {}).items()]
        folders = [(name, os.fspath(path)) for name, path in (checkpoints or {}).items()]
        native = _native.Model.load(
            os.fspath(base),
            pairs,
            folders,
            [controls] if isinstance(controls, str) else list(controls),
            nf4,
            str(memory),
            seed,
            _progress.resolve(progress),
        )
        return cls(native, os.fspath(base))

    # Text and tokens

    @property
    def vocab(self) -> List[str]:
        """Every token as text, by id."""
        return [self._native.token_text(token) for token in range(self.d_vocab)]

    def tokenize(self, text: str) -> List[int]:
        """Token ids of a text as a prompt, after the beginning-of-sequence token if the model has one."""
        return self._native.tokenize(text)

    def chat(self, messages: Union[str, Sequence[Mapping[str, str]]]) -> List[int]:
        """Token ids of a conversation in the model's chat template, up to where its answer begins.

        ``messages`` is a user's message, or a list of ``{"role": ..., "content": ...}``.
        """
        return self._chat(messages)[1]

    def chat_text(self, messages: Union[str, Sequence[Mapping[str, str]]]) -> str:
        """The conversation as text, as the model reads it."""
        return self._chat(messages)[0]

    def _chat(self, messages: Union[str, Sequence[Mapping[str, str]]]) -> Tuple[str, List[int]]:
        if isinstance(messages, str):
            messages = [{"role": "user", "content": messages}]
        return self._native.chat([(message["role"], message["content"]) for message in messages])

    def decode(self, tokens: Sequence[int]) -> str:
        """The text of tokens."""
        return self._native.decode(_ids(tokens))

    def token_id(self, token: str) -> int:
        """The id of a token by its exact text.

        Raises:
            KeyError: there is no such token.
        """
        found = self._native.token_id(token)
        if found is None:
            raise KeyError(f"`{token}` is no single token")
        return found

    # Hook points

    def hook_names(self, adapter: Optional[str] = None) -> List[str]:
        """Names of all hook points of the base, or of an adapter, in the order of the forward pass (docs/hooks.md)."""
        return self._native.hook_names(self._which(adapter))

    def _which(self, adapter: Optional[str]) -> int:
        if adapter is None:
            return 0
        if adapter not in self.models:
            raise ValueError(f"no model is called `{adapter}`; there are {', '.join(self.models)}")
        return self.models.index(adapter)

    def _names(self, names: Optional[Names], adapter: Optional[str]) -> List[str]:
        if names is None:
            return [name for name in self.hook_names(adapter) if not name.endswith(_ON_REQUEST)]
        if isinstance(names, str):
            return [names]
        if callable(names):
            return [name for name in self.hook_names(adapter) if names(name)]
        return list(dict.fromkeys(names))

    # Runs

    def __call__(self, prompts: Prompts, adapter: Optional[str] = None) -> np.ndarray:
        """Logits ``[batch, position, d_vocab]``."""
        return self.run_with_hooks(prompts, adapter=adapter)

    def run_with_cache(
        self,
        prompts: Prompts,
        names: Optional[Names] = None,
        adapter: Optional[str] = None,
        *,
        fwd_hooks: Sequence[Tuple[Names, HookFunction]] = (),
        interventions: Sequence[Intervention] = (),
        logits: str = "all",
    ) -> Tuple[np.ndarray, Cache]:
        """Runs prompts of equal length; logits and activations.

        Args:
            prompts: Texts or token ids. Texts are raw; :meth:`chat` makes tokens of conversations.
            names: Hook points to be kept: names, or a function that says which; by default all but the largest.
            adapter: The model that runs: a name of :attr:`models`; the base by default.
            fwd_hooks: Functions at hook points, as for :meth:`run_with_hooks`.
            interventions: As for :meth:`run_with_hooks`.
            logits: ``"all"``, ``"last"`` for the last position alone, or ``"none"``.

        Returns:
            Logits ``[batch, position, d_vocab]``, without positions where none are wanted, and the :class:`Cache`, which shows values after
            everything that was done to them.
        """
        return self._run([self._tokens(prompts)], names, adapter, fwd_hooks, interventions, logits)[0]

    def run_with_hooks(
        self,
        prompts: Prompts,
        fwd_hooks: Sequence[Tuple[Names, HookFunction]] = (),
        *,
        interventions: Sequence[Intervention] = (),
        adapter: Optional[str] = None,
        logits: str = "all",
    ) -> np.ndarray:
        """Runs prompts of equal length with functions at hook points; their logits.

        A function is called once, with the array of all prompts ``[batch, position, ...]`` and the :class:`Hook`. It may change
        the array in place, or return another of the same shape. ``interventions`` (made with
        :func:`lorascope.at`) happen before functions at the same point.

        Example::

            def no_head(z, hook):
                z[:, :, 3] = 0.0

            model.run_with_hooks(prompt, fwd_hooks=[("blocks.2.attn.hook_z", no_head)])
        """
        return self._run([self._tokens(prompts)], [], adapter, fwd_hooks, interventions, logits)[0][0]

    def run_batch(
        self,
        prompts: Union[Sequence[str], Sequence[Sequence[int]]],
        names: Names = (),
        adapter: Optional[str] = None,
        *,
        fwd_hooks: Sequence[Tuple[Names, HookFunction]] = (),
        interventions: Sequence[Intervention] = (),
        logits: str = "all",
    ) -> List[Tuple[np.ndarray, Cache]]:
        """As :meth:`run_with_cache` for prompts of any lengths, in one pass; each gets arrays of its own, with a batch of one.

        Functions are called once for each prompt.
        """
        groups = [[tokens] for tokens in self._tokens(prompts)]
        return self._run(groups, names, adapter, fwd_hooks, interventions, logits)

    def _tokens(self, prompts: Prompts) -> List[List[int]]:
        if isinstance(prompts, str):
            return [self.tokenize(prompts)]
        items: List[Any] = _list(prompts)
        if not items:
            raise ValueError("there is no prompt")
        if isinstance(items[0], (int, np.integer)):
            return [_ids(items)]
        return [self.tokenize(item) if isinstance(item, str) else _ids(item) for item in items]

    def _run(
        self,
        groups: List[List[List[int]]],
        names: Optional[Names],
        adapter: Optional[str],
        fwd_hooks: Sequence[Tuple[Names, HookFunction]],
        interventions: Sequence[Intervention],
        logits: str,
    ) -> List[Tuple[np.ndarray, Cache]]:
        which, wanted = self._which(adapter), self._names(names, adapter)
        functions = [
            (name, _trampoline(function)) for at, function in fwd_hooks for name in self._names(at, adapter)
        ]
        edits = self._edits(groups, which, interventions)
        found = self._native.run(groups, which, wanted, edits, functions, logits)
        model = self.models[which]
        return [
            (
                np.empty((len(tokens), 0, self.d_vocab), np.float32) if values is None else np.asarray(values),
                Cache({name: np.asarray(array) for name, array in zip(wanted, arrays)}, model, tokens),
            )
            for tokens, (values, arrays) in zip(groups, found)
        ]

    # Interventions

    def _edits(
        self, groups: List[List[List[int]]], which: int, interventions: Sequence[Intervention]
    ) -> List[Dict[str, Any]]:
        caches = self._sources(groups, interventions)
        edits = []
        for one in interventions:
            for group, prompts in enumerate(groups):
                cache = caches[group].get(one.source) if isinstance(one.source, str) else one.source
                edits.append(self._edit(one, group, prompts, which, cache))
        return edits

    def _sources(
        self, groups: List[List[List[int]]], interventions: Sequence[Intervention]
    ) -> List[Dict[str, Cache]]:
        """What patches read of other models: one pass for each, whatever the number of patches."""
        wanted: Dict[str, List[str]] = {}
        for one in interventions:
            if one.kind == "patch" and isinstance(one.source, str):
                names = wanted.setdefault(one.source, [])
                names.extend([one.name] if one.name not in names else [])
        caches: List[Dict[str, Cache]] = [{} for _ in groups]
        for source, names in wanted.items():
            for of_group, (_, cache) in zip(caches, self._run(groups, names, source, (), (), "none")):
                of_group[source] = cache
        return caches

    def _edit(
        self, one: Intervention, group: int, prompts: List[List[int]], which: int, cache: Optional[Cache]
    ) -> Dict[str, Any]:
        dims, heads = self._native.hook_shape(one.name, which)
        length = len(prompts[0])
        positions = positions_of(one.position, length, one.name)
        edit: Dict[str, Any] = {
            "name": one.name,
            "group": group,
            "positions": None if one.position is None else positions,
            "head": one.head,
            "units": None,
            "op": "set" if one.kind == "patch" else one.kind,
            "factor": one.factor,
            "values": None,
        }
        if dims is None:
            if one.unit is not None:
                raise ValueError(f"`{one.name}` has one value for each key; `unit` means nothing there")
            if one.kind != "scale":
                edit["values"] = _rows(self._per_key(one, cache, len(prompts), positions, heads, length), positions)
            return edit
        inner = dims if one.head is None else dims[1:]
        if one.unit is not None:
            if len(inner) > 1:
                raise ValueError(f"`{one.name}` has {dims[0]} heads; `unit` needs a `head`")
            edit["units"] = units_of(one.unit, inner[0], one.name)
            inner = [edit["units"][1] - edit["units"][0]]
        if one.kind == "scale":
            return edit
        values = one.values if cache is None else self._read(one, cache, positions, edit["units"])
        try:
            values = np.broadcast_to(np.asarray(values, dtype=np.float32), (len(prompts), len(positions), *inner))
        except ValueError:
            shape = (len(prompts), len(positions), *inner)
            raise ValueError(f"`{one.name}`: values of shape {np.shape(values)} do not broadcast to {shape}") from None
        edit["values"] = values.tobytes()
        return edit

    def _read(
        self, one: Intervention, cache: Cache, positions: List[int], units: Optional[Tuple[int, int]]
    ) -> np.ndarray:
        array = cache[one.name]
        at = one.source_position if one.source_position is not None else one.position
        source = positions_of(at, array.shape[1], one.name)
        if len(source) != len(positions):
            raise ValueError(f"`{one.name}`: {len(source)} positions to read for {len(positions)} to write")
        values = array[:, source]
        if one.head is not None:
            values = values[:, :, one.head]
        return values if units is None else values[..., units[0] : units[1]]

    def _per_key(
        self, one: Intervention, cache: Optional[Cache], n: int, positions: List[int], heads: int, length: int
    ) -> np.ndarray:
        """Values of scores or patterns, ``[batch, head, positions, length]``."""
        values = one.values
        if cache is not None:
            if one.source_position is not None:
                raise ValueError(f"`{one.name}`: patterns are patched between equal positions only")
            values = cache[one.name][:, :, positions]
            values = values if one.head is None else values[:, one.head : one.head + 1]
        shape = (n, heads if one.head is None else 1, len(positions), length)
        return np.broadcast_to(np.asarray(values, dtype=np.float32), shape)

    def __repr__(self) -> str:
        adapters = f" with {', '.join(self.adapters)}" if self.adapters else ""
        return f"Model({self.base}{adapters}: {self.family}, {self.n_layers} layers, {self.n_heads} heads)"


def _rows(values: np.ndarray, positions: List[int]) -> bytes:
    """Patterns ``[batch, head, positions, key]`` row by row, each head's values for the keys up to the row's own."""
    rows = [values[b, :, i, : p + 1].tobytes() for b in range(len(values)) for i, p in enumerate(positions)]
    return b"".join(rows)


def _list(values: Any) -> List[Any]:
    """A list, of NumPy's and torch's arrays too."""
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _ids(tokens: Any) -> List[int]:
    return [int(token) for token in _list(tokens)]
