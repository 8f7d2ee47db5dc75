"""The driver's side: which nodes there are, which units they are at, and what happens when one is lost."""

from __future__ import annotations

import json
import os
import socket
import time
import warnings
from collections import deque
from typing import Any, Deque, Dict, Iterator, List, Optional, Tuple

import lorascope
from lorascope.scale._node import Input, Parts, Shelf, Worker, pieces

#: Names of the parts that a unit leaves.
Unit = List[str]

#: Seconds that a task should take: what is lost with a node, and how rarely nodes are talked to.
TASK_SECONDS = 30.0
#: Seconds between looks for nodes that have joined.
LOOK_SECONDS = 5.0


def _knock(address: str) -> None:
    """Whether somebody answers at ``HOST:PORT``: Ray tries for a minute and longer before it says that nobody does."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
    except (OSError, OverflowError) as error:
        raise lorascope.Error(f"there is no cluster of Ray at `{address}`: {error}") from None


class _Task:
    """Units that go to a node together."""

    __slots__ = ("units", "failures")

    def __init__(self, units: List[Unit], failures: int = 0) -> None:
        self.units = units
        self.failures = failures


class _Member:
    """A node that takes part, with its worker."""

    def __init__(self, node: str, name: str, actor: Any) -> None:
        self.node = node
        self.name = name
        self.actor = actor
        #: ``missing``, ``open``, then ``ready``.
        self.state = "missing"
        #: Tasks that it has, the one it is at first, with when they were handed over.
        self.tasks: Deque[Tuple[_Task, float]] = deque()
        self.free_since = time.monotonic()


class Cluster:
    """Nodes of Ray that carry out the units of one study.

    Args:
        address: ``"local"`` for this machine alone, ``"auto"`` for the cluster that it belongs to, or a cluster's address
            (``HOST:6379``). Where Ray is connected already, that connection is used, and left as it is.
        files: How weights come to nodes: ``"auto"`` reads them at the driver's paths where they are there too, and sends them otherwise;
            ``"send"`` always sends them, through the object store, once for each node.
        attempts: How often a unit, or a node, may fail before it is given up.
        patience: Seconds without any node that can work, after which the run ends; what is finished is kept.
    """

    def __init__(
        self, address: str = "local", *, files: str = "auto", attempts: int = 3, patience: float = 300.0
    ) -> None:
        if files not in ("auto", "send"):
            raise ValueError(f"`files` is `{files}`; it must be auto or send")
        self.address = address
        self.files = files
        self.attempts = attempts
        self.patience = patience
        self._own_ray = False
        self._members: Dict[str, _Member] = {}
        self._failures: Dict[str, int] = {}
        self._flying: Dict[Any, _Member] = {}
        self._sent: Dict[str, List[Tuple[Input, List[Any]]]] = {}
        self._looked = 0.0
        self._last = "none has joined, or others use its cores"
        self._shelf: Any = None
        #: Of the run: units carried out, bytes of their parts, tasks, tasks done again, workers lost.
        self.counts: Dict[str, int] = {"units": 0, "bytes": 0, "tasks": 0, "again": 0, "lost": 0}
        #: Of the run: processor time of the workers that were there at its end.
        self.processor_seconds = 0.0

    # What the engine calls

    def start(self, study: str, identity: str, arithmetic: str, inputs: List[Input]) -> None:
        """Connects, and asks all nodes to load the models."""
        ray = _ray()
        self._study, self._identity, self._inputs = study, (identity, arithmetic), inputs
        # A quarter of what packed weights take goes to rows of patched runs.
        self._memory = json.loads(study)["memory"] * 5 // 4
        if not ray.is_initialized():
            self._connect(ray)
        here = ray.get_runtime_context().get_node_id()
        options = {"num_cpus": 0, "max_concurrency": 8, "max_restarts": -1, "max_task_retries": -1}
        self._shelf = ray.remote(**options, scheduling_strategy=self._on(here))(Shelf).remote(identity)
        self._enlist()

    def carry_out(self, analysis: str, units: List[Unit], folder: "os.PathLike[str]") -> Iterator[Tuple[int, Parts]]:
        """Has nodes carry out units; how many are finished, and their parts, as they come."""
        ray = _ray()
        waiting: Deque[_Task] = deque(_Task([unit]) for unit in units)
        seconds: Optional[float] = None
        left = time.monotonic()
        while waiting or any(member.tasks for member in self._members.values()):
            self._enlist()
            # A worker that has said nothing yet waits for cores or memory that others use.
            if any(member.state != "missing" for member in self._members.values()):
                left = time.monotonic()
            if time.monotonic() - left > self.patience:
                raise lorascope.Error(
                    f"no node of the cluster has been able to work for {self.patience:.0f} s ({self._last}); what is finished is kept, and "
                    "the same command goes on from there"
                )
            self._hand_out(analysis, waiting, os.fspath(folder), seconds)
            done, _ = ray.wait(list(self._flying), num_returns=1, timeout=1.0) if self._flying else ([], time.sleep(0.2))
            for reference in done:
                member = self._flying.pop(reference)
                try:
                    found = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    if member.state == "ready":
                        raise lorascope.Error(f"node {member.name}: {_cause(error)}") from None
                    self._leave_out(member, _cause(error))
                except ray.exceptions.RayError as error:
                    waiting.extendleft(self._lose(member, error))
                else:
                    if member.state != "ready":
                        self._advance(member, found)
                        continue
                    task, _ = member.tasks.popleft()
                    now = time.monotonic()
                    took = (now - member.free_since) / len(task.units)
                    seconds = took if seconds is None else 0.7 * seconds + 0.3 * took
                    member.free_since = now
                    self.counts["units"] += len(task.units)
                    self.counts["bytes"] += sum(len(part) for _, part in found)
                    yield len(task.units), found

    def stop(self) -> None:
        """Ends all workers, and Ray where it was started here."""
        if self._shelf is None:
            return
        ray = _ray()
        try:
            idle = [member for member in self._members.values() if member.state == "ready" and not member.tasks]
            leaving = [member.actor.leave.remote() for member in idle]
            left, _ = ray.wait(leaving, num_returns=len(leaving), timeout=5.0) if leaving else ([], [])
            for reference in left:
                try:
                    self.processor_seconds += ray.get(reference)
                except ray.exceptions.RayError:  # It is gone already.
                    continue
        finally:
            for actor in [member.actor for member in self._members.values()] + [self._shelf]:
                ray.kill(actor)
            self._members, self._flying, self._sent, self._shelf = {}, {}, {}, None
            if self._own_ray:
                ray.shutdown()

    # Nodes

    def _connect(self, ray: Any) -> None:
        if self.address.startswith("ray://"):
            raise lorascope.Error(
                f"`{self.address}` is an address for clients outside the cluster; nodes could not read the run folder. Run the study on a "
                "machine of the cluster, with its address HOST:6379 or `auto`"
            )
        self._own_ray = True
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        if self.address == "local":
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            ray.init(address="local", include_dashboard=False, **quiet)
            return
        _knock(self.address)
        try:
            ray.init(address=self.address, **quiet)
        except (ConnectionError, RuntimeError) as error:
            raise lorascope.Error(f"there is no cluster of Ray at `{self.address}`: {error}") from None

    @staticmethod
    def _on(node: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node, soft=False)

    def _enlist(self) -> None:
        """Starts workers on nodes that have none."""
        if time.monotonic() - self._looked < LOOK_SECONDS:
            return
        self._looked = time.monotonic()
        ray = _ray()
        for node in ray.nodes():
            key, name, has = node["NodeID"], node["NodeManagerAddress"], node["Resources"]
            threads = int(has.get("CPU", 0))
            if not node["Alive"] or threads == 0 or key in self._members:
                continue
            if self._failures.get(key, 0) >= self.attempts:
                continue
            if has.get("memory", 0) < self._memory:
                self._failures[key] = self.attempts
                self._last = (
                    f"node {name} is left out: Ray has {has.get('memory', 0) / 2**30:.1f} GiB of memory there, and the study needs "
                    f"{self._memory / 2**30:.1f} GiB; lower `memory`"
                )
                warnings.warn(self._last, stacklevel=2)
                continue
            options = {"num_cpus": threads, "memory": self._memory, "scheduling_strategy": self._on(key)}
            actor = ray.remote(**options)(Worker).remote(self._study, self._shelf, threads)
            member = self._members[key] = _Member(key, f"{name} ({key[:8]})", actor)
            self._flying[actor.missing.remote(self.files)] = member

    def _advance(self, member: _Member, found: Any) -> None:
        """A node has said what it lacks, or that its models are loaded."""
        if member.state == "missing":
            member.state = "open"
            self._flying[member.actor.open.remote({name: self._files(name) for name in found})] = member
        elif tuple(found) == self._identity:
            member.state, member.free_since = "ready", time.monotonic()
        elif found[1] != self._identity[1]:
            self._leave_out(member, f"its arithmetic is `{found[1]}` and the driver's `{self._identity[1]}`; results would differ")
        else:
            self._leave_out(member, "the models' files, or lorascope's version, are others there than here")

    def _files(self, model: str) -> List[Tuple[Input, List[Any]]]:
        """A model's files in the object store, put there once."""
        if model not in self._sent:
            ray = _ray()
            own = [file for file in self._inputs if file[0].rsplit("/", 1)[0] == model]
            self._sent[model] = [(file, [ray.put(piece) for piece in pieces(file[1])]) for file in own]
        return self._sent[model]

    def _leave_out(self, member: _Member, why: str) -> None:
        self._failures[member.node] = self.attempts
        self._forget(member)
        message = f"node {member.name} is left out: {why}"
        if not self._members:
            raise lorascope.Error(message)
        warnings.warn(message, stacklevel=2)

    def _forget(self, member: _Member) -> None:
        self._members.pop(member.node, None)
        for reference in [r for r, of in self._flying.items() if of is member]:
            del self._flying[reference]
        _ray().kill(member.actor)

    def _lose(self, member: _Member, error: Exception) -> List[_Task]:
        """A worker is gone; the tasks that it had, for others. The node may have another worker, while it is there."""
        self.counts["lost"] += 1
        self.counts["again"] += len(member.tasks)
        self._last = f"the last, {member.name}, was lost: {_cause(error)}"
        self._failures[member.node] = self._failures.get(member.node, 0) + 1
        self._forget(member)
        self._looked = 0.0
        tasks = [task for task, _ in member.tasks]
        if tasks:
            tasks[0].failures += 1
            if tasks[0].failures >= self.attempts:
                raise lorascope.Error(
                    f"{self.attempts} workers were lost at the same unit of work, {tasks[0].units[0][0]}; the last: {_cause(error)}. If they "
                    "ran out of memory, lower `memory` or take larger nodes"
                )
        return tasks[::-1]

    # Tasks

    def _hand_out(self, analysis: str, waiting: Deque[_Task], folder: str, seconds: Optional[float]) -> None:
        """Gives every node that has room its next task; a second one, to begin at once, while there is work for all."""
        ready = [member for member in self._members.values() if member.state == "ready"]
        for depth in (0, 1):
            for member in ready:
                if len(member.tasks) != depth or not waiting or (depth and len(waiting) <= len(ready)):
                    continue
                task = self._next(waiting, len(ready), seconds)
                if not member.tasks:
                    member.free_since = time.monotonic()
                member.tasks.append((task, time.monotonic()))
                self._flying[member.actor.carry_out.remote(analysis, task.units, folder)] = member
                self.counts["tasks"] += 1

    def _next(self, waiting: Deque[_Task], nodes: int, seconds: Optional[float]) -> _Task:
        """The next task: as many units as take about TASK_SECONDS, and never so many that others go without."""
        task = waiting.popleft()
        most = min(len(waiting) // (2 * nodes), int(TASK_SECONDS / max(seconds, 1e-3)) if seconds else 1)
        while task.failures == 0 and len(task.units) < most and waiting and waiting[0].failures == 0:
            task.units.extend(waiting.popleft().units)
        return task


def _cause(error: Exception) -> str:
    cause = getattr(error, "cause", None) or error
    return str(cause).strip().splitlines()[-1] if str(cause).strip() else type(cause).__name__


def _ray() -> Any:
    try:
        import ray
    except ImportError:
        raise lorascope.Error("Ray is not installed for this Python; pip install 'lorascope[ray]'") from None
    import ray.exceptions

    return ray
