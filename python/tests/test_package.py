"""What is published of the Python package."""

from __future__ import annotations

import posixpath
import re
import subprocess
import sys
import tarfile
from pathlib import Path

from conftest import ROOT


def test_the_source_has_what_is_compiled_into_it(tmp_path: Path) -> None:
    """Files that are compiled in lie within their packages, or a source distribution can't be built; `scripts/supply_chain --build` builds it."""
    command = [sys.executable, "-m", "maturin", "sdist", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT / "python", capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as source:
        there = {member.name for member in source.getmembers() if member.isfile()}
        code = {name: read.read().decode() for name in there if name.endswith(".rs") and (read := source.extractfile(name))}
    compiled_in = [
        posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        for name, text in code.items()
        for path in re.findall(r'include_(?:str|bytes)!\(\s*"([^"]+)"', text.split("#[cfg(test)]")[0])
        if "/tests/" not in path
    ]
    assert len(compiled_in) > 20, "fonts, texts, the page's script, descriptions of settings"
    assert not set(compiled_in) - there
    assert {"LICENSE-MIT", "LICENSE-APACHE"} <= {name.split("/", 1)[1] for name in there}
