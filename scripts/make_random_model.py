#!/usr/bin/env python3
"""Write a model of a real model's shape with random weights, and random LoRA adapters for it.

It measures memory and speed at true size without the real weights. It says nothing about behaviour: the
weights are noise, and the tokenizer is SmolLM2's (all its ids lie below the vocabulary size of each shape), so
that prompts can be tokenised at all.

    python scripts/make_random_model.py FOLDER [--shape gemma-2-2b] [--adapters 4] [--seed 0] [--shards 1]
                                        [--tokenizer ../shared/golden]

    FOLDER/model/            config.json, bf16 safetensors (gemma-2-2b: 5.2 GB), tokenizer files
    FOLDER/adapters/random1  adapter_config.json, adapter_model.safetensors (f32, rank 64; 333 MB); random2, ... likewise

Needs numpy and safetensors. Streams: never more than some 50 MB in memory. Every tensor has a random stream of
its own, drawn from the seed and the tensor's place, so the bytes depend on shape and seed alone.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open

REPOSITORY = Path(__file__).resolve().parent.parent
CHUNK = 1 << 22  # elements drawn at a time
RANK, ALPHA = 64, 32

# The values of google/gemma-2-2b.
GEMMA_2_2B = {
    "architectures": ["Gemma2ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "attn_logit_softcapping": 50.0,
    "bos_token_id": 2,
    "cache_implementation": "hybrid",
    "eos_token_id": 1,
    "final_logit_softcapping": 30.0,
    "head_dim": 256,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304,
    "initializer_range": 0.02,
    "intermediate_size": 9216,
    "max_position_embeddings": 8192,
    "model_type": "gemma2",
    "num_attention_heads": 8,
    "num_hidden_layers": 26,
    "num_key_value_heads": 4,
    "pad_token_id": 0,
    "query_pre_attn_scalar": 256,
    "rms_norm_eps": 1e-06,
    "rope_theta": 10000.0,
    "sliding_window": 4096,
    "torch_dtype": "bfloat16",
    "use_cache": True,
    "vocab_size": 256000,
}


def smollm2(layers: int, width: int, heads: int, kv_heads: int, inner: int, rope_theta: float) -> dict:
    """The values of one of HuggingFaceTB/SmolLM2-*-Instruct."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "attention_bias": False,
        "attention_dropout": 0.0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "head_dim": width // heads,
        "hidden_act": "silu",
        "hidden_size": width,
        "initializer_range": 0.02,
        "intermediate_size": inner,
        "max_position_embeddings": 8192,
        "mlp_bias": False,
        "model_type": "llama",
        "num_attention_heads": heads,
        "num_hidden_layers": layers,
        "num_key_value_heads": kv_heads,
        "pad_token_id": 2,
        "rms_norm_eps": 1e-05,
        "rope_theta": rope_theta,
        "tie_word_embeddings": True,
        "torch_dtype": "bfloat16",
        "use_cache": True,
        "vocab_size": 49152,
    }


SHAPES = {
    "gemma-2-2b": GEMMA_2_2B,
    "smollm2-135m": smollm2(30, 576, 9, 3, 1536, 100_000.0),
    "smollm2-360m": smollm2(32, 960, 15, 5, 2560, 100_000.0),
    "smollm2-1.7b": smollm2(24, 2048, 32, 32, 8192, 130_000.0),
}


@dataclass(frozen=True)
class Tensor:
    """One tensor to write: its name, shape, and distribution.

    `law` is "normal" (standard deviation `scale`) or "uniform" (on [-scale, scale)), about `mean`.
    """

    name: str
    shape: tuple[int, ...]
    law: str
    scale: float
    mean: float = 0.0

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def projections(config: dict) -> dict[str, tuple[int, int]]:
    """The seven linear maps of a layer: module path -> (d_out, d_in)."""
    d, mlp = config["hidden_size"], config["intermediate_size"]
    q = config["num_attention_heads"] * config["head_dim"]
    kv = config["num_key_value_heads"] * config["head_dim"]
    return {
        "self_attn.q_proj": (q, d),
        "self_attn.k_proj": (kv, d),
        "self_attn.v_proj": (kv, d),
        "self_attn.o_proj": (d, q),
        "mlp.gate_proj": (mlp, d),
        "mlp.up_proj": (mlp, d),
        "mlp.down_proj": (d, mlp),
    }


