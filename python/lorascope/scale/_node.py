"""What runs on the nodes: one worker for each node, and the shelf beside the driver. Both are Ray actors."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Sequence, Tuple

import lorascope
from lorascope import _native

#: Bytes of a file that are put into the object store together.
CHUNK = 64 << 20

#: A file of a model: its name among the run's inputs (``base/model.safetensors``), where it lies on the driver's machine, SHA-256.
Input = Tuple[str, str, str]
#: Parts with their names.
Parts = List[Tuple[str, bytes]]


class Shelf:
    """Finished parts of the run, out of the driver's run folder; on the driver's machine. It remembers nothing, so Ray may start it again."""

    def __init__(self, identity: str) -> None:
        self._identity = identity

    def part(self, folder: str, name: str) -> Optional[bytes]:
        """A part by its name, of the run in a folder; ``None`` where there is none."""
        return _native.part_of(folder, self._identity, name)


class Worker:
    """A node's part in a study: all its cores, and the models once."""

    def __init__(self, study: str, shelf: Any, threads: int) -> None:
        lorascope.set_threads(threads)
        self._study: Dict[str, Any] = json.loads(study)
        self._shelf = shelf
        self._folder = ""
        self._place = _scratch()
        self._node: Optional[_native.Node] = None

    def missing(self, files: str) -> List[str]:
        """Names of the models whose files have to be sent: ``base``, and those of adapters."""
        places = [("base", self._study["base"])] + [(f"adapter/{name}", place) for name, place in self._study["adapters"]]
        if files == "send":
            return [name for name, place in places if os.path.exists(place)]
        return [name for name, place in places if not _native.is_here(place)]

    def open(self, sent: Dict[str, List[Tuple[Input, Sequence[Any]]]]) -> Tuple[str, str]:
        """Loads the models; those that were sent, from this node's cache. The run's identity as it is here, and the arithmetic."""
        for name, files in sent.items():
            place = _unpacked(files, is_file=name == "base" and self._study["base"].endswith(".gguf"))
            if name == "base":
                self._study["base"] = place
            else:
                self._study["adapters"] = [
                    (own, place if f"adapter/{own}" == name else there) for own, there in self._study["adapters"]
                ]
        self._node = _native.Node(json.dumps(self._study), str(self._place), self._fetch)
        return self._node.identity()

    def carry_out(self, analysis: str, units: List[List[str]], folder: str) -> Parts:
        """Carries out units of one step of an analysis, of the run in the driver's `folder`."""
        if self._node is None:
            raise lorascope.Error("the models are not loaded yet")
        self._folder = folder
        return self._node.carry_out(analysis, units)

    def leave(self) -> float:
        """The study is over on this node: nothing of it stays. Processor seconds that it took here."""
        self._node = None
        shutil.rmtree(self._place, ignore_errors=True)
        return time.process_time()

    def _fetch(self, name: str) -> Optional[bytes]:
        import ray

        found: Optional[bytes] = ray.get(self._shelf.part.remote(self._folder, name))
        return found


def _scratch() -> Path:
    """A folder for the parts that this node makes or fetches. What workers that were killed have left is removed."""
    above = Path(tempfile.gettempdir()) / f"lorascope-nodes-{os.getuid()}"
    above.mkdir(mode=0o700, exist_ok=True)
    for left in above.iterdir():
        try:
            with open(left / ".lock", "rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
        except OSError:  # It is in use, or its worker has only begun.
            continue
    return Path(tempfile.mkdtemp(dir=above))


def pieces(path: str) -> Iterator[bytes]:
    """A file in pieces that the object store takes."""
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            yield piece


def _unpacked(files: List[Tuple[Input, Sequence[Any]]], is_file: bool) -> str:
    """A model's files in this node's cache, written once however many workers ask: the folder, or the file where it is one."""
    import ray

    key = hashlib.sha256(json.dumps(sorted((name, sha256) for (name, _, sha256), _ in files)).encode()).hexdigest()
    folder = _cache() / key[:32]
    folder.mkdir(parents=True, exist_ok=True)
    place = folder
    with open(folder / ".lock", "wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for (name, _, sha256), chunks in files:
            place = folder / name.rsplit("/", 1)[-1]
            if place.exists():
                continue
            written, found = place.with_name(place.name + ".part"), hashlib.sha256()
            with open(written, "wb") as file:
                for chunk in chunks:
                    piece = ray.get(chunk)
                    file.write(piece)
                    found.update(piece)
            if found.hexdigest() != sha256:
                raise lorascope.Error(f"`{name}` arrived with other bytes; has the file changed since the study began?")
            os.replace(written, place)
    return str(place if is_file else folder)


def _cache() -> Path:
    named = os.environ.get("LORASCOPE_CACHE")
    return Path(named or Path.home() / ".cache" / "lorascope") / "sent"
