//! What edits take from the models without edits: values of places on all prompts and spellings, differences at decision points.

use super::{Asked, ByRow, EditPosition, How, Places};
use crate::answer_tree::{AnswerTree, Spelling};
use crate::error::Result;
use crate::interventions::Unit;
use crate::subject::Subject;
use lorascope_engine::{Batch, Capture, HookPoint, Hooks, ModelSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Values that were read.
pub(super) struct Values {
    /// Tokens of every prompt up to its decision point.
    stems: Vec<Vec<u32>>,
    places: Places,
    spec: ModelSpec,
}

/// Which rows of the prompts an edit needs values of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rows {
    /// Those of decision points.
    Decisions,
    /// All that scoring the prompts runs.
    All,
}

impl Values {
    /// Reads everything that edits need, in one run of each model.
    pub fn of(subject: &Subject, asked: &[Asked]) -> Result<Self> {
        let mut wanted: BTreeMap<usize, (Rows, BTreeSet<HookPoint>)> = BTreeMap::new();
        for asked in asked {
            let Asked::Change { unit, how, models, position } = asked else { continue };
            let (sources, rows) = match *how {
                How::Zero => (Vec::new(), Rows::Decisions),
                How::Mean => (models.clone(), Rows::All),
                How::Patch { source } if *position == EditPosition::Decision => {
                    (vec![source], Rows::Decisions)
                }
                How::Patch { source } => (vec![source], Rows::All),
                How::Steer { plus, minus, .. } => (vec![plus, minus], Rows::Decisions),
            };
            for source in sources {
                let (of_model, points) = wanted.entry(source).or_insert((rows, BTreeSet::new()));
                *of_model = rows.max(*of_model);
                points.insert(unit.point());
            }
        }
        let primary = subject.primary_pairs()?;
        let stems = subject.prompts.iter().zip(&primary).map(|(p, &pair)| p.stem(pair)).collect();
        let mut values = Self { stems, places: Places::new(), spec: subject.model.spec().clone() };
        for (model, (rows, points)) in wanted {
            values.read(subject, model, rows, &points.into_iter().collect::<Vec<_>>())?;
        }
        Ok(values)
    }

    /// Tokens of every prompt up to its decision point.
    pub fn decisions(&self) -> BTreeSet<Vec<u32>> {
        self.stems.iter().cloned().collect()
    }

    fn read(&mut self, subject: &Subject, model: usize, rows: Rows, points: &[HookPoint]) -> Result<()> {
        for block in subject.blocks() {
            let (batch, rows) = match rows {
                Rows::Decisions => {
                    let stems: Vec<(usize, &[u32])> =
                        block.iter().map(|&i| (model, self.stems[i].as_slice())).collect();
                    let batch = Batch::new(&self.spec, &stems)?;
                    let ends: BTreeSet<usize> =
                        (0..stems.len()).filter_map(|s| batch.row_of(s, stems[s].1.len() - 1)).collect();
                    (batch, ends.into_iter().collect())
                }
                Rows::All => {
                    let batch = self.scored(subject, model, &block)?;
                    let all: Vec<usize> = (0..batch.n_rows()).collect();
                    (batch, all)
                }
            };
            let captures = points.iter().map(|&point| Capture { point, rows: rows.clone() }).collect();
            let run = subject.model.run(&batch, &Hooks { captures, edits: Vec::new() }, &[])?;
            let names: Vec<Vec<u32>> = rows.iter().map(|&row| batch.tokens_to(row)).collect();
            for (&point, values) in points.iter().zip(run.captures) {
                self.places.entry((model, point)).or_default().extend(names.iter().cloned().zip(values));
            }
        }
        Ok(())
    }

    /// What scoring prompts runs: the prompts and all spellings of their answers.
    fn scored(&self, subject: &Subject, model: usize, block: &[usize]) -> Result<Batch> {
        let mut spellings = Vec::new();
        for prompt in block.iter().map(|&i| &subject.prompts[i]) {
            let answers = prompt.answers.a.iter().chain(&prompt.answers.b);
            spellings.extend(answers.map(|answer| Spelling { model, prompt: &prompt.tokens.ids, answer }));
        }
        Ok(AnswerTree::new(&self.spec, &spellings)?.batch().clone())
    }

    /// What a model has at a unit, for every row.
    pub fn of_unit(&self, model: usize, unit: &Unit) -> ByRow {
        let units = unit.values(&self.spec, 0);
        let own = |(tokens, values): (&Vec<u32>, &Vec<f32>)| (tokens.clone(), values[units.clone()].to_vec());
        self.places[&(model, unit.point())].iter().map(own).collect()
    }

    /// A model's mean at a unit, in f64: over the tokens of each prompt up to its decision point, and over prompts. The first token is
    /// left out where there are others: it has nothing before it, heads rest on it, and its values are of another size than all others'
    /// (Xiao et al. 2023; Sun et al. 2024).
    pub fn mean(&self, model: usize, unit: &Unit) -> Vec<f32> {
        let (units, rows) = (unit.values(&self.spec, 0), &self.places[&(model, unit.point())]);
        let mut mean = vec![0.0f64; units.len()];
        for stem in &self.stems {
            let first = if stem.len() > 1 { 2 } else { 1 };
            let share = 1.0 / (self.stems.len() * (stem.len() + 1 - first)) as f64;
            for row in (first..=stem.len()).filter_map(|n| rows.get(&stem[..n])) {
                mean.iter_mut().zip(&row[units.clone()]).for_each(|(m, v)| *m += share * f64::from(*v));
            }
        }
        mean.into_iter().map(|v| v as f32).collect()
    }

    /// `strength` times the mean over prompts, in f64, of the difference of two models at decision points.
    pub fn difference(&self, unit: &Unit, plus: usize, minus: usize, strength: f64) -> Vec<f32> {
        let [plus, minus] = [plus, minus].map(|model| &self.places[&(model, unit.point())]);
        let mut sum = vec![0.0f64; self.spec.d_model];
        let decisions = self.decisions();
        for tokens in &decisions {
            for ((s, p), m) in sum.iter_mut().zip(&plus[tokens]).zip(&minus[tokens]) {
                *s += f64::from(*p) - f64::from(*m);
            }
        }
        let n = decisions.len() as f64;
        sum.into_iter().map(|s| (strength * s / n) as f32).collect()
    }
}
