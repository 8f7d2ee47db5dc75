#!/usr/bin/env python3
"""Peer: activation patching between models with nnsight on `transformers` + PEFT, adapters un-merged.

`z` is patched at the input of `o_proj`, `mlp_out` at the output of the MLP, in place and at the decision point
only. Logits of the last position only (`logits_to_keep=1`), no gradients. Three ways:

    single   one trace for each patch
    batched  one trace over the prompt B times, row b with patch b
    cached   the tokens before the decision point once with a KV cache; then the decision token R times in one
             trace on that cache, under a mask in which each sees the prompt and itself

    python bench/peers/nnsight_patch.py --base X.gguf --adapter NAME=FOLDER ... --decisions FOLDER --threads 2

`--decisions` is a run folder of `lorascope decide`, for token ids and decision points. Prints JSON.
"""

from __future__ import annotations

import sys
from importlib.metadata import version

import smollm2  # first: it takes the hub offline

import nnsight
import patching
import torch
from patching import Patch, Prompt, Source, differences
from transformers_patch import TransformersPeer


class NnsightPeer(TransformersPeer):
    """The models of the plain peer, with nnsight round them in place of hooks."""

    def __init__(self, call, prompts: list[Prompt]):
        super().__init__(call, prompts)
        self.traced = nnsight.NNsight(self.model)
        self.envoys = self.traced.base_model.model.model.layers

    def capture(self, prompt: Prompt):
        z, mlp_out = [], []
        with self.traced.trace(input_ids=torch.tensor([prompt.ids]), use_cache=False, logits_to_keep=1):
            for layer in self.envoys:
                z.append(layer.self_attn.o_proj.input[0, -1].clone())
                mlp_out.append(layer.mlp.output[0, -1].clone())
            logits = self.traced.output.logits.save()
            z, mlp_out = nnsight.save(z), nnsight.save(mlp_out)
        z = torch.stack(z).view(self.n_layers, self.n_heads, -1)
        return z, torch.stack(mlp_out), differences(logits[:, -1], prompt)[0]

    def traced_logits(self, patches: list[Patch], source: Source, place, **inputs) -> torch.Tensor:
        """Logits of a forward pass with the patches; `place(tensor, row)` is the vector of one row's decision point."""
        groups = sorted(patching.rows_by_layer(patches).items(), key=lambda group: (group[0][1], group[0][0] != "z"))
        with self.traced.trace(**inputs):
            for (site, layer), rows in groups:  # in the order of the pass, as nnsight asks
                if site == "z":
                    self.write_z(self.envoys[layer].self_attn.o_proj.input, rows, source, place)
                else:
                    patching.write(self.envoys[layer].mlp.output, rows, source, place)
            logits = self.traced.output.logits.save()
        return logits

    def patch_batched(self, prompt: Prompt, patches: list[Patch], source: Source, _prepared) -> list[float]:
        ids = torch.tensor([prompt.ids]).expand(len(patches), -1)
        place = lambda tensor, row: tensor[row, -1]
        logits = self.traced_logits(patches, source, place, input_ids=ids, use_cache=False, logits_to_keep=1)
        return differences(logits[:, -1], prompt)

    def patch_cached(self, prompt: Prompt, patches: list[Patch], source: Source, cache) -> list[float]:
        n, before = len(patches), len(prompt.ids) - 1
        logits = self.traced_logits(
            patches,
            source,
            lambda tensor, row: tensor[0, row],
            input_ids=torch.full((1, n), prompt.ids[-1]),
            position_ids=torch.full((1, n), before),
            attention_mask=patching.mask_of_rows(n, before),
            past_key_values=cache,
            use_cache=True,
        )[0]
        cache.crop(-n)
        return differences(logits, prompt)


def main() -> int:
    call = patching.arguments_of_call(__doc__, ("single", "batched", "cached"))
    with torch.inference_mode():
        return patching.run("nnsight", {name: version(name) for name in ("nnsight", "peft")}, call, NnsightPeer)


if __name__ == "__main__":
    sys.exit(main())
