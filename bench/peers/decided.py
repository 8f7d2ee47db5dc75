"""The prompts that `lorascope decide` left in its run folder, for every peer. Standard library only."""

from __future__ import annotations

import csv
import json
from pathlib import Path

BASE = "base"


def decided(folder: Path) -> list[dict]:
    """Ids up to the decision point, the two tokens that decide there, and the prompt's own ids with all spellings of both answers."""
    with (folder / "tables/decisions.csv").open(newline="") as file:
        rows = {row["prompt_id"]: row for row in csv.DictReader(file) if row["model"] == BASE}
    entries = map(json.loads, (folder / "rendered.jsonl").read_text().splitlines())
    return [prompt_of(entry, rows[entry["prompt_id"]]) for entry in entries]


def prompt_of(entry: dict, row: dict) -> dict:
    spelling = {"as written": 0, "with space": -1}[row["primary_pair"]]
    a, b = entry["answer_a"][spelling], entry["answer_b"][spelling]
    shared = next(i for i, (x, y) in enumerate(zip(a, b)) if x != y)
    ids = entry["ids"] + a[:shared]
    if len(ids) - 1 != int(row["decision_position"]):
        raise SystemExit(f"`{row['prompt_id']}`: position {len(ids) - 1} is not {row['decision_position']} as decided")
    return {
        "id": entry["prompt_id"],
        "ids": ids,
        "token_a": a[shared],
        "token_b": b[shared],
        "prompt_ids": entry["ids"],
        "answer_a": entry["answer_a"],
        "answer_b": entry["answer_b"],
    }
