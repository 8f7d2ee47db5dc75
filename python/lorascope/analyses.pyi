"""Types of the functions that `analyses.py` makes from the registry. Written by `python -m lorascope._stubs`."""

import os
from typing import Any, Callable, List, Optional, Tuple, Union

from lorascope._model import Model
from lorascope._results import Result
from lorascope._studies import PromptSet

__all__: List[str]

def decide(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
) -> Result:
    """Decisions: What does each model decide, and how sure is it?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.

    Tables:
        ``decisions``: One model's decision on one prompt.
        ``decision_parts``: Meaning and token part of one model's decision, from two prompts that differ only in which label means what. Empty where the prompt set has no such twins.
    """

def validate(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    bins: int = ...,
    detect: float = ...,
    draws: int = ...,
    legal: Any = ...,
    level: float = ...,
    pair: Any = ...,
    tokens: int = ...,
    unscored: Any = ...,
) -> Result:
    """Validation: Do the models answer as the metric says, and may conclusions be drawn from these prompts?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        bins: bins of `p_b`, of equal width, in the table and figure of calibration (default: ``10``)
        detect: mean difference of delta between two models, in nats, for which the power calculation says how many templates it takes (default: ``0.5``)
        draws: answers drawn from each model on each prompt (default: ``100``)
        legal: mean legal mass below which decisions are warned of, and below which validation fails (default: ``[0.5, 0.05]``)
        level: a test of calibration fails where its corrected p-value is below this (default: ``0.01``)
        pair: the same for the primary pair's mean share of the legal mass (default: ``[0.9, 0.5]``)
        tokens: tokens of a drawn answer, at most (default: ``12``)
        unscored: share of drawn answers in tokens that are not scored above which is warned, and above which it fails (default: ``[0.05, 0.25]``)

    Tables:
        ``validation``: One check of a model, or of the prompt set where no model is named.
        ``calibration_tests``: Whether drawn answers of one model are as frequent as its probabilities say, over all prompts.
        ``calibration``: Drawn answers of one model on prompts with similar p_b. Bins without draws are left out.
        ``variance_components``: Where one model's delta varies: nested analysis of variance over prompts.
        ``prompt_sensitivity``: How far one adapter moves delta on the same prompt, against how far prompts of one scenario lie apart on the base. Empty without adapters.
        ``samples``: Answers drawn from one model to one prompt.
        ``power``: Which mean difference of delta between two models a study with these prompts finds, and what it takes to find a wanted one. Empty without adapters.
    """

def weights(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    components: int = ...,
    directions: int = ...,
    intruder_cosine: float = ...,
    intruder_width: int = ...,
    intruders: int = ...,
    tokens: int = ...,
) -> Result:
    """Weights: Where are the weights changed, how alike are the changes, and what do they write?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        components: how many components of each update are listed, with the tokens that they write (default: ``3``)
        directions: pairs of deciding tokens whose direction is compared with what updates write: the most frequent ones (default: ``2``)
        intruder_cosine: a singular vector is an intruder if its cosines with all singular vectors of W are below this (default: ``0.5``)
        intruder_width: weights whose smaller side is longer are left out of it; the report says so (default: ``1536``)
        intruders: how many of the largest singular vectors of each W + ΔW are compared with those of W; 0 leaves it out. It takes an eigendecomposition of every weight: about half a minute for SmolLM2-135M and four adapters on two cores; it grows with the cube of the width (default: ``10``)
        tokens: how many tokens on each side (default: ``8``)

    Tables:
        ``weights``: One weight that an adapter changes. Spectral numbers are of s·B·A, the low-rank part of the change; with plain LoRA that is the whole change. With DoRA and weights of an adapter's own the whole change is not low-rank: `delta_norm` and `ratio` are of the whole, everything else of the low-rank part.
        ``weights_spectrum``: One singular value of one update.
        ``weights_heads``: One head's slice of an update of attention: rows of q_proj, k_proj and v_proj, columns of o_proj.
        ``weights_similarity``: How alike the updates of one module are in two models, or in a model and a control. An adapter and its own controls are compared too: what is left there does not depend on place (shuffled) or on direction (random).
        ``weights_similarity_summary``: Similarity of two models, or of a model and a control, over modules.
        ``weights_alignment``: How much of an update that writes into the residual stream (o_proj, down_proj) lies along the direction that the difference of the two deciding logits reads, w = W_U[b] − W_U[a] through the final norm's weight and, where the family has one, through the norm after the module.
        ``weights_alignment_summary``: Alignment with the decision over layers.
        ``weights_components``: One component of an update: σ·u·vᵀ reads v and writes u. The sign of a component is a convention, since u and v can change theirs together: of u and −u that one is taken which gives some token the largest logit. An input of the opposite sign exchanges what it promotes and suppresses.
        ``weights_intruders``: One of the largest left singular vectors of W + ΔW, against those of W (intruder dimensions, Shuttleworth et al. 2024).
    """

