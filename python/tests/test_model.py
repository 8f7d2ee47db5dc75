"""Loading, tokens, names."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import lorascope
from lorascope import _native


def test_a_model_says_what_it_is(model: lorascope.Model) -> None:
    assert (model.family, model.n_layers, model.n_heads) == ("gemma2", 4, 8)
    assert model.models == ["base", "hybrid", "selfish", "hybrid.random.3"]
    assert model.adapters == model.models[1:]
    assert model.controls == {"hybrid.random.3": "random of hybrid, seed 3"}
    assert model.dtype == np.float32
    assert len(model.vocab) == model.d_vocab
    assert "organism" in repr(model) and "hybrid" in repr(model)


def test_the_stubs_have_what_the_module_has() -> None:
    stub = ast.parse((Path(lorascope.__file__).parent / "_native.pyi").read_text())

    def public(thing: object) -> set:
        return {name for name in vars(thing) if not name.startswith("__")}

    declared = {node.name: node for node in stub.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    assert set(declared) == public(_native)
    for name, node in declared.items():
        if isinstance(node, ast.ClassDef):
            own = {item.name for item in node.body if isinstance(item, ast.FunctionDef)}
            assert {one for one in own if not one.startswith("__")} == public(getattr(_native, name)), name


def test_tokens_there_and_back(model: lorascope.Model) -> None:
    tokens = model.tokenize("Which action do you choose?")
    assert all(isinstance(token, int) for token in tokens)
    assert "action" in model.decode(tokens)
    chat = model.chat([{"role": "user", "content": "Hello."}])
    assert chat == model.chat("Hello.")
    assert "Hello." in model.chat_text("Hello.")
    last = model.vocab[tokens[-1]]
    assert isinstance(last, str)
    with pytest.raises(KeyError):
        model.token_id("no such token at all")


def test_hook_names_are_those_that_a_model_has(model: lorascope.Model) -> None:
    base, hybrid = model.hook_names(), model.hook_names("hybrid")
    assert "blocks.3.attn.hook_z" in base and len(set(base)) == len(base)
    assert set(base) < set(hybrid)
    assert all("lora" in name for name in set(hybrid) - set(base))


def test_what_cannot_be_loaded_says_why() -> None:
    with pytest.raises(lorascope.Error, match="does not exist"):
        lorascope.Model.load("organism", adapters={"x": "organism:nobody"})
    with pytest.raises(lorascope.Error, match="base model's own name"):
        lorascope.Model.load("organism", adapters={"base": "organism:hybrid"})
    with pytest.raises(lorascope.Error, match="no adapter"):
        lorascope.Model.load("organism", controls="random")
    with pytest.raises(lorascope.Error, match="not a size"):
        lorascope.Model.load("organism", memory="much")
    with pytest.raises(lorascope.Error):
        lorascope.Model.load("/no/such/folder")


def test_progress_is_told() -> None:
    told = []
    lorascope.Model.load("organism", progress=lambda *step: told.append(step))
    assert told and all(isinstance(what, str) and 0 <= done <= total for what, done, total in told)
    assert told[-1][1] == told[-1][2], "the last word is that it is done"


def test_what_progress_raises_is_raised() -> None:
    def broken(what: str, done: int, total: int) -> None:
        raise RuntimeError("no screen")

    with pytest.raises(RuntimeError, match="no screen"):
        lorascope.Model.load("organism", progress=broken)
