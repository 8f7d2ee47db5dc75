"""Activations by the names of their hook points."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping, Tuple, Union

if TYPE_CHECKING:
    import numpy as np

Key = Union[str, Tuple[str, int], Tuple[str, int, str]]

_MODULES = ("", "attn.", "mlp.", "ln1.", "ln2.")
_FLOATS = {"F16": "<f2", "F32": "<f4", "F64": "<f8"}
# Keys of a file's metadata.
_MODEL, _TOKENS = "lorascope.model", "lorascope.tokens"


def _contiguous(array: "np.ndarray") -> "np.ndarray":
    import numpy as np

    return np.ascontiguousarray(array)


def _activation(name: str, tensor: "Dict[str, Any]") -> "np.ndarray":
    import numpy as np

    kind = tensor["dtype"]
    if kind == "BF16":
        # The upper half of a float32; NumPy has no such type.
        wide = np.frombuffer(tensor["data"], "<u2").astype(np.uint32) << 16
        return wide.view(np.float32).reshape(tensor["shape"])
    if kind not in _FLOATS:
        raise ValueError(f"`{name}` has numbers of type {kind}; activations are floats")
    return np.frombuffer(tensor["data"], _FLOATS[kind]).reshape(tensor["shape"]).astype(np.float32)


class Cache(Mapping[str, "np.ndarray"]):
    """Activations of a run: a mapping from hook names to float32 arrays ``[batch, position, ...]``.

    Scores and patterns of attention are ``[batch, head, query, key]``. Arrays share the engine's memory: nothing is copied, and
    ``torch.from_dlpack(cache[name])`` copies nothing either.

    Besides full names it takes TransformerLens's short ones: ``cache["z", 3]``, ``cache["resid_post", 0]``,
    ``cache["scale", 2, "ln1"]``.
    """

    def __init__(self, arrays: Dict[str, "np.ndarray"], model: str, tokens: List[List[int]]) -> None:
        self._arrays = arrays
        #: The model that ran: ``"base"`` or an adapter's name.
        self.model = model
        #: Token ids of each prompt.
        self.tokens = tokens

    def _name(self, key: Key) -> str:
        if isinstance(key, str):
            return key
        short, layer = key[0], key[1]
        modules = [f"{key[2]}."] if len(key) == 3 else _MODULES
        candidates = [f"blocks.{layer}.{module}hook_{short}" for module in modules]
        found = [name for name in candidates if name in self._arrays]
        if len(found) == 1:
            return found[0]
        which = f"several: {', '.join(found)}" if found else f"none of {', '.join(candidates)}"
        raise KeyError(f"{key!r} names {which}")

    def __getitem__(self, key: Key) -> "np.ndarray":
        name = self._name(key)
        if name not in self._arrays:
            raise KeyError(f"`{name}` was not cached; name it in `names`")
        return self._arrays[name]

    def __contains__(self, key: object) -> bool:
        try:
            return self._name(key) in self._arrays  # type: ignore[arg-type]
        except (KeyError, TypeError, IndexError):
            return False

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def stack(self, short: str) -> "np.ndarray":
        """One point of all cached layers, ``[layer, batch, position, ...]``; a copy."""
        import numpy as np

        numbers = {int(name.split(".")[1]) for name in self._arrays if name.startswith("blocks.")}
        found = [layer for layer in sorted(numbers) if self.__contains__((short, layer))]
        if not found:
            raise KeyError(f"`{short}` was not cached in any layer")
        return np.stack([self[short, layer] for layer in found])

    def save(self, path: Union[str, "os.PathLike[str]"]) -> None:
        """Writes all arrays as safetensors, under the names and in the shapes of TransformerLens's ``ActivationCache``.

        ``ActivationCache(safetensors.torch.load_file(path), model)`` reads it there. Model and tokens are kept in the file's metadata.
        """
        from safetensors.numpy import save_file

        metadata = {"format": "pt", _MODEL: self.model, _TOKENS: json.dumps(self.tokens)}
        save_file({name: _contiguous(array) for name, array in self._arrays.items()}, os.fspath(path), metadata)

    @classmethod
    def load(cls, path: Union[str, "os.PathLike[str]"]) -> "Cache":
        """Reads what :meth:`save` wrote, or what ``safetensors.torch.save_file(dict(cache), path)`` made of a cache of TransformerLens.

        Arrays are in memory, as float32; a cache from elsewhere has no :attr:`model` (``""``) and no :attr:`tokens`.

        Raises:
            ValueError: a tensor that is no activation.
        """
        from safetensors import deserialize, safe_open

        with safe_open(os.fspath(path), framework="numpy") as file:
            about = file.metadata() or {}
        with open(path, "rb") as file:
            arrays = {name: _activation(name, tensor) for name, tensor in deserialize(file.read())}
        return cls(arrays, about.get(_MODEL, ""), json.loads(about.get(_TOKENS, "[]")))

    def __repr__(self) -> str:
        size = sum(array.nbytes for array in self._arrays.values()) / 1e6
        return f"Cache of {self.model or 'a model without name'}: {len(self)} hook points, {size:.1f} MB"
