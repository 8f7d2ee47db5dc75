"""The suite's peer `transformers` + PEFT: plain forward hooks, adapters un-merged."""

from __future__ import annotations

import library  # first: it takes the hub offline

import peft
import torch
import transformers
import transformers_peft_decide
from transformers_patch import TransformersPeer

NAME = "transformers"
VERSIONS = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}


class Library(TransformersPeer, library.Weights):
    """The base with all adapters, one of them active or none."""

    def __init__(self, call):
        super().__init__(call, [])
        self.model_inside = self.model.base_model.model
        for weight in self.model.parameters():
            weight.requires_grad_(False)

    def logits(self, ids: list[int]) -> torch.Tensor:
        """Logits of all positions, without a cache."""
        return self.model(input_ids=torch.tensor([ids]), use_cache=False).logits

    def scores(self) -> dict:
        """Ways to score a prompt."""
        careful = lambda prompt: transformers_peft_decide.decide(
            self.model, {"id": None, "ids": prompt["prompt_ids"], "a": prompt["answer_a"], "b": prompt["answer_b"]}, "careful"
        )["delta"]
        return {"plain": lambda prompt: library.scored(self, prompt), "careful": careful}

    def module(self, place):
        """The module of a place, and whether it is its input."""
        site, layer = place
        if site == "final_in":
            return self.norm, True
        block = self.layers[layer]
        return {
            "resid_pre": (block.input_layernorm, True),
            "z": (block.self_attn.o_proj, True),
            "attn_out": (block.self_attn, False),
            "resid_mid": (block.post_attention_layernorm, True),
            "mlp_in": (block.post_attention_layernorm, True),
            "mlp_out": (block.mlp, False),
            "resid_post": (block, False),
        }[site]

    def hook(self, place, function):
        """Registers a hook that gets a place's tensor and may return another."""
        module, is_input = self.module(place)
        if is_input:
            return module.register_forward_pre_hook(lambda _module, inputs: wrap(function(inputs[0]), inputs))

        def after(_module, _inputs, output):
            whole = output if isinstance(output, tuple) else (output,)
            changed = wrap(function(whole[0]), whole)
            return None if changed is None else (changed if isinstance(output, tuple) else changed[0])

        return module.register_forward_hook(after)

    def run(self, ids: list[int], capture=(), edits=(), all_logits=False):
        """Logits (of the last position, or all) and the places' tensors; `edits` are pairs (place, function)."""
        captured = {}
        handles = [self.hook(place, edit) for place, edit in edits]
        handles += [self.hook(place, lambda tensor, place=place: captured.__setitem__(place, tensor)) for place in capture]
        try:
            keep = 0 if all_logits else 1
            logits = self.model(input_ids=torch.tensor([ids]), use_cache=False, logits_to_keep=keep).logits
        finally:
            for handle in handles:
                handle.remove()
        return logits[0], captured

    def full_cache(self, ids: list[int]):
        """Logits of all positions, and the output of every module and the input of every output projection."""
        captured, handles = {}, []
        for name, module in self.model.named_modules():
            keep = lambda _module, _inputs, output, name=name: captured.__setitem__(name, output)
            handles.append(module.register_forward_hook(keep))
        for number, block in enumerate(self.layers):
            keep = lambda _module, inputs, number=number: captured.__setitem__(("z", number), inputs[0])
            handles.append(block.self_attn.o_proj.register_forward_pre_hook(keep))
        try:
            logits = self.model(input_ids=torch.tensor([ids]), use_cache=False).logits
        finally:
            for handle in handles:
                handle.remove()
        return logits[0], len(captured)

    def slopes(self, ids: list[int], places, direction: tuple[int, int]):
        """Tensors of the places, and the gradient of logit(b) − logit(a) at the last position with respect to them."""
        with torch.enable_grad():
            embedded = self.model_inside.model.embed_tokens.register_forward_hook(
                lambda _module, _inputs, output: output.detach().requires_grad_()
            )
            try:
                logits, captured = self.run(ids, places)
            finally:
                embedded.remove()
            delta = logits[-1, direction[1]] - logits[-1, direction[0]]
            slopes = torch.autograd.grad(delta, [captured[place] for place in places])
        return {place: tensor.detach() for place, tensor in captured.items()}, dict(zip(places, slopes))

    def block_off(self, ids: list[int], layer: int, module: str) -> torch.Tensor:
        """Logits of the last position with one block of the selected adapter switched off."""
        block = self.layers[layer]
        inside = getattr(block.self_attn, module, None) or getattr(block.mlp, module)
        name = inside.active_adapters[0]
        scale, inside.scaling[name] = inside.scaling[name], 0.0
        try:
            return self.run(ids)[0]
        finally:
            inside.scaling[name] = scale


def wrap(changed, whole: tuple):
    """The hook's answer: nothing where the function changed nothing."""
    return None if changed is None else (changed, *whole[1:])


def load(call) -> Library:
    return Library(call)
