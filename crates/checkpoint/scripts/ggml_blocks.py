"""Fixtures of every block format, with gguf-py's dequantisation as the reference.

    python ggml_blocks.py OUT            # OUT/quants.gguf and OUT/quants.safetensors
    python ggml_blocks.py OUT MODEL.gguf # also OUT/smollm2_sha256.json: hashes of each dequantised tensor

Half of the blocks of each kind are random bytes (with scales from -2 to 2, some of them subnormal), so that every code
occurs; the other half are quantised normal numbers where gguf-py can quantise.
"""

import hashlib
import json
import sys
from pathlib import Path

import gguf
import numpy as np
from gguf.quants import dequantize, quantize
from safetensors.numpy import save_file

from hugging_face_to_gguf import LAYER, TOP

ROWS, COLS = 4, 512
# Kind, bytes of a block, and where in a block the f16 scales are.
KINDS = [
    ("F16", 2, [0]), ("BF16", 2, []), ("Q4_0", 18, [0]), ("Q4_1", 20, [0, 2]), ("Q5_0", 22, [0]), ("Q5_1", 24, [0, 2]),
    ("Q8_0", 34, [0]), ("Q4_K", 144, [0, 2]), ("Q5_K", 176, [0, 2]), ("Q6_K", 210, [208]),
]


def random_blocks(rng: np.random.Generator, kind: gguf.GGMLQuantizationType, size: int, scales: list[int]) -> np.ndarray:
    block, _ = gguf.GGML_QUANT_SIZES[kind]
    n_blocks = ROWS * COLS // block
    raw = rng.integers(0, 256, (n_blocks, size), dtype=np.uint8)
    if kind.name == "BF16":
        raw[:, 1] &= 0xBF  # keeps the exponent small, hence finite
    for at in scales:
        values = rng.uniform(-2, 2, n_blocks).astype(np.float16)
        values[::7] = np.float16(3e-7)
        raw[:, at:at + 2] = values[:, None].view(np.uint8)
    return raw.reshape(ROWS, -1)


def blocks(out: Path) -> None:
    rng = np.random.default_rng(5)
    writer = gguf.GGUFWriter(str(out / "quants.gguf"), "qwen2")
    writer.add_block_count(len(KINDS))
    writer.add_context_length(16)
    writer.add_embedding_length(COLS)
    writer.add_feed_forward_length(COLS)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-6)
    expected = {}
    for layer, (name, size, scales) in enumerate(KINDS):
        kind = gguf.GGMLQuantizationType[name]
        raw = random_blocks(rng, kind, size, scales)
        try:
            normal = quantize(rng.normal(size=(ROWS, COLS)).astype(np.float32), kind)
            raw[ROWS // 2:] = normal.view(np.uint8)[ROWS // 2:]
        except NotImplementedError:
            pass
        writer.add_tensor(f"blk.{layer}.ffn_down.weight", raw, raw_dtype=kind)
        value = dequantize(raw, kind) if name != "F16" else raw.view(np.float16)
        value = np.ascontiguousarray(value.reshape(ROWS, COLS).astype(np.float32))
        assert np.isfinite(value).all(), name
        expected[f"model.layers.{layer}.mlp.down_proj.weight"] = value
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    save_file(expected, out / "quants.safetensors")


def hugging_face(name: str) -> str:
    module, kind = name.rsplit(".", 1)
    back = {theirs: ours for ours, theirs in TOP.items() if ours.startswith(("model.", "lm_head"))}
    if module in back:
        return f"{back[module]}.{kind}"
    _, layer, part = module.split(".")
    back = {theirs: ours for ours, theirs in LAYER.items()} | {"ffn_norm": "post_attention_layernorm"}
    return f"model.layers.{layer}.{back[part]}.{kind}"


def hashes(out: Path, model: Path) -> None:
    """SHA-256 of the f32 bytes of each tensor in Hugging Face's order, the permutation undone as transformers does."""
    reader = gguf.GGUFReader(model)
    heads = {"attn_q": "llama.attention.head_count", "attn_k": "llama.attention.head_count_kv"}
    result = {}
    for tensor in reader.tensors:
        value = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        for part, key in heads.items():
            if f".{part}." in tensor.name:
                n = int(reader.fields[key].contents())
                value = value.reshape(n, value.shape[0] // n // 2, 2, -1).swapaxes(1, 2).reshape(value.shape)
        name = hugging_face(tensor.name)
        result[name] = hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()
    (out / "smollm2_sha256.json").write_text(json.dumps(result, indent=0, sort_keys=True) + "\n")


if __name__ == "__main__":
    blocks(Path(sys.argv[1]))
    if len(sys.argv) > 2:
        hashes(Path(sys.argv[1]), Path(sys.argv[2]))
