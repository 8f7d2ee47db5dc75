"""Analyses and studies: the registry, tables, figures, run folders."""

from __future__ import annotations

import csv
import inspect
import io
import json
import os
import signal
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, skip

import lorascope
from lorascope import _native, _stubs


def test_every_analysis_of_the_registry_is_a_function() -> None:
    names = [spec["name"] for spec in _native.analyses()]
    assert {"decide", "lens", "dla", "patch", "surgery"} <= set(names) and "conclusions" not in names
    for spec in _native.analyses():
        function = getattr(lorascope, spec["name"])
        parameters = inspect.signature(function).parameters
        settings = json.loads(spec["settings"])
        assert not set(settings) & {"models", "prompt_set", *lorascope.analyses.COMMON}, "no name means two things"
        assert set(settings) <= set(parameters)
        # Of a group of settings, which may be given in part, the default is none given.
        shown = {key: None if isinstance(value, dict) else value for key, value in settings.items()}
        assert all(parameters[key].default == value for key, value in shown.items())
        assert spec["question"] in function.__doc__


def test_the_stubs_are_those_of_the_registry() -> None:
    file = ROOT / "python/lorascope/analyses.pyi"
    assert file.read_text() == _stubs.text(), "write them anew: python -m lorascope._stubs python/lorascope"


@pytest.fixture(scope="module")
def decided(model: lorascope.Model, games: list) -> lorascope.Result:
    return lorascope.decide(model, games, progress=False)


def test_tables_are_arrow(decided: lorascope.Result) -> None:
    pa, pd, pl = pytest.importorskip("pyarrow"), pytest.importorskip("pandas"), pytest.importorskip("polars")
    table = decided.tables["decisions"]
    assert len(table) == 15 * 4 and table.doc
    arrow = table.to_arrow()
    assert isinstance(arrow, pa.Table) and arrow.num_rows == len(table)
    assert arrow.column_names == [column.name for column in table.columns]
    assert arrow.schema.field("delta").metadata[b"unit"] == b"nat"
    again = pa.table(table)
    addresses = [t.column("delta").chunk(0).buffers()[1].address for t in (arrow, again)]
    assert addresses[0] == addresses[1], "both read the same memory"
    frame, polars = table.to_pandas(), table.to_polars()
    assert isinstance(frame, pd.DataFrame) and isinstance(polars, pl.DataFrame)
    assert frame["delta"].tolist() == polars["delta"].to_list() == arrow["delta"].to_pylist()
    assert set(frame["model"]) == {"base", "hybrid", "selfish", "hybrid.random.3"}


def test_decisions_are_what_the_logits_say(model: lorascope.Model, games: list, decided: lorascope.Result) -> None:
    """p_b among the first tokens of both answers as the table has it, against a run by hand."""
    rows = {(r["model"], r["prompt_id"]): r for r in decided.tables["decisions"].to_arrow().to_pylist()}
    prompt = games[0]
    tokens = model.chat(prompt["messages"] if "messages" in prompt else prompt["prompt"])
    for adapter in ["base", "hybrid"]:
        delta = rows[adapter, prompt["id"]]["delta"]
        logits = model.run_with_cache(tokens, names=[], adapter=adapter)[0][0].astype(np.float64)
        assert np.isfinite(logits).all()
        p = rows[adapter, prompt["id"]]["p_b"]
        assert abs(p - 1 / (1 + np.exp(-delta))) < 1e-9


def test_a_result_shows_itself(decided: lorascope.Result) -> None:
    assert "hybrid" in decided.text
    assert "decisions" in repr(decided) and decided.figures
    for figure in decided.figures.values():
        assert figure._repr_svg_().startswith("<svg") and figure.title and figure.caption
    name, figure = next(iter(decided.figures.items()))
    assert figure.name == name
    assert figure.render("png").startswith(b"\x89PNG") and figure.render("pdf").startswith(b"%PDF")
    assert len(list(csv.reader(io.StringIO(figure.render("csv").decode())))) > 1
    with pytest.raises(lorascope.Error, match="svg, png, pdf or csv"):
        figure.render("jpeg")
    page = decided._repr_html_()
    assert "<svg" in page and "<table" in page and "<script" not in page
    assert decided.html().startswith("<!") and decided.sections[0].question.endswith("?")


