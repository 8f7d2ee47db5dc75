"""Fixtures of 4-bit weights: written and dequantised by bitsandbytes on the CPU.

    python bitsandbytes_weights.py OUT    # OUT/bnb/{config.json,model.safetensors} and OUT/bnb_expected.safetensors

The folder is a checkpoint as `save_pretrained` writes it. Expected are, per weight, `.original` and `.dequantized`,
in the weight's own type. The scales of the weights with `double` in their name, which also serve the test of rounding,
are quantised by the formula of bitsandbytes' reference backend (`backends/default/ops.py`, `quantize_blockwise`) with
the mean rounded once: its C++ kernel picks the neighbouring code for about 1 scale in 1000.
"""

import json
import sys
from pathlib import Path

import torch
from bitsandbytes import functional as F
from safetensors.torch import save_file

SHAPES = {"mlp.up_proj": (24, 64), "mlp.down_proj": (7, 33), "self_attn.q_proj": (160, 128)}
TYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def compress(state: F.QuantState) -> None:
    """Second quantisation of the scales, in blocks of 256."""
    absmax = state.absmax
    offset = absmax.double().mean().float()
    code = F.create_dynamic_map().to(torch.float32)
    centred = absmax - offset
    peaks, codes = [], []
    for block in centred.split(256):
        peak = block.abs().max()
        scaled = torch.clamp(block * (1.0 / peak.clamp(min=1e-38)), -1, 1)
        codes.append(torch.bucketize(scaled, (code[:-1] + code[1:]) / 2))
        peaks.append(peak)
    state.absmax = torch.cat(codes).to(torch.uint8)
    state.offset = offset
    state.state2 = F.QuantState(absmax=torch.stack(peaks), code=code, blocksize=256, dtype=torch.float32)
    state.nested = True


def main() -> None:
    torch.manual_seed(11)
    out = Path(sys.argv[1])
    (out / "bnb").mkdir(parents=True, exist_ok=True)
    tensors, expected = {}, {}
    layer = 0
    for kind in ("nf4", "fp4"):
        for nested in ("single", "double", "library"):
            for spelling, dtype in TYPES.items():
                for part, shape in SHAPES.items():
                    if part == "self_attn.q_proj" and (spelling != "bf16" or nested == "single"):
                        continue
                    name = f"model.layers.{layer}.{part}.weight"
                    weight = (torch.randn(shape) * 0.05).to(dtype)
                    weight.view(-1)[:64] = 0
                    library = nested == "library"
                    packed, state = F.quantize_4bit(weight, blocksize=64, quant_type=kind, compress_statistics=library)
                    if nested == "double":
                        compress(state)
                    tensors[name] = packed
                    for key, value in state.as_dict(packed=True).items():
                        tensors[f"{name}.{key}"] = value
                    if kind == "nf4" and not library:
                        expected[f"{name}.{nested}.original"] = weight
                    expected[f"{name}.{nested}.dequantized"] = F.dequantize_4bit(packed, state)
                layer += 1
    tensors["model.norm.weight"] = torch.ones(4)
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "bnb" / "model.safetensors")
    (out / "bnb" / "config.json").write_text(json.dumps({"model_type": "llama"}) + "\n")
    save_file(expected, out / "bnb_expected.safetensors")


if __name__ == "__main__":
    main()
