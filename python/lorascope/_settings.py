"""Settings of analyses and trainings as arguments of functions: signatures, documentation, what is handed on."""

from __future__ import annotations

import inspect
import json
import os
from typing import Any, Dict, List, Sequence, Tuple

#: Longest default that documentation repeats.
_SHORT = 100


def plain(value: Any) -> Any:
    """What JSON does not know: NumPy's numbers and arrays, paths."""
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__fspath__"):
        return os.fspath(value)
    raise TypeError(f"a setting can't be {type(value).__name__}")


def default_of(value: Any) -> Any:
    """A default as signatures show it: of a group of settings, which may be given in part, none."""
    return None if isinstance(value, dict) else value


def to_json(given: Dict[str, Any], defaults: Dict[str, Any]) -> str:
    """Settings for the engine; a group that is given as none has its defaults."""
    left_out = {key for key, value in given.items() if value is None and isinstance(defaults.get(key), dict)}
    return json.dumps({key: value for key, value in given.items() if key not in left_out}, default=plain)


def documented(defaults: Dict[str, Any], meanings: Sequence[Tuple[str, str]]) -> List[str]:
    """A line for each setting, and for each of a group (``optimizer.clip``)."""
    lines = []
    for name, value in defaults.items():
        if isinstance(value, dict):
            lines += [f"    {key}: {doc}" for key, doc in meanings if key == name or key.startswith(f"{name}.")]
            continue
        default = json.dumps(value)
        told = f" (default: ``{default}``)" if len(default) <= _SHORT else ""
        lines.append(f"    {name}: {dict(meanings)[name]}{told}")
    return lines


def keywords(defaults: Dict[str, Any]) -> List[inspect.Parameter]:
    """Parameters that are given by name."""
    kind = inspect.Parameter.KEYWORD_ONLY
    return [inspect.Parameter(key, kind, default=default_of(value)) for key, value in defaults.items()]