def trajectory(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    floor: float = ...,
    level: float = ...,
    permutations: int = ...,
) -> Result:
    """Trajectories: When in training did weights and behaviour change, and which came first?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        floor: prompts whose delta the whole training moves by less (in nats) are left out of recovery (default: ``0.01``)
        level: how often a curve without order may have a change point; also the level of what the report calls clear (default: ``0.05``)
        permutations: orders of the steps that a change point is held against (default: ``999``)

    Tables:
        ``trajectory_blocks``: The update s·B·A of one checkpoint in one linear map of one layer, and in layers, maps and the whole model as one vector. All numbers are exact and come from the factors.
        ``trajectory_behaviour``: What one checkpoint decides on the prompts of one scenario, and on all; differences are paired by prompt.
        ``trajectory_changes``: Change points of one curve over checkpoints: where a piecewise-constant fit by penalised least squares goes from one level to another. One row for each change; a curve without one has a row with nulls. Behaviour: delta of one scenario, or of all scenarios, which then change together. Norm: ‖s·B·A‖_F of a block, a layer, or everything. A curve that grows evenly has its change half-way; `jump` tells it from a step.
    """

def lens(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    tolerance: float = ...,
    top: int = ...,
) -> Result:
    """Logit lens: From which layer on can each model's decision be read?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        tolerance: `decision_layer` asks that delta stays within `tolerance · max(1, abs(final delta))` of the final one; positive (default: ``0.5``)
        top: how many of the most probable tokens are listed (default: ``5``)

    Tables:
        ``lens``: What the final norm and the output matrix read from one place of one model at the decision point of one prompt.
        ``lens_decisions``: From which layer on one model's decision on one prompt can be read from `resid_post`.
    """

def tuned_lens(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    batch: int = ...,
    heldout_rows: int = ...,
    rate: float = ...,
    ridges: Any = ...,
    rows: int = ...,
    steps: int = ...,
    text: Any = ...,
    text_sha256: Any = ...,
    validation_rows: int = ...,
) -> Result:
    """Tuned lens: From which layer on can each model's decision be read, if every layer is read in its own coordinates?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        batch: positions per step (default: ``64``)
        heldout_rows: held-out positions, at most (default: ``256``)
        rate: Adam's rate at the first step (default: ``0.0003``)
        ridges: penalties to choose from, from small to large; the mean square of an input and of what is fitted is 1. Of those within half a per cent of the least divergence the largest is taken (default: ``[0.0001, 0.001, 0.01, 0.1, 1.0]``)
        rows: positions that the maps are fitted to, at most; documents beyond that are not read, and of one document no more than 1024 tokens. While it runs, 4 bytes for each position, layer and coordinate lie in the run folder (default: ``8192``)
        steps: steps of Adam down the divergence after that; kept where they help on validation documents; 0 for the closed form alone (default: ``32``)
        text: UTF-8 file of documents to fit the maps to, with blank lines between them, at least ten; relative to where the command is given. Without it, a built-in text of 165 documents (default: ``null``)
        text_sha256: SHA-256 of that file; filled in, so that a run that goes on notices another text (default: ``null``)
        validation_rows: positions by which penalty and steps are chosen, at most (default: ``256``)

    Tables:
        ``tuned_lens``: What one layer's tuned lens, trained on the base, reads from one model at the decision point of one prompt.
        ``tuned_lens_fit``: How well one layer's lens matches the final distribution of the base: mean KL(final ‖ lens) over positions, without and with the map.
    """

