"""Row: direct logit attribution of every head and MLP, the final norm at its actual scale."""

from __future__ import annotations

from contract import key, of_captures
from cost import SMOLLM2

TITLE = "direct logit attribution of 270 heads and 30 MLPs, base + 4 adapters"
UNIT = "model and prompt"
TOLERANCE = 1e-3
PEERS = ("transformers", "TransformerLens", "nnsight")
NOTES = {
    "candle-mi": "no hook at z, so heads can't be told apart",
    "all": "ours also splits every contribution into the base's and the adapter's share, tests all differences between models "
    "(1,024 permutations or more, bootstrap intervals) and draws figures; peers compute the contributions alone",
}


def prompts(bench) -> list[dict]:
    return bench.decisions[: bench.size(15, 5)]


def ours(bench) -> dict:
    done = bench.command("dla", prompts=bench.subset([prompt["id"] for prompt in prompts(bench)]))
    rows = [row for row in done.table("dla") if row["kind"] in ("head", "mlp")]
    values = {
        key(row["model"], row["prompt_id"], row["kind"], row["layer"], row["head"]): float(row["contribution"]) for row in rows
    }
    return done.side(len(rows) / (SMOLLM2.layers * (SMOLLM2.heads + 1)), values)


def job(bench, round_: int) -> dict:
    return {"models": ["base", list(bench.adapters)[round_ % 4]], "prompts": prompts(bench)[: bench.size(2, 1)]}


def peer(library, job: dict) -> list[dict]:
    import torch

    layers, heads = range(SMOLLM2.layers), SMOLLM2.heads
    places = [(site, layer) for layer in layers for site in ("z", "mlp_out")] + [("final_in", None)]

    def attributed(model: str, prompt: dict) -> dict:
        _, captured = library.run(prompt["ids"], places)
        final = captured["final_in", None][0, -1]
        scale = torch.rsqrt(final.pow(2).mean() + 1e-5)
        direction = (library.unembedding[prompt["token_b"]] - library.unembedding[prompt["token_a"]]) * library.norm.weight * scale
        found = {}
        for layer in layers:
            of_heads = (direction @ library.o_weight(layer)) * captured["z", layer][0, -1].flatten()
            for head, share in enumerate(of_heads.view(heads, -1).sum(-1).tolist()):
                found[key(model, prompt["id"], "head", layer, head)] = share
            found[key(model, prompt["id"], "mlp", layer, None)] = (direction @ captured["mlp_out", layer][0, -1]).item()
        return found

    return of_captures(library, job, places, attributed)


def cost(bench) -> dict:
    ids = [prompt["ids"] for prompt in prompts(bench)]
    models = 1 + len(bench.adapters)
    return {"flop": models * SMOLLM2.tree(ids, True), "bytes": SMOLLM2.weights_bytes()}
