#!/usr/bin/env python3
"""Peer: activation patching between models with `transformers` + PEFT and forward hooks, adapters un-merged.

`z` is patched at the input of `o_proj`, `mlp_out` at the output of the MLP, in place and at the decision point
only. Logits of the last position only (`logits_to_keep=1`), no gradients. Three ways:

    single   one forward pass for each patch, hooks on one module (what one writes first)
    batched  the prompt B times in one forward pass, row b with patch b
    cached   the tokens before the decision point once with a KV cache; then the decision token R times in one
             forward pass on that cache, under a mask in which each sees the prompt and itself

    python bench/peers/transformers_patch.py --base X.gguf --adapter NAME=FOLDER ... --decisions FOLDER --threads 2

`--decisions` is a run folder of `lorascope decide`, for token ids and decision points. Prints JSON.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager

import smollm2  # first: it takes the hub offline

import patching
import peft
import torch
from patching import BASE, Patch, Prompt, Source, Way, differences
from peft import PeftModel


class TransformersPeer:
    """The base with all adapters loaded; one of them, or none, is active."""

    def __init__(self, call, _prompts: list[Prompt]):
        base = smollm2.load_model(call.base, "sdpa")
        self.n_layers = base.config.num_hidden_layers
        self.n_heads = base.config.num_attention_heads
        self.layers = base.model.layers
        (first, folder), *others = call.adapter
        self.model = PeftModel.from_pretrained(base, folder, adapter_name=first).eval()
        for name, folder in others:
            self.model.load_adapter(folder, adapter_name=name)
        self.ways = {
            "single": Way(self.patch_batched, 1),
            "batched": Way(self.patch_batched, call.batch),
            "cached": Way(self.patch_cached, call.rows, self.prefix, cached=True),
        }

    def select(self, model: str) -> None:
        if model == BASE:
            self.model.base_model.disable_adapter_layers()
        else:
            self.model.base_model.enable_adapter_layers()
            self.model.set_adapter(model)

    def forward(self, ids: torch.Tensor, **more) -> torch.Tensor:
        """Logits of the last position of each row."""
        return self.model(input_ids=ids, use_cache=False, logits_to_keep=1, **more).logits[:, -1]

    def delta(self, prompt: Prompt) -> float:
        return differences(self.forward(torch.tensor([prompt.ids])), prompt)[0]

    def capture(self, prompt: Prompt):
        z, mlp_out, handles = [], [], []
        for layer in self.layers:
            keep_z = lambda _module, inputs: z.append(inputs[0][0, -1].clone())
            keep_mlp = lambda _module, _inputs, output: mlp_out.append(output[0, -1].clone())
            handles.append(layer.self_attn.o_proj.register_forward_pre_hook(keep_z))
            handles.append(layer.mlp.register_forward_hook(keep_mlp))
        try:
            delta = self.delta(prompt)
        finally:
            for handle in handles:
                handle.remove()
        return torch.stack(z).view(self.n_layers, self.n_heads, -1), torch.stack(mlp_out), delta

    @contextmanager
    def hooked(self, patches: list[Patch], source: Source, place):
        """Patches while the context lasts; `place(tensor, row)` is the vector of one row's decision point."""
        handles = []
        for (site, layer), rows in patching.rows_by_layer(patches).items():
            module = self.layers[layer]
            if site == "z":
                hook = lambda _module, inputs, rows=rows: self.write_z(inputs[0], rows, source, place)
                handles.append(module.self_attn.o_proj.register_forward_pre_hook(hook))
            else:
                hook = lambda _module, _inputs, output, rows=rows: patching.write(output, rows, source, place)
                handles.append(module.mlp.register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def write_z(self, heads_in_line: torch.Tensor, rows, source: Source, place) -> None:
        for row, patch in rows:
            place(heads_in_line, row).view(self.n_heads, -1)[patch.head] = source.value(patch)

    def patch_batched(self, prompt: Prompt, patches: list[Patch], source: Source, _prepared) -> list[float]:
        with self.hooked(patches, source, lambda tensor, row: tensor[row, -1]):
            logits = self.forward(torch.tensor([prompt.ids]).expand(len(patches), -1))
        return differences(logits, prompt)

    def prefix(self, prompt: Prompt):
        """The KV cache of everything before the decision point."""
        ids = torch.tensor([prompt.ids[:-1]])
        return self.model(input_ids=ids, use_cache=True, logits_to_keep=1).past_key_values

    def patch_cached(self, prompt: Prompt, patches: list[Patch], source: Source, cache) -> list[float]:
        n, before = len(patches), len(prompt.ids) - 1
        with self.hooked(patches, source, lambda tensor, row: tensor[0, row]):
            logits = self.model(
                input_ids=torch.full((1, n), prompt.ids[-1]),
                position_ids=torch.full((1, n), before),
                attention_mask=patching.mask_of_rows(n, before),
                past_key_values=cache,
                use_cache=True,
            ).logits[0]
        cache.crop(-n)
        return differences(logits, prompt)


def main() -> int:
    call = patching.arguments_of_call(__doc__, ("single", "batched", "cached"))
    with torch.inference_mode():
        return patching.run("transformers + PEFT, hooks", {"peft": peft.__version__}, call, TransformersPeer)


if __name__ == "__main__":
    sys.exit(main())
