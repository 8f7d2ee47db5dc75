"""Interventions and callbacks."""

from __future__ import annotations

import signal
import threading
import time

import numpy as np
import pytest

import lorascope

Z = "blocks.2.attn.hook_z"


def zero_head(z: np.ndarray, hook: lorascope.Hook) -> None:
    z[:, :, 3] = 0.0


def test_a_callback_is_the_edit_bit_for_bit(model: lorascope.Model, prompts: np.ndarray) -> None:
    for adapter in ["base", "hybrid"]:
        by_callback = model.run_with_hooks(prompts, [(Z, zero_head)], adapter=adapter)
        by_edit = model.run_with_hooks(prompts, interventions=[lorascope.at(Z, head=3).zero()], adapter=adapter)
        assert np.array_equal(by_callback, by_edit)
        assert not np.array_equal(by_callback, model(prompts, adapter=adapter))


def test_a_callback_can_return_an_array(model: lorascope.Model, prompts: np.ndarray) -> None:
    returned = model.run_with_hooks(prompts, [(Z, lambda z, hook: z * 2)])
    assert np.array_equal(returned, model.run_with_hooks(prompts, interventions=[lorascope.at(Z).scale(2)]))


def test_a_callback_that_does_nothing_changes_no_bit_at_any_point(
    model: lorascope.Model, prompts: np.ndarray
) -> None:
    plain = model(prompts, adapter="hybrid")
    seen = []

    def look(array: np.ndarray, hook: lorascope.Hook) -> None:
        seen.append((hook.name, array.copy()))

    names = model.hook_names("hybrid")
    logits, cache = model.run_with_cache(
        prompts, names=names, adapter="hybrid", fwd_hooks=[(lambda name: True, look)]
    )
    assert np.array_equal(logits, plain)
    assert sorted(name for name, _ in seen) == sorted(names), "each is called exactly once"
    for name, array in seen:
        assert np.array_equal(array, cache[name]), name


def test_a_callback_at_every_point_reaches_the_logits_and_the_cache(
    model: lorascope.Model, prompts: np.ndarray
) -> None:
    plain = model(prompts, adapter="hybrid")
    noise = np.random.default_rng(1)

    def shake(array: np.ndarray, hook: lorascope.Hook) -> np.ndarray:
        factors = noise.uniform(0.5, 1.5, array.shape).astype(np.float32)
        return np.where(np.isfinite(array), array * factors, array)

    for name in model.hook_names("hybrid"):
        logits, cache = model.run_with_cache(prompts, names=[name], adapter="hybrid", fwd_hooks=[(name, shake)])
        assert not np.array_equal(logits, plain), name
        _, untouched = model.run_with_cache(prompts, names=[name], adapter="hybrid")
        assert not np.array_equal(cache[name], untouched[name]), "the cache shows what the rest of the model sees"


def test_what_happens_to_one_prompt_leaves_the_others_alone(model: lorascope.Model, prompts: np.ndarray) -> None:
    def one(z: np.ndarray, hook: lorascope.Hook) -> None:
        z[1, -2:] = 0.0

    plain, touched = model(prompts), model.run_with_hooks(prompts, [(Z, one)])
    assert np.array_equal(touched[[0, 2]], plain[[0, 2]])
    assert np.array_equal(touched[1, :-2], plain[1, :-2]), "and what came before"
    assert not np.array_equal(touched[1, -2:], plain[1, -2:])


