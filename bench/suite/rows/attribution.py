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
    "all": "the command cannot be had without exact values: it patches the place that it ranks first, in a target run again, and "
    "it decides every prompt with the base. *verified* is a peer that patches that place, too; *autograd* is one that trusts its estimates. "
    "The engine's own `bench_gradients` does without all that",
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
    place = ("prompt_id", "site", "layer", "head")
    values = {key(*(row[one] for one in place)): float(row["gradient"]) for row in rows}
    exact = [row for row in rows if row["exact"]]
    values |= {key(*(row[one] for one in place), "exact"): float(row["exact"]) for row in exact}
    chosen = {"site": exact[0]["site"], "layer": int(exact[0]["layer"]), "head": int(exact[0]["head"]) if exact[0]["head"] else None}
    return done.side(len(prompts(bench)), values) | {"job": {"chosen": chosen}}


def job(bench, round_: int) -> dict:
    return {"target": TARGET, "prompts": [prompts(bench)[round_ % len(prompts(bench))]]}


def peer(library, job: dict) -> list[dict]:
    places = [(site, layer) for layer in range(SMOLLM2.layers) for site in ("z", "mlp_out")]
    chosen, head = (job["chosen"]["site"], job["chosen"]["layer"]), job["chosen"]["head"]

    def estimated(prompt: dict, verified: bool) -> dict:
        library.select("base")
        _, source = library.run(prompt["ids"], places)
        library.select(job["target"])
        target, slopes = library.slopes(prompt["ids"], places, (prompt["token_a"], prompt["token_b"]))
        found = {}
        for site, layer in places:
            change = ((source[site, layer] - target[site, layer]).flatten(2) * slopes[site, layer].flatten(2)).sum((0, 1))
            if site == "z":
                for one, estimate in enumerate(change.view(SMOLLM2.heads, -1).sum(-1).tolist()):
                    found[key(prompt["id"], site, layer, one)] = estimate
            else:
                found[key(prompt["id"], site, layer, None)] = change.sum().item()
        if verified:
            found[key(prompt["id"], *chosen, head, "exact")] = exact(prompt, source[chosen])
        return found

    def exact(prompt: dict, source) -> float:
        def edit(tensor):
            changed = tensor.flatten(2).clone()
            width = changed.shape[2] if head is None else SMOLLM2.head
            of_head = slice((head or 0) * width, ((head or 0) + 1) * width)
            changed[:, :, of_head] = source.flatten(2)[:, :, of_head]
            return changed.view(tensor.shape)

        return delta(prompt, [(chosen, edit)]) - plain[prompt["id"]]

    def delta(prompt: dict, edits: list) -> float:
        logits, _ = library.run(prompt["ids"], edits=edits)
        return (logits[-1, prompt["token_b"]].double() - logits[-1, prompt["token_a"]].double()).item()

    # Without a clock: warmth, and delta of the target, which a careful program would take from the pass that it goes back through.
    estimated(job["prompts"][0], verified=False)
    plain = {prompt["id"]: delta(prompt, []) for prompt in job["prompts"]}
    ways = []
    for name, verified in (("autograd", False), ("verified", True)):
        values, clock = clocked(lambda: {key_: v for prompt in job["prompts"] for key_, v in estimated(prompt, verified).items()})
        ways.append(way(name, len(job["prompts"]), clock, values))
    return ways


def cost(bench) -> dict:
    """Two passes forward, and one back, which is as much as one forward where weights get no gradient."""
    lengths = [len(prompt["ids"]) for prompt in prompts(bench)]
    flop = sum(SMOLLM2.forward(n, False) + 2 * SMOLLM2.forward(n, True) for n in lengths)
    return {"flop": flop, "bytes": 3 * SMOLLM2.weights_bytes()}
