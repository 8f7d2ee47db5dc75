"""Every Python block of the documentation runs; so do the notebooks."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any, Dict

import pytest
from conftest import ROOT, skip, smollm2_file

PAGES = ["docs/python.md", "docs/scale.md", "docs/transformer_lens.md", "python/README.md", "README.md"]


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_run(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if page == "docs/scale.md" and importlib.util.find_spec("ray") is None:
        skip("Ray is not installed")
    monkeypatch.chdir(tmp_path)
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = list(re.finditer(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    assert blocks, f"{page} has no Python"
    names: Dict[str, Any] = {}
    for block in blocks:
        line = text[: block.start()].count("\n") + 1
        exec(compile("\n" * line + block[1], str(ROOT / page), "exec"), names)


def smollm2_adapters() -> Path:
    """The four moral adapters of SmolLM2."""
    place = ROOT.parent / "shared/adapters/smollm2"
    if not place.is_dir():
        skip(f"the adapters of SmolLM2 are not at {place}")
    return place


#: By the names in notebooks: the variable that says where it is, and how it is found.
INPUTS = {
    "smollm2": ("LORASCOPE_SMOLLM2_GGUF", smollm2_file),
    "adapters": ("LORASCOPE_ADAPTERS", smollm2_adapters),
}


@pytest.mark.parametrize("notebook", sorted((ROOT / "examples/notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_run(notebook: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat")
    book = nbformat.read(notebook, as_version=4)
    nbformat.validate(book)
    # A notebook names what it can't bring along.
    for needed in book.metadata.get("lorascope", {}).get("needs", []):
        variable, find = INPUTS[needed]
        monkeypatch.setenv(variable, str(find()))
    monkeypatch.chdir(tmp_path)
    paths = [root for root in ("/home/", "/root/", "/Users/", "/tmp/") if root in json.dumps(book.cells)]
    assert not paths, "outputs name places of somebody's machine"
    names: Dict[str, Any] = {}
    for i, cell in enumerate(book.cells):
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{notebook.name}, cell {i + 1}", "exec"), names)
