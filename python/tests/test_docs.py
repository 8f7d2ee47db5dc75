"""Every Python block of the documentation runs; so do the notebooks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict

import pytest
from conftest import ROOT

PAGES = ["docs/python.md", "docs/transformer_lens.md", "python/README.md", "README.md"]


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert blocks, f"{page} has no Python"
    names: Dict[str, Any] = {}
    for block in blocks:
        line = text[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(ROOT / page), "exec"), names)


@pytest.mark.parametrize("notebook", sorted((ROOT / "examples/notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_run(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    monkeypatch.chdir(tmp_path)
    book = nbformat.read(notebook, as_version=4)
    nbformat.validate(book)
    names: Dict[str, Any] = {}
    for i, cell in enumerate(book.cells):
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{notebook.name}, cell {i + 1}", "exec"), names)
