//! Label twins: two prompts that differ only in which label stands for which answer.

use crate::subject::Prompt;
use serde_json::Value;
use std::collections::BTreeMap;

/// Two prompts with the same text but for the labels, whose answers are swapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Twins<'p> {
    /// The key (`label_twins`) that both share.
    pub key: &'p str,
    /// Index of the prompt that comes first in the file.
    pub one: usize,
    /// Index of the other.
    pub other: usize,
}

impl Twins<'_> {
    /// Meaning part: what both labellings share. `one` and `other` are the values of the two prompts.
    pub fn meaning(one: f64, other: f64) -> f64 {
        (one + other) / 2.0
    }

    /// Label part, positive towards the label that is answer B of the first twin.
    pub fn label(one: f64, other: f64) -> f64 {
        (one - other) / 2.0
    }
}

/// All pairs of twins of a prompt set, ordered by key. A key that other than two prompts share, or two whose answers are not
/// each other's, makes no twins.
pub(crate) fn label_twins(prompts: &[Prompt]) -> Vec<Twins<'_>> {
    let mut by_key: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (i, prompt) in prompts.iter().enumerate() {
        if let Some(key) = prompt.item.rest.get("label_twins").and_then(Value::as_str) {
            by_key.entry(key).or_default().push(i);
        }
    }
    let mut twins = Vec::new();
    for (key, found) in by_key {
        let [one, other] = found[..] else { continue };
        let (a, b) = (&prompts[one].answers, &prompts[other].answers);
        if a.text_a == b.text_b && a.text_b == b.text_a {
            twins.push(Twins { key, one, other });
        }
    }
    twins
}
