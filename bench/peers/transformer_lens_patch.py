#!/usr/bin/env python3
"""Peer: activation patching between models with TransformerLens 4 (TransformerBridge), f32, no weight processing.

TransformerLens knows no adapters: each is merged into a model of its own in f32 first, and the logits of every
model are held against `transformers` + PEFT un-merged (1e-3) before anything is timed. Patched are
`blocks.L.attn.hook_z` (one head) and `blocks.L.hook_mlp_out`, in place and at the decision point only. Only the
hooks of the patch are attached, logits of the last position only (`logits_to_keep=1` goes through to the model), no
gradients. `start_at_layer` would save nothing: the bridge computes the layers below it all the same. Three ways:

    single   `run_with_hooks` on one patch (what the library's own patching functions do)
    batched  the prompt B times in one forward pass, row b with patch b
    cached   the tokens before the decision point once with a KV cache; then the decision token R times in one
             forward pass on that cache, under a mask in which each sees the prompt and itself

    python bench/peers/transformer_lens_patch.py --base X.gguf --adapter NAME=FOLDER ... --decisions FOLDER --threads 2

`--decisions` is a run folder of `lorascope decide`, for token ids and decision points. Prints JSON.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import smollm2  # first: it takes the hub offline

import patching
import torch
from patching import Patch, Prompt, Source, Way, differences
from peft import PeftModel
from transformer_lens.model_bridge import TransformerBridge

TOLERANCE = 1e-3  # of the logits, f32 on both sides, eager attention against sdpa


class TransformerLensPeer:
    """One bridge for each model; all are resident."""

    def __init__(self, call, prompts: list[Prompt]):
        adapters = dict(call.adapter)
        ids = torch.tensor([prompts[0].ids])
        self.checks = {"logits_against_peft": {}}
        self.bridges = {}
        for name in dict.fromkeys((call.source, *call.target)):
            merged, expected = merged_model(call.base, adapters.get(name), ids)
            tokenizer = smollm2.load_tokenizer(call.base)
            folder = str(smollm2.converted(call.base))
            bridge = TransformerBridge.boot_transformers(folder, hf_model=merged, tokenizer=tokenizer, device="cpu")
            difference = (bridge.eval()(ids, use_cache=False) - expected).abs().max().item()
            if difference > TOLERANCE:
                raise SystemExit(f"`{name}`: logits are {difference:.2e} from PEFT's, allowed {TOLERANCE}")
            self.checks["logits_against_peft"][name] = difference
            self.bridges[name] = bridge
        self.n_layers, self.n_heads = bridge.cfg.n_layers, bridge.cfg.n_heads
        self.ways = {
            "single": Way(self.patch_batched, 1),
            "batched": Way(self.patch_batched, call.batch),
            "cached": Way(self.patch_cached, call.rows, self.prefix, cached=True),
        }

    def select(self, model: str) -> None:
        self.bridge = self.bridges[model]

    def delta(self, prompt: Prompt) -> float:
        logits = self.bridge(torch.tensor([prompt.ids]), use_cache=False, logits_to_keep=1)
        return differences(logits[:, -1], prompt)[0]

    def capture(self, prompt: Prompt):
        z = torch.empty(self.n_layers, self.n_heads, self.bridge.cfg.d_head)
        mlp_out = torch.empty(self.n_layers, self.bridge.cfg.d_model)

        def keep(kept):
            def hook(value, hook):
                kept.copy_(value[0, -1].view_as(kept))

            return hook

        hooks = [(hook_name("z", layer), keep(z[layer])) for layer in range(self.n_layers)]
        hooks += [(hook_name("mlp_out", layer), keep(mlp_out[layer])) for layer in range(self.n_layers)]
        ids = torch.tensor([prompt.ids])
        logits = self.bridge.run_with_hooks(ids, fwd_hooks=hooks, use_cache=False, logits_to_keep=1)
        return z, mlp_out, differences(logits[:, -1], prompt)[0]

    def hooks(self, patches: list[Patch], source: Source, place) -> list[tuple]:
        """Forward hooks that patch; `place(tensor, row)` is the vector of one row's decision point."""

        def hook_of(rows):
            def hook(value, hook):
                for row, patch in rows:
                    at = place(value, row)
                    if patch.head is not None:
                        at = at.view(self.n_heads, -1)[patch.head]
                    at.copy_(source.value(patch))
                return value

            return hook

        return [(hook_name(*where), hook_of(rows)) for where, rows in patching.rows_by_layer(patches).items()]

    def patch_batched(self, prompt: Prompt, patches: list[Patch], source: Source, _prepared) -> list[float]:
        hooks = self.hooks(patches, source, lambda tensor, row: tensor[row, -1])
        ids = torch.tensor([prompt.ids]).expand(len(patches), -1)
        logits = self.bridge.run_with_hooks(ids, fwd_hooks=hooks, use_cache=False, logits_to_keep=1)
        return differences(logits[:, -1], prompt)

    def prefix(self, prompt: Prompt):
        """The KV cache of everything before the decision point."""
        ids = torch.tensor([prompt.ids[:-1]])
        return self.bridge(ids, return_type="logits_and_cache", use_cache=True, logits_to_keep=1)[1]

    def patch_cached(self, prompt: Prompt, patches: list[Patch], source: Source, cache) -> list[float]:
        n, before = len(patches), len(prompt.ids) - 1
        logits = self.bridge.run_with_hooks(
            torch.full((1, n), prompt.ids[-1]),
            fwd_hooks=self.hooks(patches, source, lambda tensor, row: tensor[0, row]),
            position_ids=torch.full((1, n), before),
            attention_mask=patching.mask_of_rows(n, before),
            past_key_values=cache,
        )[0]
        cache.crop(-n)
        return differences(logits, prompt)


def hook_name(site: str, layer: int) -> str:
    return f"blocks.{layer}.attn.hook_z" if site == "z" else f"blocks.{layer}.hook_mlp_out"


def merged_model(gguf, folder: str | None, ids: torch.Tensor):
    """The base with an adapter merged in f32 (or as it is), and the logits of `ids` before merging."""
    model = smollm2.load_model(gguf, "eager")
    if folder is not None:
        model = PeftModel.from_pretrained(model, folder).eval()
    logits = model(input_ids=ids, use_cache=False).logits
    return (model if folder is None else model.merge_and_unload(safe_merge=True)), logits


def main() -> int:
    call = patching.arguments_of_call(__doc__, ("single", "batched", "cached"))
    with torch.inference_mode():
        versions = {name: version(name) for name in ("transformer-lens", "peft")}
        return patching.run("TransformerLens", versions, call, TransformerLensPeer)


if __name__ == "__main__":
    sys.exit(main())
