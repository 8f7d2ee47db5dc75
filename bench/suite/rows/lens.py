"""Row: the logit lens: five places of every layer at the decision point, read through final norm and unembedding."""

from __future__ import annotations

from contract import key, of_captures
from cost import SMOLLM2

TITLE = "logit lens: 150 places of base + 4 adapters; delta, ranks, probabilities, top 5, KL from the end"
UNIT = "model and prompt"
TOLERANCE = 1e-2  # KL of up to 30 nats and logits of up to 100 in early layers, f32 on both sides
PEERS = ("transformers", "TransformerLens", "nnsight", "candle-mi")
NOTES = {"candle-mi": "the base only; places read one by one with `project_to_vocab`"}
SITES = ("resid_pre", "resid_mid", "resid_post", "attn_out", "mlp_out")


def prompts(bench) -> list[dict]:
    return bench.decisions[: bench.size(9, 2)]


def ours(bench) -> dict:
    done = bench.command("lens", prompts=bench.subset([prompt["id"] for prompt in prompts(bench)]))
    rows = done.table("lens")
    values = {}
    for row in rows:
        place = (row["model"], row["prompt_id"], row["site"], row["layer"])
        values |= {key("delta", *place): float(row["delta"]), key("kl", *place): float(row["kl"])}
    return done.side(len(rows) / (len(SITES) * SMOLLM2.layers), values)


def job(bench, round_: int) -> dict:
    return {"models": ["base", list(bench.adapters)[round_ % 4]][: bench.size(2, 1)], "prompts": prompts(bench)[:1]}


def peer(library, job: dict) -> list[dict]:
    import torch

    places = [(site, layer) for layer in range(SMOLLM2.layers) for site in SITES]

    def read(model: str, prompt: dict) -> dict:
        logits, captured = library.run(prompt["ids"], places)
        rows = torch.stack([captured[place][0, -1] for place in places])
        read_out = library.norm(rows[None])[0] @ library.unembedding.T
        logp, final = torch.log_softmax(read_out, -1), torch.log_softmax(logits[-1], -1)
        kl = (final.exp() * (final - logp)).sum(-1).tolist()
        answers = read_out[:, [prompt["token_a"], prompt["token_b"]]]
        for column in (0, 1):
            (read_out > answers[:, column, None]).sum(-1)
        logp[:, [prompt["token_a"], prompt["token_b"]]].exp()
        logp.topk(5, -1)
        deltas = (answers[:, 1] - answers[:, 0]).tolist()
        found = {}
        for (site, layer), delta, divergence in zip(places, deltas, kl):
            place = (model, prompt["id"], site, layer)
            found |= {key("delta", *place): delta, key("kl", *place): divergence}
        return found

    return of_captures(library, job, places, read)


def cost(bench) -> dict:
    ids = [prompt["ids"] for prompt in prompts(bench)]
    models = 1 + len(bench.adapters)
    readings = models * len(ids) * len(SITES) * SMOLLM2.layers
    return {
        "flop": models * SMOLLM2.tree(ids, True) + SMOLLM2.logits(readings),
        "bytes": SMOLLM2.weights_bytes() + 4.0 * SMOLLM2.vocabulary * SMOLLM2.width * models * len(ids),
    }
