"""Steering vectors as files: safetensors by hook name, GGUF as llama.cpp and repeng have control vectors."""

from __future__ import annotations

import os
import re
from typing import Any, Dict, Mapping, Optional, Union

import numpy as np

from lorascope._model import Model

_RESID = re.compile(r"blocks\.(\d+)\.hook_resid_(pre|post)")
_ARCHITECTURE = "controlvector"
# What llama.cpp calls families that it has under another name.
_HINTS = {"mistral": "llama"}


def save_vectors(
    vectors: Mapping[str, Any], path: Union[str, "os.PathLike[str]"], *, model: Optional[Model] = None
) -> None:
    """Writes steering vectors, one ``[d_model]`` for each hook name, to a ``.safetensors`` or a ``.gguf`` file.

    A GGUF is a control vector of llama.cpp (``--control-vector``), as repeng writes them: ``direction.N`` is added to the residual
    stream after layer N, at every position, which is ``lorascope.at(f"blocks.{N}.hook_resid_post").add(vector)`` here. llama.cpp has no
    direction for layer 0.

    Args:
        vectors: Vectors by hook name: :func:`load_vectors` of a run of ``steer``, or differences of caches.
        path: The file; its ending says the format.
        model: The model that they are for, which a GGUF needs: its family is written into the file, and shapes are checked.

    Raises:
        ValueError: another ending, a shape that is not the model's, or a place that control vectors don't have.
    """
    arrays = {name: np.ascontiguousarray(vector, dtype=np.float32) for name, vector in vectors.items()}
    for name, array in arrays.items():
        width = array.shape[0] if model is None and array.ndim == 1 else model.d_model if model else None
        if array.shape != (width,):
            raise ValueError(f"`{name}` has the shape {array.shape}; a vector is [{width or 'd_model'}]")
    ending = os.path.splitext(os.fspath(path))[1]
    if ending == ".safetensors":
        from safetensors.numpy import save_file

        save_file(arrays, os.fspath(path), {"format": "pt"})
    elif ending == ".gguf":
        if model is None:
            raise ValueError("a control vector needs `model`")
        _write_gguf(arrays, os.fspath(path), model)
    else:
        raise ValueError(f"`{os.fspath(path)}` must end with .safetensors or .gguf")


def load_vectors(path: Union[str, "os.PathLike[str]"]) -> Dict[str, np.ndarray]:
    """Vectors by hook name, from a file of :func:`save_vectors`, a run of ``steer`` (``vectors/*.safetensors``), or a control vector.

    Raises:
        ValueError: another ending, or a GGUF that is no control vector.
    """
    ending = os.path.splitext(os.fspath(path))[1]
    if ending == ".safetensors":
        from safetensors.numpy import load_file

        return load_file(os.fspath(path))
    if ending == ".gguf":
        return _read_gguf(os.fspath(path))
    raise ValueError(f"`{os.fspath(path)}` must end with .safetensors or .gguf")


def _direction(name: str, n_layers: int) -> int:
    """The layer after which a vector is added."""
    found = _RESID.fullmatch(name)
    if found is None:
        raise ValueError(f"`{name}`: control vectors are for the residual stream after a layer, hook_resid_post")
    # What is before a layer is after the one before.
    layer = int(found[1]) - (found[2] == "pre")
    if not 1 <= layer < n_layers:
        raise ValueError(f"`{name}`: control vectors are for layers 1 to {n_layers - 1}")
    return layer


def _write_gguf(arrays: Dict[str, np.ndarray], path: str, model: Model) -> None:
    directions: Dict[int, np.ndarray] = {}
    for name, array in arrays.items():
        layer = _direction(name, model.n_layers)
        if layer in directions:
            raise ValueError(f"`{name}`: there is a vector for the stream after layer {layer} already")
        directions[layer] = array
    writer = _gguf().GGUFWriter(path, _ARCHITECTURE)
    writer.add_string(f"{_ARCHITECTURE}.model_hint", _HINTS.get(model.family, model.family))
    writer.add_uint32(f"{_ARCHITECTURE}.layer_count", len(directions))
    for layer in sorted(directions):
        writer.add_tensor(f"direction.{layer}", directions[layer])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _read_gguf(path: str) -> Dict[str, np.ndarray]:
    tensors = [t for t in _gguf().GGUFReader(path).tensors if t.name.startswith("direction.")]
    if not tensors:
        raise ValueError(f"`{path}` has no tensor `direction.N`; is it a control vector?")
    named = {f"blocks.{int(t.name.split('.')[1])}.hook_resid_post": t for t in tensors}
    return {name: np.array(t.data, dtype=np.float32) for name, t in named.items()}


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise ImportError("control vectors need the package gguf: pip install gguf") from error
    return gguf