def dla(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    neurons: int = ...,
    pairs: bool = ...,
    top: int = ...,
) -> Result:
    """Direct logit attribution: Which heads and MLPs carry the decision, and which of them changed?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        neurons: how many neurons of each layer are listed: those with the largest contributions to a prompt on any model; `"all"` for all (default: ``0``)
        pairs: compares every adapter with every other too, not only with the base (default: ``false``)
        top: how many components in favour of each answer the report lists (default: ``20``)

    Tables:
        ``dla``: What one component of one model contributes to the difference of the two deciding logits at the decision point of one prompt: logit of B's token minus logit of A's. All rows of a model and prompt but `softcap` and `neuron` add up to the difference before the soft cap; a neuron is a part of its layer's `mlp`.
        ``dla_check``: Completeness: whether the contributions of one model on one prompt add up to its own logit difference before the soft cap, computed from the final normalised state and the output matrix.
        ``dla_means``: Mean contribution of one component of one model over prompts.
        ``dla_differences``: How the contribution of one component differs between two models, paired by prompt.
    """

def attention(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    each_prompt: bool = ...,
    margin: float = ...,
    pairs: bool = ...,
    repeat: int = ...,
    sequences: int = ...,
    shown: int = ...,
    span: Any = ...,
    top: int = ...,
) -> Result:
    """Attention: What do heads attend to where the decision is made, and what changed about it?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        each_prompt: writes the numbers of every prompt too (table `attention`): a row for each prompt, model, head and span, some 250 bytes of memory each (default: ``false``)
        margin: share of a head's attention within which two models count as equivalent (default: ``0.02``)
        pairs: compares every adapter with every other too, not only with the base (default: ``false``)
        repeat: distinct random tokens that are repeated, for the kinds of heads (default: ``50``)
        sequences: random sequences for that (default: ``8``)
        shown: prompts of which the report shows what every head of every model reads, token by token, taken in turn from the scenarios; 0 for none (default: ``16``)
        span: only these named spans; all that prompts name if empty. A token counts for the innermost of them that holds it (default: ``[]``)
        top: how many heads and spans the report lists for each comparison (default: ``15``)

    Tables:
        ``attention``: What one head of one model reads of one span at the decision point of one prompt. Only with `each_prompt`.
        ``attention_means``: Mean of one measure of one head and span over prompts.
        ``attention_differences``: How one measure of one head and span differs between two models, paired by prompt, and whether the two are different, equivalent, or neither is shown.
        ``attention_scores``: Through which products of queries and keys the scores of a span changed between two models, before softmax and before any soft cap: mean over prompts of the mean change of its tokens' scores at the decision point, less the change that all scores share (mean over keys by the second model's pattern), which changes no pattern. The parts of a head and span add up to its whole change.
        ``attention_writes``: Through which factor what a head writes along the decision direction changed between two models; the parts add up to the difference of its direct logit attribution.
        ``attention_heads``: What kind of head each is.
        ``attention_check``: Whether spans are complete: the largest error over all heads of one model on one prompt.
    """

def patch(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    between: Any = ...,
    floor: float = ...,
    joint: Any = ...,
    layer: Any = ...,
    position: Any = ...,
    site: Any = ...,
    source: Any = ...,
    target: Any = ...,
) -> Result:
    """Activation patching: Which heads and layers carry what fine-tuning changed in the decision?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        between: between prompts: `"FROM:TO"` patches from prompts of scenario FROM into those of scenario TO with the same variant and number of tokens (default: ``[]``)
        floor: recovery is null where source and target differ by less, in logits (default: ``0.1``)
        joint: units patched together, e.g. `"z:3.1+mlp_out:5"` (default: ``[]``)
        layer: only these layers; all if empty (default: ``[]``)
        position: `decision`, `all`, `each`, a number, or the name of a span (all its tokens together) (default: ``["decision"]``)
        site: kinds of place: `z`, `result`, `q`, `k`, `v`, `pattern` (per head), `attn_out`, `mlp_out`, `resid_pre`, `resid_mid`, `resid_post`, `mlp_post` (whole), `neuron`, and blocks of an adapter: `adapter` (one module of one layer), `adapter_head` (one head's slice), `adapter_rank` (one component of the update's singular value decomposition); `adapter:mlp.down_proj` is one module of them (default: ``["z", "attn_out", "mlp_out"]``)
        source: models whose activations are taken, or `zero`, `mean`, `resample` to ablate; with neither source nor target, every adapter is put into the base and the base into every adapter (default: ``[]``)
        target: models that they are put into (default: ``[]``)

    Tables:
        ``patches``: One patched run: an activation of one model (or prompt) put into another, and what it does to delta.
        ``patch_effects``: What patching one place does on average over prompts, with 95% bootstrap intervals over prompt clusters.
    """

