"""What rows ask of a library: the primitives that its users write every analysis with. Places are pairs (site, layer):

    z          input of the output projection, heads in line         attn_out, mlp_out   as added
    resid_pre, resid_mid, resid_post                                 the residual stream
    mlp_in     what the MLP's norm reads                             final_in            what the final norm reads (layer None)

An edit changes the place's tensor (batch × positions × width): `edit(tensor) -> tensor`. Where a site is read by one
module only (mlp_in, final_in), an edit reaches that module alone, not the stream.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import smollm2  # first: it takes the hub offline

import torch

SITES = ("resid_pre", "z", "attn_out", "resid_mid", "mlp_in", "mlp_out", "resid_post", "final_in")


def in_order(places) -> list:
    """Places in the order in which a forward pass comes to them."""
    return sorted(places, key=lambda place: (place[0] == "final_in", place[1] or 0, SITES.index(place[0])))


def call_of(base: Path, adapters: dict[str, str]) -> argparse.Namespace:
    """The command line that the patching peers (bench/peers/*_patch.py) are made from."""
    names = list(adapters)
    return argparse.Namespace(base=base, adapter=list(adapters.items()), source="base", target=names, batch=4, rows=300)


def scored(library, prompt: dict) -> float:
    """delta of a prompt over all spellings, one forward pass for each: what one writes first."""
    parts = []
    for answer in ("answer_a", "answer_b"):
        scores = []
        for tokens in dict.fromkeys(map(tuple, prompt[answer])):
            logits = library.logits(prompt["prompt_ids"] + list(tokens))
            rows = torch.log_softmax(logits[0, len(prompt["prompt_ids"]) - 1 : -1].double(), dim=-1)
            scores.append(rows.gather(1, torch.tensor(tokens).unsqueeze(1)).sum())
        parts.append(torch.logsumexp(torch.stack(scores), 0))
    return (parts[1] - parts[0]).item()


class Weights:
    """Weights that analyses read, adapters added where one is selected. `model` is the LlamaForCausalLM inside."""

    @property
    def norm(self):
        return self.model_inside.model.norm

    @property
    def unembedding(self) -> torch.Tensor:
        """Vocabulary × width."""
        return self.model_inside.lm_head.weight

    def o_weight(self, layer: int) -> torch.Tensor:
        """The output projection of a layer, width × (heads · d_head), with the selected adapter."""
        module = self.model_inside.model.layers[layer].self_attn.o_proj
        if not hasattr(module, "get_delta_weight"):
            return module.weight
        if module.disable_adapters:
            return module.base_layer.weight
        return module.base_layer.weight + module.get_delta_weight(module.active_adapters[0])
