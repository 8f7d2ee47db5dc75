"""Row: linear probes of one label on cached activations of the base, every layer; the peer is scikit-learn.

Both choose the penalty inside each outer fold (six strengths, inner folds of whole templates), fit again, and fit five
shuffles of the labels. Our folds and choices are given to the peer, which does the same number of fits; what it predicts with
our strengths must be what ours predicts. Ours is timed with the forward passes that the activations come from, the peer with
its own.
"""

from __future__ import annotations

import json

from contract import clocked, key, measured, way
from cost import SMOLLM2

TITLE = "probes of a label on the residual stream, nested cross-validation and shuffled controls"
UNIT = "layer"
TOLERANCE = 1e-2  # log-odds between -10 and 10 of fits that scikit-learn ends at a gradient of 1e-6
PEERS = ("transformers",)
NOTES = {
    "transformers": "activations by transformers, fits by scikit-learn",
    "all": "scikit-learn fits all 576 coordinates; ours the span of the fitted prompts",
}
TARGET = "opponent_last_move"


def n_prompts(bench) -> int:
    return bench.size(40, 20)


def ours(bench) -> dict:
    file = bench.scratch / "labelled.json"
    if not file.exists():
        measured([str(bench.program), "prompts", "--out", str(file)])
        entries = [entry for entry in json.loads(file.read_text()) if entry.get(TARGET)]
        step = max(1, len(entries) // n_prompts(bench))
        file.write_text(json.dumps(entries[::step][: n_prompts(bench)]))
    done = bench.command("probe", "--target", TARGET, adapters=[], prompts=file)
    rows = done.table("probe_predictions")
    bench.probe = (rows, (done.out / "rendered.jsonl").read_text())
    values = {key(row["layer"], row["prompt_id"]): float(row["score"]) for row in rows}
    return done.side(len({row["layer"] for row in rows}), values)


def job(bench, round_: int) -> dict:
    rows, rendered = bench.probe
    layers = [10, 20][: bench.size(2, 1)]
    entries = [json.loads(line) for line in rendered.splitlines()]
    prompts = [{"id": entry["prompt_id"], "ids": entry["ids"]} for entry in entries]
    names = ("layer", "prompt_id", "fold", "strength", "truth")
    some = [{name: row[name] for name in names} for row in rows if int(row["layer"]) in layers]
    positions = {p["id"]: len(p["ids"]) + shared(entry) - 1 for p, entry in zip(prompts, entries)}
    for prompt, entry in zip(prompts, entries):
        prompt["ids"] = (prompt["ids"] + entry["answer_a"][0])[: positions[prompt["id"]] + 1]
    return {"prompts": prompts, "rows": some, "layers": layers}


def shared(entry: dict) -> int:
    """Tokens that both answers, as written, begin with."""
    return next(i for i, (a, b) in enumerate(zip(entry["answer_a"][0], entry["answer_b"][0])) if a != b)


def peer(library, job: dict) -> list[dict]:
    import numpy
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    strengths, inner, shuffles, width = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0), 5, 5, SMOLLM2.width
    library.select("base")

    def activations() -> dict:
        places = [("resid_post", layer) for layer in range(SMOLLM2.layers)]
        found = {}
        for prompt in job["prompts"]:
            _, captured = library.run(prompt["ids"], places)
            found[prompt["id"]] = {layer: captured["resid_post", layer][0, -1].numpy() for layer in job["layers"]}
        return found

    def fitted(x, y, strength):
        scaler = StandardScaler().fit(x)
        model = LogisticRegression(C=1 / (strength * width), tol=1e-6, max_iter=10_000).fit(scaler.transform(x), y)
        return scaler, model

    def probed(of: dict, layer: int) -> dict:
        rows = [row for row in job["rows"] if int(row["layer"]) == layer]
        x = numpy.stack([of[row["prompt_id"]][layer] for row in rows]).astype(numpy.float64)
        y = numpy.array([float(row["truth"]) for row in rows])
        folds = numpy.array([int(row["fold"]) for row in rows])
        dice, found = numpy.random.default_rng(0), {}
        for fold in range(folds.max() + 1):
            fit, rest = numpy.flatnonzero(folds != fold), numpy.flatnonzero(folds == fold)
            for part in numpy.array_split(fit, inner):
                others = numpy.setdiff1d(fit, part)
                if len(set(y[others])) == 2:
                    for strength in strengths:
                        scaler, model = fitted(x[others], y[others], strength)
                        model.predict_proba(scaler.transform(x[part]))
            strength = float(rows[rest[0]]["strength"])
            scaler, model = fitted(x[fit], y[fit], strength)
            for row, score in zip(rest, model.decision_function(scaler.transform(x[rest]))):
                found[key(layer, rows[row]["prompt_id"])] = float(score)
            for _ in range(shuffles):
                shuffled = dice.permutation(y)
                if len(set(shuffled[fit])) == 2:
                    fitted(x[fit], shuffled[fit], strength)
        return found

    of, once = clocked(activations)
    values, clock = clocked(lambda: {name: v for layer in job["layers"] for name, v in probed(of, layer).items()})
    return [way("scikit-learn", len(job["layers"]), clock, values) | {"fixed": once}]


def cost(bench) -> dict:
    return {"flop": n_prompts(bench) * SMOLLM2.forward(160, False), "bytes": SMOLLM2.weights_bytes()}
