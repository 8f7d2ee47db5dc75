"""The suite's peer nnsight, round the same `transformers` + PEFT model, in place of hooks."""

from __future__ import annotations

from importlib.metadata import version

import library  # first: it takes the hub offline

import nnsight
import torch
from nnsight_patch import NnsightPeer

NAME = "nnsight"
VERSIONS = {"torch": torch.__version__, "nnsight": version("nnsight"), "peft": version("peft")}


class Library(NnsightPeer, library.Weights):
    """The models of the plain peer, traced."""

    def __init__(self, call):
        super().__init__(call, [])
        self.model_inside = self.model.base_model.model
        self.inside = self.traced.base_model.model.model
        for weight in self.model.parameters():
            weight.requires_grad_(False)

    def logits(self, ids: list[int]) -> torch.Tensor:
        return self.run(ids, all_logits=True)[0][None]

    def scores(self) -> dict:
        return {"plain": lambda prompt: library.scored(self, prompt)}

    def envoy(self, place):
        """The traced module of a place, and whether it is its input."""
        site, layer = place
        if site == "final_in":
            return self.inside.norm, True
        block = self.envoys[layer]
        return {
            "resid_pre": (block.input_layernorm, True),
            "z": (block.self_attn.o_proj, True),
            "attn_out": (block.self_attn.o_proj, False),
            "resid_mid": (block.post_attention_layernorm, True),
            "mlp_in": (block.post_attention_layernorm, True),
            "mlp_out": (block.mlp, False),
            "resid_post": (block, False),
        }[site]

    def run(self, ids: list[int], capture=(), edits=(), all_logits=False):
        changes = dict(edits)
        places = library.in_order({*capture, *changes})
        read = []
        with self.traced.trace(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=0 if all_logits else 1):
            for place in places:  # in the order of the pass, as nnsight asks
                envoy, is_input = self.envoy(place)
                if place in changes:
                    changed = changes[place](envoy.input if is_input else envoy.output)
                    if is_input:
                        envoy.input = changed
                    else:
                        envoy.output = changed
                if place in capture:
                    read.append(envoy.input if is_input else envoy.output)
            logits = self.traced.output.logits.save()
            read = nnsight.save(read)
        return logits[0], dict(zip((place for place in places if place in capture), read))

    def full_cache(self, ids: list[int]):
        """Logits of all positions, and every place that rows name, of every layer."""
        places = [(site, layer) for site in library.SITES[:-1] for layer in range(self.n_layers)]
        logits, captured = self.run(ids, places, all_logits=True)
        return logits, len(captured)

    def block_off(self, ids: list[int], layer: int, module: str) -> torch.Tensor:
        """Logits of the last position with what one block of the adapter adds set to zero."""
        block = self.envoys[layer]
        inside = block.mlp if module in ("gate_proj", "up_proj", "down_proj") else block.self_attn
        name = self.model.active_adapter
        with self.traced.trace(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=1):
            added = getattr(getattr(inside, module).lora_B, name).output
            added[:] = 0
            logits = self.traced.output.logits.save()
        return logits[0]


def load(call) -> Library:
    return Library(call)
