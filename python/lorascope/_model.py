"""Loaded models: tokens, runs, hooks, caches."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from lorascope import _native, _progress
from lorascope._cache import Cache
from lorascope._edits import edits_of
from lorascope._gradients import LossFunction, as_bytes
from lorascope._interventions import Intervention

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

    def run_with_gradients(
        self,
        prompts: Prompts,
        loss: LossFunction,
        names: Optional[Names] = None,
        adapter: Optional[str] = None,
        *,
        interventions: Sequence[Intervention] = (),
        logits: str = "last",
    ) -> Tuple[np.ndarray, Cache, Cache]:
        """Runs prompts of equal length there and back: logits, activations, and gradients of a scalar by these activations.

        Args:
            prompts: As for :meth:`run_with_cache`.
            loss: A function of the logits ``[batch, position, d_vocab]`` that returns the derivative of a scalar by each of them, in their
                shape; :func:`lorascope.logit_difference` makes one. It is called once.
            names: Hook points, as for :meth:`run_with_cache`.
            adapter: The model that runs; the base by default.
            interventions: Part of the function whose derivative is taken. What a patch brings is a constant, and nothing flows through
                what is replaced.
            logits: ``"last"`` for the last position alone, or ``"all"``.

        Returns:
            Logits; the :class:`Cache` of values; a :class:`Cache` of gradients, in the same shapes: of the scalar by the values that the
            rest of the model saw.
        """
        which, wanted, tokens = self._which(adapter), self._names(names, adapter), self._tokens(prompts)
        edits = edits_of(self, [tokens], which, interventions)
        out, values, gradients = self._native.gradients(tokens, which, wanted, edits, logits, as_bytes(loss))
        caches = [
            Cache({name: np.asarray(array) for name, array in zip(wanted, arrays)}, self.models[which], tokens)
            for arrays in (values, gradients)
        ]
        return np.asarray(out), caches[0], caches[1]

    def save_adapter(
        self, adapter: str, folder: Union[str, "os.PathLike[str]"], *, blocks: Union[str, Sequence[str], None] = None
    ) -> None:
        """Writes an adapter, or some of its blocks, as a PEFT folder that other programs load.

        What is written has one rank, one whole ``lora_alpha`` and no patterns, so that vLLM takes it too: lower ranks are filled up with
        zeros, and where scales differ they go into B.

        Args:
            adapter: An adapter or a control.
            folder: Where ``adapter_config.json`` and ``adapter_model.safetensors`` go. Files of these names there are an error.
            blocks: What stays, as surgery names it: ``"L2 mlp.up_proj, L3 attention"``, or a list of such names. All by default.

        Raises:
            Error: the adapter changes more than linear maps by low rank (DoRA, biases, embeddings, replaced weights), or has no such
                block.
            FileExistsError: there is an adapter already.
        """
        named = [name.strip() for name in blocks.split(",")] if isinstance(blocks, str) else blocks
        config, weights = self._native.adapter_files(self._which(adapter), None if named is None else list(named))
        files = {"adapter_config.json": config.encode("utf-8"), "adapter_model.safetensors": weights}
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        for name in files:
            if (place / name).exists():
                raise FileExistsError(f"{place / name} exists; name another folder")
        for name, content in files.items():
            (place / name).write_bytes(content)

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
        edits = edits_of(self, groups, which, interventions)
        found = self._native.run(groups, which, wanted, edits, functions, logits)
        model = self.models[which]
        return [
            (
                np.empty((len(tokens), 0, self.d_vocab), np.float32) if values is None else np.asarray(values),
                Cache({name: np.asarray(array) for name, array in zip(wanted, arrays)}, model, tokens),
            )
            for tokens, (values, arrays) in zip(groups, found)
        ]

    def __repr__(self) -> str:
        adapters = f" with {', '.join(self.adapters)}" if self.adapters else ""
        return f"Model({self.base}{adapters}: {self.family}, {self.n_layers} layers, {self.n_heads} heads)"


def _list(values: Any) -> List[Any]:
    """A list, of NumPy's and torch's arrays too."""
    return list(values.tolist() if hasattr(values, "tolist") else values)


def _ids(tokens: Any) -> List[int]:
    return [int(token) for token in _list(tokens)]