def attribution(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    between: Any = ...,
    estimator: Any = ...,
    joint: Any = ...,
    layer: Any = ...,
    nodes: int = ...,
    position: Any = ...,
    sample: int = ...,
    site: Any = ...,
    source: Any = ...,
    target: Any = ...,
    top: int = ...,
) -> Result:
    """Attribution patching: Which places would matter, by estimates from gradients, and how far can the estimates be trusted?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        between: between prompts (default: ``[]``)
        estimator: `gradient` (attribution patching), `gim` (norms frozen, softmax at temperature 2, products shared out between their factors), `relp` (norms and patterns frozen, secants of activations, gated products shared out), `qk_fix` (as `gradient`, but where queries or keys change the pattern is computed exactly), `atp_star` (as `qk_fix`, mean size over passes that leave out one layer each), `integrated` (along the adapter's scale from 0 to 1, or from one prompt's embedding to the other's) (default: ``["gradient", "gim", "relp"]``)
        joint: units patched together (default: ``[]``)
        layer: only these layers; all if empty (default: ``[]``)
        nodes: points (Gauss-Legendre) on the path of `integrated`; with site `adapter` and position `all` its estimates add up to the whole difference between both models (answers of one token), which shows whether there are enough (default: ``8``)
        position: where; positions before the decision point cost one whole pass back for each prompt (default: ``["decision"]``)
        sample: other places that are, drawn at random (default: ``20``)
        site: kinds of place (default: ``["z", "attn_out", "mlp_out"]``)
        source: as for `patch`, like the next six: what is estimated is the runs that `patch` would carry out (default: ``[]``)
        target: models that activations are put into (default: ``[]``)
        top: places of each pair and position that are patched exactly, for each estimator: those with its largest mean estimates (default: ``20``)

    Tables:
        ``attributions``: What patching a place would change in delta, as each estimator has it, and as it is where it was run.
        ``attribution_places``: Means over prompts of the estimates for each place, and of the exact changes where it was patched.
        ``attribution_accuracy``: Each estimator held against exact patches: places of one pair and position, means over prompts.
    """

def paths(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    estimator: Any = ...,
    nodes: int = ...,
    prompts: int = ...,
    receiver: Any = ...,
    sender: Any = ...,
    source: Any = ...,
    span: Any = ...,
    target: Any = ...,
    top: int = ...,
) -> Result:
    """Path patching: By which way do the changes of fine-tuning reach the decision?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        estimator: how edges are estimated beside the exact changes: `gradient` (edge attribution patching), `integrated` (over the adapter's scale; not between two adapters) (default: ``["gradient"]``)
        nodes: points on the path of `integrated` (default: ``8``)
        prompts: prompts on which they are chosen, evenly from the scenarios; their effects are then measured on all (default: ``24``)
        receiver: `q:LAYER.HEAD`, `k:…`, `v:…` (key/value heads), `head:LAYER.HEAD` (all three), `mlp:LAYER`, `logits`, `logits_frozen`; if empty, the readers of the same heads and MLPs, and the logits (default: ``[]``)
        sender: `result:LAYER.HEAD`, `attn_out:LAYER`, `mlp_out:LAYER`; if empty, the heads and MLPs with the largest effects (default: ``[]``)
        source: models whose outputs are taken; with neither, every adapter is put into the base (default: ``[]``)
        span: layers patched together: `KIND:FIRST-LAST`; without LAST, every last layer in turn (default: ``["residual:0-", "attn:0-", "mlp:0-"]``)
        target: models that they are put into (default: ``[]``)
        top: how many senders and readers are chosen (default: ``8``)

    Tables:
        ``paths``: One patched edge: what a sender of the source writes, seen by one receiver of the target, at the decision point.
        ``spans``: One patched span: all components of consecutive layers together, at the decision point.
        ``path_effects``: What one edge does on average over prompts.
        ``span_effects``: What the components of consecutive layers do together on average over prompts.
    """

