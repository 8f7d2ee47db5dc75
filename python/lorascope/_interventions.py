"""Interventions as data: what happens at which hook point, head and position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, List, Optional, Sequence, Union

from lorascope._cache import Cache

Position = Union[int, str, Sequence[int], None]
Unit = Union[int, slice, None]


@dataclass(frozen=True)
class Intervention:
    """A change of activations, made by the methods of :class:`Place`."""

    name: str
    kind: str
    head: Optional[int] = None
    unit: Unit = None
    position: Position = None
    factor: float = 1.0
    values: Any = None
    source: Union[str, Cache, None] = None
    source_position: Position = None


@dataclass(frozen=True)
class Place:
    """Values of a hook point; made by :func:`at`. Its methods are what can be done to them."""

    name: str
    head: Optional[int] = None
    unit: Unit = None
    position: Position = None

    def _do(self, kind: str, **more: Any) -> Intervention:
        return Intervention(self.name, kind, self.head, self.unit, self.position, **more)

    def zero(self) -> Intervention:
        """Sets the values to zero."""
        return self._do("scale", factor=0.0)

    def scale(self, factor: float) -> Intervention:
        """Multiplies the values by ``factor``."""
        return self._do("scale", factor=float(factor))

    def add(self, values: Any) -> Intervention:
        """Adds ``values``, an array that broadcasts to ``[batch, positions, ...]``."""
        return self._do("add", values=values)

    def replace(self, values: Any) -> Intervention:
        """Puts ``values`` in place, an array that broadcasts to ``[batch, positions, ...]``."""
        return self._do("set", values=values)

    def patch(self, source: Union[str, Cache], *, source_position: Position = None) -> Intervention:
        """Puts in what ``source`` has there.

        ``source`` is another model on the same prompts, by name (``"base"``, ``"hybrid"``), or the :class:`lorascope.Cache` of any
        run with as many prompts. ``source_position`` is where to read, where that is another position.
        """
        return self._do("patch", source=source, source_position=source_position)


def at(name: str, *, head: Optional[int] = None, unit: Unit = None, position: Position = None) -> Place:
    """A place for an intervention: ``lorascope.at("blocks.3.attn.hook_z", head=2, position="last").zero()``.

    Args:
        name: A hook point (docs/hooks.md).
        head: A head; all where none is named.
        unit: An index or a slice within the row, or within the head; all where none is named.
        position: An index from 0, a list of them, or ``"last"``; all where none is named.
    """
    return Place(name, head, unit, position)


def positions_of(position: Position, length: int, name: str) -> List[int]:
    """Positions as numbers, for prompts of a length."""
    if position is None:
        return list(range(length))
    if isinstance(position, str):
        if position != "last":
            raise ValueError(f"`{name}`: position `{position}` is unknown; use a number, a list of numbers, or \"last\"")
        return [length - 1]
    found = [int(position)] if hasattr(position, "__index__") else [int(p) for p in position]
    for p in found:
        if not 0 <= p < length:
            why = 'count from 0, or say "last"' if p < 0 else f"the prompt has {length} tokens"
            raise ValueError(f"`{name}`: position {p} does not exist; {why}")
    return found


def units_of(unit: Unit, width: int, name: str) -> "tuple[int, int]":
    """Units as a range, of so many."""
    if isinstance(unit, slice):
        start, stop, step = unit.indices(width)
        if step != 1 or start >= stop:
            raise ValueError(f"`{name}`: units {unit} are no range of the {width} values there")
        return start, stop
    if unit is None:
        return 0, width
    if not 0 <= unit < width:
        raise ValueError(f"`{name}`: unit {unit} does not exist; there are {width}")
    return unit, unit + 1
