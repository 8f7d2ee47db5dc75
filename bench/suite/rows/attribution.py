"""Row: attribution patching (gradient times difference) of every head and MLP at all positions, base into an adapter."""

from __future__ import annotations

from contract import clocked, key, way
from cost import SMOLLM2

TITLE = "attribution patching of every head and MLP at all positions"
UNIT = "prompt"
TOLERANCE = 2e-3  # sums of 232 products in f32 on both sides
PEERS = ("transformers", "TransformerLens")
NOTES = {
    "candle-mi": "no gradients",
    "nnsight": "left out: its gradients are those of PyTorch, as in the row of transformers",
    "all": "the command also decides every prompt with the base, and patches, exactly, the place that it ranks first; which runs "
    "source and target again. The engine's own `bench_gradients` does without that",
}
TARGET = "PT4_hybrid"


def prompts(bench) -> list[dict]:
    return bench.decisions[: bench.size(6, 2)]


def ours(bench) -> dict:
    what = ["--source", "base", "--target", TARGET, "--site", "z", "--site", "mlp_out", "--position", "all"]
    what += ["--estimator", "gradient", "--set", "top=1", "--set", "sample=0"]
    file = bench.subset([prompt["id"] for prompt in prompts(bench)])
    done = bench.command("attribution", *what, adapters=[TARGET], prompts=file)
    rows = done.table("attributions")
    values = {key(row["prompt_id"], row["site"], row["layer"], row["head"]): float(row["gradient"]) for row in rows}
    return done.side(len(prompts(bench)), values)


def job(bench, round_: int) -> dict:
    return {"target": TARGET, "prompts": [prompts(bench)[round_ % len(prompts(bench))]]}


def peer(library, job: dict) -> list[dict]:
    places = [(site, layer) for layer in range(SMOLLM2.layers) for site in ("z", "mlp_out")]

    def estimated(prompt: dict) -> dict:
        library.select("base")
        _, source = library.run(prompt["ids"], places)
        library.select(job["target"])
        target, slopes = library.slopes(prompt["ids"], places, (prompt["token_a"], prompt["token_b"]))
        found = {}
        for site, layer in places:
            change = ((source[site, layer] - target[site, layer]).flatten(2) * slopes[site, layer].flatten(2)).sum((0, 1))
            if site == "z":
                for head, estimate in enumerate(change.view(SMOLLM2.heads, -1).sum(-1).tolist()):
                    found[key(prompt["id"], site, layer, head)] = estimate
            else:
                found[key(prompt["id"], site, layer, None)] = change.sum().item()
        return found

    estimated(job["prompts"][0])
    values, clock = clocked(lambda: {name: v for prompt in job["prompts"] for name, v in estimated(prompt).items()})
    return [way("autograd", len(job["prompts"]), clock, values)]


def cost(bench) -> dict:
    """Two passes forward, and one back, which is as much as one forward where weights get no gradient."""
    lengths = [len(prompt["ids"]) for prompt in prompts(bench)]
    flop = sum(SMOLLM2.forward(n, False) + 2 * SMOLLM2.forward(n, True) for n in lengths)
    return {"flop": flop, "bytes": 3 * SMOLLM2.weights_bytes()}