def suppression(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    margin: float = ...,
    model: Any = ...,
    reference: Any = ...,
    top: int = ...,
) -> Result:
    """Suppression: Which heads and MLPs that push one model's way are suppressed, turned round or rerouted in the others?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        margin: share of the difference between both models within which a component counts as unchanged (default: ``0.05``)
        model: models that are held against it; all other adapters if empty, the base where there is none (default: ``[]``)
        reference: the adapter whose heads and MLPs may have been suppressed in the others; the first one if null (default: ``null``)
        top: how many components of each model the report lists (default: ``12``)

    Tables:
        ``suppression``: What became of one component of the reference in another model. Shares are of Σ |d| over prompts, d = delta_reference − delta_model, every prompt counted in the reference's direction; null where the two models decide alike.
        ``suppression_totals``: Through which kind of component the difference of two models' decisions is written: sums of `direct`, which add up to 1.
        ``suppression_patches``: One patched run behind the causal shares: a component's output of the source put into the target at the decision point.
    """

def circuit(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    candidates: int = ...,
    faithfulness: float = ...,
    heldout: int = ...,
    max_size: int = ...,
    prompts: int = ...,
    random: int = ...,
    samples: int = ...,
    source: Any = ...,
    target: Any = ...,
    tolerance: float = ...,
) -> Result:
    """Circuits: Which few components together carry each model's behaviour, and do the models share them?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        candidates: components that growth chooses from (default: ``40``)
        faithfulness: growth ends there (default: ``0.9``)
        heldout: other prompts that they are tested on (default: ``16``)
        max_size: or with so many components (default: ``16``)
        prompts: prompts that circuits are grown on, at most half of all (default: ``16``)
        random: random circuits of equal size (default: ``100``)
        samples: bootstrap samples of the prompts for growing, each with a circuit of its own, which shows how far the circuit depends on them; 0 for none. A set of components is run once on a prompt, however many samples ask for it, but where samples grow apart each costs about as much as the circuit itself (default: ``10``)
        source: models whose behaviour a circuit should bring; with neither, every adapter into the base (default: ``[]``)
        target: models that it is brought into (default: ``[]``)
        tolerance: a component stays if removing it costs more faithfulness (default: ``0.01``)

    Tables:
        ``circuit_components``: Every component of one source and target: its effect by itself, and whether it is a member of the circuit. Measured on the prompts that the circuit was grown on.
        ``circuit_members``: Every member of a circuit on held-out prompts: what its removal costs (minimality). Null where source and target do not differ on any of them.
        ``circuit_curve``: Faithfulness of the first components of a circuit's order on held-out prompts, and of random orders.
        ``circuit_tests``: What was tested of a circuit as a whole, on held-out prompts.
        ``circuit_pairs``: How two members of a circuit act together, on held-out prompts. Null where source and target do not differ on any of them.
        ``circuit_edges``: Components and edges of all circuits of one target, patched from each source on held-out prompts.
        ``circuit_overlap``: How much two circuits have in common, against random circuits of the same sizes.
        ``circuit_differences``: Components and edges of two circuits of one target, paired by held-out prompt.
        ``circuit_samples``: A member of a circuit that was grown on a bootstrap sample of the prompts for growing: whole clusters drawn with replacement, everything else as for the circuit itself. Samples without a circuit have no row.
        ``circuit_crossed``: One source's behaviour brought through the components of another source's circuit, on held-out prompts. Circuits without members have no row.
    """

