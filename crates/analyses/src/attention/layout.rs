//! Where a number stands among those of one prompt: what every head of every model does, and how pairs of models differ.

use lorascope_engine::ModelSpec;

/// What is measured of one head and span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Measure {
    /// Attention mass.
    Mass,
    /// Share of the norm-weighted attention.
    Norm,
    /// What the head writes from there along the decision direction.
    Write,
    /// How much the head's write from there raises the logits of the very tokens.
    Copying,
}

impl Measure {
    pub const ALL: [Measure; 4] = [Measure::Mass, Measure::Norm, Measure::Write, Measure::Copying];

    pub fn name(self) -> &'static str {
        match self {
            Measure::Mass => "mass",
            Measure::Norm => "norm_share",
            Measure::Write => "write",
            Measure::Copying => "copying",
        }
    }

    /// Whether it is a share of 1, for which a margin of equivalence is stated.
    pub fn is_share(self) -> bool {
        matches!(self, Measure::Mass | Measure::Norm)
    }
}

/// A product into which a change of scores splits.
pub(super) const SCORE_PARTS: [&str; 5] = ["q_adapter", "q_inputs", "k_adapter", "k_inputs", "both"];
/// The same where queries and keys are normalised, so that there is no linear path from a factor to a score.
pub(super) const NORMED_SCORE_PARTS: [&str; 3] = ["q", "k", "both"];
/// A part into which a change of what a head writes splits.
pub(super) const WRITE_PARTS: [&str; 6] =
    ["pattern", "v_adapter", "v_inputs", "pattern_and_v", "o_adapter", "scales"];

/// Sizes of everything.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub n_models: usize,
    pub n_layers: usize,
    pub n_heads: usize,
    pub n_spans: usize,
    /// Models that are compared: first minus second.
    pub pairs: Vec<(usize, usize)>,
    pub score_parts: &'static [&'static str],
}

impl Layout {
    pub fn new(spec: &ModelSpec, n_models: usize, n_spans: usize, all_pairs: bool) -> Self {
        let first = |model: usize| if all_pairs { model } else { model.min(1) };
        Self {
            n_models,
            n_layers: spec.n_layers,
            n_heads: spec.n_heads,
            n_spans,
            pairs: (1..n_models).flat_map(|m| (0..first(m)).map(move |minus| (m, minus))).collect(),
            score_parts: if spec.qk_norm { &NORMED_SCORE_PARTS } else { &SCORE_PARTS },
        }
    }

    /// Heads of all layers.
    pub fn heads(&self) -> usize {
        self.n_layers * self.n_heads
    }

    /// Numbers of one head of one model.
    pub fn per_head(&self) -> usize {
        self.n_spans * Measure::ALL.len()
    }

    /// Numbers of one head of one pair: parts of scores by span, then parts of the write.
    pub fn per_change(&self) -> usize {
        self.n_spans * self.score_parts.len() + WRITE_PARTS.len()
    }

    fn levels(&self) -> usize {
        self.n_models * self.heads() * self.per_head()
    }

    /// Numbers of one prompt.
    pub fn per_prompt(&self) -> usize {
        self.levels() + self.pairs.len() * self.heads() * self.per_change()
    }

    /// First number of a head of a model.
    pub fn level(&self, model: usize, layer: usize, head: usize) -> usize {
        ((model * self.n_layers + layer) * self.n_heads + head) * self.per_head()
    }

    /// First number of a head of a pair.
    pub fn change(&self, pair: usize, layer: usize, head: usize) -> usize {
        self.levels() + ((pair * self.n_layers + layer) * self.n_heads + head) * self.per_change()
    }

    /// The number of a measure of a span.
    pub fn measure(
        &self,
        model: usize,
        (layer, head): (usize, usize),
        span: usize,
        measure: Measure,
    ) -> usize {
        self.level(model, layer, head) + span * Measure::ALL.len() + measure as usize
    }

    /// The number of a part of a span's change of scores.
    pub fn score_part(&self, pair: usize, (layer, head): (usize, usize), span: usize, part: usize) -> usize {
        self.change(pair, layer, head) + span * self.score_parts.len() + part
    }

    /// The number of a part of a change of the write.
    pub fn write_part(&self, pair: usize, (layer, head): (usize, usize), part: usize) -> usize {
        self.change(pair, layer, head) + self.n_spans * self.score_parts.len() + part
    }
}
