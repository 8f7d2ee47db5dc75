"""Who is told how far a run is, and how it looks."""

from __future__ import annotations

import sys
import types
from typing import Any, Dict, List

import pytest

import lorascope
from lorascope import _progress


class Shown:
    """What a display id stands for."""

    def __init__(self, contents: List[Dict[str, str]]) -> None:
        self.contents = contents

    def update(self, content: Dict[str, str], raw: bool) -> None:
        assert raw
        self.contents.append(content)


@pytest.fixture
def notebook(monkeypatch: pytest.MonkeyPatch) -> List[Dict[str, str]]:
    """IPython as a notebook's kernel has it; what it displayed."""
    contents: List[Dict[str, str]] = []

    def display(content: Dict[str, str], raw: bool, display_id: bool) -> Shown:
        assert raw and display_id and not contents, "one place for all steps"
        contents.append(content)
        return Shown(contents)

    ipython: Any = types.ModuleType("IPython")
    ipython.get_ipython = lambda: types.SimpleNamespace(kernel=object())
    ipython.display = types.ModuleType("IPython.display")
    ipython.display.display = display
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", ipython.display)
    return contents


def test_a_notebook_has_a_bar_that_goes_away(model: lorascope.Model, games: list, notebook: List[Dict[str, str]]) -> None:
    lorascope.patch(model, games[:2], source="hybrid", target="base")
    # How often it is drawn anew depends on the machine.
    assert len(notebook) >= 2 and notebook[-1] == {"text/html": "", "text/plain": ""}
    bars = [content for content in notebook if content["text/html"]]
    assert bars and all("<progress" in bar["text/html"] and bar["text/plain"].endswith("%") for bar in bars)
    before = len(notebook)
    lorascope.decide(model, games[:1], progress=False)
    assert len(notebook) == before


def test_names_are_no_markup() -> None:
    assert "<b>" not in _progress._bar("<b>", 1, 2)["text/html"]


def test_a_terminal_has_a_line_that_goes_away(capsys: pytest.CaptureFixture) -> None:
    line = _progress.Line()
    for done in (0, 1, 2):
        line("patching", done, 2)
    said = capsys.readouterr().err
    assert "patching: 50%" in said and said.endswith("\r")
    assert _progress.resolve(False) is None and _progress.resolve(line) is line
    assert _progress.resolve(None) is None, "nobody looks"
    assert isinstance(_progress.resolve(True), _progress.Line)