def interactions(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    components: int = ...,
    enough: int = ...,
    pairs: bool = ...,
    patched: int = ...,
    permutations: int = ...,
    prompts: int = ...,
    source: Any = ...,
    target: Any = ...,
    top: int = ...,
) -> Result:
    """Interactions of components: Which components act together, and did that change?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        components: heads and MLPs with the most varying contributions that are correlated (default: ``30``)
        enough: with fewer prompts no correlation or difference of correlations is claimed (default: ``300``)
        pairs: compares correlations of every adapter with every other too, not only with the base (default: ``false``)
        patched: components with the largest single effects whose pairs are patched; 0 for none (default: ``8``)
        permutations: random permutations of the null; a single pair can only pass the correction with enough of them (default: ``9999``)
        prompts: prompts on which they are, whole templates drawn at random (default: ``64``)
        source: models whose components are patched in pairs; with neither, every adapter into the base (default: ``[]``)
        target: models that they are put into (default: ``[]``)
        top: how many pairs the report lists (default: ``15``)

    Tables:
        ``interaction_components``: The components whose contributions to the decision vary most within scenario and template, over all models together.
        ``interaction_correlations``: How the signed contributions of two components go together over prompts, in one model, after means of scenarios and templates are removed.
        ``interaction_differences``: How the correlation of two components differs between two models on the same prompts.
        ``interaction_patches``: One patched run: one or two components of the source put into the target at the decision point, and what that does to delta.
        ``interaction_effects``: Causal interaction of two components: the effect of both together minus the sum of their single effects.
    """

def probe(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    controls: int = ...,
    folds: int = ...,
    layer: Any = ...,
    pairs: bool = ...,
    position: Any = ...,
    site: Any = ...,
    strengths: Any = ...,
    target: Any = ...,
) -> Result:
    """Probes: What can be read from each layer's activations, and do the models differ in it?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        controls: shuffles of the labels (default: ``5``)
        folds: folds of whole templates, and as many inside each fold for choosing the penalty; fewer where there are fewer templates (default: ``5``)
        layer: only these layers; all if empty (default: ``[]``)
        pairs: compares every adapter with every other too, not only with the base (default: ``false``)
        position: `decision`, the name of a span that every prompt has (its last token), or a share of the way to the decision point such as `"50%"` (default: ``["decision"]``)
        site: where: `resid_pre`, `resid_mid`, `resid_post`, `attn_out`, `mlp_out` (default: ``["resid_post"]``)
        strengths: L2 penalties to choose from, per coordinate: scikit-learn's `alpha`, or `1/C`, is this times the width of the model (default: ``[0.001, 0.01, 0.1, 1.0, 10.0, 100.0]``)
        target: what is looked for: keys of the prompts that are numbers, or have two values (then they are classes), and `decision` for each model's own; if empty, every such key that varies within templates, and the decision (default: ``[]``)

    Tables:
        ``probe_predictions``: What a linear probe, fitted to the prompts of other templates, says of one prompt of one model.
        ``probe_scores``: How well a label can be read from one place of one model by linear probes, on prompts of templates that they were not fitted to.
        ``probe_differences``: How much better a label can be read from one model than from another at the same place, paired by prompt.
    """

def compare(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    layer: Any = ...,
    pairs: bool = ...,
    position: Any = ...,
    site: Any = ...,
    top: int = ...,
) -> Result:
    """Representations compared: Where do the models' activations part, how far, and towards what?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        layer: only these layers; all if empty (default: ``[]``)
        pairs: compares every adapter with every other too, not only with the base (default: ``false``)
        position: where, as for `probe` (default: ``["decision"]``)
        site: where, as for `probe` (default: ``["resid_post"]``)
        top: how many promoted and suppressed tokens are listed (default: ``10``)

    Tables:
        ``compare_similarity``: How alike the activations of two models are at one place, over prompts.
        ``compare_decision``: How much of the difference of two models' activations points along the decision: what the difference would add to the logit of B's deciding token minus A's if the reference's output read it there, its final norm frozen at the scale that it has at that position.
        ``compare_tokens``: Which tokens the mean difference of two models' activations promotes and suppresses, read through the reference's final norm at a frozen scale and its output matrix, before any soft cap.
    """

