"""Studies on many machines, through `Ray <https://docs.ray.io>`_ (``pip install 'lorascope[ray]'``).

A study is divided into units of work: some prompts, or some models, of one analysis. Every node loads the models once and carries units
out; the machine that asks keeps what they give in one run folder and makes the tables. A unit gives the same bytes wherever it is
carried out, so the tables are those of a run on one machine, and a lost node costs its unfinished units only::

    lorascope.study("study.toml", out="runs/study", ray="auto")

docs/scale.md says what moves, what can fail, and what was measured.
"""

from lorascope.scale._cluster import Cluster

__all__ = ["Cluster"]
