"""The results page: numbers of a run as Markdown. Everything in it comes from the JSON and from what rows say of themselves."""

from __future__ import annotations

import statistics

GIB = 2**30
HEAD = """# lorascope and its peers: the same work, in the same run

Written by `bench/run.sh suite`; [{name}.json]({name}.json) has the raw numbers. [bench/README.md](../README.md) says how to read them.
"""
READING = """
**How to read this.** *Seconds* are for the whole work of the row, wall and processor (user + system) time; a peer does a sample
(the column says of how many units), and its seconds are what that comes to. Ours is, but in the row of the forward pass, the
time of the whole command: loading, statistics, tables, figures and report included; a peer's loading is not counted. A ratio is
a peer's seconds over ours of the same round, the median over {rounds} round(s): above 1, ours is faster. *Share of peak*:
GFLOP/s on the FLOPs of the cost model for what lorascope has to compute, over the fastest matrix product of this machine. That
model leaves out what a tool computes twice, so a peer's share says how much of the machine reaches the result, not how busy it
is. *Bandwidth*: the model's bytes over our processor time, against what memory gives. Memory is the peak of the process while
it did the row; a peer's process keeps its models between rows, and TransformerLens needs one merged model for each adapter.
"""


def median(of) -> float:
    return statistics.median(list(of))


def whole(one: dict, units: float) -> dict:
    """Seconds of a way for so many units."""
    fixed = one.get("fixed", {"seconds": 0.0, "processor": 0.0})
    return {clock: one[clock] * units / one["units"] + fixed[clock] for clock in ("seconds", "processor")}


def number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def sides(rounds: list[dict]) -> list[dict]:
    """Every way of every side of a row: medians over rounds, ratios within rounds."""
    ours = [one["ours"]["ways"][0] for one in rounds]
    units = ours[0]["units"]
    found = []
    for way in range(len(rounds[0]["ours"]["ways"])):
        found.append(side("lorascope", [one["ours"]["ways"][way] for one in rounds], ours, units, [one["ours"] for one in rounds]))
    for name in sorted({peer for one in rounds for peer in one["peers"]}):
        having = [(one["peers"][name], one["ours"]) for one in rounds if name in one["peers"]]
        for way, first in enumerate(having[0][0]["ways"]):
            against = [mine["ways"][min(way, len(mine["ways"]) - 1)] for _, mine in having]
            found.append(side(name, [peer["ways"][way] for peer, _ in having], against, units, [peer for peer, _ in having]))
    return found


def side(name: str, ways: list[dict], ours: list[dict], units: float, holders: list[dict]) -> dict:
    mine = [whole(one, units) for one in ours]
    times = [whole(one, units) for one in ways]
    return {
        "side": name,
        "way": ways[0]["way"],
        "units": ways[0]["units"],
        "seconds": median(one["seconds"] for one in times),
        "processor": median(one["processor"] for one in times),
        "ratio": median(one["seconds"] / my["seconds"] for one, my in zip(times, mine)),
        "ratio_processor": median(one["processor"] / max(my["processor"], 1e-9) for one, my in zip(times, mine)),
        "peak_bytes": max(holder["peak_bytes"] for holder in holders),
        "difference": max((h["difference"] for h in holders if h.get("difference") is not None), default=None),
    }


