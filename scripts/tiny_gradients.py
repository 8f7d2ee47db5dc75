"""Writes crates/engine/tests/fixtures/gradients.safetensors: PyTorch's own gradients on the tiny models of all families.

For each family the adapter's model reads the first 20 tokens of its reference. The scalar is log p(7) − log p(9) after the last
token plus 0.5 · log p(11) after the twelfth. Stored, rounded to f32: its gradient with respect to the residual stream before
each layer (`FAMILY.resid_pre.LAYER`, [20, d]) and to the factors of every module of layer 1 (`FAMILY.MODULE.lora_a`, `lora_b`, as
PEFT stores them). Everything is computed in f64, but for norms and softmaxes that transformers computes in f32.

    pip install peft==0.21.2 transformers==5.23.0 torch
    python scripts/tiny_gradients.py [../shared/tiny]
"""

import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

ROOT = Path(__file__).parent.parent
FAMILIES = ("gemma2", "gemma3", "gpt2", "llama", "mistral", "qwen2", "qwen3")
N, MIDDLE, LAYER = 20, 11, 1


def gradients(family: str, folder: Path) -> dict[str, torch.Tensor]:
    base = AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float64, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, folder / "adapter", is_trainable=True, autocast_adapter_dtype=False).eval()
    model = model.double()
    ids = load_file(folder / "ref.safetensors")["input_ids"][:1, :N]
    layers = base.transformer.h if family == "gpt2" else base.model.layers
    streams: dict[int, torch.Tensor] = {}

    def keep(index: int):
        def hook(_module, args, kwargs):
            stream = args[0] if args else kwargs["hidden_states"]
            if not stream.requires_grad:
                stream.requires_grad_(True)
            stream.retain_grad()
            streams[index] = stream

        return hook

    for index, layer in enumerate(layers):
        layer.register_forward_pre_hook(keep(index), with_kwargs=True)
    logp = model(input_ids=ids, use_cache=False).logits[0].double().log_softmax(-1)
    (logp[N - 1, 7] - logp[N - 1, 9] + 0.5 * logp[MIDDLE, 11]).backward()
    found = {f"{family}.resid_pre.{index}": stream.grad[0] for index, stream in streams.items()}
    for name, parameter in layers[LAYER].named_parameters():
        if ".lora_" in name:
            module, factor = name.split(".lora_")
            found[f"{family}.{module.removesuffix('.base_layer')}.lora_{factor[0].lower()}"] = parameter.grad
    return {name: tensor.to(torch.float32).contiguous() for name, tensor in found.items()}


def main() -> None:
    tiny = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "../shared/tiny"
    found: dict[str, torch.Tensor] = {}
    for family in FAMILIES:
        found |= gradients(family, tiny / family)
    out = ROOT / "crates/engine/tests/fixtures/gradients.safetensors"
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(found, out)
    print(f"{out}: {len(found)} tensors")


if __name__ == "__main__":
    main()
