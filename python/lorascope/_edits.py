"""Interventions as the engine takes them: numbers broadcast, sources read, positions counted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, List, Optional, Sequence, Tuple

import numpy as np

from lorascope._cache import Cache
from lorascope._interventions import Intervention, positions_of, units_of

if TYPE_CHECKING:
    from lorascope._model import Model


def edits_of(
    model: Model, groups: List[List[List[int]]], which: int, interventions: Sequence[Intervention]
) -> List[Dict[str, Any]]:
    """One edit for each intervention in each group of prompts of equal length."""
    caches = _sources(model, groups, interventions)
    edits = []
    for one in interventions:
        for group, prompts in enumerate(groups):
            cache = caches[group].get(one.source) if isinstance(one.source, str) else one.source
            edits.append(_edit(model, one, group, prompts, which, cache))
    return edits


def _sources(
    model: Model, groups: List[List[List[int]]], interventions: Sequence[Intervention]
) -> List[Dict[str, Cache]]:
    """What patches read of other models: one pass for each, whatever the number of patches."""
    wanted: Dict[str, List[str]] = {}
    for one in interventions:
        if one.kind == "patch" and isinstance(one.source, str):
            names = wanted.setdefault(one.source, [])
            names.extend([one.name] if one.name not in names else [])
    caches: List[Dict[str, Cache]] = [{} for _ in groups]
    for source, names in wanted.items():
        for of_group, (_, cache) in zip(caches, model._run(groups, names, source, (), (), "none")):
            of_group[source] = cache
    return caches


def _edit(
    model: Model, one: Intervention, group: int, prompts: List[List[int]], which: int, cache: Optional[Cache]
) -> Dict[str, Any]:
    dims, heads = model._native.hook_shape(one.name, which)
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
            edit["values"] = _rows(_per_key(one, cache, len(prompts), positions, heads, length), positions)
        return edit
    inner = dims if one.head is None else dims[1:]
    if one.unit is not None:
        if len(inner) > 1:
            raise ValueError(f"`{one.name}` has {dims[0]} heads; `unit` needs a `head`")
        edit["units"] = units_of(one.unit, inner[0], one.name)
        inner = [edit["units"][1] - edit["units"][0]]
    if one.kind == "scale":
        return edit
    values = one.values if cache is None else _read(one, cache, positions, edit["units"])
    try:
        values = np.broadcast_to(np.asarray(values, dtype=np.float32), (len(prompts), len(positions), *inner))
    except ValueError:
        shape = (len(prompts), len(positions), *inner)
        raise ValueError(f"`{one.name}`: values of shape {np.shape(values)} do not broadcast to {shape}") from None
    edit["values"] = values.tobytes()
    return edit


def _read(
    one: Intervention, cache: Cache, positions: List[int], units: Optional[Tuple[int, int]]
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
    one: Intervention, cache: Optional[Cache], n: int, positions: List[int], heads: int, length: int
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


def _rows(values: np.ndarray, positions: List[int]) -> bytes:
    """Patterns ``[batch, head, positions, key]`` row by row, each head's values for the keys up to the row's own."""
    rows = [values[b, :, i, : p + 1].tobytes() for b in range(len(values)) for i, p in enumerate(positions)]
    return b"".join(rows)
