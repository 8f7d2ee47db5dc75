"""Writes crates/peft/tests/fixtures/tied: adapters that touch the embedding or the head of a model that ties them.

Each case is an adapter saved by PEFT and `expected.safetensors` with the weights that PEFT's reloaded model really uses
for the input embedding (`embed`) and for the output head (`head`), updates included. `model.safetensors` is the base.

    pip install peft==0.21.2 transformers torch
    python scripts/peft_tied.py
"""

import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import Qwen2Config, Qwen2ForCausalLM

OUT = Path(__file__).parent.parent / "crates/peft/tests/fixtures/tied"
SIZES = dict(vocab_size=12, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
             num_key_value_heads=1, max_position_embeddings=16, tie_word_embeddings=True)
CASES = {
    "save_embed": dict(modules_to_save=["embed_tokens"]),
    "save_embed_ensure": dict(modules_to_save=["embed_tokens"], ensure_weight_tying=True),
    "save_head": dict(modules_to_save=["lm_head"]),
    "save_head_ensure": dict(modules_to_save=["lm_head"], ensure_weight_tying=True),
    "target_embed": dict(target_modules=["q_proj", "embed_tokens"]),
    "target_embed_ensure": dict(target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True),
    "target_head": dict(target_modules=["q_proj", "lm_head"]),
    "save_norm_bias_all": dict(modules_to_save=["norm"], bias="all"),
}


def base():
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(Qwen2Config(**SIZES))
    model.name_or_path = model.config._name_or_path = "tiny-tied"
    return model


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    weights = {k: v.clone() for k, v in base().state_dict().items() if k != "lm_head.weight"}
    save_file(weights, OUT / "model.safetensors")
    for name, settings in CASES.items():
        settings = {"target_modules": ["q_proj"], **settings}
        model = get_peft_model(base(), LoraConfig(r=2, lora_alpha=6, task_type="CAUSAL_LM", **settings))
        torch.manual_seed(1)
        with torch.no_grad():
            for parameter in (p for p in model.parameters() if p.requires_grad):
                parameter.add_(torch.randn_like(parameter))
        model.save_pretrained(OUT / name)
        (OUT / name / "README.md").unlink(missing_ok=True)
        used = PeftModel.from_pretrained(base(), OUT / name)
        # Asked through the modules, because merging one would change the other's shared weight.
        with torch.no_grad():
            embed = used.get_input_embeddings()(torch.arange(SIZES["vocab_size"]))
            head = used.get_output_embeddings()(torch.eye(SIZES["hidden_size"])).T.contiguous()
        save_file({"embed": embed, "head": head}, OUT / name / "expected.safetensors")


if __name__ == "__main__":
    main()
