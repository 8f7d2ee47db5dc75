"""Training and play: the commands as functions."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
from conftest import skip

import lorascope
from lorascope import _native

RECIPE = {"reward": "hybrid", "steps": 3, "forms": 1, "rank": 2, "optimizer": {"learning_rate": 3e-3}}
GAMES = {"rounds": 3, "repetitions": 1, "opponents": ["tit_for_tat", "models"], "prompts": {"games": "ipd", "per_scenario": 4}}


def program() -> str:
    found = os.environ.get("LORASCOPE_PROGRAM", "")
    if not Path(found).is_file():
        skip("LORASCOPE_PROGRAM names no program to compare with; scripts/test_python sets it after `cargo test`")
    return found


def same_tables(one: Path, other: Path) -> None:
    tables = sorted((one / "tables").iterdir())
    assert tables
    for table in tables:
        assert (other / "tables" / table.name).read_bytes() == table.read_bytes(), table.name


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> lorascope.Result:
    return lorascope.train("organism", tmp_path_factory.mktemp("train") / "run", progress=False, **RECIPE)


def test_a_trained_adapter_is_there_and_loads(trained: lorascope.Result) -> None:
    frame = trained.tables["training"].to_pandas()
    assert len(frame) == 3 and len(trained.tables["training_states"]) == 3 * 4
    assert frame["gradient_norm"].gt(0).all() and trained.figures and "<svg" in trained._repr_html_()
    adapter = Path(trained.out) / "adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())["r"] == 2
    model = lorascope.Model.load("organism", {"new": adapter}, progress=False)
    tokens = model.tokenize("Two players choose.")
    assert np.abs(model(tokens, "new") - model(tokens)).max() > 1e-3


def test_a_finished_training_is_read(trained: lorascope.Result) -> None:
    again = lorascope.train("organism", trained.out, progress=False, **RECIPE)
    for name, table in trained.tables.items():
        assert again.tables[name].to_arrow().equals(table.to_arrow())
    assert again.figures.keys() == trained.figures.keys()
    with pytest.raises(lorascope.Error):
        lorascope.train("organism", trained.out, progress=False, **{**RECIPE, "steps": 4})


def test_training_is_the_commands(trained: lorascope.Result, tmp_path: Path) -> None:
    line = [program(), "train", "--base", "organism", "--reward", "hybrid", "--steps", "3", "--rank", "2"]
    line += ["--set", "forms=1", "--learning-rate", "3e-3", "--out", str(tmp_path / "run")]
    subprocess.run(line, check=True, capture_output=True)
    same_tables(tmp_path / "run", Path(trained.out))
    weights = "adapter/adapter_model.safetensors"
    assert (tmp_path / "run" / weights).read_bytes() == (Path(trained.out) / weights).read_bytes()


def test_ctrl_c_leaves_a_checkpoint_and_the_same_call_goes_on(
    trained: lorascope.Result, tmp_path: Path, ctrl_c: None
) -> None:
    seen = []

    def stop(what: str, done: int, total: int) -> None:
        seen.append((what, done, total))
        if what == "training":
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        lorascope.train("organism", tmp_path / "run", progress=stop, **RECIPE)
    assert ("training", 0, 3) in seen and not (tmp_path / "run" / "adapter").exists()
    again = lorascope.train("organism", tmp_path / "run", progress=False, **RECIPE)
    assert any("going on with" in note for note in again.notes)
    same_tables(tmp_path / "run", Path(trained.out))

    def fail(what: str, done: int, total: int) -> None:
        if what == "training":
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        lorascope.train("organism", tmp_path / "other", progress=fail, **RECIPE)


def test_settings_of_training_are_documented_and_checked(tmp_path: Path) -> None:
    defaults = json.loads(_native.training_settings()[0])
    parameters = inspect.signature(lorascope.train).parameters
    assert set(defaults) <= set(parameters) and parameters["steps"].default == 80
    for group, inner in defaults.items():
        keys = [f"{group}.{key}" for key in inner] if isinstance(inner, dict) and inner else [group]
        assert all(f"    {key}: " in lorascope.train.__doc__ for key in keys), keys
    for wrong, said in [({"stepz": 3}, "unknown field `stepz`"), ({"rank": 0}, "rank"), ({"reward": "kind"}, "kind")]:
        with pytest.raises(lorascope.Error, match=said):
            lorascope.train("organism", tmp_path / "run", progress=False, **wrong)


def test_play_is_the_commands(model: lorascope.Model, tmp_path: Path) -> None:
    played = lorascope.play(model, out=tmp_path / "package", progress=False, **GAMES)
    assert set(played.tables) == {"matches", "play", "regrets", "play_contrasts", "policies", "robustness"}
    assert set(played.tables["matches"].to_pandas()["model"]) == set(model.models)
    assert played.figures and played.text
    settings = tmp_path / "play.toml"
    settings.write_text('opponents = ["tit_for_tat", "models"]\n[prompts]\ngames = "ipd"\nper_scenario = 4\n')
    line = [program(), "play", "--base", "organism", "--adapter", "hybrid=organism:hybrid"]
    line += ["--adapter", "selfish=organism:strategic", "--control", "random:hybrid@3", "--from", str(settings)]
    line += ["--rounds", "3", "--repetitions", "1", "--out", str(tmp_path / "program")]
    subprocess.run(line, check=True, capture_output=True)
    same_tables(tmp_path / "program", tmp_path / "package")


def test_settings_of_play_are_checked(model: lorascope.Model) -> None:
    with pytest.raises(lorascope.Error, match="`rounds` is 0"):
        lorascope.play(model, rounds=0)
    with pytest.raises(lorascope.Error, match="unknown field `round`"):
        lorascope.play(model, round=3)
    with pytest.raises(TypeError):
        lorascope.play(model, lorascope.game_prompts("fifteen"))
    assert "rounds of a match (default: ``10``)" in lorascope.play.__doc__
