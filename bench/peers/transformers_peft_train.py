#!/usr/bin/env python3
"""Peer: steps of exact policy-gradient training with `transformers` + PEFT and torch.optim.AdamW on the CPU.

One step is four prompts (one surface form in four states), both answers in two spellings, rank 8 in all linear layers;
the objective is lorascope's (docs/train.md) under the strategic reward against tit-for-tat. Two ways:

    plain   one row for each beginning of a spelling (prompt + first token), padded to one batch: what one writes first
    packed  one row with everything once (shared beginning, branches, leaves), a 4-D mask and explicit positions

    python bench/peers/transformers_peft_train.py --base X.gguf --prompts prompts.json --threads 2 --steps 5 [--way both]

Prints JSON: seconds of each step, and the objective before each update.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import smollm2

import peft
import torch
from peft import LoraConfig, get_peft_model

from transformers_peft_decide import prepare

RANK, ALPHA, RATE, CLIP, BETAS = 8, 16, 4e-4, 1.0, (0.9, 0.98)
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def rewards(entry: dict) -> list[float]:
    """Own points of cooperating and of defecting on an opponent who repeats our last move."""
    return [3.0, 4.0] if entry["own_last_move"] == "C" else [0.0, 1.0]


def fresh_model(gguf: Path):
    torch.manual_seed(0)
    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=MODULES, bias="none", task_type="CAUSAL_LM")
    return get_peft_model(smollm2.load_model(gguf, "sdpa"), config).train()


class Plain:
    """Rows of prompt + beginning of a spelling, padded on the right."""

    def __init__(self, prompts: list[dict]):
        self.prompts, self.rows, self.place = prompts, [], {}
        for p, prompt in enumerate(prompts):
            for tokens in prompt["a"] + prompt["b"]:
                key = (p, tuple(tokens[:-1]))
                if key not in self.place:
                    self.place[key] = len(self.rows)
                    self.rows.append(prompt["ids"] + tokens[:-1])
        longest = max(map(len, self.rows))
        self.ids = torch.tensor([row + [0] * (longest - len(row)) for row in self.rows])
        self.mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in self.rows])
        # Only the last positions are needed; the shortest prompt says from where.
        self.first = min(len(prompt["ids"]) for prompt in prompts) - 1

    def scores(self, model) -> list[list[torch.Tensor]]:
        keep = torch.arange(self.first, self.ids.shape[1])
        logits = model(input_ids=self.ids, attention_mask=self.mask, logits_to_keep=keep, use_cache=False).logits
        log_probs = torch.log_softmax(logits.double(), dim=-1)

        def spelling(p: int, tokens: list[int]) -> torch.Tensor:
            row = log_probs[self.place[p, tuple(tokens[:-1])]]
            start = len(self.prompts[p]["ids"]) - 1 - self.first
            return sum(row[start + i, token] for i, token in enumerate(tokens))

        return gather(self.prompts, spelling)


class Packed:
    """Everything once in one row: a token tree."""

    def __init__(self, prompts: list[dict]):
        self.prompts, self.node, tokens, parents = prompts, {(): -1}, [], []
        sequences = [p["ids"] + t[:-1] for p in prompts for t in p["a"] + p["b"]]
        for sequence in sequences:
            for end in range(1, len(sequence) + 1):
                key = tuple(sequence[:end])
                if key not in self.node:
                    self.node[key] = len(tokens)
                    tokens.append(sequence[end - 1])
                    parents.append((self.node[key[:-1]], end - 1))
        seen = torch.zeros(len(tokens), len(tokens), dtype=torch.bool)
        for i, (parent, _) in enumerate(parents):
            if parent >= 0:
                seen[i] = seen[parent]
            seen[i, i] = True
        self.ids = torch.tensor([tokens])
        self.positions = torch.tensor([[position for _, position in parents]])
        self.mask = torch.zeros(1, 1, *seen.shape).masked_fill(~seen, torch.finfo(torch.float32).min)
        ends = {self.node[tuple(p["ids"] + t[:i])] for p in prompts for t in p["a"] + p["b"] for i in range(len(t))}
        self.keep = sorted(ends)

    def scores(self, model) -> list[list[torch.Tensor]]:
        keep = torch.tensor(self.keep)
        logits = model(
            input_ids=self.ids, position_ids=self.positions, attention_mask=self.mask, logits_to_keep=keep, use_cache=False
        ).logits[0]
        log_probs = torch.log_softmax(logits.double(), dim=-1)
        row = {node: i for i, node in enumerate(self.keep)}

        def spelling(p: int, tokens: list[int]) -> torch.Tensor:
            ids = self.prompts[p]["ids"]
            return sum(log_probs[row[self.node[tuple(ids + tokens[:i])]], token] for i, token in enumerate(tokens))

        return gather(self.prompts, spelling)


def gather(prompts: list[dict], spelling) -> list[list[torch.Tensor]]:
    """For each prompt the log-probabilities of both answers."""
    sums = lambda p, which: torch.logsumexp(torch.stack([spelling(p, t) for t in prompts[p][which]]), 0)
    return [[sums(p, "a"), sums(p, "b")] for p in range(len(prompts))]


def objective(scores, base, worth) -> torch.Tensor:
    total = 0.0
    for ln_p, ln_base, reward in zip(scores, base, worth):
        ln_p, ln_base, reward = torch.stack(ln_p), torch.stack(ln_base), torch.tensor(reward, dtype=torch.float64)
        ln_m, ln_m_base = torch.logsumexp(ln_p, 0), torch.logsumexp(ln_base, 0)
        ln_q, ln_q_base, m, m_base = ln_p - ln_m, ln_base - ln_m_base, ln_m.exp(), ln_m_base.exp()
        kl = (ln_q.exp() * (ln_q - ln_q_base)).sum()
        reverse = (ln_q_base.exp() * (ln_q_base - ln_q)).sum()
        coin = m * (ln_m - ln_m_base) + (1 - m) * ((1 - m) / (1 - m_base)).log()
        gap = (reward[1] - reward[0]).abs()
        value = (ln_q.exp() * reward).sum() - 6 * (1 - m) + 0.5 * m.clamp(max=0.98).log()
        total = total + value - gap * (0.05 * kl + 0.10 * reverse) - 0.01 * coin
    return total / len(scores)


def measure(way: str, call: argparse.Namespace, prompts: list[dict], worth: list[list[float]]) -> dict:
    model = fresh_model(call.base)
    batch = {"plain": Plain, "packed": Packed}[way](prompts)
    with torch.no_grad():
        # Before any update the policy is the base's.
        base = [[answer.detach() for answer in prompt] for prompt in batch.scores(model)]
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=RATE, betas=BETAS, weight_decay=0.0)
    seconds, values = [], []
    for _ in range(call.steps + 1):
        start = time.perf_counter()
        value = objective(batch.scores(model), base, worth)
        optimizer.zero_grad()
        (-value).backward()
        torch.nn.utils.clip_grad_norm_(trained, CLIP)
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        values.append(value.item())
    return {"seconds": seconds[1:], "objective": values, "tokens": int(batch.ids.numel())}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True, help="prompts.json of a run of `lorascope train`")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=5, help="timed steps; one more comes first")
    parser.add_argument("--way", choices=("plain", "packed", "both"), default="both")
    call = parser.parse_args()
    torch.set_num_threads(call.threads)
    entries = json.loads(call.prompts.read_text())
    tokenizer = smollm2.load_tokenizer(call.base)
    prompts = [prepare(tokenizer, entry) for entry in entries]
    ways = ("plain", "packed") if call.way == "both" else (call.way,)
    found = {way: measure(way, call, prompts, [rewards(e) for e in entries]) for way in ways}
    surroundings = smollm2.surroundings(call.threads)
    surroundings["versions"]["peft"] = peft.__version__
    print(json.dumps({"ways": found, "prompt_tokens": [len(p["ids"]) for p in prompts], **surroundings}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
