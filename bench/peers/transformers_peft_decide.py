#!/usr/bin/env python3
"""Peer: decisions of a base model and its adapters with `transformers` + PEFT, one model after another.

For each model, prompt and answer: logp(answer) = logsumexp over the answer's variants (as written, and with a
leading space; equal token sequences count once) of the sum of log p(token | prompt, tokens before).
delta = logp_b - logp_a. Adapters are un-merged. Two ways:

    plain    one forward pass over prompt + variant, for every variant (what one writes first)
    careful  the prompt once with a KV cache and its last logits only; then, on that cache, each distinct
             beginning of the variants once

    python bench/peers/transformers_peft_decide.py --base X.gguf --adapter NAME=FOLDER ... \\
        --prompts prompts.json --threads 2 [--way plain|careful|both] [--check golden.json]

Prints JSON. `seconds` is scoring alone, without loading. `--check` compares with recorded decisions and fails
where a value is more than 1e-3 away.
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
from peft import PeftModel

TOLERANCE = 1e-3


def variants(tokenizer, answer: str) -> list[list[int]]:
    """Token sequences of the answer as written and with a leading space, without repetition."""
    sequences = [tokenizer.encode(text, add_special_tokens=False) for text in (answer, " " + answer)]
    return sequences if sequences[0] != sequences[1] else sequences[:1]


def prepare(tokenizer, entry: dict) -> dict:
    """Token ids of the prompt in the chat template, and the variants of both answers."""
    messages = [{"role": "user", "content": entry["prompt"]}]
    text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    return {
        "id": entry["id"],
        "ids": tokenizer.encode(text, add_special_tokens=False),
        "a": variants(tokenizer, entry["answer_a"]),
        "b": variants(tokenizer, entry["answer_b"]),
    }


def log_probabilities(logits: torch.Tensor) -> torch.Tensor:
    return torch.log_softmax(logits.double(), dim=-1)


def score_plain(model, prompt: list[int], sequences: list[list[int]]) -> list[float]:
    """Log-probability of each sequence after the prompt, one forward pass each."""
    scores = []
    for tokens in sequences:
        logits = model(torch.tensor([prompt + tokens]), use_cache=False).logits[0]
        rows = log_probabilities(logits[len(prompt) - 1 : -1])
        scores.append(rows.gather(1, torch.tensor(tokens).unsqueeze(1)).sum().item())
    return scores


def score_careful(model, prompt: list[int], sequences: list[list[int]]) -> list[float]:
    """The same with the prompt computed once and each distinct beginning of the sequences once."""
    output = model(torch.tensor([prompt]), use_cache=True, logits_to_keep=1)
    cache, first = output.past_key_values, log_probabilities(output.logits[0])
    rows = {(): first}
    scores = []
    for tokens in sequences:
        beginning = tuple(tokens[:-1])
        if beginning not in rows:
            logits = model(torch.tensor([beginning]), past_key_values=cache, use_cache=True).logits[0]
            rows[beginning] = torch.cat([first, log_probabilities(logits)])
            cache.crop(-len(beginning))
        scores.append(rows[beginning].gather(1, torch.tensor(tokens).unsqueeze(1)).sum().item())
    return scores


WAYS = {"plain": score_plain, "careful": score_careful}


def decide(model, prompt: dict, way: str) -> dict:
    scores = torch.tensor(WAYS[way](model, prompt["ids"], prompt["a"] + prompt["b"]), dtype=torch.float64)
    logp_a = torch.logsumexp(scores[: len(prompt["a"])], 0).item()
    logp_b = torch.logsumexp(scores[len(prompt["a"]) :], 0).item()
    return {
        "prompt_id": prompt["id"],
        "n_tokens": len(prompt["ids"]),
        "logp_a": logp_a,
        "logp_b": logp_b,
        "delta": logp_b - logp_a,
    }


def run_model(name: str, model, prompts: list[dict], ways: list[str]) -> list[dict]:
    """Decisions and seconds of one model, for each way."""
    results = []
    for way in ways:
        decide(model, prompts[0], way)  # warm-up
        start = time.perf_counter()
        decisions = [decide(model, prompt, way) for prompt in prompts]
        results.append({"model": name, "way": way, "seconds": time.perf_counter() - start, "decisions": decisions})
    return results


def run_all(arguments: argparse.Namespace, ways: list[str]) -> list[dict]:
    """Base first (before PEFT wraps it), then the adapters one after another."""
    tokenizer = smollm2.load_tokenizer(arguments.base)
    prompts = [prepare(tokenizer, entry) for entry in json.loads(arguments.prompts.read_text())]
    base = smollm2.load_model(arguments.base, arguments.attention)
    results = run_model("base", base, prompts, ways)
    wrapped = None
    for name, folder in arguments.adapter:
        if wrapped is None:
            wrapped = PeftModel.from_pretrained(base, folder, adapter_name=name).eval()
        else:
            wrapped.load_adapter(folder, adapter_name=name)
        wrapped.set_adapter(name)
        results += run_model(name, wrapped, prompts, ways)
    return results


def worst_difference(results: list[dict], golden: list[dict]) -> float:
    """Largest absolute difference of logp_a, logp_b and delta from recorded decisions of the same model and prompt."""
    recorded = {(row["model"], row["prompt"]): row for row in golden}
    names = (("logp_a", "logp1"), ("logp_b", "logp2"), ("delta", "delta"))
    return max(
        abs(decision[ours] - recorded[result["model"], decision["prompt_id"]][theirs])
        for result in results
        for decision in result["decisions"]
        for ours, theirs in names
    )


def adapter(text: str) -> tuple[str, str]:
    name, separator, folder = text.partition("=")
    if not (name and separator and (Path(folder) / "adapter_config.json").is_file()):
        raise argparse.ArgumentTypeError(f"`{text}` is not NAME=FOLDER with an adapter_config.json in the folder")
    return name, folder


def arguments_of_call() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="the GGUF file")
    parser.add_argument("--adapter", type=adapter, action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--attention", choices=("eager", "sdpa"), default="sdpa")
    parser.add_argument("--way", choices=(*WAYS, "both"), default="both")
    parser.add_argument("--check", type=Path, help="recorded decisions to compare with")
    return parser.parse_args()


def main() -> int:
    arguments = arguments_of_call()
    torch.set_num_threads(arguments.threads)
    ways = list(WAYS) if arguments.way == "both" else [arguments.way]
    with torch.inference_mode():
        results = run_all(arguments, ways)
    report = {"peer": "transformers + PEFT decide", "attention": arguments.attention}
    report |= smollm2.surroundings(arguments.threads)
    report["versions"]["peft"] = peft.__version__
    report["seconds"] = {way: sum(r["seconds"] for r in results if r["way"] == way) for way in ways}
    if arguments.check:
        report["worst_difference"] = worst_difference(results, json.loads(arguments.check.read_text())["decide"])
    print(json.dumps(report | {"results": results}, indent=1))
    if report.get("worst_difference", 0.0) > TOLERANCE:
        print(f"decisions are {report['worst_difference']:.2e} off, allowed {TOLERANCE}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