def surgery(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    adapter: Any = ...,
    blocks: str = ...,
    candidates: int = ...,
    floor: float = ...,
    orders: int = ...,
    points: int = ...,
    prompts: int = ...,
    scales: Any = ...,
    shapley: bool = ...,
    share: float = ...,
) -> Result:
    """Surgery: Which parts of an adapter carry what it changed, and how few of them are enough?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        adapter: adapters that are taken apart; all but controls if empty (default: ``[]``)
        blocks: what is switched on and off: `module` (one module of one layer), `kind` (attention or the MLP of a layer), `layer`; `auto` takes the finest of which there are at most 32 (default: ``"auto"``)
        candidates: most blocks that are tried at each step of the greedy order: those with the largest last known gains, as long as one of them may still add most; 0 for all (default: ``6``)
        floor: prompts whose delta an adapter moves by less (in nats) are left out of means of ratios (default: ``0.01``)
        orders: random orders: all of them at the size of the smallest set, half of them at other sizes (default: ``20``)
        points: sizes at which orders are measured, spread evenly; the nearest one makes way for that of the smallest set (default: ``2``)
        prompts: prompts on which sets are chosen, at most half of all, and others on which they are tested (default: ``8``)
        scales: factors of the whole adapter (default: ``[0.0, 0.25, 0.5, 0.75, 1.0, 1.5]``)
        shapley: random orders are measured at every size, which gives Shapley values (default: ``false``)
        share: share of the adapter's behaviour that the smallest set recovers (default: ``0.9``)

    Tables:
        ``surgery_blocks``: What single blocks of an adapter do to the decision: each left out of the adapter, each alone, and on average over orders.
        ``surgery_curves``: Behaviour recovered by the first blocks of an order, against the parameters that they have.
        ``surgery_sets``: The smallest set of blocks found that recovers the wanted share of an adapter's behaviour, and the prediction that follows: what it recovers on prompts on which it was not chosen.
        ``surgery_doses``: The whole adapter scaled: 0 is the base, 1 the adapter as it was trained.
        ``surgery_runs``: How an adapter decides on one prompt when only some of its blocks are on.
    """

def transplants(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    floor: float = ...,
    groups: str = ...,
    layer: Any = ...,
    prompts: int = ...,
    source: Any = ...,
    spans: int = ...,
    target: Any = ...,
) -> Result:
    """Transplants: What do parts of one adapter do in another?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        floor: prompts on which two adapters differ by less (in nats) are left out of means of ratios (default: ``0.01``)
        groups: what is put in: `module` (one module of one layer), `kind` (attention or the MLP of a layer), `layer`, `span` (each span of layers, and attention and MLP of all layers); `auto` is `kind` up to 12 layers, else `span` (default: ``"auto"``)
        layer: layers of which blocks are put in; all if empty (default: ``[]``)
        prompts: prompts on which it is tried, evenly from the scenarios (default: ``8``)
        source: adapters whose blocks are put into others in place of their own; all but controls if empty (default: ``[]``)
        spans: spans of layers of `span` (default: ``6``)
        target: adapters into which they are put; all but controls if empty (default: ``[]``)

    Tables:
        ``transplants``: What updates of one adapter do in another: X's at some modules, Y's everywhere else.
        ``transplant_runs``: How an adapter decides on one prompt when it has updates of another.
    """

