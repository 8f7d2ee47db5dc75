"""GGUF files of the tiny reference models, and of still smaller ones that are kept as fixtures.

    python tiny_gguf.py check TINY_FOLDER OUT    # OUT/<family>.gguf, each verified by loading it with `transformers`
    python tiny_gguf.py fixtures TINY_FOLDER OUT # OUT/gguf/<family>.gguf: two layers, width 32, values by formula

`LORASCOPE_TINY_GGUF=OUT cargo test -p lorascope-checkpoint` compares the first kind with the safetensors files.
"""

import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load_file
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from hugging_face_to_gguf import write

FAMILIES = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2"]


def verify(path: Path, model: torch.nn.Module, tensors: dict[str, np.ndarray]) -> None:
    """`transformers` must read the same weights from the GGUF file (Gemma's norms up to the rounding of + 1 - 1).

    Its loader of weights is called on its own, into a model of the right config, because its translation of the
    metadata leaves the head dimension of Qwen 3 out.
    """
    state = load_gguf_checkpoint(str(path), return_tensors=True, model_to_load=model)["tensors"]
    for name, value in tensors.items():
        shifted = name.endswith("norm.weight") and "gemma" in path.stem
        allowed = np.spacing(np.abs(value + np.float32(1))) if shifted else 0.0
        difference = np.abs(state[name].numpy() - value)
        assert (difference <= allowed).all(), (path, name, difference.max())
    print(path.name, len(tensors), "tensors as in transformers")


def formula(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Multiples of 1/64 in [-4, 4): exact in F16 and F32, and with 1 added. The tests compute the same."""
    seed = 2166136261
    for byte in name.encode():
        seed = (seed ^ byte) * 16777619 % 2**32
    index = np.arange(int(np.prod(shape)), dtype=np.uint64)
    mixed = (index * np.uint64(2654435761) + np.uint64(seed)) % np.uint64(2**32)
    return ((mixed >> np.uint64(23)).astype(np.float32) - 256.0).reshape(shape) / 64.0


def smaller(config: dict) -> dict:
    config = dict(config)
    if config["model_type"] == "gpt2":
        config.update(n_embd=32, n_head=4, n_layer=2, n_positions=8, vocab_size=40)
        return config
    config.update(hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, head_dim=8, vocab_size=40)
    if "layer_types" in config:
        config["layer_types"] = config["layer_types"][1:3]
    return config


def main() -> None:
    mode, tiny, out = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
    out = out / "gguf" if mode == "fixtures" else out
    out.mkdir(parents=True, exist_ok=True)
    for family in FAMILIES:
        folder = tiny / family / "model"
        config = json.loads((folder / "config.json").read_text())
        path = out / f"{family}.gguf"
        config = config if mode == "check" else smaller(config)
        with tempfile.TemporaryDirectory() as temporary:
            # A Mistral is a llama to GGUF, and so it must be to the loader that is asked about it.
            kind = {"model_type": "llama"} if family == "mistral" else {}
            (Path(temporary) / "config.json").write_text(json.dumps(config | kind))
            model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(temporary))
        if mode == "check":
            tensors = load_file(folder / "model.safetensors")
        else:
            tied = config["tie_word_embeddings"]
            names = [(n, tuple(v.shape)) for n, v in model.state_dict().items() if not (tied and n == "lm_head.weight")]
            tensors = {name: formula(name, shape) for name, shape in names}
        write(str(path), config, tensors, matrix_type="F32" if mode == "check" else "F16")
        verify(path, model, tensors)


if __name__ == "__main__":
    main()
