"""SmolLM2 as `transformers` loads it from the GGUF file, and what every peer's JSON has in common.

Not a peer itself. De-quantising the GGUF and rebuilding its tokenizer takes `transformers` half a minute, so
the converted f32 folder is cached next to the other downloads; its name holds the file's hash and the version.
"""

from __future__ import annotations

import hashlib
import os
import platform
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()


def cache_folder() -> Path:
    """`$LORASCOPE_CACHE`, or `~/.cache/lorascope` where it is unset or empty."""
    named = os.environ.get("LORASCOPE_CACHE")
    return Path(named).expanduser() if named else Path.home() / ".cache" / "lorascope"


def converted(gguf: Path) -> Path:
    """The folder with the model and tokenizer of `gguf` in f32, converted on the first call."""
    digest = hashlib.sha256(gguf.read_bytes()).hexdigest()[:12]
    target = cache_folder() / "peers" / f"{gguf.stem}-{digest}-transformers-{transformers.__version__}"
    if target.is_dir():
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".convert-", dir=target.parent) as scratch:
        partial = Path(scratch) / "model"
        source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
        plain(AutoModelForCausalLM.from_pretrained(**source, dtype=torch.float32)).save_pretrained(partial)
        AutoTokenizer.from_pretrained(**source).save_pretrained(partial)
        os.replace(partial, target)
    return target


def plain(model):
    """The same f32 weights in a model that does not remember its GGUF origin: `transformers` saves no other."""
    config = model.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    copy = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    copy.load_state_dict(model.state_dict())
    return copy


def load_model(gguf: Path, attention: str):
    """The model in f32, evaluation mode, with `attention` = "eager" or "sdpa"."""
    return AutoModelForCausalLM.from_pretrained(
        converted(gguf), dtype=torch.float32, attn_implementation=attention
    ).eval()


def load_tokenizer(gguf: Path):
    """The tokenizer with the model's chat template."""
    return AutoTokenizer.from_pretrained(converted(gguf))


def cpu_name() -> str:
    """The processor's model name (Linux), else what Python knows of it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown")


def surroundings(threads: int) -> dict:
    """What a measurement depends on: versions, processor, threads, load of the machine."""
    return {
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "cpu": cpu_name(),
        "threads": threads,
        "load_average": round(os.getloadavg()[0], 2),
    }
