"""Against transformers, PEFT and TransformerLens themselves, live: logits, whole caches, the same functions at the same hooks."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import types
from pathlib import Path
from typing import Any, Callable, Dict

import numpy as np
import pytest
from test_parity import tiny

import lorascope

PEERS = ["torch", "transformers", "peft", "transformer_lens"]
missing = [name for name in PEERS if importlib.util.find_spec(name) is None]
if missing:
    print(f"skipped: {', '.join(missing)} not installed; scripts/test_python installs them where Debian's python3-torch is")
pytestmark = pytest.mark.skipif(bool(missing), reason=f"skipped: {', '.join(missing)} not installed")

#: All agree in f32; the engine's own parity test has the limits against f64.
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def torch() -> Any:
    import torch

    torch.set_grad_enabled(False)
    return torch


def hugging_face(folder: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    # The configuration as this version of transformers writes it, where it differs.
    config = folder / "config_v4.json"
    if config.exists():
        config.replace(config.with_name("config.json"))
    return AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager").eval()


def gpt2(model: Any) -> Dict[str, Any]:
    c = model.config
    sizes = {"n_layers": c.n_layer, "d_model": c.n_embd, "n_heads": c.n_head, "d_head": c.n_embd // c.n_head, "n_ctx": c.n_positions}
    return {**sizes, "act_fn": "gelu_new", "eps": c.layer_norm_epsilon, "normalization_type": "LN"}


def qwen2(model: Any) -> Dict[str, Any]:
    c = model.config
    d_head = c.hidden_size // c.num_attention_heads
    return {
        "n_layers": c.num_hidden_layers, "d_model": c.hidden_size, "n_heads": c.num_attention_heads, "d_head": d_head,
        "n_key_value_heads": c.num_key_value_heads, "n_ctx": c.max_position_embeddings, "d_mlp": c.intermediate_size,
        "act_fn": "silu", "eps": c.rms_norm_eps, "normalization_type": "RMS", "final_rms": True, "gated_mlp": True,
        "positional_embedding_type": "rotary", "rotary_adjacent_pairs": False, "rotary_dim": d_head,
        "rotary_base": int(c.rope_theta),
    }  # fmt: skip


def mistral(model: Any) -> Dict[str, Any]:
    window = model.config.sliding_window
    return {**qwen2(model), "use_local_attn": True, "window_size": window, "attn_types": ["local"] * model.config.num_hidden_layers}


CONFIGS: Dict[str, Callable[[Any], Dict[str, Any]]] = {"gpt2": gpt2, "mistral": mistral, "qwen2": qwen2}


def lens_of(family: str, folder: Path) -> Any:
    """The model in TransformerLens, its weights as they are: nothing folded, nothing centred."""
    model = hugging_face(folder)
    import peft  # noqa: F401 - it looks for a real wandb, so it comes before the empty one

    # TransformerLens imports wandb for its trainer.
    sys.modules.setdefault("wandb", types.ModuleType("wandb"))
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained import weight_conversions

    config = HookedTransformerConfig(
        **CONFIGS[family](model), d_vocab=model.config.vocab_size, device="cpu", default_prepend_bos=False
    )
    lens = HookedTransformer(config)
    convert = getattr(weight_conversions, f"convert_{family}_weights")
    lens.load_state_dict(convert(model, config), strict=False)
    lens.set_use_attn_result(True)
    return lens.eval()


TOKENS = np.random.default_rng(3).integers(3, 512, (3, 40))


def distance(ours: np.ndarray, theirs: Any) -> float:
    theirs = theirs.numpy()
    finite = np.isfinite(theirs) & np.isfinite(ours)
    return float(np.abs(ours[finite] - theirs[finite]).max() / max(1.0, np.abs(theirs[finite]).max()))


@pytest.mark.parametrize("family", CONFIGS)
def test_caches_are_transformer_lenss(family: str, torch: Any, shared: Path, tmp_path: Path) -> None:
    model, lens = tiny(shared, family, tmp_path), lens_of(family, tmp_path / family)
    theirs_logits, theirs = lens.run_with_cache(torch.tensor(TOKENS))
    ours_logits, ours = model.run_with_cache(TOKENS, names=lambda name: "lora" not in name)
    assert distance(ours_logits, theirs_logits) < TOLERANCE
    both = [name for name in theirs if name in ours]
    assert len(both) > 15 * model.n_layers, both
    for name in both:
        expected = theirs[name]
        if name == "ln_final.hook_normalized" and family != "gpt2":
            # TransformerLens shows an RMSNorm's values before its weight, a LayerNorm's after weight and bias.
            expected = expected * lens.ln_final.w
        # Of a gated MLP both call the gate's pre-activation `hook_pre`; the norm's scale has one number a row in both.
        assert ours[name].shape == tuple(expected.shape), name
        assert distance(ours[name], expected) < TOLERANCE, name
        for short in [("z", 1), ("pattern", 2), ("resid_post", 0)]:
            assert distance(ours[short], theirs[short]) < TOLERANCE


@pytest.mark.parametrize("family", CONFIGS)
def test_the_same_functions_do_the_same(family: str, torch: Any, shared: Path, tmp_path: Path) -> None:
    model, lens = tiny(shared, family, tmp_path), lens_of(family, tmp_path / family)

    def head(z: Any, hook: Any) -> Any:
        z[:, :, 2] = 0.0
        return z

    def shift(x: Any, hook: Any) -> Any:
        # Not all dimensions: a LayerNorm does not see what all have in common.
        x[..., ::2] += 0.25 * (1 + hook.layer())
        return x

    def first_key(pattern: Any, hook: Any) -> Any:
        pattern[:, 1] = 0.0
        pattern[:, 1, :, 0] = 1.0
        return pattern

    def last(x: Any, hook: Any) -> Any:
        x[:, -1] = x[:, 0]
        return x

    for name, function in [
        ("blocks.1.attn.hook_z", head),
        ("blocks.2.attn.hook_result", head),
        ("blocks.0.hook_resid_mid", shift),
        ("blocks.3.hook_resid_post", shift),
        ("blocks.1.attn.hook_pattern", first_key),
        ("blocks.2.hook_mlp_out", last),
        ("blocks.1.attn.hook_v", shift),
    ]:
        theirs = lens.run_with_hooks(torch.tensor(TOKENS), fwd_hooks=[(name, function)])
        ours = model.run_with_hooks(TOKENS, fwd_hooks=[(name, function)])
        assert distance(ours, theirs) < TOLERANCE, name
        assert distance(ours, torch.tensor(model(TOKENS))) > 10 * TOLERANCE, f"{name}: it does something"


@pytest.mark.parametrize("family", ["gpt2", "llama", "mistral", "qwen2", "gemma2"])
def test_adapters_are_pefts_hooks_included(family: str, torch: Any, shared: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, PeftModel

    model = tiny(shared, family, tmp_path)
    adapter = tmp_path / "adapter"
    shutil.copytree(shared / "tiny" / family / "adapter", adapter, copy_function=shutil.copy)
    # Keys that this PEFT does not know yet: all are off, or about what is off.
    settings = json.loads((adapter / "adapter_config.json").read_text())
    unknown = set(settings) - set(LoraConfig.__dataclass_fields__)
    assert not settings["use_qalora"]
    unknown -= {"peft_version", "qalora_group_size"}
    assert not any(settings[key] for key in unknown), unknown
    kept = {key: value for key, value in settings.items() if key in LoraConfig.__dataclass_fields__}
    (adapter / "adapter_config.json").write_text(json.dumps(kept))
    peer = PeftModel.from_pretrained(hugging_face(tmp_path / family), str(adapter)).eval()
    # The limits of f32 as in the engine's parity test.
    tolerance = 2.2e-4 if family == "gemma2" else TOLERANCE
    with peer.disable_adapter():
        assert distance(model(TOKENS), peer(torch.tensor(TOKENS), use_cache=False).logits) < tolerance
    assert distance(model(TOKENS, adapter="lora"), peer(torch.tensor(TOKENS), use_cache=False).logits) < tolerance

    def head_off(module: Any, inputs: Any) -> Any:
        z = inputs[0].clone()
        z[..., 2 * model.d_head : 3 * model.d_head] = 0.0
        return (z, *inputs[1:])

    ends = ("h.1.attn.c_proj", "layers.1.self_attn.o_proj")
    (projection,) = [module for name, module in peer.named_modules() if name.endswith(ends)]
    handle = projection.register_forward_pre_hook(head_off)
    expected = peer(torch.tensor(TOKENS), use_cache=False).logits
    handle.remove()
    off = lorascope.at("blocks.1.attn.hook_z", head=2).zero()
    assert distance(model.run_with_hooks(TOKENS, interventions=[off], adapter="lora"), expected) < tolerance


def test_torch_sees_the_same_memory(torch: Any, shared: Path, tmp_path: Path) -> None:
    _, cache = tiny(shared, "llama", tmp_path).run_with_cache(TOKENS, names="hook_embed")
    tensor = torch.from_dlpack(cache["hook_embed"])
    assert tensor.data_ptr() == cache["hook_embed"].__array_interface__["data"][0]
    tensor[0, 0, 0] = 7.0
    assert cache["hook_embed"][0, 0, 0] == 7.0
