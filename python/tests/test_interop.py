"""Files for others: caches, steering vectors, adapters, run folders."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict

import numpy as np
import pytest
from conftest import read_safetensors, smollm2_file

import lorascope


def test_a_cache_comes_back(model: lorascope.Model, prompts: np.ndarray, tmp_path: Path) -> None:
    _, cache = model.run_with_cache(prompts, adapter="hybrid")
    cache.save(tmp_path / "cache.safetensors")
    again = lorascope.Cache.load(tmp_path / "cache.safetensors")
    assert again.model == "hybrid" and again.tokens == cache.tokens and set(again) == set(cache)
    raw = read_safetensors(tmp_path / "cache.safetensors")
    for name, array in cache.items():
        assert again[name].dtype == np.float32 and np.array_equal(again[name], array), name
        assert np.array_equal(raw[name], array), name
    patch = lorascope.at("blocks.1.attn.hook_z", head=2).patch(again)
    same = lorascope.at("blocks.1.attn.hook_z", head=2).patch(cache)
    assert np.array_equal(*(model.run_with_hooks(prompts, interventions=[p]) for p in (patch, same)))


def test_caches_from_elsewhere(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    z = np.arange(24, dtype=np.float16).reshape(1, 3, 2, 4)
    save_file({"blocks.0.attn.hook_z": z}, tmp_path / "half.safetensors")
    cache = lorascope.Cache.load(tmp_path / "half.safetensors")
    assert cache["z", 0].dtype == np.float32 and np.array_equal(cache["z", 0], z)
    assert (cache.model, cache.tokens) == ("", []) and "without name" in repr(cache)
    # The upper halves of 1.5, -2.25 and 3.
    header = json.dumps({"hook_embed": {"dtype": "BF16", "shape": [1, 3, 1], "data_offsets": [0, 6]}}).encode()
    numbers = (np.array([1.5, -2.25, 3.0], np.float32).view(np.uint32) >> 16).astype("<u2").tobytes()
    (tmp_path / "bf16.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + numbers)
    assert lorascope.Cache.load(tmp_path / "bf16.safetensors")["hook_embed"].tolist() == [[[1.5], [-2.25], [3.0]]]
    save_file({"tokens": np.arange(3)}, tmp_path / "ints.safetensors")
    with pytest.raises(ValueError, match="`tokens` has numbers of type I64"):
        lorascope.Cache.load(tmp_path / "ints.safetensors")


def test_control_vectors(model: lorascope.Model, tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    rng = np.random.default_rng(0)
    vectors = {f"blocks.{layer}.hook_resid_post": rng.standard_normal(model.d_model).astype(np.float32) for layer in (1, 3)}
    vectors["blocks.3.hook_resid_pre"] = np.ones(model.d_model, np.float32)
    lorascope.save_vectors(vectors, tmp_path / "v.gguf", model=model)
    reader = gguf.GGUFReader(tmp_path / "v.gguf")
    told = {name: field.contents() for name, field in reader.fields.items()}
    assert told["general.architecture"] == "controlvector" and told["controlvector.model_hint"] == model.family
    assert told["controlvector.layer_count"] == 3
    directions = {t.name: t for t in reader.tensors}
    assert list(directions) == ["direction.1", "direction.2", "direction.3"]
    assert all(t.tensor_type == gguf.GGMLQuantizationType.F32 for t in reader.tensors)
    # Before layer 3 is after layer 2.
    assert np.array_equal(directions["direction.2"].data, vectors["blocks.3.hook_resid_pre"])
    again = lorascope.load_vectors(tmp_path / "v.gguf")
    assert np.array_equal(again["blocks.3.hook_resid_post"], vectors["blocks.3.hook_resid_post"])
    lorascope.save_vectors(vectors, tmp_path / "v.safetensors")
    for name, vector in lorascope.load_vectors(tmp_path / "v.safetensors").items():
        assert np.array_equal(vector, vectors[name])


def test_vectors_that_can_not_be(model: lorascope.Model, tmp_path: Path) -> None:
    one = np.ones(model.d_model)
    for vectors, said in [
        ({"blocks.0.hook_resid_post": one}, "layers 1 to 3"),
        ({"blocks.1.hook_resid_pre": one}, "layers 1 to 3"),
        ({"blocks.1.hook_resid_mid": one}, "hook_resid_post"),
        ({"blocks.2.hook_resid_pre": one, "blocks.1.hook_resid_post": one}, "already"),
        ({"blocks.1.hook_resid_post": one[1:]}, "shape"),
    ]:
        with pytest.raises(ValueError, match=said):
            lorascope.save_vectors(vectors, tmp_path / "v.gguf", model=model)
    with pytest.raises(ValueError, match="needs `model`"):
        lorascope.save_vectors({"blocks.1.hook_resid_post": one}, tmp_path / "v.gguf")
    for call in (lambda: lorascope.save_vectors({}, "v.npz"), lambda: lorascope.load_vectors("v.npz")):
        with pytest.raises(ValueError, match="must end with"):
            call()


def test_vectors_of_a_steering_run_are_vectors(model: lorascope.Model, games: list, tmp_path: Path) -> None:
    lorascope.steer(model, games, source="hybrid", layer=2, out=tmp_path / "run", progress=False)
    (file,) = sorted((tmp_path / "run" / "vectors").glob("hybrid*.safetensors"))[:1]
    vectors = lorascope.load_vectors(file)
    assert vectors and all(vector.shape == (model.d_model,) for vector in vectors.values())
    lorascope.save_vectors(vectors, tmp_path / "v.gguf", model=model)


def exported(model: lorascope.Model, folder: Path, blocks: Any = None) -> lorascope.Model:
    model.save_adapter("hybrid", folder, blocks=blocks)
    return lorascope.Model.load("organism", {"again": folder}, progress=False)


def test_an_exported_adapter_is_the_adapter(model: lorascope.Model, prompts: np.ndarray, tmp_path: Path) -> None:
    again = exported(model, tmp_path / "all")
    assert np.array_equal(again(prompts, "again"), model(prompts, "hybrid"))
    with pytest.raises(FileExistsError):
        model.save_adapter("hybrid", tmp_path / "all")


def test_blocks_of_an_adapter_do_what_they_do(model: lorascope.Model, prompts: np.ndarray, tmp_path: Path) -> None:
    """Against the adapter with the updates of all other modules set to zero."""
    blocks = ["L1 attention", "L2 mlp.up_proj"]
    again = exported(model, tmp_path / "some", blocks)
    kept = ["blocks.1.attn.", "blocks.2.mlp.up_proj"]
    names = [name for name in model.hook_names("hybrid") if name.endswith("hook_lora_out")]
    others = [name for name in names if not name.startswith(tuple(kept))]
    assert 0 < len(others) < len(names)
    off = [lorascope.at(name).zero() for name in others]
    expected = model.run_with_hooks(prompts, interventions=off, adapter="hybrid")
    assert np.array_equal(again(prompts, "again"), expected)
    assert np.abs(expected - model(prompts)).max() > 1e-3
    same = exported(model, tmp_path / "text", "L1 attention, L2 up_proj")
    assert np.array_equal(same(prompts, "again"), expected)


def test_blocks_that_are_not_there(model: lorascope.Model, tmp_path: Path) -> None:
    for adapter, blocks, said in [
        ("hybrid", ["L9"], "has no block `L9`"),
        ("hybrid", [], "no block is named"),
        ("hybrid", ["2 q"], "is no block"),
        ("base", None, "the base is no adapter"),
    ]:
        with pytest.raises(lorascope.Error, match=said):
            model.save_adapter(adapter, tmp_path / "x", blocks=blocks)
    assert not (tmp_path / "x").exists()


def vllm_objects_to(folder: Path) -> list:
    """What vLLM's documentation and loader refuse or pass over: it takes `r` and `lora_alpha` for all modules."""
    config = json.loads((folder / "adapter_config.json").read_text())
    objections = [key for key in ("rank_pattern", "alpha_pattern", "modules_to_save", "use_dora", "lora_bias") if config.get(key)]
    if config["bias"] != "none" or config["lora_alpha"] != int(config["lora_alpha"]):
        objections.append("bias or alpha")
    for name, tensor in read_safetensors(folder / "adapter_model.safetensors").items():
        path, _, factor = name.removesuffix(".weight").rpartition(".lora_")
        module = path.rsplit(".", 1)[-1]
        if module not in {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}:
            objections.append(name)
        if not path.startswith("base_model.model.") or tensor.shape[factor == "B"] != config["r"]:
            objections.append(f"{name}: {tensor.shape}")
    return objections


