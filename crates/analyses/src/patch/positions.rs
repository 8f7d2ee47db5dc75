//! Positions by name, and which prompt is patched into which.

use super::settings::{PositionName, Settings, refused};
use crate::error::Result;
use crate::interventions::{Sweep, distinct};
use crate::subject::{Prompt, Subject};
use std::collections::BTreeMap;

/// Positions of one prompt that are patched together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Where {
    /// Name in the table.
    pub label: String,
    /// At least one, ascending, none after the decision point.
    pub positions: Vec<usize>,
}

/// What the names stand for in one prompt whose decision point is at `decision`. A span that the prompt does not have gives
/// nothing.
pub(super) fn positions(names: &[PositionName], prompt: &Prompt, decision: usize) -> Result<Vec<Where>> {
    let one = |label: String, position: usize| Where { label, positions: vec![position] };
    let mut found = Vec::new();
    for name in names {
        match name {
            PositionName::Number(n) if *n > decision => {
                return Err(refused(format!(
                    "position {n} comes after the decision point of prompt `{}`, which is {decision}",
                    prompt.id()
                )));
            }
            PositionName::Number(n) => found.push(one(n.to_string(), *n)),
            PositionName::Name(name) => match name.as_str() {
                "decision" => found.push(one(name.clone(), decision)),
                "all" => found.push(Where { label: name.clone(), positions: (0..=decision).collect() }),
                "each" => found.extend((0..=decision).map(|p| one(p.to_string(), p))),
                span => {
                    let parts = prompt.spans.get(span).into_iter().flatten();
                    let mut positions: Vec<usize> =
                        parts.cloned().flatten().filter(|&p| p <= decision).collect();
                    positions.sort_unstable();
                    positions.dedup();
                    if !positions.is_empty() {
                        found.push(Where { label: span.to_owned(), positions });
                    }
                }
            },
        }
    }
    Ok(distinct(found))
}

/// Refuses names that no prompt knows.
pub(super) fn check_names(settings: &Settings, subject: &Subject) -> Result<()> {
    for name in &settings.position {
        let PositionName::Name(name) = name else { continue };
        let known = ["decision", "all", "each"].contains(&name.as_str())
            || subject.prompts.iter().any(|p| p.spans.contains_key(name));
        if !known {
            let spans: std::collections::BTreeSet<&String> =
                subject.prompts.iter().flat_map(|p| p.spans.keys()).collect();
            let spans: Vec<&str> = spans.into_iter().map(String::as_str).collect();
            return Err(refused(format!(
                "`{name}` is not a position: it must be decision, all, each, a number, or a span of the prompts ({})",
                if spans.is_empty() { "they have none".to_owned() } else { spans.join(", ") }
            )));
        }
    }
    Ok(())
}

/// For each prompt that is a target, the prompts whose activations it gets: itself, or, between prompts, its partners.
/// Partners are as long and decide at the same position, so that every position of the one is there in the other.
pub(super) fn partners(settings: &Settings, subject: &Subject, sweep: &Sweep) -> Result<Vec<Vec<usize>>> {
    let prompts = &subject.prompts;
    if settings.between.is_empty() {
        return Ok((0..prompts.len()).map(|i| vec![i]).collect());
    }
    let lengths = |i: usize| (prompts[i].tokens.ids.len(), sweep.decision_position(i));
    type Key<'a> = (&'a str, Option<&'a str>, (usize, usize));
    let mut by_key: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (i, prompt) in prompts.iter().enumerate() {
        let key = (prompt.scenario(), prompt.item.variant.as_deref(), lengths(i));
        by_key.entry(key).or_default().push(i);
    }
    let mut partners = vec![Vec::new(); prompts.len()];
    for pair in &settings.between {
        let (from, to) = pair.split_once(':').unwrap_or((pair, pair));
        let mut n = 0;
        for (i, prompt) in prompts.iter().enumerate().filter(|(_, p)| p.scenario() == to) {
            let key = (from, prompt.item.variant.as_deref(), lengths(i));
            let found = by_key.get(&key).into_iter().flatten().copied().filter(|&s| s != i);
            partners[i].extend(found.clone());
            n += found.count();
        }
        if n == 0 {
            return Err(refused(format!(
                "no prompt of scenario `{from}` has the same variant, number of tokens and decision point as one of \
                 scenario `{to}`"
            )));
        }
    }
    Ok(partners.into_iter().map(distinct).collect())
}
