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


ADAPTED = ["gpt2", "llama", "mistral", "qwen2", "gemma2"]


def limit(family: str) -> float:
    """The limits of f32 as in the engine's parity test."""
    return 2.2e-4 if family == "gemma2" else TOLERANCE


def with_adapter(base: Path, source: Path, place: Path) -> Any:
    """A base with an adapter in PEFT."""
    from peft import LoraConfig, PeftModel

    adapter = place / "adapter"
    shutil.copytree(source, adapter, copy_function=shutil.copy)
    # Keys that this PEFT does not know yet: all are off, or about what is off.
    settings = json.loads((adapter / "adapter_config.json").read_text())
    unknown = set(settings) - set(LoraConfig.__dataclass_fields__)
    assert not settings.get("use_qalora")
    unknown -= {"peft_version", "qalora_group_size"}
    assert not any(settings[key] for key in unknown), unknown
    kept = {key: value for key, value in settings.items() if key in LoraConfig.__dataclass_fields__}
    (adapter / "adapter_config.json").write_text(json.dumps(kept))
    return PeftModel.from_pretrained(hugging_face(base), str(adapter)).eval()


@pytest.mark.parametrize("family", ADAPTED)
def test_adapters_are_pefts_hooks_included(family: str, torch: Any, shared: Path, tmp_path: Path) -> None:
    model, tolerance = tiny(shared, family, tmp_path), limit(family)
    peer = with_adapter(tmp_path / family, shared / "tiny" / family / "adapter", tmp_path)
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


#: Hook points that are the input of a module, by how the module's name ends.
INPUTS = {
    "blocks.{}.hook_resid_pre": ("h.{}", "layers.{}"),
    "blocks.{}.attn.hook_z": ("h.{}.attn.c_proj", "layers.{}.self_attn.o_proj"),
    "blocks.{}.mlp.hook_post": ("h.{}.mlp.c_proj", "layers.{}.mlp.down_proj"),
}


@pytest.mark.parametrize("family", ADAPTED)
@pytest.mark.parametrize("adapter", ["base", "lora"])
def test_gradients_are_autograds(family: str, adapter: str, torch: Any, shared: Path, tmp_path: Path) -> None:
    model = tiny(shared, family, tmp_path)
    peer = with_adapter(tmp_path / family, shared / "tiny" / family / "adapter", tmp_path)
    modules = dict(peer.named_modules())
    kept: Dict[str, Any] = {}

    def keep(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: Any) -> None:
            kept[name] = inputs[0]
            kept[name].retain_grad()

        return hook

    for layer in range(model.n_layers):
        for point, ends in INPUTS.items():
            own = tuple("." + end.format(layer) for end in ends)
            (module,) = [module for name, module in modules.items() if name.endswith(own)]
            module.register_forward_pre_hook(keep(point.format(layer)))
    tokens = torch.tensor(TOKENS)
    with torch.enable_grad():
        # What PEFT freezes has no gradient, and then nothing has.
        embedding = peer.get_input_embeddings()
        embedding.weight.requires_grad_(True)
        if adapter == "base":
            with peer.disable_adapter():
                logits = peer(tokens, use_cache=False).logits
        else:
            logits = peer(tokens, use_cache=False).logits
        # Every logit counts, those of the last position apart; a soft cap and the normaliser are part of it.
        (logits.log_softmax(-1)[:, :-1, 11].sum() + logits[:, -1, 7].sum() - logits[:, -1, 9].sum()).backward()

    def loss(ours: np.ndarray) -> Any:
        x = torch.from_dlpack(ours).requires_grad_()
        with torch.enable_grad():
            (x.log_softmax(-1)[:, :-1, 11].sum() + x[:, -1, 7].sum() - x[:, -1, 9].sum()).backward()
        return x.grad

    _, values, gradients = model.run_with_gradients(TOKENS, loss, list(kept), adapter, logits="all")
    assert len(kept) == 3 * model.n_layers
    for name, tensor in kept.items():
        expected, found = tensor.grad.flatten(2).numpy(), gradients[name].reshape(*TOKENS.shape, -1)
        scale = np.abs(expected).max()
        assert scale > 1e-3 and np.abs(found - expected).max() < 2 * limit(family) * scale, name
        assert distance(values[name].reshape(found.shape), tensor.detach().flatten(2)) < limit(family), name