def steer(
    models: Model,
    prompt_set: PromptSet,
    /,
    *,
    answers: Optional[Tuple[str, str]] = ...,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    contrast: Any = ...,
    depths: int = ...,
    layer: Any = ...,
    position: str = ...,
    random: int = ...,
    shuffled: int = ...,
    site: Any = ...,
    source: Any = ...,
    strengths: Any = ...,
    target: Any = ...,
    text_controls: int = ...,
    texts: int = ...,
) -> Result:
    """Steering: Does adding one direction bring what a fine-tune changed, more than other directions of its length, and at what price?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        prompt_set: A JSON file, or a list of prompts (docs/prompts.md, :func:`lorascope.game_prompts`).
        answers: Answers A and B of prompts that name none.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        contrast: also makes vectors between two classes of prompts within each source, and adds them to that model: keys of the prompts that have two values, or `decision` (what the model itself prefers) (default: ``[]``)
        depths: number of layers, evenly spaced, the last among them, where none is named (default: ``4``)
        layer: only these layers; if empty, as many as `depths` says (default: ``[]``)
        position: tokens to which vectors are added: `decision` (the decision point, where they are made), or `all` up to there, which takes whole prompts for every strength and control (default: ``"decision"``)
        random: random directions of the vector's length (default: ``20``)
        shuffled: differences between random groups of the prompts, brought to that length (default: ``10``)
        site: where vectors are made and added: `resid_pre`, `resid_mid`, `resid_post`, `attn_out`, `mlp_out` (default: ``["resid_post"]``)
        source: models whose vectors are made; all adapters if empty, and for contrasts all models (default: ``[]``)
        strengths: factors of the vector as it is, not of a vector of length 1; they are put in order (default: ``[-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0]``)
        target: models to which an adapter's vector is added; its own model is one of those that can be named (default: ``["base"]``)
        text_controls: how many of the random directions are added to the texts, too; at most all (default: ``4``)
        texts: texts on which side effects are measured; 0 leaves them out (default: ``16``)

    Tables:
        ``steer_vectors``: One steering vector: what it is made from, and how large it is.
        ``steer_runs``: One prompt, steered by a vector that is made from the other half of the templates.
        ``steer_effects``: What a vector does at one strength, on average over prompts that it is not made from, with 95% bootstrap intervals over prompt clusters. Strength 0 is a check and no test; it is in steer_runs.
        ``steer_controls``: One direction of the vector's norm in the vector's place, on the same prompts. A direction is the same at all strengths; random ones are the same for all vectors, too.
        ``steer_against_controls``: A vector's effect beside those of the controls. The effect is the recovery where there is one, else the mean change.
        ``steer_side_effects``: What steering does besides: to the next token of text that has nothing to do with the prompts (the vector from all prompts, added to the last token of each text, or with position `all` to every token), and to the legal mass on the prompts.
    """

def play(
    models: Model,
    /,
    *,
    raw: bool = ...,
    seed: int = ...,
    out: Optional[Union[str, "os.PathLike[str]"]] = ...,
    progress: Union[Callable[[str, int, int], None], bool, None] = ...,
    actions: str = ...,
    opponents: Any = ...,
    players: Any = ...,
    policies: str = ...,
    prompts: Any = ...,
    repetitions: int = ...,
    rewards: Any = ...,
    rounds: int = ...,
    start: str = ...,
) -> Result:
    """Play: How does each model play matrix games, against whom, and how do moral frameworks judge it?

    Args:
        models: A :class:`lorascope.Model`: base and adapters, all of which are asked.
        raw: Put prompts to the model as raw text, without its chat template.
        seed: Seed of everything random.
        out: The run folder, as the command writes it; a finished run there is read. Without one nothing is written.
        progress: As for :meth:`lorascope.Model.load`.
        actions: `drawn`, `as_generated` or `greedy` (default: ``"drawn"``)
        opponents: whom the players meet
        players: names of the models that play the rows; `base` is the base (default: ``[]``)
        policies: whether the policies of all four states are asked for, or those that matches come to (`met`) (default: ``"all"``)
        prompts: games and surfaces: a design as in [prompts.md](prompts.md), without `scenarios`; `per_scenario` is the number of surfaces, a multiple of 4 or `"all"`
        repetitions: matches of each player, opponent, game and surface (default: ``10``)
        rewards: the moral frameworks that judge (default: ``["strategic", "deontological", "utilitarian", "hybrid"]``)
        rounds: rounds of a match (default: ``10``)
        start: the round before the first (default: ``"random"``)

    Tables:
        ``matches``: One match, with every move. `C` cooperates, `D` defects, `x` is an illegal answer; a letter a round.
        ``play``: One metric of one model in one game against one opponent.
        ``regrets``: How one moral framework judges one model in one game against one opponent. Regret is the most that any outcome of a round would have given, after the opponent's last move, minus what it gave.
        ``play_contrasts``: How much more one model cooperates than the reference, in one game against one opponent: pairs of matches with the same opponent, surface and luck. Empty where one model plays.
        ``policies``: What one model answers to one prompt: its policy in one state of one game, told in one way.
        ``robustness``: One model's mean policy in one state of one game: over all surfaces, and by each level of each factor of the surface that should not matter.
    """
