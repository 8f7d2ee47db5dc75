"""Training of adapters by reinforcement on games, as `lorascope train` does it."""

from __future__ import annotations

import inspect
import json
import os
from typing import Any, Dict, List, Optional, Tuple, Union

from lorascope import _native, _progress
from lorascope._results import Result
from lorascope._settings import documented, keywords, to_json


def _settings() -> Tuple[Dict[str, Any], List[Tuple[str, str]]]:
    defaults, meanings = _native.training_settings()
    return json.loads(defaults), meanings


_DEFAULTS, _MEANINGS = _settings()

_DOC = """Trains a LoRA adapter by reinforcement on 2×2 games (docs/train.md), as ``lorascope train`` does: ``train("organism", "runs/hybrid",
reward="hybrid", steps=60)``.

The adapter is the PEFT folder ``adapter`` of the run folder. Ctrl-C, or an exception of ``progress``, ends the training after the step at
hand, with a checkpoint; the same call goes on from there and ends in the same bytes. A finished training is read, not repeated.

Args:
    base: As for :meth:`lorascope.Model.load`; it is loaded for the training.
    out: The run folder.
    raw: Put prompts to the model as raw text, without its chat template.
    nf4: As for :meth:`lorascope.Model.load`.
    seed: Seed of everything random.
    memory: Memory for packed weights.
    progress: As for :meth:`lorascope.Model.load`.
"""


def train(
    base: Union[str, "os.PathLike[str]"],
    out: Union[str, "os.PathLike[str]"],
    *,
    raw: bool = False,
    nf4: Optional[str] = None,
    seed: int = 0,
    memory: Union[str, int] = "3GiB",
    progress: Union[_progress.Progress, bool, None] = None,
    **settings: Any,
) -> Result:
    folder = os.fspath(out)
    native = _native.train(
        os.fspath(base),
        to_json(settings, _DEFAULTS),
        raw,
        nf4,
        seed,
        str(memory),
        folder,
        _progress.resolve(progress),
    )
    return Result(native, folder)


def _sign() -> None:
    """Shows every setting where the function takes any."""
    given = inspect.signature(train)
    own = [p for p in given.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    train.__signature__ = given.replace(parameters=[*own, *keywords(_DEFAULTS)])  # type: ignore[attr-defined]
    tables = ["", "Tables:", "    ``training``: One step of training.", "    ``training_states``: One state of one step."]
    train.__doc__ = "\n".join([_DOC.rstrip(), *documented(_DEFAULTS, _MEANINGS), *tables])


_sign()