def table(name: str, row, rounds: list[dict], cost: dict, limits: dict) -> str:
    units = rounds[0]["ours"]["ways"][0]["units"]
    lines = [f"### `{name}`: {row.TITLE}", ""]
    flop, traffic = (cost[kind] * (units if name == "forward" else 1) for kind in ("flop", "bytes"))
    lines.append(
        f"The work, counted in *{row.UNIT}*: {units:,.0f}. Model: {number(flop / 1e9)} GFLOP, {number(traffic / 1e9)} GB of weights read."
    )
    columns = ("side", "way", "sample", "s, wall", "s, processor", "ratio, wall", "ratio, processor", "share of peak", "memory, GiB")
    columns += ("largest difference",)
    lines += ["", f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for one in sides(rounds):
        peer = one["side"] != "lorascope"
        share = flop / max(one["processor"], 1e-9) / limits["fastest"]
        cells = [one["side"], one["way"], number(one["units"]) if peer else "all", number(one["seconds"]), number(one["processor"])]
        cells += [number(one["ratio"]), number(one["ratio_processor"])] if peer else ["", ""]
        cells += [f"{share:.1%}", f"{one['peak_bytes'] / GIB:.2f}", "" if one["difference"] is None else f"{one['difference']:.0e}"]
        lines.append("| " + " | ".join(cells) + " |")
    traffic /= max(sides(rounds)[0]["processor"], 1e-9)
    lines += ["", f"Ours reads the model's bytes at {number(traffic / 1e9)} GB/s, {traffic / limits['bandwidth']:.1%} of the bandwidth."]
    lines += [f"- {'Note' if peer == 'all' else peer}: {note}." for peer, note in getattr(row, "NOTES", {}).items()]
    return "\n".join(lines) + "\n"


def losses(rows: dict) -> list[str]:
    """Ratios below 1, which have to be said loudly."""
    found = []
    for name, (_, rounds, _) in rows.items():
        for one in sides(rounds):
            if one["side"] != "lorascope" and min(one["ratio"], one["ratio_processor"]) < 1:
                found.append(
                    f"- **`{name}`: {one['side']}, {one['way']}, is faster than lorascope**: ratio {one['ratio']:.2f} by wall time, "
                    f"{one['ratio_processor']:.2f} by processor time."
                )
    return found


def curves(points: list[dict], limits: dict, name: str) -> str:
    lines = ["## Cost curves of lorascope", "", "Whole commands, loading included. Beside what was measured is the model of the costs: its arithmetic"]
    lines += ["at the speed of the machine's fastest product, and the weights in f32, as often as they are read, at the memory's bandwidth.", ""]
    lines += [f"![Seconds against each size, measured and by the model]({name}.svg)", ""]
    columns = ("against", "size", "s, processor", "s, wall", "model, GFLOP", "GFLOP/s", "share of peak", "model, GB", "memory, GiB")
    lines += [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for one in points:
        rate = one["flop"] / one["processor"]
        lines.append(
            f"| {one['curve']} | {one['size']:,} | {number(one['processor'])} | {number(one['seconds'])} | {number(one['flop'] / 1e9)} "
            f"| {number(rate / 1e9)} | {rate / limits['fastest']:.0%} | {number(one['bytes'] / 1e9)} | {one['peak_bytes'] / GIB:.2f} |"
        )
    return "\n".join(lines) + "\n"


def page(numbers: dict, modules: dict, name: str = "suite") -> str:
    about = numbers["about"]
    limits = {key: max(one[key] for one in numbers["limits"]) for key in numbers["limits"][0]}
    limits["fastest"] = max(limits["product"], limits["our_product"])
    rows = {row: (modules[row], rounds, numbers["costs"][row]) for row, rounds in numbers["rounds"].items() if rounds}
    versions = {name: version for one in numbers["versions"].values() for name, version in one.items()}
    n_rounds = max((len(rounds) for _, rounds, _ in rows.values()), default=0)
    before, after = (", ".join(f"{x:.1f}" for x in about[key]) for key in ("load_average", "load_average_after"))
    out = [HEAD.format(name=name)]
    if numbers["note"]:
        out.append(f"**{numbers['note']}**\n")
    out.append(
        f"| | |\n|---|---|\n| when | {about['started']}, {about['seconds'] / 60:.0f} min{', --quick' if numbers['quick'] else ''} |\n"
        f"| machine | {about['processor']} ({about['vector']}), {about['cores']} cores, {about['memory_bytes'] / GIB:.0f} GiB |\n"
        f"| system | {about['system']} |\n"
        f"| threads | {about['threads']} on every side |\n"
        f"| load average (1, 5, 15 min) | before {before}; after {after} |\n"
        f"| commit | {about['commit']}, {about['rust']} |\n"
        f"| peers | {', '.join(f'{name} {version}' for name, version in versions.items())} |\n"
        f"| fastest product | PyTorch {limits['product'] / 1e9:.0f}, ours {limits['our_product'] / 1e9:.0f} GFLOP/s; "
        f"multiply-adds on registers {limits['registers'] / 1e9:.0f} GFLOP/s |\n"
        f"| memory bandwidth | {limits['bandwidth'] / 1e9:.1f} GB/s (read) |\n"
    )
    if numbers["failures"]:
        out.append("## What failed\n\n" + "\n".join(f"- {failure.splitlines()[0]}" for failure in numbers["failures"]) + "\n")
    below = losses(rows)
    out.append("## Where a peer is faster\n\n" + ("\n".join(below) if below else "In no row, by neither clock.") + "\n")
    out.append("## Rows\n" + READING.format(rounds=n_rounds))
    out += [table(row, *what, limits) for row, what in rows.items()]
    if numbers["curves"]:
        out.append(curves(numbers["curves"], limits, name))
    return "\n".join(out)