@pytest.mark.parametrize("edge", ["PT4_hybrid", "edge_rslora", "edge_qv_patterns", "edge_dora"])
def test_exports_are_simple_whatever_the_adapter_was(edge: str, shared: Path, tmp_path: Path) -> None:
    base = smollm2_file()
    model = lorascope.Model.load(base, {"given": shared / "adapters/smollm2" / edge}, progress=False)
    if edge == "edge_dora":
        with pytest.raises(lorascope.Error, match="DoRA magnitudes"):
            model.save_adapter("given", tmp_path / "out")
        return
    model.save_adapter("given", tmp_path / "out")
    assert vllm_objects_to(tmp_path / "out") == []
    again = lorascope.Model.load(base, {"again": tmp_path / "out"}, progress=False)
    tokens = model.tokenize("Which action do you choose?")
    given, other = model(tokens, "given"), again(tokens, "again")
    if edge == "PT4_hybrid":
        assert np.array_equal(given, other)
    # Where scales go into B they are rounded to f32 in another place.
    assert np.abs(given - other).max() < 2e-5 * np.abs(given).max()
    assert np.abs(given - model(tokens)).max() > 0.1


class FakeApi:
    """What `push_run` calls of huggingface_hub.HfApi."""

    def __init__(self) -> None:
        self.calls: Dict[str, Dict[str, Any]] = {}

    def create_repo(self, **given: Any) -> None:
        self.calls["create_repo"] = given

    def upload_folder(self, **given: Any) -> None:
        self.calls["upload_folder"] = given


def test_push_says_what_it_would_do_and_does_it_only_then(
    model: lorascope.Model, games: list, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    lorascope.decide(model, games[:2], out=tmp_path / "run", progress=False)
    (tmp_path / "run" / "secret.txt").write_text("not of the run")
    api = FakeApi()
    files = lorascope.push_run(tmp_path / "run", "me/run", api=api)
    said = capsys.readouterr().out
    assert not api.calls and "would upload" in said and "me/run" in said and all(name in said for name in files)
    present = {p.relative_to(tmp_path / "run").as_posix() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    assert set(files) == present - {"secret.txt", ".lock"}
    assert lorascope.push_run(tmp_path / "run", "me/run", really=True, api=api) == files
    assert api.calls["create_repo"]["private"] is True and api.calls["create_repo"]["repo_type"] == "dataset"
    upload = api.calls["upload_folder"]
    assert (upload["repo_id"], upload["repo_type"], upload["allow_patterns"]) == ("me/run", "dataset", files)
    (tmp_path / "run" / files[0]).unlink()
    with pytest.raises(ValueError, match="lacks"):
        lorascope.push_run(tmp_path / "run", "me/run", api=api)
    with pytest.raises(ValueError, match="no run folder"):
        lorascope.push_run(tmp_path, "me/run", api=api)