def model_tensors(config: dict) -> list[Tensor]:
    """All weights of the model; the unembedding is tied, so it has no tensor of its own.

    At Gemma's width a standard deviation of 0.02 gives unit-sized embeddings (times sqrt(d) = 48) and unit-sized projections
    of a normalised input, and the post norms keep every layer's share of the stream at unit size. Gemma's norms
    multiply by 1 + weight, hence weights around 0; Llama's by the weight, and it has none after a sublayer.
    """
    d = config["hidden_size"]
    gemma = config["model_type"] == "gemma2"
    norms = ["input_layernorm", "post_attention_layernorm"]
    norms += ["pre_feedforward_layernorm", "post_feedforward_layernorm"] if gemma else []
    norm = {"law": "normal", "scale": 0.1} if gemma else {"law": "normal", "scale": 0.1, "mean": 1.0}
    tensors = [Tensor("model.embed_tokens.weight", (config["vocab_size"], d), "normal", 0.02)]
    for layer in range(config["num_hidden_layers"]):
        prefix = f"model.layers.{layer}"
        for module, shape in projections(config).items():
            tensors.append(Tensor(f"{prefix}.{module}.weight", shape, "normal", 0.02))
        tensors += [Tensor(f"{prefix}.{name}.weight", (d,), **norm) for name in norms]
    return [*tensors, Tensor("model.norm.weight", (d,), **norm)]


def adapter_tensors(config: dict) -> list[Tensor]:
    """LoRA factors of all seven linear maps, as PEFT names them.

    A as PEFT draws it (Kaiming uniform with a = sqrt(5): bound 1/sqrt(d_in)); B is not zero, as after a short
    training, and small: the adapter moves each projection's output by about 5 %.
    """
    tensors = []
    for layer in range(config["num_hidden_layers"]):
        for module, (d_out, d_in) in projections(config).items():
            prefix = f"base_model.model.model.layers.{layer}.{module}"
            tensors.append(Tensor(f"{prefix}.lora_A.weight", (RANK, d_in), "uniform", 1 / math.sqrt(d_in)))
            tensors.append(Tensor(f"{prefix}.lora_B.weight", (d_out, RANK), "normal", 0.02))
    return tensors


def adapter_config(shape: str) -> dict:
    """adapter_config.json as PEFT 0.21.2 writes it for a plain LoRA with `target_modules="all-linear"`."""
    return {
        "alora_invocation_tokens": None,
        "alpha_pattern": {},
        "arrow_config": None,
        "auto_mapping": None,
        "base_model_name_or_path": shape,
        "bias": "none",
        "corda_config": None,
        "ensure_weight_tying": False,
        "eva_config": None,
        "exclude_modules": None,
        "fan_in_fan_out": False,
        "inference_mode": True,
        "init_lora_weights": True,
        "kasa_config": None,
        "layer_replication": None,
        "layers_pattern": None,
        "layers_to_transform": None,
        "loftq_config": {},
        "lora_alpha": ALPHA,
        "lora_bias": False,
        "lora_dropout": 0.0,
        "lora_ga_config": None,
        "megatron_config": None,
        "megatron_core": "megatron.core",
        "modules_to_save": None,
        "monteclora_config": None,
        "peft_type": "LORA",
        "peft_version": "0.21.2",
        "qalora_group_size": 16,
        "r": RANK,
        "rank_pattern": {},
        "revision": None,
        "target_modules": [module.split(".")[1] for module in projections(SHAPES[shape])],
        "target_parameters": None,
        "task_type": "CAUSAL_LM",
        "trainable_token_indices": None,
        "use_bdlora": None,
        "use_dora": False,
        "use_qalora": False,
        "use_rslora": False,
        "velora_config": None,
    }


def draws(tensor: Tensor, stream: list[int]) -> Iterator[np.ndarray]:
    """The tensor's values in order, as f32 chunks (each chunk is overwritten by the next)."""
    random = np.random.Generator(np.random.SFC64(np.random.SeedSequence(stream)))
    buffer = np.empty(min(CHUNK, tensor.elements), dtype=np.float32)
    for start in range(0, tensor.elements, CHUNK):
        chunk = buffer[: min(CHUNK, tensor.elements - start)]
        if tensor.law == "normal":
            random.standard_normal(dtype=np.float32, out=chunk)
            chunk *= np.float32(tensor.scale)
        else:
            random.random(dtype=np.float32, out=chunk)
            chunk *= np.float32(2 * tensor.scale)
            chunk -= np.float32(tensor.scale)
        if tensor.mean:
            chunk += np.float32(tensor.mean)
        yield chunk


