"""Run folders on the Hugging Face hub: never unasked, and only what the run itself wrote."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, List, Optional, Union


def push_run(
    folder: Union[str, "os.PathLike[str]"],
    repo_id: str,
    *,
    really: bool = False,
    private: bool = True,
    api: Optional[Any] = None,
) -> List[str]:
    """Uploads a finished run folder to a data set of the Hugging Face hub; unless ``really=True`` it only says what it would upload.

    What goes is what the run's manifest lists, and the manifest. Mind that a run holds its prompts, and the manifest the command line
    with its paths.

    Args:
        folder: The run folder.
        repo_id: ``"name/run"``; it is made where it does not exist.
        really: Upload.
        private: Whether a repository that is made is private.
        api: A ``huggingface_hub.HfApi``, with a token of your own; one by default.

    Returns:
        The files, relative to the folder.

    Raises:
        ValueError: the folder holds no finished run, or files of it are missing.
        ImportError: uploading needs the package huggingface_hub.
    """
    place = Path(folder)
    files = _files(place)
    size = sum((place / name).stat().st_size for name in files) / 1e6
    what = f"{len(files)} files ({size:.1f} MB) of {place} to the {'private ' if private else 'public '}data set {repo_id}"
    if not really:
        print(f"would upload {what}; with really=True it does:")
        print("\n".join(f"  {name}" for name in files))
        return files
    api = api or _api()
    api.create_repo(repo_id=repo_id, repo_type="dataset", private=private, exist_ok=True)
    # Names of files are no patterns, but for characters that mean something there.
    api.upload_folder(
        repo_id=repo_id,
        repo_type="dataset",
        folder_path=str(place),
        allow_patterns=[_literal(name) for name in files],
        commit_message=f"lorascope run {place.name}",
    )
    print(f"uploaded {what}")
    return files


def _files(place: Path) -> List[str]:
    manifest = place / "manifest.json"
    if not manifest.is_file():
        raise ValueError(f"{place} is no run folder: it has no manifest.json")
    said = json.loads(manifest.read_text(encoding="utf-8"))
    if not said["finished"]:
        raise ValueError(f"the run in {place} is not finished; let it come to its end")
    tables = [f"tables/{name}.{ending}" for name in said["tables"] for ending in ("csv", "parquet")]
    files = sorted({*said["files"], *tables, manifest.name})
    missing = [name for name in files if not (place / name).is_file()]
    if missing:
        raise ValueError(f"{place} lacks {', '.join(missing)}, which its manifest lists")
    return files


def _literal(name: str) -> str:
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _api() -> Any:
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise ImportError("uploading needs the package huggingface_hub: pip install huggingface_hub") from error
    return HfApi()
