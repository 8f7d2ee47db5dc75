"""Writes crates/peft/tests/fixtures/selection.json: which modules PEFT itself adapts, with which rank and alpha.

Asks the functions that PEFT runs when it injects an adapter (`check_target_module_exists`, `get_pattern_key`) about a
table of configurations, so that lorascope's own decisions can be compared with PEFT's.

    pip install peft==0.21.2
    python scripts/peft_selection.py
"""

import json
from pathlib import Path

from peft import LoraConfig
from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists
from peft.utils.other import get_pattern_key

LLAMA = ["model.embed_tokens", "model.norm", "lm_head"] + [
    f"model.layers.{layer}.{name}"
    for layer in (0, 1, 2, 10, 11)
    for name in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.o_proj", "mlp.down_proj", "mlp.gate_proj")
]
GPT2 = ["transformer.wte", "transformer.wpe", "lm_head"] + [
    f"transformer.h.{layer}.{name}"
    for layer in (0, 1, 10)
    for name in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
]

CONFIGS = [
    (LLAMA, dict(target_modules=["q_proj", "down_proj"])),
    (LLAMA, dict(target_modules=["self_attn.q_proj", "proj", "_proj"])),
    (LLAMA, dict(target_modules=["model.layers.1.self_attn.q_proj", "layers.0.mlp.down_proj"])),
    (LLAMA, dict(target_modules=r".*\.(0|10)\.self_attn\.[qk]_proj")),
    (LLAMA, dict(target_modules=r"q_proj|.*k_proj")),
    (LLAMA, dict(target_modules=r"model\.layers\.1.*")),
    (LLAMA, dict(target_modules=r"^(?!.*(lm_head|mlp)).*_proj$")),
    (LLAMA, dict(target_modules=r"(?:.*?(?:language|layers).*?(?:self_attn|mlp).*?(?:q_proj|o_proj|gate_proj).*?)")),
    (LLAMA, dict(target_modules=r".*_proj", exclude_modules=r".*\.1\..*")),
    (LLAMA, dict(target_modules=["q_proj", "o_proj"], exclude_modules=["layers.1.self_attn.q_proj", "o_proj"])),
    (LLAMA, dict(target_modules=["q_proj", "lm_head"], modules_to_save=["lm_head", "layers.2"])),
    (LLAMA, dict(target_modules=["q_proj", "gate_proj"], modules_to_save=["self_attn"])),
    (LLAMA, dict(target_modules=["q_proj", "gate_proj"], modules_to_save=["attn"])),
    (LLAMA, dict(target_modules=["q_proj"], layers_to_transform=1)),
    (LLAMA, dict(target_modules=["q_proj", "lm_head"], layers_to_transform=[0, 11])),
    (LLAMA, dict(target_modules=["q_proj"], layers_to_transform=[])),
    (LLAMA, dict(target_modules=["q_proj"], layers_to_transform=[0, 2], layers_pattern="layers")),
    (LLAMA, dict(target_modules=["q_proj"], layers_to_transform=[0, 2], layers_pattern=["h", "layers"])),
    (LLAMA, dict(target_modules=["q_proj"], layers_to_transform=[0, 2], layers_pattern="layer")),
    (LLAMA, dict(target_modules=["model.layers.10.self_attn.q_proj", "q_proj"], layers_to_transform=[0])),
    (GPT2, dict(target_modules=["c_proj", "wte"])),
    (GPT2, dict(target_modules=["attn.c_proj", "c_fc"], layers_to_transform=[1], layers_pattern="h")),
    (GPT2, dict(target_modules=["c_attn"], layers_to_transform=[0, 10])),
    (LLAMA, dict(target_modules=["q_proj", "k_proj"], r=8, lora_alpha=16,
                 rank_pattern={"q_proj": 2, "layers.0.self_attn.k_proj": 3, r"layers\.1\d\..*": 5},
                 alpha_pattern={r".*\.1\.self_attn.*": 7, "k_proj": 9})),
    (LLAMA, dict(target_modules=["q_proj", "down_proj"], r=8, lora_alpha=16,
                 rank_pattern={r"layers\.1\..*": 5, "q_proj": 2, "model.layers.0.mlp.down_proj": 6},
                 alpha_pattern={"proj": 3, "^model.layers.2.mlp.down_proj": 4, r"(0|1)\.self_attn\.q_proj": 1.5})),
]


def decide(paths, settings):
    config = LoraConfig(**settings)
    adapted = {}
    for path in paths:
        found = check_target_module_exists(config, path)
        if not found or isinstance(found, _ExcludedModule):
            continue
        rank = config.rank_pattern.get(get_pattern_key(config.rank_pattern.keys(), path), config.r)
        alpha = config.alpha_pattern.get(get_pattern_key(config.alpha_pattern.keys(), path), config.lora_alpha)
        adapted[path] = [rank, alpha]
    # A string: the order of the patterns counts, and not every JSON reader keeps it.
    return {"config": json.dumps({"peft_type": "LORA", **settings}), "paths": paths, "adapted": adapted}


if __name__ == "__main__":
    out = Path(__file__).parent.parent / "crates/peft/tests/fixtures/selection.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps([decide(paths, settings) for paths, settings in CONFIGS]) + "\n")