def to_bf16(values: np.ndarray) -> np.ndarray:
    """f32 -> bf16 bit patterns, round to nearest even (the values are finite)."""
    bits = values.view(np.uint32)
    return ((bits + (0x7FFF + ((bits >> 16) & 1))) >> 16).astype("<u2")


def header(tensors: list[Tensor], dtype: str, width: int) -> bytes:
    """A safetensors header: its length (u64, little-endian), then JSON padded to eight bytes."""
    entries: dict = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + tensor.elements * width
        entries[tensor.name] = {"dtype": dtype, "shape": list(tensor.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_safetensors(path: Path, tensors: list[Tensor], dtype: str, streams: list[list[int]]) -> None:
    """Stream `tensors` into a safetensors file of `dtype` (F32 or BF16); complete once it bears its name."""
    width = {"F32": 4, "BF16": 2}[dtype]
    partial = path.with_suffix(".partial")
    with partial.open("wb") as file:
        file.write(header(tensors, dtype, width))
        for tensor, stream in zip(tensors, streams, strict=True):
            for chunk in draws(tensor, stream):
                file.write(to_bf16(chunk) if dtype == "BF16" else chunk.astype("<f4", copy=False))
    verify(partial, tensors, dtype)
    os.replace(partial, path)
    print(f"{path}: {len(tensors)} tensors, {path.stat().st_size / 1e9:.2f} GB", file=sys.stderr)


def verify(path: Path, tensors: list[Tensor], dtype: str) -> None:
    """Open the file with the safetensors library and compare names, shapes and types."""
    with safe_open(path, framework="numpy") as file:
        found = {}
        for name in file.keys():
            piece = file.get_slice(name)
            found[name] = (tuple(piece.get_shape()), piece.get_dtype())
    if found != {tensor.name: (tensor.shape, dtype) for tensor in tensors}:
        raise RuntimeError(f"`{path}` does not hold the tensors that were to be written")


def write_json(path: Path, value: dict) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def split(tensors: list[Tensor], shards: int) -> list[list[Tensor]]:
    """Cut the list, in order, into at most `shards` pieces of about equal size."""
    total, done = sum(tensor.elements for tensor in tensors), 0
    pieces: list[list[Tensor]] = [[] for _ in range(shards)]
    for tensor in tensors:
        pieces[done * shards // total].append(tensor)
        done += tensor.elements
    return [piece for piece in pieces if piece]


def write_model(folder: Path, config: dict, seed: int, shards: int, tokenizer: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "config.json", config)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(tokenizer / name, folder / name)
    tensors = model_tensors(config)
    place = {tensor.name: index for index, tensor in enumerate(tensors)}
    pieces, weight_map = split(tensors, shards), {}
    for number, piece in enumerate(pieces, 1):
        name = "model.safetensors" if len(pieces) == 1 else f"model-{number:05}-of-{len(pieces):05}.safetensors"
        write_safetensors(folder / name, piece, "BF16", [[seed, 0, place[t.name]] for t in piece])
        weight_map |= {tensor.name: name for tensor in piece}
    if len(pieces) > 1:
        size = 2 * sum(tensor.elements for tensor in tensors)
        index = {"metadata": {"total_size": size}, "weight_map": weight_map}
        write_json(folder / "model.safetensors.index.json", index)


def write_adapter(folder: Path, shape: str, seed: int, number: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "adapter_config.json", adapter_config(shape))
    tensors = adapter_tensors(SHAPES[shape])
    streams = [[seed, number, index] for index in range(len(tensors))]
    write_safetensors(folder / "adapter_model.safetensors", tensors, "F32", streams)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=SHAPES, default="gemma-2-2b")
    parser.add_argument("--adapters", type=int, default=4, help="number of adapters (default 4)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shards", type=int, default=1, help="number of weight files (default 1)")
    parser.add_argument("--tokenizer", type=Path, default=REPOSITORY.parent / "shared" / "golden", help="folder of SmolLM2's tokenizer files")
    arguments = parser.parse_args()
    if arguments.shards < 1 or arguments.seed < 0 or arguments.adapters < 0:
        parser.error("--shards must be at least 1, --seed and --adapters at least 0")
    try:
        write_model(arguments.folder / "model", SHAPES[arguments.shape], arguments.seed, arguments.shards, arguments.tokenizer)
        for number in range(1, 1 + arguments.adapters):
            write_adapter(arguments.folder / "adapters" / f"random{number}", arguments.shape, arguments.seed, number)
    except OSError as error:
        print(f"make_random_model: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
