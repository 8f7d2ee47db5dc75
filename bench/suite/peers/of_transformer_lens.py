"""The suite's peer TransformerLens 4 (TransformerBridge): adapters merged in f32 into a model each."""

from __future__ import annotations

from importlib.metadata import version

import library  # first: it takes the hub offline

import torch
from patching import Prompt
from transformer_lens_patch import TransformerLensPeer

NAME = "TransformerLens"
VERSIONS = {"torch": torch.__version__, "transformer-lens": version("transformer-lens")}
HOOKS = {"z": "attn.hook_z", "mlp_in": "ln2.hook_in"}


def hook_name(place) -> str:
    site, layer = place
    return "ln_final.hook_in" if site == "final_in" else f"blocks.{layer}.{HOOKS.get(site, f'hook_{site}')}"


class Library(TransformerLensPeer, library.Weights):
    """One bridge for each model."""

    def __init__(self, call):
        super().__init__(call, [Prompt("any", (1, 50, 60, 70), 33, 34)])
        for bridge in self.bridges.values():
            for weight in bridge.parameters():
                weight.requires_grad_(False)

    def o_weight(self, layer: int) -> torch.Tensor:
        return self.bridge.blocks[layer].attn.o.original_component.weight

    @property
    def norm(self):
        return self.bridge.ln_final

    @property
    def unembedding(self) -> torch.Tensor:
        return self.bridge.unembed.original_component.weight

    def logits(self, ids: list[int]) -> torch.Tensor:
        return self.bridge(torch.tensor([ids]), use_cache=False)

    def scores(self) -> dict:
        return {"plain": lambda prompt: library.scored(self, prompt)}

    def run(self, ids: list[int], capture=(), edits=(), all_logits=False):
        captured = {}

        def keep(place):
            def hook(value, hook):
                captured[place] = value
                return value  # so that what was kept is what the rest is computed from, where the library converts it

            return hook

        def change(function):
            def hook(value, hook):
                changed = function(value)
                return value if changed is None else changed

            return hook

        hooks = [(hook_name(place), change(function)) for place, function in edits]
        hooks += [(hook_name(place), keep(place)) for place in capture]
        keep_logits = {} if all_logits else {"logits_to_keep": 1}
        logits = self.bridge.run_with_hooks(torch.tensor([ids]), fwd_hooks=hooks, use_cache=False, **keep_logits)
        return logits[0], captured

    def full_cache(self, ids: list[int]):
        logits, cache = self.bridge.run_with_cache(torch.tensor([ids]), use_cache=False)
        return logits[0], len(cache)

    def slopes(self, ids: list[int], places, direction: tuple[int, int]):
        with torch.enable_grad():
            leaf = [(("resid_pre", 0), lambda tensor: tensor.detach().requires_grad_())]
            logits, captured = self.run(ids, places, leaf)
            delta = logits[-1, direction[1]] - logits[-1, direction[0]]
            slopes = torch.autograd.grad(delta, [captured[place] for place in places])
        return {place: tensor.detach() for place, tensor in captured.items()}, dict(zip(places, slopes))


def load(call) -> Library:
    return Library(call)
