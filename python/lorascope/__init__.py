"""A microscope for LoRA fine-tunes of language models.

One base and its adapters are loaded once, un-merged, and run side by side::

    import lorascope

    model = lorascope.Model.load("organism", adapters={"hybrid": "organism:hybrid"})
    logits, cache = model.run_with_cache("Two players choose.", names=["blocks.3.attn.hook_z"])
    result = lorascope.decide(model, lorascope.game_prompts("fifteen"))
    result.tables["decisions"].to_pandas()

Every analysis of the command line is a function here, with the same name, settings and numbers.
"""

from lorascope import analyses
from lorascope._cache import Cache
from lorascope._explore import Explorer, explore
from lorascope._gradients import logit_difference
from lorascope._hub import push_run
from lorascope._interventions import Intervention, Place, at
from lorascope._model import Hook, Model
from lorascope._native import Error, __version__, set_device, set_threads
from lorascope._results import Column, Result, Section, Table
from lorascope._studies import game_prompts, study
from lorascope._training import train
from lorascope._vectors import load_vectors, save_vectors
from lorascope.analyses import *  # noqa: F403 - one function for each analysis of the registry

__all__ = [
    "Cache",
    "Column",
    "Error",
    "Explorer",
    "Hook",
    "Intervention",
    "Model",
    "Place",
    "Result",
    "Section",
    "Table",
    "__version__",
    "at",
    "explore",
    "game_prompts",
    "load_vectors",
    "logit_difference",
    "push_run",
    "save_vectors",
    "set_device",
    "set_threads",
    "study",
    "train",
    *analyses.__all__,
]
