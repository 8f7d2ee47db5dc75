"""Caches: names, shapes, identities, memory."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import lorascope


def test_every_point_has_its_shape(model: lorascope.Model, prompts: np.ndarray) -> None:
    n, t = prompts.shape
    names = model.hook_names("hybrid")
    logits, cache = model.run_with_cache(prompts, names=names, adapter="hybrid")
    assert logits.shape == (n, t, model.d_vocab)
    assert list(cache) == names
    h, kv, d, dh = model.n_heads, model.n_key_value_heads, model.d_model, model.d_head
    shapes = {
        "hook_embed": (n, t, d),
        "blocks.1.hook_resid_pre": (n, t, d),
        "blocks.1.attn.hook_q": (n, t, h, dh),
        "blocks.1.attn.hook_k": (n, t, kv, dh),
        "blocks.1.attn.hook_z": (n, t, h, dh),
        "blocks.1.attn.hook_result": (n, t, h, d),
        "blocks.1.hook_k_input": (n, t, kv, d),
        "blocks.1.attn.hook_pattern": (n, h, t, t),
        "blocks.1.attn.hook_attn_scores": (n, h, t, t),
        "blocks.1.mlp.hook_post": (n, t, model.d_mlp),
        "blocks.1.ln1.hook_scale": (n, t, 1),
        "ln_final.hook_normalized": (n, t, d),
    }
    for name, shape in shapes.items():
        assert cache[name].shape == shape, name
    rank = cache["blocks.1.attn.q_proj.hook_lora_a"].shape
    assert rank[:2] == (n, t) and len(rank) == 3
    assert cache.tokens == prompts.tolist() and cache.model == "hybrid"


def test_the_identities_of_the_residual_stream_hold(model: lorascope.Model, prompts: np.ndarray) -> None:
    names = [name for name in model.hook_names() if "hook_" in name]
    _, cache = model.run_with_cache(prompts, names=names)
    for layer in range(model.n_layers):
        middle = cache["resid_pre", layer] + cache["attn_out", layer]
        assert np.array_equal(middle, cache["resid_mid", layer])
        assert np.array_equal(cache["resid_mid", layer] + cache["mlp_out", layer], cache["resid_post", layer])
        heads = cache["result", layer].sum(axis=2)
        assert np.abs(heads - cache["attn_out", layer]).max() < 1e-4 * np.abs(heads).max()
        pattern = cache["pattern", layer]
        assert np.abs(pattern.sum(axis=-1) - 1).max() < 1e-5
        above = np.triu(np.ones(pattern.shape[-2:], bool), 1)
        assert (pattern[..., above] == 0).all()
        assert np.isneginf(cache["attn_scores", layer][..., above]).all()


def test_prompts_do_not_depend_on_their_company(model: lorascope.Model, prompts: np.ndarray) -> None:
    together, cache = model.run_with_cache(prompts)
    for i, prompt in enumerate(prompts):
        alone, own = model.run_with_cache(prompt)
        assert np.array_equal(alone[0], together[i])
        assert all(np.array_equal(own[name][0], cache[name][i]) for name in own)


def test_short_names_are_transformer_lenss(model: lorascope.Model, prompts: np.ndarray) -> None:
    _, cache = model.run_with_cache(prompts)
    assert cache["z", 3] is cache["blocks.3.attn.hook_z"]
    assert cache["resid_post", 0] is cache["blocks.0.hook_resid_post"]
    assert cache["scale", 2, "ln1"] is cache["blocks.2.ln1.hook_scale"]
    assert ("z", 3) in cache and ("z", 9) not in cache and "nothing" not in cache
    assert cache.stack("z").shape == (model.n_layers, *cache["z", 0].shape)
    with pytest.raises(KeyError, match="several"):
        cache["scale", 2]
    with pytest.raises(KeyError, match="was not cached"):
        cache["blocks.0.attn.hook_result"]


def test_names_may_be_a_function_or_one(model: lorascope.Model, prompts: np.ndarray) -> None:
    _, cache = model.run_with_cache(prompts, names=lambda name: name.endswith("hook_z"), logits="none")
    assert list(cache) == [f"blocks.{layer}.attn.hook_z" for layer in range(model.n_layers)]
    nothing, _ = model.run_with_cache(prompts, names="hook_embed", logits="none")
    assert nothing.shape == (len(prompts), 0, model.d_vocab)
    logits, cache = model.run_with_cache(prompts, names="hook_embed", logits="last")
    assert list(cache) == ["hook_embed"] and logits.shape[1] == 1
    assert np.array_equal(logits[:, 0], model(prompts)[:, -1])


def test_what_does_not_exist_is_refused(model: lorascope.Model, prompts: np.ndarray) -> None:
    with pytest.raises(lorascope.Error, match="did you mean `blocks.0.attn.hook_z`"):
        model.run_with_cache(prompts, names=["blocks.0.attn.hook_zz"])
    with pytest.raises(lorascope.Error, match="4 layers"):
        model.run_with_cache(prompts, names=["blocks.9.attn.hook_z"])
    with pytest.raises(lorascope.Error, match="no adapter there"):
        model.run_with_cache(prompts, names=["blocks.0.attn.q_proj.hook_lora_a"])
    with pytest.raises(ValueError, match="no model is called"):
        model.run_with_cache(prompts, adapter="nobody")
    with pytest.raises(lorascope.Error, match="use `run_batch`"):
        model.run_with_cache(["one", "one and another"])
    with pytest.raises(lorascope.Error, match="vocabulary"):
        model.run_with_cache([model.d_vocab])
    with pytest.raises(ValueError, match="no prompt"):
        model.run_with_cache([])


def test_prompts_of_any_length_run_together(model: lorascope.Model) -> None:
    texts = ["Which action?", "Which action do you choose at the same time?"]
    found = model.run_batch(texts, names=["blocks.3.attn.hook_z"], adapter="hybrid")
    for text, (logits, cache) in zip(texts, found):
        alone, own = model.run_with_cache(text, names=["blocks.3.attn.hook_z"], adapter="hybrid")
        assert np.array_equal(logits, alone)
        assert np.array_equal(cache["z", 3], own["z", 3])


def test_arrays_are_writable_live_on_and_are_shared_by_dlpack(model: lorascope.Model, prompts: np.ndarray) -> None:
    _, cache = model.run_with_cache(prompts, names="hook_embed", logits="none")
    array = cache["hook_embed"]
    del cache
    assert array.flags["C_CONTIGUOUS"] and array.flags["WRITEABLE"] and not array.flags["OWNDATA"]
    other = np.from_dlpack(array)
    assert other.__array_interface__["data"][0] == array.__array_interface__["data"][0]
    array[0, 0, 0] = 42.0
    assert other[0, 0, 0] == 42.0


@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is read from /proc")
def test_a_large_cache_is_there_once(tmp_path: Path) -> None:
    """Peak memory grows by the size of the cache, and by less than a quarter of it for everything else."""
    script = """
        import numpy as np, lorascope

        def kib(what):
            return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(what))

        model = lorascope.Model.load("organism", progress=False)
        tokens = np.random.default_rng(0).integers(3, model.d_vocab, (48, 200))
        tokens[:, 0] = 2
        names = [f"blocks.{l}.{s}" for l in range(4) for s in ("attn.hook_result", "hook_q_input", "mlp.hook_post")]
        model.run_with_cache(tokens[:2], names=names, logits="none")
        before = kib("VmHWM")
        _, cache = model.run_with_cache(tokens, names=names, logits="none")
        print(sum(a.nbytes for a in cache.values()) / 1024, kib("VmHWM") - before)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    size, growth = (float(number) for number in done.stdout.split())
    print(f"cache of {size / 1024:.0f} MiB: peak memory grew by {growth / 1024:.0f} MiB")
    assert size > 200 * 1024, "large enough to be seen"
    assert growth < 1.25 * size
