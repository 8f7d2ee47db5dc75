//! What is looked for in activations: keys of the prompts, and each model's own decision.

use super::settings::wrong;
use crate::error::Result;
use crate::subject::{Prompt, Subject};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// The target that is each model's own.
pub(crate) const DECISION: &str = "decision";

/// What kind of label.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Two classes; probes give log-odds of the second.
    Classes(String, String),
    /// A number.
    Number,
}

/// A label of every prompt, or of some.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Target {
    pub name: String,
    pub kind: Kind,
    /// One list for all models, or one for each: 1 for the second class, 0 for the first, or the number; `None` for a prompt
    /// without the label.
    values: Vec<Vec<Option<f64>>>,
}

impl Target {
    /// Labels of all prompts on one model.
    pub fn values(&self, model: usize) -> &[Option<f64>] {
        &self.values[model.min(self.values.len() - 1)]
    }

    pub fn is_classes(&self) -> bool {
        matches!(self.kind, Kind::Classes(..))
    }

    /// The prompts that have the label; the same for all models.
    pub fn labelled(&self) -> Vec<usize> {
        let values = &self.values[0];
        (0..values.len()).filter(|&i| values[i].is_some()).collect()
    }
}

/// A key's value of one prompt; null and what is neither text, number nor truth value count as missing.
fn value_of(prompt: &Prompt, key: &str) -> Option<Value> {
    if key == "scenario" && !prompt.scenario().is_empty() {
        return Some(Value::from(prompt.scenario()));
    }
    prompt.item.rest.get(key).filter(|v| v.is_string() || v.is_number() || v.is_boolean()).cloned()
}

/// A key as a target; why not, where it can't be one.
pub(crate) fn from_key(prompts: &[Prompt], key: &str) -> std::result::Result<Target, String> {
    let found: Vec<Option<Value>> = prompts.iter().map(|p| value_of(p, key)).collect();
    // Written out, so that they can be compared; numbers are compared as numbers below.
    let text = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let distinct: BTreeSet<String> = found.iter().flatten().map(text).collect();
    let numbers: Option<Vec<Option<f64>>> =
        found.iter().map(|v| v.as_ref().map_or(Some(None), |v| v.as_f64().map(Some))).collect();
    let many = distinct.len();
    if many == 0 {
        return Err("no prompt has it".to_owned());
    }
    if many == 1 {
        return Err("it is the same in all prompts that have it".to_owned());
    }
    let target = |kind, values| Target { name: key.to_owned(), kind, values: vec![values] };
    if many == 2 {
        let mut names: Vec<String> = distinct.into_iter().collect();
        if let Some(numbers) = &numbers {
            let least = numbers.iter().flatten().copied().fold(f64::INFINITY, f64::min);
            names.sort_by_key(|name| name.parse() != Ok(least));
        }
        let one = |v: &Option<Value>| v.as_ref().map(|v| f64::from(u8::from(text(v) == names[1])));
        let values = found.iter().map(one).collect();
        return Ok(target(Kind::Classes(names[0].clone(), names[1].clone()), values));
    }
    match numbers {
        Some(values) => Ok(target(Kind::Number, values)),
        None => Err(format!("it has {many} values; a probe needs two classes or numbers")),
    }
}

/// Whether two prompts of one template differ in the label, or no template has two prompts.
fn varies_within_templates(prompts: &[Prompt], target: &Target) -> bool {
    let mut seen: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (prompt, value) in prompts.iter().zip(target.values(0)) {
        if let Some(value) = value {
            seen.entry(prompt.item.cluster()).or_default().push(*value);
        }
    }
    let differ = |values: &Vec<f64>| values.iter().any(|v| *v != values[0]);
    seen.values().any(differ) || seen.values().all(|values| values.len() == 1)
}

/// Names of keys that can be targets, and those that are by themselves: what a template does not settle.
fn usable(prompts: &[Prompt]) -> (Vec<String>, Vec<Target>) {
    let keys: BTreeSet<&String> = prompts.iter().flat_map(|p| p.item.rest.keys()).collect();
    let found: Vec<Target> = keys.into_iter().filter_map(|key| from_key(prompts, key).ok()).collect();
    let names = found.iter().map(|t| t.name.clone()).collect();
    (names, found.into_iter().filter(|t| varies_within_templates(prompts, t)).collect())
}

/// Refuses names that are no targets.
pub(super) fn check(names: &[String], subject: &Subject) -> Result<()> {
    for name in names.iter().filter(|name| *name != DECISION) {
        if let Err(why) = from_key(&subject.prompts, name) {
            let (known, _) = usable(&subject.prompts);
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            return wrong(format!(
                "target `{name}` can't be probed: {why}; targets are {DECISION}, and of the keys of the prompts: {known}"
            ));
        }
    }
    Ok(())
}

/// The targets of these names, or all that suggest themselves. `deltas` gives every model's delta on every prompt; it is asked
/// only where the decision is a target.
pub(super) fn targets(
    names: &[String],
    subject: &Subject,
    deltas: impl FnOnce() -> Result<Vec<Vec<f64>>>,
) -> Result<Vec<Target>> {
    check(names, subject)?;
    let prompts = &subject.prompts;
    if names.is_empty() {
        let (_, mut found) = usable(prompts);
        found.push(decision(subject, &deltas()?));
        return Ok(found);
    }
    let deltas = if names.iter().any(|name| name == DECISION) { deltas()? } else { Vec::new() };
    let mut found: Vec<Target> = Vec::new();
    for name in names {
        if found.iter().all(|t| t.name != *name) {
            let target =
                if name == DECISION { Ok(decision(subject, &deltas)) } else { from_key(prompts, name) };
            found.extend(target);
        }
    }
    Ok(found)
}

/// What each model itself prefers: the second answer where delta is positive.
pub(crate) fn decision(subject: &Subject, deltas: &[Vec<f64>]) -> Target {
    let of_model = |deltas: &Vec<f64>| deltas.iter().map(|d| Some(f64::from(u8::from(*d > 0.0)))).collect();
    let (a, b) = (subject.meanings.a.clone(), subject.meanings.b.clone());
    Target {
        name: DECISION.to_owned(),
        kind: Kind::Classes(a, b),
        values: deltas.iter().map(of_model).collect(),
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::{Kind, Target};

    /// Two classes, the same for all models.
    pub fn classes(of: Vec<bool>) -> Target {
        let values = of.into_iter().map(|second| Some(f64::from(u8::from(second)))).collect();
        Target {
            name: "t".to_owned(),
            kind: Kind::Classes("a".to_owned(), "b".to_owned()),
            values: vec![values],
        }
    }
}