def test_patterns_can_be_set(model: lorascope.Model, prompts: np.ndarray) -> None:
    def first_only(pattern: np.ndarray, hook: lorascope.Hook) -> None:
        pattern[:, 5] = 0.0
        pattern[:, 5, :, 0] = 1.0

    name = "blocks.1.attn.hook_pattern"
    _, cache = model.run_with_cache(prompts, ["blocks.1.attn.hook_z", "blocks.1.attn.hook_v", name], fwd_hooks=[(name, first_only)])
    value = cache["v", 1][:, :1, 5 * model.n_key_value_heads // model.n_heads]
    assert np.abs(cache["z", 1][:, :, 5] - value).max() < 1e-6
    _, source = model.run_with_cache(prompts, [name], adapter="hybrid")
    _, patched = model.run_with_cache(
        prompts, [name], interventions=[lorascope.at(name, head=2, position="last").patch(source)]
    )
    _, plain = model.run_with_cache(prompts, [name])
    assert np.array_equal(patched[name][:, 2, -1], source[name][:, 2, -1])
    assert np.array_equal(patched[name][:, 2, :-1], plain[name][:, 2, :-1])
    assert np.array_equal(patched[name][:, 3], plain[name][:, 3])


def test_patches_between_models(model: lorascope.Model, prompts: np.ndarray) -> None:
    last = f"blocks.{model.n_layers - 1}.hook_resid_post"
    for target, source in [("base", "hybrid"), ("hybrid", "base"), ("selfish", "hybrid")]:
        patched = model.run_with_hooks(
            prompts, interventions=[lorascope.at(last, position="last").patch(source)], adapter=target
        )
        expected, own = model(prompts, adapter=source), model(prompts, adapter=target)
        assert np.array_equal(patched[:, -1], expected[:, -1]), "the last residual stream decides alone"
        assert np.array_equal(patched[:, :-1], own[:, :-1])
    itself = model.run_with_hooks(prompts, interventions=[lorascope.at(Z, head=1).patch("base")])
    assert np.array_equal(itself, model(prompts))


def test_a_native_patch_of_a_head_is_the_callbacks(model: lorascope.Model, prompts: np.ndarray) -> None:
    _, source = model.run_with_cache(prompts, [Z], adapter="hybrid")

    def put(z: np.ndarray, hook: lorascope.Hook) -> None:
        z[:, 4, 6] = source[hook.name][:, 4, 6]

    patch = lorascope.at(Z, head=6, position=4)
    by_callback = model.run_with_hooks(prompts, [(Z, put)])
    assert np.array_equal(model.run_with_hooks(prompts, interventions=[patch.patch("hybrid")]), by_callback)
    assert np.array_equal(model.run_with_hooks(prompts, interventions=[patch.patch(source)]), by_callback)


def test_values_are_put_where_they_belong(model: lorascope.Model, prompts: np.ndarray) -> None:
    n, t = prompts.shape
    values = np.arange(n * 2 * model.d_head, dtype=np.float32).reshape(n, 2, model.d_head)
    _, plain = model.run_with_cache(prompts, [Z])
    _, cache = model.run_with_cache(
        prompts,
        [Z, "blocks.2.mlp.hook_post"],
        interventions=[
            lorascope.at(Z, head=1, position=[2, 5]).replace(values),
            lorascope.at(Z, head=2, unit=slice(0, 3), position=0).add(1.0),
            lorascope.at("blocks.2.mlp.hook_post", unit=7).replace(0.25),
        ],
    )
    assert np.array_equal(cache[Z][:, [2, 5], 1], values)
    assert np.array_equal(cache[Z][:, 0, 2, :3], plain[Z][:, 0, 2, :3] + np.float32(1))
    expected = plain[Z].copy()
    expected[:, [2, 5], 1] = values
    expected[:, 0, 2, :3] += np.float32(1)
    assert np.array_equal(cache[Z], expected)
    assert (cache["post", 2][..., 7] == 0.25).all()


def test_each_prompt_of_a_batch_gets_its_own_last_position(model: lorascope.Model) -> None:
    texts = ["Which action?", "Which action do you choose at the same time?"]
    edit = [lorascope.at(Z, position="last").zero()]
    for text, (logits, _) in zip(texts, model.run_batch(texts, interventions=edit)):
        assert np.array_equal(logits, model.run_with_hooks(text, interventions=edit))


@pytest.mark.parametrize(
    ("place", "why"),
    [
        (lorascope.at(Z, head=99), "head 99 of 8"),
        (lorascope.at("hook_embed", head=1), "belong to no head"),
        (lorascope.at(Z, position=99), "position 99 does not exist"),
        (lorascope.at(Z, position=-1), 'count from 0, or say "last"'),
        (lorascope.at(Z, position="first"), "unknown"),
        (lorascope.at(Z, unit=3), "needs a `head`"),
        (lorascope.at(Z, head=0, unit=999), "unit 999 does not exist"),
        (lorascope.at("blocks.1.hook_resid"), "did you mean"),
    ],
)
def test_places_that_do_not_exist_are_refused(
    model: lorascope.Model, prompts: np.ndarray, place: lorascope.Place, why: str
) -> None:
    with pytest.raises((lorascope.Error, ValueError), match=why):
        model.run_with_hooks(prompts, interventions=[place.zero()])


def test_wrong_values_are_refused(model: lorascope.Model, prompts: np.ndarray) -> None:
    with pytest.raises(ValueError, match="do not broadcast"):
        model.run_with_hooks(prompts, interventions=[lorascope.at(Z, head=0).replace(np.zeros(3))])
    with pytest.raises(ValueError, match="returned the shape"):
        model.run_with_hooks(prompts, [(Z, lambda z, hook: z[:, :1])])
    with pytest.raises(lorascope.Error, match="non-finite"):
        model.run_with_hooks(prompts, [(Z, lambda z, hook: z * np.nan)])


def test_what_a_callback_raises_is_raised(model: lorascope.Model, prompts: np.ndarray) -> None:
    calls = []

    def broken(z: np.ndarray, hook: lorascope.Hook) -> None:
        calls.append(hook.layer())
        raise KeyError("mine")

    everywhere = lambda name: name.endswith("hook_z")  # noqa: E731
    with pytest.raises(KeyError, match="mine"):
        model.run_with_hooks(prompts, [(everywhere, broken)])
    assert calls == [0], "nothing is called after that"
    assert model(prompts).shape[0] == len(prompts), "and the model still works"


def test_an_array_that_is_kept_is_nobody_elses(model: lorascope.Model, prompts: np.ndarray) -> None:
    kept = []
    plain = model.run_with_hooks(prompts, [(Z, lambda z, hook: kept.append(z))])
    kept[0][...] = 1e9
    assert np.array_equal(plain, model(prompts))


def long_prompts(model: lorascope.Model) -> np.ndarray:
    tokens = np.random.default_rng(0).integers(3, model.d_vocab, (256, 200))
    tokens[:, 0] = 2
    return tokens


def test_ctrl_c_stops_a_run(model: lorascope.Model, ctrl_c: None) -> None:
    tokens = long_prompts(model)
    begun = time.monotonic()
    model.run_with_hooks(tokens, logits="last")
    whole = time.monotonic() - begun
    layers = []

    def note(x: np.ndarray, hook: lorascope.Hook) -> None:
        layers.append(hook.layer())
        if hook.layer() == 0:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        model.run_with_hooks(tokens, [(lambda name: name.endswith("hook_resid_pre"), note)], logits="last")
    assert layers == [0], f"a whole run takes {whole:.1f} s"
    timer = threading.Timer(whole / 4, signal.raise_signal, [signal.SIGINT])
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        for _ in range(20):
            model.run_with_hooks(tokens, logits="last")
    timer.join()


def test_other_threads_go_on_meanwhile(model: lorascope.Model) -> None:
    ticks, done = [], threading.Event()

    def count() -> None:
        while not done.is_set():
            ticks.append(time.monotonic())
            time.sleep(0.001)

    thread = threading.Thread(target=count)
    thread.start()
    begun = time.monotonic()
    model.run_with_hooks(long_prompts(model), logits="last")
    ended = time.monotonic()
    done.set()
    thread.join()
    during = [tick for tick in ticks if begun < tick < ended]
    assert len(during) > 0.1 * (ended - begun) / 0.001, "the interpreter was let go of"


def test_threads_raise_their_own_exceptions(model: lorascope.Model, prompts: np.ndarray) -> None:
    plain, found = model(prompts), {}

    def work(number: int) -> None:
        def broken(z: np.ndarray, hook: lorascope.Hook) -> None:
            time.sleep(0.01)
            if number % 2:
                raise KeyError(number)

        try:
            found[number] = model.run_with_hooks(prompts, [(Z, broken)])
        except KeyError as error:
            found[number] = error.args[0]

    threads = [threading.Thread(target=work, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        assert found[number] == number if number % 2 else np.array_equal(found[number], plain)


def test_a_callback_on_one_head_costs_little(model: lorascope.Model) -> None:
    tokens = long_prompts(model)[:16]
    values = np.zeros((1, 1, model.d_head), np.float32)

    def put(z: np.ndarray, hook: lorascope.Hook) -> None:
        z[:, :, 3] = values

    def seconds(**what: object) -> float:
        # Of the processor: what else the machine does is not ours.
        begun = time.process_time()
        model.run_with_hooks(tokens, logits="last", **what)
        return time.process_time() - begun

    pairs = [
        (seconds(fwd_hooks=[(Z, put)]), seconds(interventions=[lorascope.at(Z, head=3).replace(values)]))
        for _ in range(9)
    ]
    callback, native = (min(times) for times in zip(*pairs))
    print(f"callback {1000 * callback:.1f} ms, native {1000 * native:.1f} ms: {callback / native:.3f}")
    assert callback <= 1.2 * native
