#!/usr/bin/env python3
"""Load an adapter that `lorascope train` wrote with PEFT itself, and hold its decisions against lorascope's.

    lorascope decide --base BASE --adapter trained=RUN/adapter --prompts prompts.json --out DECIDE
    python scripts/check_adapter_with_peft.py --base BASE --adapter RUN/adapter [--decisions DECIDE]

BASE is a Hugging Face folder or SmolLM2's GGUF file. Fails where PEFT misses a tensor or has one too many, where the
adapter does nothing, or where a log-probability of DECIDE's model `trained` is more than 1e-3 off. Needs torch,
transformers and peft (bench/requirements.txt).
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "bench/peers"))

import smollm2
import torch
from peft import PeftModel
from safetensors import safe_open
from transformers import AutoModelForCausalLM

TOLERANCE = 1e-3  # f32 on both sides
MODEL = "trained"


def load_base(base: Path):
    if base.suffix == ".gguf":
        return smollm2.load_model(base, "eager")
    return AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32, attn_implementation="eager").eval()


def load_adapter(base, folder: Path):
    """The model with the adapter; a complaint of PEFT about its keys is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*(missing|unexpected|adapter keys).*")
        return PeftModel.from_pretrained(base, folder).eval()


def check_tensors(model, folder: Path) -> int:
    """Every tensor of the file is a parameter of the model with the same numbers, and none is missing."""
    ours = {}
    with safe_open(folder / "adapter_model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}, file.metadata()
        ours = {name: file.get_tensor(name) for name in file.keys()}
    theirs = {n.replace(".default", ""): p for n, p in model.named_parameters() if "lora_" in n}
    assert ours.keys() == theirs.keys(), sorted(ours.keys() ^ theirs.keys())[:5]
    for name, tensor in ours.items():
        assert torch.equal(tensor, theirs[name].detach()), f"{name} was changed on its way"
    assert any(t.any() for n, t in ours.items() if "lora_B" in n), "the adapter does nothing"
    return len(ours)


def answer(model, prompt: list[int], spellings: list[list[int]]) -> float:
    """logsumexp over spellings of the sum of their tokens' log-probabilities."""
    scores = []
    for tokens in spellings:
        with torch.no_grad():
            logits = model(torch.tensor([prompt + tokens])).logits[0].double()
        rows = torch.log_softmax(logits, dim=-1)[len(prompt) - 1 : -1]
        scores.append(rows.gather(1, torch.tensor(tokens)[:, None]).sum())
    return torch.logsumexp(torch.stack(scores), 0).item()


def worst_difference(model, decisions: Path) -> tuple[float, int]:
    with (decisions / "tables/decisions.csv").open(newline="") as file:
        rows = {row["prompt_id"]: row for row in csv.DictReader(file) if row["model"] == MODEL}
    assert rows, f"{decisions} has no model `{MODEL}`"
    worst = 0.0
    prompts = [json.loads(line) for line in (decisions / "rendered.jsonl").read_text().splitlines()]
    for prompt in prompts:
        for which in ("a", "b"):
            found = answer(model, prompt["ids"], prompt[f"answer_{which}"])
            worst = max(worst, abs(found - float(rows[prompt["prompt_id"]][f"logp_{which}"])))
    return worst, len(prompts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--adapter", type=Path, required=True)
    parser.add_argument("--decisions", type=Path, help="run folder of `lorascope decide` with the adapter as `trained`")
    call = parser.parse_args()
    model = load_adapter(load_base(call.base), call.adapter)
    print(f"PEFT loads {check_tensors(model, call.adapter)} tensors, the same numbers, none missing, none left over")
    if call.decisions is None:
        return 0
    worst, n = worst_difference(model, call.decisions)
    print(f"log-probabilities of both answers on {n} prompts differ by at most {worst:.1e} (allowed {TOLERANCE:.0e})")
    return 0 if worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
