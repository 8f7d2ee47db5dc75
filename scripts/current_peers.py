"""Compares the Python package with the current PyTorch, transformers, PEFT and TransformerLens, by hand: the tests use older ones, beside
Debian's torch, because these bring gigabytes.

On the tiny models of all families: logits and whole caches against TransformerLens's TransformerBridge, adapters' logits and gradients
against PEFT and autograd, and a cache that goes there in a file. Prints versions and the largest differences, relative to the largest
value of an array; ends with 1 where one is above 1e-4 (Gemma-2: 2.2e-4, as in the tests).

    pip install torch==2.15.0 transformers==5.23.0 peft==0.21.2 transformer-lens==4.3.0 ./python
    python scripts/current_peers.py [../shared/tiny]
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import numpy as np
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformer_lens import ActivationCache
from transformer_lens.model_bridge import TransformerBridge
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

import lorascope

FAMILIES = ("gemma2", "gemma3", "gpt2", "llama", "mistral", "qwen2", "qwen3")
TOKENS = np.random.default_rng(3).integers(3, 512, (3, 40))
#: Where both give one name to different places, and what ours is called there: after the norm's weight, after the norm of queries and keys.
CALLED = {
    "ln_final.hook_normalized": "ln_final.hook_out",
    "attn.hook_q": "attn.q_norm.hook_out",
    "attn.hook_k": "attn.k_norm.hook_out",
}


def prepared(source: Path, place: Path) -> Path:
    """The model with a tokenizer whose tokens are numbers."""
    shutil.copytree(source, place, copy_function=shutil.copy)
    size = json.loads((place / "config.json").read_text())["vocab_size"]
    model = {"type": "WordLevel", "vocab": {str(i): i for i in range(size)}, "unk_token": "0"}
    tokenizer = {"version": "1.0", "added_tokens": [], "pre_tokenizer": {"type": "WhitespaceSplit"}, "model": model}
    (place / "tokenizer.json").write_text(json.dumps(tokenizer))
    return place


def hugging_face(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()


def distance(ours: np.ndarray, theirs: torch.Tensor) -> float:
    theirs = theirs.detach().float().numpy()
    # The norms of queries and keys see `[batch, head, position, d_head]` there.
    theirs = theirs.swapaxes(1, 2) if theirs.ndim == 4 and theirs.shape != ours.shape else theirs
    theirs = theirs.reshape(ours.shape)
    finite = np.isfinite(ours) & np.isfinite(theirs) & (theirs > -1e30)
    return float(np.abs(ours - theirs)[finite].max() / np.abs(theirs[finite]).max())


def caches(model: lorascope.Model, folder: Path) -> "tuple[float, dict[str, float], int]":
    """Logits, then every point that both have: the largest difference by kind of point."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    bridge = TransformerBridge.boot_transformers(str(folder), hf_model=hugging_face(folder), tokenizer=tokenizer, device="cpu").eval()
    with torch.no_grad():
        logits, theirs = bridge.run_with_cache(torch.tensor(TOKENS))
    ours_logits, ours = model.run_with_cache(TOKENS)
    by_kind: "dict[str, float]" = {}
    both = [name for name in ours if name in theirs]
    for name in both:
        kind = name.split(".", 2)[2] if name.startswith("blocks.") else name
        called = name.removesuffix(kind) + CALLED.get(kind, kind)
        # Without a norm of queries and keys there is one place only.
        kind, called = (f"{kind} (there {CALLED[kind]})", called) if called in theirs and kind in CALLED else (kind, name)
        by_kind[kind] = max(by_kind.get(kind, 0.0), distance(ours[name], theirs[called]))
    ours.save(folder / "cache.safetensors")
    read = ActivationCache(load_file(folder / "cache.safetensors"), bridge)
    by_kind["stack_activation of a saved cache"] = distance(ours.stack("z"), read.stack_activation("z"))
    return distance(ours_logits, logits), by_kind, len(both)


def adapters(model: lorascope.Model, folder: Path, adapter: Path) -> "tuple[float, float]":
    """Logits and the gradient by the embedding's output, with the adapter."""
    peer = PeftModel.from_pretrained(hugging_face(folder), str(adapter)).eval()
    kept: "list[torch.Tensor]" = []
    layers = next(module for name, module in peer.named_modules() if name.endswith((".h", ".layers")))

    def keep(_module: Any, args: Any, kwargs: Any) -> None:
        kept.append(args[0] if args else kwargs["hidden_states"])
        kept[0].retain_grad()

    layers[0].register_forward_pre_hook(keep, with_kwargs=True)
    peer.get_input_embeddings().weight.requires_grad_(True)
    logits = peer(torch.tensor(TOKENS), use_cache=False).logits
    (logits[:, -1, 7] - logits[:, -1, 9]).sum().backward()
    name = "blocks.0.hook_resid_pre"
    _, _, gradients = model.run_with_gradients(TOKENS, lorascope.logit_difference(7, 9), name, "lora")
    return distance(model(TOKENS, "lora"), logits), distance(gradients[name], kept[0].grad)


def main() -> int:
    tiny = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "../shared/tiny"
    print(", ".join(f"{name} {version(name)}" for name in ("torch", "transformers", "peft", "transformer-lens", "lorascope")))
    worst = False
    for family in FAMILIES:
        limit = 2.2e-4 if family == "gemma2" else 1e-4
        with tempfile.TemporaryDirectory() as scratch:
            folder = prepared(tiny / family / "model", Path(scratch) / family)
            model = lorascope.Model.load(folder, adapters={"lora": tiny / family / "adapter"}, progress=False)
            logits, by_kind, n = caches(model, folder)
            lora, gradient = adapters(model, folder, tiny / family / "adapter")
        kind, most = max(by_kind.items(), key=lambda pair: pair[1])
        print(f"{family}: logits {logits:.1e}; {n} points, most {most:.1e} ({kind}); adapter {lora:.1e}, gradient {gradient:.1e}")
        print(*(f"    {kind}: {off:.1e}" for kind, off in by_kind.items() if "there" in kind), sep="\n")
        worst = max(worst, *(off > limit for off in (logits, most, lora, gradient)))
    return int(worst)


if __name__ == "__main__":
    sys.exit(main())
