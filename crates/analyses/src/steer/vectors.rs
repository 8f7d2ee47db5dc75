//! Steering vectors: differences of means, each from one half of the templates for the other.

use super::directions::{cosine, norm, rng};
use super::settings::{Settings, wrong};
use crate::activations::Place;
use crate::circuit::prompts::shuffle;
use crate::error::Result;
use crate::linear::{Split, grouped_folds};
use crate::probe::targets::{DECISION, Kind, Target, decision, from_key};
use crate::subject::Subject;
use lorascope_engine::Mat;

/// Name of the contrast between a source and the base.
pub(super) const MODELS: &str = "models";

/// Stream of the random groups; places have smaller numbers.
const GROUPS: u64 = 1 << 24;

/// What vectors are made from, the same at every place.
#[derive(Debug)]
pub(super) struct Recipe {
    pub source: usize,
    /// [`MODELS`], or a key of the prompts.
    pub contrast: String,
    /// What is subtracted, and what from.
    pub minus: String,
    pub plus: String,
    /// Models that are steered.
    pub targets: Vec<usize>,
    /// Whether each prompt is of the second class; `None` where models are contrasted.
    classes: Option<Vec<Option<bool>>>,
    /// What is made from `fit` is added on `predict`.
    pub halves: Vec<Split>,
    /// All prompts that take part, ascending.
    pub prompts: Vec<usize>,
    /// Why there can be no vector.
    pub problem: Option<String>,
    /// For each half and draw, two random groups of its prompts.
    groups: Vec<Vec<(Vec<usize>, Vec<usize>)>>,
}

impl Recipe {
    fn new(
        subject: &Subject,
        settings: &Settings,
        seed: u64,
        (source, contrast): (usize, &str),
        target: Option<&Target>,
    ) -> Self {
        let prompts = target.map_or_else(|| (0..subject.prompts.len()).collect(), Target::labelled);
        let clusters: Vec<&str> = subject.prompts.iter().map(|p| p.item.cluster()).collect();
        let classes = target.map(|t| t.values(source).iter().map(|v| v.map(|v| v == 1.0)).collect());
        let mut halves = grouped_folds(&prompts, &clusters, 2, seed);
        if halves.len() < 2 {
            // With one template there is nothing else to test on.
            halves = vec![Split { fit: prompts.clone(), predict: prompts.clone() }];
        }
        let (minus, plus) = match target.map(|t| &t.kind) {
            Some(Kind::Classes(first, second)) => (first.clone(), second.clone()),
            _ => (subject.model.name(0).to_owned(), subject.model.name(source).to_owned()),
        };
        let mut recipe = Self {
            source,
            contrast: contrast.to_owned(),
            minus,
            plus,
            targets: vec![source],
            classes,
            problem: None,
            groups: Vec::new(),
            halves,
            prompts,
        };
        let lacks = |half: &Split| recipe.sides(&half.fit).into_iter().any(|side| side.is_empty());
        if recipe.halves.iter().any(lacks) {
            recipe.problem = Some("a half of the templates has prompts of one class only".to_owned());
        }
        let of_half = |(h, half): (usize, &Split)| {
            let mut rng = rng(seed, GROUPS + h as u64);
            let n_minus =
                if recipe.classes.is_some() { recipe.sides(&half.fit)[0].len() } else { half.fit.len() / 2 };
            let draw = |_| {
                let mut order = half.fit.clone();
                shuffle(&mut order, &mut rng);
                let plus = order.split_off(n_minus.min(order.len()));
                (order, plus)
            };
            (0..settings.shuffled).map(draw).collect()
        };
        recipe.groups = recipe.halves.iter().enumerate().map(of_half).collect();
        recipe
    }

    /// Prompts behind the subtracted mean, and behind the other.
    pub fn sides(&self, which: &[usize]) -> [Vec<usize>; 2] {
        let side = |second: bool| match &self.classes {
            None => which.to_vec(),
            Some(classes) => which.iter().copied().filter(|&p| classes[p] == Some(second)).collect(),
        };
        [side(false), side(true)]
    }

    /// The half that a prompt is tested in.
    pub fn half_of(&self, prompt: usize) -> usize {
        let found = self.halves.iter().position(|half| half.predict.binary_search(&prompt).is_ok());
        found.unwrap_or_else(|| unreachable!("every prompt is tested in one half"))
    }

    /// Activations are rows `model · n + prompt`.
    fn difference(&self, activations: &Mat<f32>, n: usize, which: &[usize]) -> Vec<f64> {
        let [minus, plus] = self.sides(which);
        let own = self.source * n;
        // Models are contrasted on the same prompts; the base is the first.
        let other = if self.classes.is_none() { 0 } else { own };
        mean_difference(activations, &shifted(&minus, other), &shifted(&plus, own))
    }
}

fn shifted(prompts: &[usize], by: usize) -> Vec<usize> {
    prompts.iter().map(|p| by + p).collect()
}

/// Mean of some rows minus mean of others, each at least one.
fn mean_difference(rows: &Mat<f32>, minus: &[usize], plus: &[usize]) -> Vec<f64> {
    let mean = |which: &[usize]| -> Vec<f64> {
        let mut sum = vec![0.0; rows.cols];
        for &row in which {
            sum.iter_mut().zip(rows.row(row)).for_each(|(s, &v)| *s += f64::from(v));
        }
        sum.into_iter().map(|s| s / which.len() as f64).collect()
    };
    mean(plus).into_iter().zip(mean(minus)).map(|(p, m)| p - m).collect()
}

