//! Which named span each token belongs to: every token to exactly one, so that attention over spans adds up to 1.
//!
//! Spans nest (a payoff stands inside a table): a token counts for the innermost span that holds it, the one with the fewest
//! tokens. Tokens of no span are `other`; the first token, on which attention rests that has nothing to read, stands by itself.

use crate::subject::{Prompt, Subject};
use std::collections::{BTreeMap, BTreeSet};

/// The first token, BOS where the model has one.
pub(super) const FIRST: &str = "first_token";
/// Tokens that no span names.
pub(super) const OTHER: &str = "other";

/// Spans of all prompts, and the span of each token.
pub(super) struct Spans {
    /// Named ones in the order in which prompts bring them, then [`OTHER`] and [`FIRST`].
    pub names: Vec<String>,
    /// For each prompt the span of each of its tokens; further positions are `other`.
    of: Vec<Vec<usize>>,
    /// For each prompt and span the number of tokens, without those after the prompt.
    sizes: Vec<Vec<usize>>,
}

impl Spans {
    /// With only these spans; all if there are none.
    pub fn new(subject: &Subject, wanted: &[String]) -> Self {
        let wants = |name: &str| wanted.is_empty() || wanted.iter().any(|w| w == name);
        let mut first: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for prompt in &subject.prompts {
            for (name, ranges) in prompt.spans.iter().filter(|(name, _)| wants(name)) {
                let Some(start) = ranges.iter().map(|r| r.start).min() else { continue };
                let (sum, n) = first.entry(name).or_default();
                (*sum, *n) = (*sum + start, *n + 1);
            }
        }
        // By their mean place; products instead of quotients, so that order is exact.
        let mut named: Vec<(&str, (usize, usize))> = first.into_iter().collect();
        named.sort_by(|(a, (sa, na)), (b, (sb, nb))| (sa * nb).cmp(&(sb * na)).then(a.cmp(b)));
        let named: Vec<&str> = named.into_iter().map(|(name, _)| name).collect();
        let of: Vec<Vec<usize>> = subject.prompts.iter().map(|p| assign(p, &named)).collect();
        let n_spans = named.len() + 2;
        let size = |of: &Vec<usize>| {
            let mut sizes = vec![0; n_spans];
            of.iter().for_each(|&s| sizes[s] += 1);
            sizes
        };
        let names = named.iter().map(|n| (*n).to_owned()).chain([OTHER.to_owned(), FIRST.to_owned()]);
        Self { names: names.collect(), sizes: of.iter().map(size).collect(), of }
    }

    pub fn n(&self) -> usize {
        self.names.len()
    }

    /// How many of them prompts name.
    pub fn n_named(&self) -> usize {
        self.n() - 2
    }

    fn other(&self) -> usize {
        self.n_named()
    }

    /// The span of a position, which may be one of the answer's shared tokens.
    pub fn at(&self, prompt: usize, position: usize) -> usize {
        self.of[prompt].get(position).copied().unwrap_or(self.other())
    }

    /// Whether a prompt has tokens of a span of their own; every prompt has `other`.
    pub fn has(&self, prompt: usize, span: usize) -> bool {
        span >= self.n_named() || self.sizes[prompt][span] > 0
    }

    /// Tokens of named spans, of all prompts.
    pub fn tokens(&self, prompts: &[Prompt]) -> Vec<u32> {
        let mut found = BTreeSet::new();
        for (prompt, of) in prompts.iter().zip(&self.of) {
            let named = of.iter().zip(&prompt.tokens.ids).filter(|(s, _)| **s < self.n_named());
            found.extend(named.map(|(_, token)| *token));
        }
        found.into_iter().collect()
    }
}

/// The span of each token of a prompt.
fn assign(prompt: &Prompt, named: &[&str]) -> Vec<usize> {
    let mut of = vec![(usize::MAX, named.len()); prompt.tokens.ids.len()];
    for (s, name) in named.iter().enumerate() {
        for range in prompt.spans.get(*name).into_iter().flatten() {
            for position in range.clone() {
                if let Some(place) = of.get_mut(position)
                    && range.len() < place.0
                {
                    *place = (range.len(), s);
                }
            }
        }
    }
    if let Some(first) = of.first_mut() {
        first.1 = named.len() + 1;
    }
    of.into_iter().map(|(_, s)| s).collect()
}