def test_out_is_the_folder_of_the_command(
    model: lorascope.Model, games: list, decided: lorascope.Result, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    first = lorascope.decide(model, games, out=out, progress=False)
    assert {"report.html", "manifest.json", "tables", "figures", "prompts.json"} <= {p.name for p in out.iterdir()}
    assert json.loads((out / "manifest.json").read_text())["command"] == "decide"
    again = lorascope.decide(model, games, out=out, progress=False)
    assert any("finished already" in note for note in again.notes)
    for result in (first, again):
        assert result.tables.keys() == decided.tables.keys()
        for name, table in result.tables.items():
            assert table.to_arrow().equals(decided.tables[name].to_arrow()), f"{name}: bit for bit"
        assert result.text == decided.text and result.figures.keys() == decided.figures.keys()
    with pytest.raises(lorascope.Error):
        lorascope.lens(model, games, out=out, progress=False)


def test_tables_are_the_programs_byte_for_byte(
    model: lorascope.Model, games: list, tmp_path: Path
) -> None:
    program = os.environ.get("LORASCOPE_PROGRAM", "")
    if not Path(program).is_file():
        skip("LORASCOPE_PROGRAM names no program to compare with; scripts/test_python sets it after `cargo test`")
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(games[:6]))
    models = ["--base", "organism", "--adapter", "hybrid=organism:hybrid", "--adapter", "selfish=organism:strategic"]
    models += ["--control", "random:hybrid@3", "--prompts", str(file)]
    settings = {"decide": {}, "dla": {"neurons": 2}, "patch": {"source": "hybrid", "target": "base"}}
    for name, given in settings.items():
        pairs = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
        line = [program, name, *models, *pairs, "--out", str(tmp_path / "program" / name)]
        subprocess.run(line, check=True, capture_output=True)
        getattr(lorascope, name)(model, file, out=tmp_path / "package" / name, progress=False, **given)
        tables = sorted((tmp_path / "program" / name / "tables").iterdir())
        assert tables
        for table in tables:
            other = tmp_path / "package" / name / "tables" / table.name
            assert other.read_bytes() == table.read_bytes(), f"{name}: {table.name}"


def test_settings_are_those_of_the_command_line(model: lorascope.Model, games: list) -> None:
    few = games[:4]
    lens = lorascope.lens(model, few, tolerance=0.3, top=np.int64(2), progress=False)
    assert set(lens.tables) == {"lens", "lens_decisions"}
    anything_goes = lorascope.lens(model, few, tolerance=1e6, progress=False)
    assert anything_goes.text != lens.text
    with pytest.raises(lorascope.Error, match="unknown field `tolerence`"):
        lorascope.lens(model, few, tolerence=0.3)
    patched = lorascope.patch(model, few, source="hybrid", target="base", progress=False)
    assert patched.tables and patched.text
    with pytest.raises(lorascope.Error, match="nobody"):
        lorascope.patch(model, few, source="nobody")
    with pytest.raises(TypeError, match="Model.load"):
        lorascope.decide("organism", few)


def test_prompts_of_ones_own(model: lorascope.Model, tmp_path: Path) -> None:
    own = [{"id": str(i), "prompt": f"Question {i}: is it so?"} for i in range(3)]
    result = lorascope.decide(model, own, answers=("yes", "no"), progress=False)
    assert len(result.tables["decisions"]) == 3 * 4
    file = tmp_path / "prompts.json"
    file.write_text(json.dumps(own))
    from_file = lorascope.decide(model, file, answers=("yes", "no"), progress=False)
    assert from_file.text == result.text
    with pytest.raises(lorascope.Error, match="prompts"):
        lorascope.decide(model, [{"id": "1"}])
    assert len(lorascope.game_prompts(games=["ipd"])) > 0
    with pytest.raises(lorascope.Error, match="did you mean|known"):
        lorascope.game_prompts(gamez="ipd")


def test_progress_is_told_and_ctrl_c_stops(model: lorascope.Model, games: list, ctrl_c: None) -> None:
    told = []
    lorascope.lens(model, games, progress=lambda *step: told.append(step))
    assert told and told[-1][1] == told[-1][2]

    def interrupt(what: str, done: int, total: int) -> None:
        signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        lorascope.attention(model, games, progress=interrupt)
    timer = threading.Timer(0.3, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(20):
            lorascope.patch(model, games, source="hybrid", target="base", progress=False)
    timer.join()


def test_a_study_is_the_commands(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    file.write_text(
        'title = "Small"\nbase = "organism"\nanalyses = ["decide", "lens", "conclusions"]\n'
        '[[adapter]]\nname = "hybrid"\npath = "organism:hybrid"\n[prompts]\nper_scenario = 1\n'
    )
    result = lorascope.study(file, progress=False)
    assert {"decisions", "lens"} < set(result.tables)
    assert [section.id for section in result.sections][0] != "decide", "the answers come first"
    assert result.verdicts and set(result.verdicts[0]) == {
        "question", "claim", "about", "verdict", "statement", "value",
    }  # fmt: skip
    written = lorascope.study(file, out=tmp_path / "run", progress=False)
    for name, table in written.tables.items():
        assert table.to_arrow().equals(result.tables[name].to_arrow()), name
    with pytest.raises(lorascope.Error, match="bases"):
        file.write_text('bases = "organism"')
        lorascope.study(file)


def test_the_processor_is_a_device_and_what_is_none_is_refused() -> None:
    assert lorascope.set_device("cpu") is None
    with pytest.raises(lorascope.Error, match="cpu, cuda, vulkan"):
        lorascope.set_device("gpu")
