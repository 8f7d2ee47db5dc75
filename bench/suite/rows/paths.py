"""Row: path patching of single edges at the decision point, everything between sender and receiver frozen."""

from __future__ import annotations

from contract import clocked, key, way
from cost import SMOLLM2

TITLE = "path patching: edges from heads and MLPs to MLPs and logits; base into an adapter"
UNIT = "edge and prompt"
TOLERANCE = 1e-3
PEERS = ("transformers", "TransformerLens", "nnsight")
NOTES = {"candle-mi": "no hook at z; the norm before an MLP can't be changed apart from the stream"}
SENDERS = (("result", 4, 2), ("result", 9, 5), ("result", 15, 0), ("mlp_out", 8, None), ("mlp_out", 16, None))
RECEIVERS = (("mlp", 20), ("mlp", 27), ("logits", None))
TARGET = "PT4_hybrid"


def prompts(bench) -> list[dict]:
    return bench.decisions[: bench.size(15, 3)]


def sender_name(site: str, layer: int, head: int | None) -> str:
    return f"{site}:{layer}" + ("" if head is None else f".{head}")


def receiver_name(kind: str, layer: int | None) -> str:
    return kind if layer is None else f"{kind}:{layer}"


def ours(bench) -> dict:
    what = ["--source", "base", "--target", TARGET, "--set", "span=[]", "--set", "estimator=[]"]
    what += [part for sender in SENDERS for part in ("--sender", sender_name(*sender))]
    what += [part for receiver in RECEIVERS for part in ("--receiver", receiver_name(*receiver))]
    file = bench.subset([prompt["id"] for prompt in prompts(bench)])
    done = bench.command("paths", *what, adapters=[TARGET], prompts=file)
    rows = done.table("paths")
    return done.side(len(rows), {key(r["prompt_id"], r["sender"], r["receiver"]): float(r["delta_patched"]) for r in rows})


def job(bench, round_: int) -> dict:
    chosen = [(SENDERS[(round_ + n) % 5], RECEIVERS[n % 3]) for n in range(bench.size(5, 3))]
    return {"target": TARGET, "prompt": prompts(bench)[round_ % len(prompts(bench))], "edges": chosen}


def peer(library, job: dict) -> list[dict]:
    prompt, width = job["prompt"], SMOLLM2.head
    senders = [sender for sender, _ in job["edges"]]
    places = list({("z" if site == "result" else site, layer): None for site, layer, _ in senders})

    def written() -> dict:
        """What every sender adds to the stream at the decision point."""
        _, captured = library.run(prompt["ids"], places)
        found = {}
        for site, layer, head in senders:
            if site == "result":
                columns = slice(head * width, (head + 1) * width)
                found[site, layer, head] = library.o_weight(layer)[:, columns] @ captured["z", layer][0, -1].flatten()[columns]
            else:
                found[site, layer, head] = captured[site, layer][0, -1]
        return found

    def patched(sender, receiver) -> float:
        difference = source[tuple(sender)] - target[tuple(sender)]

        def edit(tensor):
            changed = tensor.clone()
            changed[0, -1] += difference
            return changed

        place = ("final_in", None) if receiver[0] == "logits" else ("mlp_in", receiver[1])
        logits, _ = library.run(prompt["ids"], edits=[(place, edit)])
        return (logits[-1, prompt["token_b"]].double() - logits[-1, prompt["token_a"]].double()).item()

    library.select("base")
    source = written()
    library.select(job["target"])
    target = written()
    library.run(prompt["ids"])
    found, clock = clocked(
        lambda: {key(prompt["id"], sender_name(*s), receiver_name(*r)): patched(s, r) for s, r in job["edges"]}
    )
    return [way("single", len(found), clock, found)]


def cost(bench) -> dict:
    ids = [prompt["ids"] for prompt in prompts(bench)]
    layers = [SMOLLM2.layers - layer if layer else 0 for _, layer in RECEIVERS]
    edges = sum(len(SENDERS) * SMOLLM2.tokens(1, n, True, up) for n in map(len, ids) for up in layers)
    return {"flop": SMOLLM2.tree(ids, True) + SMOLLM2.tree(ids, False) + edges, "bytes": SMOLLM2.weights_bytes() * 2}
