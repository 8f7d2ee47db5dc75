//! Which positions of which documents a lens is trained, chosen and judged on.
//!
//! Whole documents are set apart, never single positions: neighbours in one text are near copies of one another. The study's
//! own prompts have no part in training.

use super::settings::Settings;
use super::wrong;
use crate::error::Result;
use lorascope_engine::{Batch, ModelSpec};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Tokens of a document that are read at most: states of a block of documents are in memory together.
pub(super) const LONGEST: usize = 1024;

/// Of so many documents …
const SHARE: usize = 20;
/// … so many are held out …
const HELDOUT: usize = 3;
/// … and so many are for choosing penalty and steps.
const VALIDATION: usize = 2;

/// Fewest documents that training, choosing and judging can share between them.
pub(super) const FEWEST: usize = 10;

/// What a document serves for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Split {
    /// Maps are fitted to it.
    Train,
    /// Penalty and steps are chosen by it.
    Validation,
    /// Nothing is chosen by it.
    Heldout,
}

impl Split {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Heldout];
}

/// A position of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub document: usize,
    pub position: usize,
}

/// The split of the documents, and the positions sampled from each part.
#[derive(Debug)]
pub(super) struct Plan {
    /// Tokens of the documents that are read, cut to what the model and this analysis read at most.
    pub documents: Vec<Vec<u32>>,
    /// One a document.
    pub splits: Vec<Split>,
    /// Sampled positions by document and position.
    pub places: Vec<Place>,
    /// For each part, which of the places belong to it, as indices into `places`, in random order.
    pub parts: [Vec<usize>; 3],
}

impl Plan {
    /// Splits and samples `documents`, given as tokens.
    pub fn new(
        spec: &ModelSpec,
        mut documents: Vec<Vec<u32>>,
        settings: &Settings,
        seed: u64,
    ) -> Result<Self> {
        documents.iter_mut().for_each(|d| d.truncate(spec.n_ctx.min(LONGEST)));
        documents.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        documents.truncate(enough(&documents, settings.rows));
        let splits = split(documents.len());
        let rows = distinct_rows(spec, &documents, &splits)?;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let most = [settings.rows, settings.validation_rows, settings.heldout_rows];
        let mut chosen: Vec<(Place, Split, usize)> = Vec::new();
        for (part, most) in Split::ALL.into_iter().zip(most) {
            let mut found: Vec<Place> = rows.values().filter(|r| r.0 == part).map(|r| r.1).collect();
            if part == Split::Train && found.len() <= spec.d_model {
                return wrong(format!(
                    "the text has {} positions to train on, but a map of this model has {} inputs; give a longer text (or \
                     more of it)",
                    found.len(),
                    spec.d_model + 1
                ));
            }
            found.shuffle(&mut rng);
            found.truncate(most);
            chosen.extend(found.into_iter().enumerate().map(|(i, place)| (place, part, i)));
        }
        chosen.sort_unstable_by_key(|c| c.0);
        let of = |part: Split| {
            let mut which: Vec<(usize, usize)> =
                chosen.iter().enumerate().filter(|(_, c)| c.1 == part).map(|(at, c)| (c.2, at)).collect();
            which.sort_unstable();
            which.into_iter().map(|w| w.1).collect()
        };
        let parts = Split::ALL.map(of);
        Ok(Self { documents, splits, places: chosen.into_iter().map(|c| c.0).collect(), parts })
    }

    /// Places of a part.
    pub fn part(&self, part: Split) -> &[usize] {
        &self.parts[part as usize]
    }

    /// Number of documents of a part.
    pub fn n_documents(&self, part: Split) -> usize {
        self.splits.iter().filter(|s| **s == part).count()
    }
}

/// One place for each distinct beginning of a document. Documents that begin alike share states, and a state that any training
/// document has is a training state.
fn distinct_rows(
    spec: &ModelSpec,
    documents: &[Vec<u32>],
    splits: &[Split],
) -> Result<BTreeMap<usize, (Split, Place)>> {
    let sequences: Vec<(usize, &[u32])> = documents.iter().map(|d| (0, d.as_slice())).collect();
    let batch = Batch::new(spec, &sequences)?;
    let mut rows: BTreeMap<usize, (Split, Place)> = BTreeMap::new();
    for (document, tokens) in documents.iter().enumerate() {
        // Position 0 has seen nothing, and in many models its state is a giant that tells nothing about the others.
        for position in 1..tokens.len() {
            let row = batch.row_of(document, position).unwrap_or_else(|| unreachable!("it is in the batch"));
            let here = rows.entry(row).or_insert((splits[document], Place { document, position }));
            if splits[document] < here.0 {
                *here = (splits[document], Place { document, position });
            }
        }
    }
    Ok(rows)
}

/// How many documents, from the first on, give `rows` positions to train on.
fn enough(documents: &[Vec<u32>], rows: usize) -> usize {
    let mut total = 0;
    let is_enough = |d: &Vec<u32>| {
        total += d.len().saturating_sub(1);
        total * (SHARE - HELDOUT - VALIDATION) >= rows * SHARE
    };
    documents.iter().position(is_enough).map_or(documents.len(), |last| (last + 1).max(FEWEST))
}

/// Held-out documents come first, then those for validation; at least one each.
fn split(n: usize) -> Vec<Split> {
    let (heldout, validation) = ((n * HELDOUT / SHARE).max(1), (n * VALIDATION / SHARE).max(1));
    let part = |i: usize| match i {
        _ if i < heldout => Split::Heldout,
        _ if i < heldout + validation => Split::Validation,
        _ => Split::Train,
    };
    (0..n).map(part).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::tiny;
    use super::*;

    /// Twenty documents of nine tokens that begin alike in pairs.
    fn documents() -> Vec<Vec<u32>> {
        (0..20u32).map(|i| (0..9).map(|t| if t < 4 { i / 2 } else { i + t }).collect()).collect()
    }

    fn plan(rows: usize) -> Result<Plan> {
        let settings = Settings { rows, ..Settings::default() };
        Plan::new(tiny::<f32>("llama").spec(), documents(), &settings, 3)
    }

    #[test]
    fn no_state_serves_two_parts() {
        let plan = plan(1000).expect("a plan");
        assert_eq!(Split::ALL.map(|s| plan.n_documents(s)), [15, 2, 3]);
        let beginning = |&at: &usize| {
            let place = plan.places[at];
            &plan.documents[place.document][..=place.position]
        };
        let mut seen: Vec<&[u32]> = plan.parts.iter().flatten().map(beginning).collect();
        let n = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), n, "a state was sampled twice");
        assert!(plan.places.iter().all(|p| p.position > 0));
        for (part, which) in Split::ALL.into_iter().zip(&plan.parts) {
            // A state that a training document has, too, is a training state.
            let of = |&at: &usize| plan.splits[plan.places[at].document];
            assert!(which.iter().all(|at| of(at) == part));
        }
    }

    #[test]
    fn no_more_is_read_than_is_asked_for() {
        let few = plan(70).expect("a plan");
        assert!(few.documents.len() < 20 && few.part(Split::Train).len() <= 70);
        assert!(few.documents.len() >= FEWEST);
    }

    #[test]
    fn a_text_with_fewer_positions_than_a_map_has_inputs_is_refused() {
        let short = documents().into_iter().map(|d| d[..3].to_vec()).collect();
        let said = Plan::new(tiny::<f32>("llama").spec(), short, &Settings::default(), 3);
        let said = said.expect_err("too short").to_string();
        assert!(said.contains("give a longer text"), "{said}");
    }
}
