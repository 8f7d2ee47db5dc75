#!/usr/bin/env python3
"""Peer: one-round games of one adapter with `transformers` + PEFT, one call a game, adapter un-merged.

Two ways:

    generate  `model.generate` of two sampled tokens for each game (what the base paper's evaluation does)
    score     for each game the exact probabilities of both actions: the prompt once with a KV cache, then each distinct
              beginning of the answers' spellings once (the careful way of transformers_peft_decide.py)

    python bench/peers/transformers_play.py --base X.gguf --adapter NAME=FOLDER --games games.json --threads 2

`--games` is a list of prompts as `lorascope prompts` writes them; a prompt that is played twice stands there twice. Prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

import smollm2

import peft
import torch
from peft import PeftModel
from transformers_peft_decide import adapter, decide, prepare

NEW_TOKENS = 2  # `action` and the digit


def generate(model, game: dict) -> list[int]:
    ids = torch.tensor([game["ids"]])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=True,
        top_k=0,
        top_p=1.0,
        min_new_tokens=NEW_TOKENS,
        max_new_tokens=NEW_TOKENS,
        pad_token_id=0,
    )
    return out[0, len(game["ids"]) :].tolist()


def timed(play, games: list[dict]) -> tuple[dict, list]:
    """Wall and processor seconds of each game, and its answer."""
    play(games[0])  # warm-up
    wall, processor, answers = [], [], []
    for game in games:
        start, used = time.perf_counter(), time.process_time()
        answers.append(play(game))
        wall.append(time.perf_counter() - start)
        processor.append(time.process_time() - used)
    return {"wall": wall, "processor": processor}, answers


def arguments_of_call() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True, help="the GGUF file")
    parser.add_argument("--adapter", type=adapter, required=True, metavar="NAME=FOLDER")
    parser.add_argument("--games", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    return parser.parse_args()


def main() -> int:
    call = arguments_of_call()
    torch.set_num_threads(call.threads)
    torch.manual_seed(0)
    tokenizer = smollm2.load_tokenizer(call.base)
    games = [prepare(tokenizer, entry) for entry in json.loads(call.games.read_text())]
    name, folder = call.adapter
    model = PeftModel.from_pretrained(smollm2.load_model(call.base, "sdpa"), folder, adapter_name=name).eval()
    with torch.inference_mode():
        seconds = {"generate": timed(lambda game: generate(model, game), games)[0]}
        seconds["score"], decisions = timed(lambda game: decide(model, game, "careful"), games)
    report = {"peer": "transformers + PEFT play"} | smollm2.surroundings(call.threads)
    report["versions"]["peft"] = peft.__version__
    report["median_seconds"] = {
        way: {clock: statistics.median(each) for clock, each in clocks.items()} for way, clocks in seconds.items()
    }
    print(json.dumps(report | {"seconds": seconds, "decisions": decisions}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
