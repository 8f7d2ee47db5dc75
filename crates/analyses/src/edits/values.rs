//! What edits take from the models without edits: values of places on all prompts and spellings, differences at decision points.

use super::{Asked, ByRow, How, Places};
use crate::answer_tree::{AnswerTree, Spelling};
use crate::error::Result;
use crate::interventions::Unit;
use crate::subject::Subject;
use lorascope_engine::{Capture, HookPoint, Hooks, ModelSpec};
use std::collections::{BTreeMap, BTreeSet};

/// Values that were read.
pub(super) struct Values {
    /// Tokens of every prompt up to its decision point.
    pub decisions: BTreeSet<Vec<u32>>,
    places: Places,
    spec: ModelSpec,
}

impl Values {
    /// Reads everything that edits need, all of it in one run.
    pub fn of(subject: &Subject, asked: &[Asked]) -> Result<Self> {
        let mut wanted: BTreeMap<usize, BTreeSet<HookPoint>> = BTreeMap::new();
        for asked in asked {
            let Asked::Change { unit, how, .. } = asked else { continue };
            let sources = match *how {
                How::Zero => Vec::new(),
                How::Patch { source } => vec![source],
                How::Steer { plus, minus, .. } => vec![plus, minus],
            };
            for source in sources {
                wanted.entry(source).or_default().insert(unit.point());
            }
        }
        let primary = subject.primary_pairs()?;
        let decisions = subject.prompts.iter().zip(&primary).map(|(p, &pair)| p.stem(pair)).collect();
        let mut values = Self { decisions, places: Places::new(), spec: subject.model.spec().clone() };
        for (model, points) in wanted {
            values.read(subject, model, &points.into_iter().collect::<Vec<_>>())?;
        }
        Ok(values)
    }

    /// All rows that scoring a prompt runs: those of the prompt and of all spellings of its answers.
    fn read(&mut self, subject: &Subject, model: usize, points: &[HookPoint]) -> Result<()> {
        for block in subject.blocks() {
            let mut spellings = Vec::new();
            for prompt in block.iter().map(|&i| &subject.prompts[i]) {
                let answers = prompt.answers.a.iter().chain(&prompt.answers.b);
                spellings.extend(answers.map(|answer| Spelling {
                    model,
                    prompt: &prompt.tokens.ids,
                    answer,
                }));
            }
            let tree = AnswerTree::new(&self.spec, &spellings)?;
            let batch = tree.batch();
            let rows: Vec<usize> = (0..batch.n_rows()).collect();
            let captures = points.iter().map(|&point| Capture { point, rows: rows.clone() }).collect();
            let run = subject.model.run(batch, &Hooks { captures, edits: Vec::new() }, &[])?;
            let names: Vec<Vec<u32>> = rows.iter().map(|&row| batch.tokens_to(row)).collect();
            for (&point, values) in points.iter().zip(run.captures) {
                self.places.entry((model, point)).or_default().extend(names.iter().cloned().zip(values));
            }
        }
        Ok(())
    }

    /// What a model has at a unit, for every row.
    pub fn of_unit(&self, model: usize, unit: &Unit) -> ByRow {
        let units = unit.values(&self.spec, 0);
        let own = |(tokens, values): (&Vec<u32>, &Vec<f32>)| (tokens.clone(), values[units.clone()].to_vec());
        self.places[&(model, unit.point())].iter().map(own).collect()
    }

    /// `strength` times the mean over prompts, in f64, of the difference of two models at decision points.
    pub fn difference(&self, unit: &Unit, plus: usize, minus: usize, strength: f64) -> Vec<f32> {
        let [plus, minus] = [plus, minus].map(|model| &self.places[&(model, unit.point())]);
        let mut sum = vec![0.0f64; self.spec.d_model];
        for tokens in &self.decisions {
            for ((s, p), m) in sum.iter_mut().zip(&plus[tokens]).zip(&minus[tokens]) {
                *s += f64::from(*p) - f64::from(*m);
            }
        }
        let n = self.decisions.len() as f64;
        sum.into_iter().map(|s| (strength * s / n) as f32).collect()
    }
}