/// All recipes of the settings. `deltas` gives every model's delta on every prompt; it is asked only where the decision is a contrast.
pub(super) fn recipes(
    subject: &Subject,
    settings: &Settings,
    seed: u64,
    deltas: impl Fn() -> Result<Vec<Vec<f64>>>,
) -> Result<Vec<Recipe>> {
    let (sources, targets) = settings.between_models(subject)?;
    let between = |&source: &usize| Recipe {
        targets: targets.clone(),
        ..Recipe::new(subject, settings, seed, (source, MODELS), None)
    };
    let mut found: Vec<Recipe> = sources.iter().map(between).collect();
    for (i, name) in settings.contrast.iter().enumerate() {
        if settings.contrast[..i].contains(name) {
            continue;
        }
        let target =
            if name == DECISION { decision(subject, &deltas()?) } else { from_prompts(subject, name)? };
        for source in settings.within_models(subject)? {
            found.push(Recipe::new(subject, settings, seed, (source, name), Some(&target)));
        }
    }
    Ok(found)
}

fn from_prompts(subject: &Subject, name: &str) -> Result<Target> {
    match from_key(&subject.prompts, name) {
        Ok(target) if target.is_classes() => Ok(target),
        Ok(_) => wrong(format!("contrast `{name}` has more than two values; a vector needs two classes")),
        Err(why) => wrong(format!("contrast `{name}` is no contrast: {why}")),
    }
}

/// Refuses settings from which no vector can come.
pub(super) fn check(subject: &Subject, settings: &Settings) -> Result<()> {
    let (sources, _) = settings.between_models(subject)?;
    settings.within_models(subject)?;
    for name in settings.contrast.iter().filter(|name| *name != DECISION) {
        from_prompts(subject, name)?;
    }
    if sources.is_empty() && settings.contrast.is_empty() {
        return wrong(
            "there is no vector to make: the base does not differ from itself; load an adapter with `--adapter NAME=FOLDER`, or \
             give a contrast between prompts"
                .to_owned(),
        );
    }
    Ok(())
}

/// The vectors of a recipe at one place.
#[derive(Debug)]
pub(super) struct Made {
    pub place: Place,
    /// From all prompts.
    pub whole: Vec<f32>,
    pub norm: f64,
    /// Divided by the mean length of the source's activations; `None` where they are zero.
    pub relative_norm: Option<f64>,
    /// For each half, the vector that is added on it.
    pub halves: Vec<Vec<f32>>,
    pub half_norms: Vec<f64>,
    pub half_cosine: Option<f64>,
    /// For each draw and half, a direction of length 1 between random groups of prompts; nothing where groups are empty or do not
    /// differ.
    pub shuffled: Vec<Vec<Vec<f64>>>,
}

impl Made {
    /// From the activations of all models on all prompts at the place, rows `model · n + prompt`. The recipe has no problem.
    pub fn new(recipe: &Recipe, place: Place, activations: &Mat<f32>, n: usize) -> Self {
        let narrow = |v: &[f64]| v.iter().map(|&v| v as f32).collect::<Vec<f32>>();
        let whole = recipe.difference(activations, n, &recipe.prompts);
        let halves: Vec<Vec<f64>> =
            recipe.halves.iter().map(|half| recipe.difference(activations, n, &half.fit)).collect();
        let length = |&p: &usize| {
            let row = activations.row(recipe.source * n + p);
            norm(&row.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>())
        };
        let mean_length = recipe.prompts.iter().map(length).sum::<f64>() / recipe.prompts.len() as f64;
        let own = recipe.source * n;
        let unit = |(minus, plus): &(Vec<usize>, Vec<usize>)| -> Option<Vec<f64>> {
            if minus.is_empty() || plus.is_empty() {
                return None;
            }
            let direction = mean_difference(activations, &shifted(minus, own), &shifted(plus, own));
            let length = norm(&direction);
            (length > 0.0).then(|| direction.into_iter().map(|v| v / length).collect())
        };
        let n_draws = recipe.groups.first().map_or(0, Vec::len);
        let draw = |k: usize| recipe.groups.iter().map(|of_half| unit(&of_half[k])).collect();
        let shuffled: Option<Vec<Vec<Vec<f64>>>> = (0..n_draws).map(draw).collect();
        Self {
            place,
            norm: norm(&whole),
            relative_norm: (mean_length > 0.0).then(|| norm(&whole) / mean_length),
            whole: narrow(&whole),
            half_norms: halves.iter().map(|half| norm(half)).collect(),
            half_cosine: match &halves[..] {
                [one, other] => cosine(one, other),
                _ => None,
            },
            halves: halves.iter().map(|half| narrow(half)).collect(),
            shuffled: shuffled.unwrap_or_default(),
        }
    }

    /// Whether there is nothing to add.
    pub fn does_nothing(&self) -> bool {
        self.norm == 0.0 && self.half_norms.iter().all(|n| *n == 0.0)
    }
}
