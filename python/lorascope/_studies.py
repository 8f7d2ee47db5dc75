"""Analyses and studies: from Python's values to a run, and back."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

from lorascope import _native, _progress
from lorascope._model import Model
from lorascope._results import Result
from lorascope._settings import plain, to_json

if TYPE_CHECKING:
    from lorascope.scale import Cluster

#: A JSON file, or a list of prompts as docs/prompts.md describes them.
PromptSet = Union[str, "os.PathLike[str]", Sequence[Mapping[str, Any]]]


def prompts_of(prompts: PromptSet) -> Tuple[str, bool]:
    """Prompts for the engine: the path of a file, or JSON; and whether it is a file."""
    if isinstance(prompts, (str, os.PathLike)):
        return os.fspath(prompts), True
    return json.dumps(list(prompts), default=plain), False


def _analyse(
    name: str,
    model: Model,
    prompts: Optional[PromptSet],
    settings: Dict[str, Any],
    defaults: Dict[str, Any],
    answers: Optional[Tuple[str, str]],
    raw: bool,
    seed: int,
    out: Optional[Union[str, "os.PathLike[str]"]],
    progress: Union[_progress.Progress, bool, None],
) -> Result:
    if not isinstance(model, Model):
        raise TypeError(f"the first argument is a {type(model).__name__}; load one with lorascope.Model.load")
    given, is_file = (None, False) if prompts is None else prompts_of(prompts)
    folder = None if out is None else os.fspath(out)
    native = _native.analyse(
        model._native,
        name,
        given,
        is_file,
        to_json(settings, defaults),
        None if answers is None else (answers[0], answers[1]),
        raw,
        seed,
        folder,
        _progress.resolve(progress),
    )
    return Result(native, folder)


def study(
    path: Optional[Union[str, "os.PathLike[str]"]] = None,
    *,
    base: Optional[str] = None,
    adapters: Optional[Mapping[str, Union[str, "os.PathLike[str]"]]] = None,
    out: Optional[Union[str, "os.PathLike[str]"]] = None,
    seed: Optional[int] = None,
    memory: Union[str, int] = "3GiB",
    progress: Union[_progress.Progress, bool, None] = None,
    ray: "Union[str, Cluster, None]" = None,
) -> Result:
    """Runs everything that a study file asks for (docs/study.md), as ``lorascope study`` does.

    Args:
        path: The study file; without one, the study of the embedded model, or the default study of ``base``.
        base: Takes the place of the file's base.
        adapters: Take the place of the file's adapters.
        out: The run folder; an unfinished run there goes on, a finished one is read. Without one nothing is written.
        seed: Takes the place of the file's seed.
        memory: Memory for packed weights; on a cluster, of each node.
        progress: As for :meth:`Model.load`.
        ray: A cluster of Ray that carries the study out (docs/scale.md): ``"local"``, ``"auto"``, an address, or a
            :class:`lorascope.scale.Cluster`. The tables are those of a run without one.
    """
    pairs = [(name, os.fspath(place)) for name, place in (adapters or {}).items()]
    folder = None if out is None else os.fspath(out)
    file = None if path is None else os.fspath(path)
    given = (file, base, pairs, folder, seed, str(memory), _progress.resolve(progress))
    if ray is None:
        return Result(_native.study(*given, None), folder)
    from lorascope.scale import Cluster

    cluster = Cluster(ray) if isinstance(ray, str) else ray
    try:
        return Result(_native.study(*given, cluster), folder)
    finally:
        cluster.stop()


def game_prompts(design: str = "default", **factors: Union[str, int, Sequence[str]]) -> List[Dict[str, Any]]:
    """Controlled, counterbalanced prompts about 2×2 games, as ``lorascope prompts`` makes them (docs/prompts.md).

    Args:
        design: ``"default"`` (80 prompts, balanced), ``"crossed"`` (160) or ``"fifteen"``.
        factors: Other levels of some factors: ``games=["ipd", "chicken"]``, ``symbols=["A/B"]``.
    """
    levels = [(name, level if isinstance(level, str) else _levels(level)) for name, level in factors.items()]
    prompts: List[Dict[str, Any]] = json.loads(_native.game_prompts(design, levels))
    return prompts


def _levels(level: Union[int, Sequence[str]]) -> str:
    return str(level) if isinstance(level, int) else ",".join(level)
