"""Gradients against differences of runs; test_peers.py holds them against PyTorch's."""

from __future__ import annotations

import signal
import threading
import time
from typing import Any

import numpy as np
import pytest

import lorascope


#: Change of a difference of logits.
PROMISE = 2e-3


def a_point_of_every_kind(model: lorascope.Model, layer: int) -> list:
    """All hook points of a layer, and those outside layers."""
    names = model.hook_names("hybrid")
    return [name for name in names if not name.startswith("blocks.") or name.startswith(f"blocks.{layer}.")]


def test_at_every_hook_point_a_step_along_the_gradient_does_what_it_says(model: lorascope.Model, prompts: np.ndarray) -> None:
    tokens = prompts[:2]
    loss = lorascope.logit_difference(5, [7, 9])
    names = a_point_of_every_kind(model, 1)
    logits, values, gradients = model.run_with_gradients(tokens, loss, names, "hybrid")
    plain, cache = model.run_with_cache(tokens, names, "hybrid", logits="last")
    assert np.array_equal(logits, plain), "it is the same run"
    assert list(values) == list(gradients) == names
    for name in names:
        value, gradient = values[name], gradients[name]
        assert np.array_equal(value, cache[name]) and gradient.shape == value.shape and np.isfinite(gradient).all(), name
        steepest = float((gradient.astype(np.float64) ** 2).sum())
        assert steepest > 0, name
        # Promises so little that all is linear but for 1.5% (a norm's scale that hardly matters); rounding is 0.1% of it.
        step = gradient * np.float32(PROMISE / steepest)

        def moved(sign: float, step: np.ndarray = step) -> Any:
            return lambda x, hook: x + np.float32(sign) * step

        runs = [
            model.run_with_hooks(tokens, [(name, moved(sign))], adapter="hybrid", logits="last").astype(np.float64)
            for sign in (1.0, -1.0)
        ]
        change = (runs[0] - runs[1])[:, 0]
        measured = sum(change[i, 5] - change[i, other] for i, other in enumerate([7, 9])) / 2
        assert abs(measured / PROMISE - 1) < 0.02, f"{name}: {measured}"


def test_prompts_have_gradients_of_their_own(model: lorascope.Model, prompts: np.ndarray) -> None:
    """The first two prompts begin alike; their rows are not shared here."""
    loss = lorascope.logit_difference(5, 7)
    _, _, together = model.run_with_gradients(prompts, loss, "blocks.0.hook_resid_pre", "hybrid")
    for i, prompt in enumerate(prompts):
        _, _, alone = model.run_with_gradients(prompt, loss, "blocks.0.hook_resid_pre", "hybrid")
        assert np.array_equal(alone["resid_pre", 0][0], together["resid_pre", 0][i])


def test_any_scalar_of_all_logits(model: lorascope.Model, prompts: np.ndarray) -> None:
    """Half the sum of squares: its derivative is the logits themselves."""
    name = "blocks.2.hook_resid_pre"

    def value(shift: np.ndarray) -> float:
        moved = model.run_with_hooks(prompts, [(name, lambda x, hook: x + shift)]).astype(np.float64)
        return float((moved**2).sum() / 2)

    seen = []
    logits, _, gradients = model.run_with_gradients(
        prompts, lambda logits: seen.append(logits.copy()) or logits, name, logits="all"
    )
    assert len(seen) == 1 and np.array_equal(seen[0], logits) and logits.shape[1] == prompts.shape[1]
    rng = np.random.default_rng(0)
    step = rng.standard_normal(gradients[name].shape).astype(np.float32) * np.float32(1e-3)
    expected = float((gradients[name].astype(np.float64) * step).sum())
    assert abs((value(step) - value(-step)) / 2 - expected) < 0.01 * abs(expected)


def test_interventions_are_part_of_the_function(model: lorascope.Model, prompts: np.ndarray) -> None:
    off = lorascope.at("blocks.1.attn.hook_z", head=2).zero()
    loss = lorascope.logit_difference(5, 7)
    logits, values, gradients = model.run_with_gradients(
        prompts, loss, ["blocks.1.attn.hook_z", "blocks.1.attn.hook_v"], interventions=[off]
    )
    assert np.array_equal(logits, model.run_with_hooks(prompts, interventions=[off], logits="last"))
    assert not values["z", 1][:, :, 2].any() and gradients["z", 1][:, :, 2].any()
    free = model.run_with_gradients(prompts, loss, "blocks.1.attn.hook_v")[2]
    assert not np.array_equal(free["v", 1], gradients["v", 1])


def test_what_is_refused(model: lorascope.Model, prompts: np.ndarray) -> None:
    with pytest.raises(ValueError, match="shape"):
        model.run_with_gradients(prompts, lambda logits: logits[0], "hook_embed")
    with pytest.raises(ValueError, match="2 tokens for 3 prompts"):
        model.run_with_gradients(prompts, lorascope.logit_difference([1, 2], 3), "hook_embed")
    with pytest.raises(ValueError, match="outside the vocabulary"):
        model.run_with_gradients(prompts, lorascope.logit_difference(-1, 3), "hook_embed")
    with pytest.raises(ZeroDivisionError):
        model.run_with_gradients(prompts, lambda logits: 1 / 0, "hook_embed")
    with pytest.raises(lorascope.Error, match="all, last or none"):
        model.run_with_gradients(prompts, lorascope.logit_difference(1, 2), "hook_embed", logits="first")
    with pytest.raises(lorascope.Error, match="non-finite"):
        model.run_with_gradients(prompts, lambda logits: logits * np.inf, "hook_embed")


def test_ctrl_c_ends_it_and_other_threads_go_on(model: lorascope.Model, prompts: np.ndarray, ctrl_c: None) -> None:
    many, loss = np.tile(prompts, (60, 1)), lorascope.logit_difference(5, 7)
    ticks, over = [], threading.Event()

    def tick() -> None:
        while not over.wait(0.001):
            ticks.append(1)

    thread = threading.Thread(target=tick)
    thread.start()
    try:
        begun = time.monotonic()
        model.run_with_gradients(many, loss, "hook_embed")
        whole, free = time.monotonic() - begun, len(ticks)
        # Whatever it interrupts, it is soon over: a run ends between two layers, in either direction.
        timer = threading.Timer(whole / 3, signal.raise_signal, [signal.SIGINT])
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in range(20):
                model.run_with_gradients(many, loss, "hook_embed")
        timer.join()
    finally:
        over.set()
        thread.join()
    assert free > whole / 0.1, "the interpreter was free meanwhile"
