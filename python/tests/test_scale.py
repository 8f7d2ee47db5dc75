"""Studies on clusters of Ray: several nodes on this machine give the tables of one, whatever is lost on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List

import pytest
from conftest import skip

import lorascope
from lorascope import scale

try:
    from ray.cluster_utils import Cluster as Nodes
except ImportError:
    Nodes = None

#: Analyses of some kinds: one step, several, a step that depends on what the one before found, parts that are no tables. All analyses are
#: compared in `crates/study/tests/nodes.rs`.
MIXED = """
base = "organism"
analyses = ["decide", "dla", "paths", "probe", "conclusions"]
[[adapter]]
name = "hybrid"
path = "organism:hybrid"
[prompts]
per_scenario = 4
[settings.paths]
top = 2
"""

#: A few units of work of one kind.
LONG = """
base = "organism"
analyses = ["patch"]
[[adapter]]
name = "hybrid"
path = "organism:hybrid"
"""
UNITS = 5 + 3  # of 16 prompts each, and the base's decisions of 32 each


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Two nodes with one core each, on this machine; their caches are of their own."""
    if Nodes is None:
        skip("Ray is not installed")
    import ray

    # Ray's workers look for modules where the driver is, and the package's source has no engine.
    before, there = os.environ.get("LORASCOPE_CACHE"), os.getcwd()
    os.chdir(tmp_path_factory.mktemp("driver"))
    os.environ["LORASCOPE_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    found = Nodes()
    try:
        found.add_node(num_cpus=1, object_store_memory=100 << 20, include_dashboard=False)
        found.add_node(num_cpus=1, object_store_memory=100 << 20)
        yield found
    finally:
        ray.shutdown()
        found.shutdown()
        os.chdir(there)
        os.environ.pop("LORASCOPE_CACHE")
        if before is not None:
            os.environ["LORASCOPE_CACHE"] = before


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> Dict[str, Any]:
    """A study that takes a while: its file, and what it writes on one machine."""
    folder = tmp_path_factory.mktemp("long")
    (folder / "study.toml").write_text(LONG)
    lorascope.study(folder / "study.toml", out=folder / "plain", progress=False)
    return {"file": folder / "study.toml", "written": written(folder / "plain")}


def written(run: Path) -> Dict[str, Any]:
    """Every file that a run wrote, with its hash, as the manifest has them and as they are."""
    manifest = json.loads((run / "manifest.json").read_text())
    assert manifest["finished"] and not (run / ".parts").exists()
    tables = {name: run / "tables" / name for name in os.listdir(run / "tables")}
    return {"manifest": {key: manifest[key] for key in ("identity", "settings", "analyses", "tables")}} | {
        name: path.read_bytes() for name, path in tables.items()
    }


def on_cluster(nodes: Any, file: Path, out: Path, during: Callable[[scale.Cluster, int], None] = lambda *_: None, **how: Any) -> scale.Cluster:
    """Runs a study on the nodes; `during` is told how many units are done of the step that goes on."""
    cluster = scale.Cluster(nodes.address, **how)

    def progress(what: str, done: int, total: int) -> None:
        if what.endswith("on all nodes"):
            during(cluster, done)

    lorascope.study(file, out=out, ray=cluster, progress=progress)
    return cluster


def test_tables_are_those_of_one_machine(nodes: Any, tmp_path: Path) -> None:
    base = tmp_path / "study.toml"
    base.write_text(MIXED)
    lorascope.study(base, out=tmp_path / "plain", progress=False)
    cluster = on_cluster(nodes, base, tmp_path / "many")
    assert written(tmp_path / "many") == written(tmp_path / "plain")
    assert cluster.counts["lost"] == 0 and cluster.counts["units"] >= 10


def test_weights_are_sent_once_for_each_machine(nodes: Any, tmp_path: Path) -> None:
    unpacked = Path(os.environ["LORASCOPE_CACHE"])
    lorascope.Model.load("organism", adapters={"hybrid": "organism:hybrid"}, progress=False)
    base = next(path.parent for path in unpacked.rglob("config.json"))
    adapter = next(path.parent for path in unpacked.rglob("adapter_config.json") if "hybrid" in str(path))
    file = tmp_path / "study.toml"
    file.write_text(f'base = "{base}"\nanalyses = ["decide"]\n[[adapter]]\nname = "hybrid"\npath = "{adapter}"\n')
    lorascope.study(file, out=tmp_path / "plain", progress=False)
    on_cluster(nodes, file, tmp_path / "sent", files="send")
    assert written(tmp_path / "sent") == written(tmp_path / "plain")
    # Both nodes are this machine, so each file lies there once.
    sent = [path.name for path in (unpacked / "sent").rglob("*") if path.is_file() and path.name != ".lock"]
    assert sent.count("model.safetensors") == 1 and sent.count("adapter_model.safetensors") == 1, sent


def test_a_worker_is_killed(nodes: Any, long: Dict[str, Any], tmp_path: Path) -> None:
    import ray

    killed = []

    def kill(cluster: scale.Cluster, done: int) -> None:
        if done and not killed:
            killed.extend([member for member in cluster._members.values() if member.tasks][:1])
            ray.kill(killed[0].actor)

    cluster = on_cluster(nodes, long["file"], tmp_path / "run", kill)
    assert written(tmp_path / "run") == long["written"]
    assert cluster.counts["lost"] == 1 and cluster.counts["units"] == UNITS, "every unit is taken in once"


def test_a_node_is_lost_and_another_joins(nodes: Any, long: Dict[str, Any], tmp_path: Path) -> None:
    more = nodes.add_node(num_cpus=1, object_store_memory=100 << 20)
    gone = []

    def remove(cluster: scale.Cluster, done: int) -> None:
        if done and not gone:
            gone.append(more)
            nodes.remove_node(more, allow_graceful=False)
            nodes.add_node(num_cpus=1, object_store_memory=100 << 20)

    cluster = on_cluster(nodes, long["file"], tmp_path / "run", remove)
    assert gone and written(tmp_path / "run") == long["written"]
    assert cluster.counts["units"] == UNITS


def test_the_driver_is_killed_and_started_again(nodes: Any, long: Dict[str, Any], tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = [sys.executable, "-m", "lorascope.scale", str(long["file"]), "--ray", nodes.address, "--out", str(run)]
    driver = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=tmp_path)
    parts = run / ".parts"
    until = time.monotonic() + 120
    while not (parts.is_dir() and len(list(parts.iterdir())) >= 4):
        assert driver.poll() is None and time.monotonic() < until, driver.stderr and driver.stderr.read()
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kept = len([part for part in parts.iterdir() if not part.name.startswith(".lorascope-tmp-")])
    cluster = on_cluster(nodes, long["file"], run)
    assert written(run) == long["written"]
    assert 0 < cluster.counts["units"] <= UNITS - kept, "what was finished is not done again"


def processes(kind: str) -> List[int]:
    """Processes of a study's actors on these nodes, at work or waiting; Ray names them by what they do."""
    # Other clusters of this machine are left alone.
    ours = f"LORASCOPE_CACHE={os.environ['LORASCOPE_CACHE']}".encode()
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            named = (place / "cmdline").read_bytes().startswith(f"ray::{kind}".encode())
            if named and ours in (place / "environ").read_bytes().split(b"\0"):
                found.append(int(place.name))
        except OSError:  # It ended meanwhile, or is somebody else's.
            pass
    return found


def test_killed_at_random_instants(nodes: Any, tmp_path: Path) -> None:
    """A driver, or what it has on the nodes, is killed at any instant, again and again; `LORASCOPE_KILLS=50` asks for so many kills."""
    wanted, chance = int(os.environ.get("LORASCOPE_KILLS", "2")), random.Random(7)
    killed, folders = {"driver": 0, "Worker": 0, "Shelf": 0}, 0
    file = tmp_path / "study.toml"
    file.write_text(MIXED)
    lorascope.study(file, out=tmp_path / "plain", progress=False)

    def start(run: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "lorascope.scale", str(file), "--ray", nodes.address, "--out", str(run)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=tmp_path)

    def undisturbed(run: Path) -> float:
        began, driver = time.monotonic(), start(run)
        _, said = driver.communicate(timeout=300)
        assert driver.returncode == 0, said.decode()
        return time.monotonic() - began

    length = undisturbed(tmp_path / "whole")
    while sum(killed.values()) < wanted:
        folders += 1
        assert folders < 20 + wanted, f"only {killed} kills hit a run in {folders} folders"
        run = tmp_path / f"run{folders}"
        # A run that has got far has little left, so the later kills of a folder come sooner.
        for share in (1.0, 0.7, 0.4):
            driver = start(run)
            time.sleep(chance.random() * share * length)
            victim = chance.choice(list(killed))
            if victim == "driver":
                killed[victim] += driver.poll() is None
                driver.kill()
            elif there := processes(victim):
                os.kill(chance.choice(there), signal.SIGKILL)
                killed[victim] += 1
            _, said = driver.communicate(timeout=300)
            # What runs on nodes is started again; only a killed driver ends a study.
            assert driver.returncode in ((0, -signal.SIGKILL) if victim == "driver" else (0,)), said.decode()
            if driver.returncode == 0:
                break
        undisturbed(run)
        assert written(run) == written(tmp_path / "plain"), f"folder {folders}"
    print(f"kills: {sum(killed.values())} of a study on nodes ({killed}), 0 bytes differ")


def test_ctrl_c_keeps_what_is_done(nodes: Any, long: Dict[str, Any], tmp_path: Path) -> None:
    pressed: List[int] = []

    def press(_: scale.Cluster, done: int) -> None:
        if done:
            pressed.append(done)
            signal.raise_signal(signal.SIGINT)

    # What else runs in this process may have taken ctrl-C for itself.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            on_cluster(nodes, long["file"], tmp_path / "run", press)
            assert pressed, "the run ended before it was pressed"
    finally:
        signal.signal(signal.SIGINT, before)
    assert len(pressed) == 1, "nobody is told after that"
    assert list((tmp_path / "run" / ".parts").iterdir())
    result = lorascope.study(long["file"], out=tmp_path / "run", progress=False)
    assert any("finished parts" in note for note in result.notes)
    assert written(tmp_path / "run") == long["written"], "the run goes on without the cluster"


def test_the_program_hands_a_study_over(long: Dict[str, Any], tmp_path: Path) -> None:
    """`lorascope study --ray local`: Ray starts and ends with it, the run folder is that of a run without."""
    program = os.environ.get("LORASCOPE_PROGRAM", "")
    if Nodes is None or not Path(program).is_file():
        skip("Ray is not installed, or LORASCOPE_PROGRAM names no program; scripts/test_python sets it after `cargo test`")

    def study(*more: str) -> "subprocess.CompletedProcess[str]":
        command = [program, "study", str(long["file"]), "--seed", "3", "--memory", "2GiB", *more]
        environment = {**os.environ, "LORASCOPE_PYTHON": sys.executable}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment)

    for more in (["--out", "plain"], ["--out", "many", "--ray", "local"]):
        done = study(*more)
        assert done.returncode == 0, done.stderr
    assert written(tmp_path / "many") == written(tmp_path / "plain")


def test_what_is_wrong_is_said(nodes: Any, long: Dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(lorascope.Error, match="GiB of memory there"):
        with pytest.warns(UserWarning, match="lower `memory`"):
            lorascope.study(long["file"], out=tmp_path / "run", memory="900GiB", ray=scale.Cluster(nodes.address, patience=1), progress=False)
    with pytest.raises(lorascope.Error, match="outside the cluster"):
        _disconnected(lambda: lorascope.study(long["file"], ray="ray://somewhere:10001", progress=False))
    with pytest.raises(lorascope.Error, match="no cluster of Ray at `localhost:9`"):
        _disconnected(lambda: lorascope.study(long["file"], ray="localhost:9", progress=False))
    with pytest.raises(ValueError, match="auto or send"):
        scale.Cluster(files="copy")


def _disconnected(action: Callable[[], Any]) -> Any:
    import ray

    ray.shutdown()
    return action()
