#!/usr/bin/env python3
"""Draws the cost curves of a results file: what was measured, and beside it what the model of the costs says.

    python bench/suite/figure.py bench/results/suite.json bench/results/suite.svg

Called by the suite with the peers' Python, since it needs matplotlib.
"""

from __future__ import annotations

import json
import sys

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot  # noqa: E402
from matplotlib.ticker import FuncFormatter, NullLocator  # noqa: E402

# Text stays text, and the same numbers give the same file.
matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "lorascope", "font.family": "sans-serif", "font.size": 9}
COLUMNS = 3


def short(value: float, _: object = None) -> str:
    for unit, name in ((1e9, "G"), (1e6, "M")):
        if value >= unit:
            return f"{value / unit:.{0 if value >= 10 * unit else 1}f}{name}"
    return f"{value:,.10g}"


def panel(axes, curve: str, points: list[dict], arithmetic: float, bandwidth: float) -> None:
    sizes = [point["size"] for point in points]
    axes.plot(sizes, [point["processor"] for point in points], "o-", color="#1f4e8c", label="measured, of a processor")
    axes.plot(sizes, [point["flop"] / arithmetic for point in points], "--", color="#b3541e", label="model: arithmetic at the fastest product")
    axes.plot(sizes, [point["bytes"] / bandwidth for point in points], ":", color="#4a7a3a", label="model: weights at the memory's bandwidth")
    axes.set(xscale="log", yscale="log", xlabel=curve, ylabel="seconds")
    axes.set_xticks(sizes, [short(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(short))
    axes.grid(alpha=0.3)


def main() -> None:
    source, target = sys.argv[1:]
    with open(source) as file:
        numbers = json.load(file)
    arithmetic = max(one[name] for one in numbers["limits"] for name in ("product", "our_product"))
    bandwidth = max(one["bandwidth"] for one in numbers["limits"])
    curves: dict[str, list[dict]] = {}
    for point in numbers["curves"]:
        curves.setdefault(point["curve"], []).append(point)
    rows = -(-(len(curves) + 1) // COLUMNS)
    figure, grid = pyplot.subplots(rows, COLUMNS, figsize=(10, 2.8 * rows), layout="constrained")
    *used, last = grid.flat[: len(curves) + 1]
    for axes, (curve, points) in zip(used, curves.items()):
        panel(axes, curve, points, arithmetic, bandwidth)
    # The legend has the last place to itself.
    last.legend(*used[0].get_legend_handles_labels(), loc="center", frameon=False)
    for axes in grid.flat[len(curves) :]:
        axes.set_axis_off()
    figure.savefig(target, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
