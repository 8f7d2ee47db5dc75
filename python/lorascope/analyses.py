"""One function for each analysis of lorascope's registry, made from the registry itself.

Names, settings and numbers are those of the command line and of study files (docs/study.md, docs/tables.md, docs/play.md).
"""

from __future__ import annotations

import inspect
import json
from typing import Any, Callable, Dict, List

from lorascope import _native
from lorascope._results import Result
from lorascope._settings import documented, keywords
from lorascope._studies import _analyse

#: What every function takes besides its settings, with defaults.
COMMON: Dict[str, Any] = {"answers": None, "raw": False, "seed": 0, "out": None, "progress": None}

_ARGUMENTS = {
    "models": "A :class:`lorascope.Model`: base and adapters, all of which are asked.",
    "prompt_set": "A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).",
    "answers": "Answers A and B of prompts that name none.",
    "raw": "Put prompts to the model as raw text, without its chat template.",
    "seed": "Seed of everything random.",
    "out": "The run folder, as the command writes it; a finished run there is read. Without one nothing is written.",
    "progress": "As for :meth:`lorascope.Model.load`.",
}


def _document(spec: Dict[str, Any], arguments: List[str], defaults: Dict[str, Any]) -> str:
    lines = [f"    {name}: {_ARGUMENTS[name]}" for name in arguments] + documented(defaults, spec["meanings"])
    tables = [f"    ``{name}``: {doc}" for name, doc in spec["tables"]]
    return "\n".join([f"{spec['title']}: {spec['question']}", "", "Args:", *lines, "", "Tables:", *tables])


def _function(spec: Dict[str, Any]) -> Callable[..., Result]:
    name, defaults = spec["name"], dict(sorted(json.loads(spec["settings"]).items()))
    # What asks prompts of its own takes none, and no answers to them.
    common = {key: value for key, value in COMMON.items() if spec["asks"] or key != "answers"}

    # By position only: some analyses have settings called `model` and `prompts`.
    def ask(models: Any, prompt_set: Any, /, **given: Any) -> Result:
        own = {key: given.pop(key, value) for key, value in common.items()}
        return _analyse(name, models, prompt_set, given, defaults, **own)

    def play(models: Any, /, **given: Any) -> Result:
        own = {key: given.pop(key, value) for key, value in common.items()}
        return _analyse(name, models, None, given, defaults, answers=None, **own)

    analyse: Callable[..., Result] = ask if spec["asks"] else play
    positional = ["models", "prompt_set"] if spec["asks"] else ["models"]
    parameters = [inspect.Parameter(key, inspect.Parameter.POSITIONAL_ONLY) for key in positional]
    parameters += keywords({**common, **defaults})
    analyse.__name__ = analyse.__qualname__ = name
    analyse.__module__ = __name__
    analyse.__signature__ = inspect.Signature(parameters, return_annotation=Result)  # type: ignore[attr-defined]
    analyse.__doc__ = _document(spec, [*positional, *common], defaults)
    return analyse


_REGISTRY: List[Dict[str, Any]] = _native.analyses()
__all__ = [spec["name"] for spec in _REGISTRY]
globals().update({spec["name"]: _function(spec) for spec in _REGISTRY})