@pytest.mark.parametrize("family", ADAPTED)
def test_peft_loads_what_is_exported(family: str, torch: Any, shared: Path, tmp_path: Path) -> None:
    model = tiny(shared, family, tmp_path)
    model.save_adapter("lora", tmp_path / "exported", blocks="L1 attention, L2")
    peer = with_adapter(tmp_path / family, tmp_path / "exported", tmp_path)
    names = [name for name in model.hook_names("lora") if name.endswith("hook_lora_out")]
    outside = [name for name in names if not name.startswith(("blocks.1.attn.", "blocks.2."))]
    off = [lorascope.at(name).zero() for name in outside]
    expected = model.run_with_hooks(TOKENS, interventions=off, adapter="lora")
    assert distance(expected, peer(torch.tensor(TOKENS), use_cache=False).logits) < limit(family)
    assert distance(expected, torch.tensor(model(TOKENS))) > 10 * limit(family)


@pytest.mark.parametrize("family", CONFIGS)
def test_caches_go_to_transformer_lens_and_come_from_there(family: str, torch: Any, shared: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model, lens = tiny(shared, family, tmp_path), lens_of(family, tmp_path / family)
    from transformer_lens import ActivationCache

    _, cache = model.run_with_cache(TOKENS)
    cache.save(tmp_path / "ours.safetensors")
    ours = ActivationCache(load_file(tmp_path / "ours.safetensors"), lens)
    _, theirs = lens.run_with_cache(torch.tensor(TOKENS))
    for made in (lambda c: c.stack_activation("z"), lambda c: c.stack_head_results(), lambda c: c.decompose_resid(), lambda c: c["v", 1]):
        assert distance(made(ours).numpy(), made(theirs)) < TOLERANCE
    save_file({name: tensor.contiguous().clone() for name, tensor in theirs.items()}, tmp_path / "theirs.safetensors")
    again = lorascope.Cache.load(tmp_path / "theirs.safetensors")
    assert set(again) == set(theirs.keys()) and again.stack("z").shape == (model.n_layers, *TOKENS.shape, model.n_heads, model.d_head)
    head = "blocks.1.attn.hook_z"
    put = [lorascope.at(head, head=1).patch(source) for source in (again, cache)]
    logits = [model.run_with_hooks(TOKENS, interventions=[lorascope.at("hook_embed").scale(0.5), one]) for one in put]
    assert distance(logits[0], torch.tensor(logits[1])) < TOLERANCE


def test_datasets_reads_the_tables(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    model = lorascope.Model.load("organism", {"hybrid": "organism:hybrid"}, progress=False)
    result = lorascope.decide(model, lorascope.game_prompts("fifteen")[:3], out=tmp_path / "run", progress=False)
    for name, table in result.tables.items():
        file = str(tmp_path / "run/tables" / f"{name}.parquet")
        loaded = datasets.load_dataset("parquet", data_files=file, split="train", cache_dir=str(tmp_path / "cache"))
        assert loaded.column_names == [column.name for column in table.columns]
        assert loaded.to_list() == table.to_arrow().to_pylist(), name


def test_torch_sees_the_same_memory(torch: Any, shared: Path, tmp_path: Path) -> None:
    _, cache = tiny(shared, "llama", tmp_path).run_with_cache(TOKENS, names="hook_embed")
    tensor = torch.from_dlpack(cache["hook_embed"])
    assert tensor.data_ptr() == cache["hook_embed"].__array_interface__["data"][0]
    tensor[0, 0, 0] = 7.0
    assert cache["hook_embed"][0, 0, 0] == 7.0
