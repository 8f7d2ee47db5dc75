"""One function for each analysis of lorascope's registry, made from the registry itself.

Names, settings and numbers are those of the command line and of study files (docs/study.md, docs/tables.md).
"""

from __future__ import annotations

import inspect
import json
from typing import Any, Callable, Dict, List

from lorascope import _native
from lorascope._results import Result
from lorascope._studies import _analyse

#: What every function takes besides its settings, with defaults.
COMMON: Dict[str, Any] = {"answers": None, "raw": False, "seed": 0, "out": None, "progress": None}

_ARGUMENTS = """Args:
    models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
    prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
    answers: Answers A and B of prompts that name none.
    raw: Put prompts to the model as raw text, without its chat template.
    seed: Seed of everything random.
    out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
    progress: As for :meth:`lorascope.Model.load`."""


def _document(spec: Dict[str, Any], defaults: Dict[str, Any]) -> str:
    meanings = dict(spec["meanings"])
    settings = [f"    {name}: {meanings[name]} (default: ``{json.dumps(value)}``)" for name, value in defaults.items()]
    tables = [f"    ``{name}``: {doc}" for name, doc in spec["tables"]]
    head = [f"{spec['title']}: {spec['question']}", "", _ARGUMENTS, *settings]
    return "\n".join([*head, "", "Tables:", *tables])


def _function(spec: Dict[str, Any]) -> Callable[..., Result]:
    name, defaults = spec["name"], dict(sorted(json.loads(spec["settings"]).items()))

    # By position only: some analyses have settings called `model` and `prompts`.
    def analyse(models: Any, prompt_set: Any, /, **given: Any) -> Result:
        common = {key: given.pop(key, value) for key, value in COMMON.items()}
        return _analyse(name, models, prompt_set, given, **common)

    keyword = inspect.Parameter.KEYWORD_ONLY
    positional = inspect.Parameter.POSITIONAL_ONLY
    parameters = [inspect.Parameter("models", positional), inspect.Parameter("prompt_set", positional)]
    parameters += [inspect.Parameter(key, keyword, default=value) for key, value in {**COMMON, **defaults}.items()]
    analyse.__name__ = analyse.__qualname__ = name
    analyse.__module__ = __name__
    analyse.__signature__ = inspect.Signature(parameters, return_annotation=Result)  # type: ignore[attr-defined]
    analyse.__doc__ = _document(spec, defaults)
    return analyse


_REGISTRY: List[Dict[str, Any]] = _native.analyses()
__all__ = [spec["name"] for spec in _REGISTRY]
globals().update({spec["name"]: _function(spec) for spec in _REGISTRY})
