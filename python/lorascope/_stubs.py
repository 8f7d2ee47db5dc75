"""Writes ``analyses.pyi`` from the registry: ``python -m lorascope._stubs FOLDER``. A test holds the file against it."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from typing import Any

from lorascope import analyses

_TYPES = {
    "answers": "Optional[Tuple[str, str]]",
    "raw": "bool",
    "seed": "int",
    "out": 'Optional[Union[str, "os.PathLike[str]"]]',
    "progress": "Union[Callable[[str, int, int], None], bool, None]",
}

_HEAD = '''"""Types of the functions that `analyses.py` makes from the registry. Written by `python -m lorascope._stubs`."""

import os
from typing import Any, Callable, List, Optional, Tuple, Union

from lorascope._model import Model
from lorascope._results import Result
from lorascope._studies import PromptSet

__all__: List[str]
'''


def _type(default: Any) -> str:
    """The type that a default tells; a setting that may be a list is often taken as a single value too."""
    return {bool: "bool", int: "int", float: "float", str: "str"}.get(type(default), "Any")


def _function(name: str) -> str:
    function = getattr(analyses, name)
    parameters = list(inspect.signature(function).parameters.values())
    asks = parameters[1].kind is inspect.Parameter.POSITIONAL_ONLY
    lines = [f"def {name}(", "    models: Model,", *(["    prompt_set: PromptSet,"] if asks else []), "    /,", "    *,"]
    for parameter in parameters[1 + asks :]:
        kind = _TYPES.get(parameter.name) or _type(parameter.default)
        lines.append(f"    {parameter.name}: {kind} = ...,")
    doc = inspect.cleandoc(function.__doc__ or "").replace("\n", "\n    ").replace("    \n", "\n")
    return "\n".join([*lines, ") -> Result:", f'    """{doc}', '    """'])


def text() -> str:
    """The file."""
    return _HEAD + "\n" + "\n\n".join(_function(name) for name in analyses.__all__) + "\n"


if __name__ == "__main__":
    (Path(sys.argv[1]) / "analyses.pyi").write_text(text(), encoding="utf-8")
