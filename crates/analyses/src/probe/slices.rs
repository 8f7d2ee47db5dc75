//! Single prompts in the figure of accuracy: whether each was predicted rightly, and what stands for it in the dashed lines.
//!
//! The other figures have no values of single prompts: pairs of prompts make an AUC, all of them together an R².

use super::figures::At;
use crate::error::Result;
use crate::slices::with_prompts;
use crate::subject::Subject;
use lorascope_record::Table;
use lorascope_report::{Cell, Figure};
use std::collections::HashMap;

/// A panel: its target and the models that have a curve there, in order.
pub(super) struct Shown {
    pub target: String,
    pub models: Vec<usize>,
}

/// What one probe says of one prompt.
#[derive(Clone, Copy)]
struct Said {
    result: f64,
    baseline: f64,
    control: f64,
}

/// By model, target, layer and prompt.
type Key<'t> = (&'t str, &'t str, i64, &'t str);

/// The figure of accuracy with the values of every prompt; rows are the models of a panel, then the larger class, then shuffled labels.
pub(super) fn sliced(
    figure: Figure,
    subject: &Subject,
    predictions: &Table,
    at: &At,
    layers: &[usize],
    shown: &[Shown],
) -> Result<Figure> {
    let keys = predictions.texts("model")?.into_iter().zip(predictions.texts("target")?);
    let keys = keys.zip(predictions.ints("layer")?).zip(predictions.texts("prompt_id")?);
    let places = predictions.texts("site")?.into_iter().zip(predictions.texts("position")?);
    let values = predictions.floats("result")?.into_iter().zip(predictions.floats("baseline")?);
    let values = values.zip(predictions.floats("control")?);
    let mut said: HashMap<Key, Said> = HashMap::new();
    for (((((model, target), layer), prompt), (site, position)), ((result, baseline), control)) in
        keys.zip(places).zip(values)
    {
        if site == at.site && position == at.position {
            said.insert((model, target, layer, prompt), Said { result, baseline, control });
        }
    }
    Ok(with_prompts(figure, &subject.prompts, |prompt, Cell { panel, row, col }| {
        let Shown { target, models } = &shown[panel];
        let (id, layer) = (subject.prompts[prompt].id(), layers[col] as i64);
        let of = |m: usize| said.get(&(subject.model.name(m), target.as_str(), layer, id)).copied();
        let mean = |value: fn(Said) -> f64| {
            let all: Vec<f64> = models.iter().filter_map(|&m| of(m)).map(value).collect();
            (!all.is_empty()).then(|| all.iter().sum::<f64>() / all.len() as f64)
        };
        match models.get(row) {
            Some(&m) => of(m).map(|s| s.result),
            None if row == models.len() => mean(|s| s.baseline),
            None => mean(|s| s.control),
        }
    }))
}
