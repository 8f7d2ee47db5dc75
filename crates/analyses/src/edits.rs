//! Edits of models as users write them: what is switched off, put in from another model, added or muted while questions are asked.
//!
//! An edit changes models, not a question: [`Subject::edit`] makes it stand in the engine ([`lorascope_engine::Standing`]), and every
//! analysis of the subject then sees the edited models, through the passes that it makes anyway. Only places are allowed whose change
//! stays exact in every analysis: heads at `z` and MLPs at their inner values, so that attribution finds what was changed among its
//! components; vectors added to the residual stream, which are components of their own; whole updates of an adapter.
//!
//! What an edit takes from models (values of another model, a direction) it takes from the models without edits.

mod values;

use crate::error::{Error, Result};
use crate::interventions::{PlaceKind, Unit};
use crate::subject::Subject;
use lorascope_engine::{HookPoint, Module, Site, Standing, StandingEdit, StandingOp, StandingRows, Stop};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use values::Values;

/// One edit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ModelEdit {
    /// Sets a head, an MLP or a neuron to zero.
    Zero {
        /// `z:LAYER.HEAD`, `mlp_post:LAYER` or `neuron:LAYER.NEURON`.
        unit: String,
        /// Models that are changed; all where none is named.
        #[serde(default)]
        models: Vec<String>,
        /// At which tokens.
        #[serde(default)]
        position: EditPosition,
    },
    /// Replaces a head, an MLP or a neuron by its mean in the same model: over the tokens of each prompt up to its decision point, the
    /// first aside, and over the prompts.
    Mean {
        /// As for `zero`.
        unit: String,
        /// Models that are changed; all where none is named.
        #[serde(default)]
        models: Vec<String>,
        /// At which tokens.
        #[serde(default)]
        position: EditPosition,
    },
    /// Puts in what another model has there on the same prompt.
    Patch {
        /// As for `zero`.
        unit: String,
        /// The model whose values are taken.
        source: String,
        /// Models that are changed; all but the source where none is named.
        #[serde(default)]
        models: Vec<String>,
        /// At which tokens.
        #[serde(default)]
        position: EditPosition,
    },
    /// Adds `strength` times the difference of two models' residual streams after a layer, at the decision point, mean over prompts.
    Steer {
        /// The layer.
        layer: usize,
        /// The model from which is subtracted.
        plus: String,
        /// The model that is subtracted.
        minus: String,
        /// What the difference is multiplied by.
        strength: f64,
        /// Models that are changed; all where none is named.
        #[serde(default)]
        models: Vec<String>,
        /// At which tokens.
        #[serde(default)]
        position: EditPosition,
    },
    /// Switches updates of adapters off.
    Mute {
        /// The adapters; all where none is named.
        #[serde(default)]
        models: Vec<String>,
        /// Layers; all where none is named.
        #[serde(default)]
        layers: Vec<usize>,
        /// Modules such as `mlp.up_proj`; all where none is named.
        #[serde(default)]
        modules: Vec<String>,
    },
}

impl ModelEdit {
    /// Whether it is made for certain prompts: it needs values or decision points of each.
    pub fn is_of_prompts(&self) -> bool {
        match self {
            Self::Patch { .. } | Self::Mean { .. } => true,
            Self::Zero { position, .. } | Self::Steer { position, .. } => *position == EditPosition::Decision,
            Self::Mute { .. } => false,
        }
    }
}

/// At which tokens an edit happens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EditPosition {
    /// At every token.
    #[default]
    All,
    /// Where the primary pair of answers first differs.
    Decision,
}

impl Subject {
    /// From now on the models are edited so, in place of edits made before. Primary pairs stay those of the models without edits,
    /// so that edited models are asked at the same place.
    ///
    /// # Errors
    /// An edit that names what is not there; models that are shared with another subject.
    pub fn edit(&mut self, edits: &[ModelEdit]) -> Result<()> {
        if edits.is_empty() && self.model.standing().is_empty() {
            return Ok(());
        }
        if !self.model.standing().is_empty() {
            self.change_model(|model| Ok(model.stand(Standing::default())?))?;
            self.forget_decisions();
        }
        let primary = self.primary_pairs()?;
        let standing = standing(self, edits)?;
        self.change_model(|model| Ok(model.stand(standing)?))?;
        self.forget_decisions();
        self.pin_primary_pairs(primary);
        Ok(())
    }

    /// Runs every prompt but its last token on every model and remembers it ([`lorascope_engine::Model::remember`]), for who asks
    /// many questions about few prompts. Gives the number of tokens that had to be run.
    ///
    /// # Errors
    /// Models that are shared with another subject; whatever keeps them from being run.
    pub fn remember_prompts(&mut self, progress: lorascope_engine::Progress) -> Result<usize> {
        let prompts: Vec<Vec<u32>> = self.prompts.iter().map(|p| p.tokens.ids.clone()).collect();
        let n_models = self.model.n_models();
        let begin = |p: &Vec<u32>| p.len() > 1;
        let of_model = |m: usize| prompts.iter().filter(|p| begin(p)).map(move |p| (m, &p[..p.len() - 1]));
        let sequences: Vec<(usize, &[u32])> = (0..n_models).flat_map(of_model).collect();
        if sequences.is_empty() {
            return Ok(0);
        }
        self.change_model(|model| Ok(model.remember(&sequences, progress)?))
    }

    /// From now on this is asked whether runs of the models are to end ([`lorascope_engine::Model::stop_when`]).
    ///
    /// # Errors
    /// Models that are shared with another subject.
    pub fn stop_when(&mut self, stop: Option<Stop>) -> Result<()> {
        self.change_model(|model| {
            model.stop_when(stop);
            Ok(())
        })
    }

    fn change_model<T>(
        &mut self,
        change: impl FnOnce(&mut lorascope_engine::Model<f32>) -> Result<T>,
    ) -> Result<T> {
        let model = Arc::get_mut(&mut self.model).ok_or(Error::SharedModels)?;
        change(model)
    }
}

/// Edits as the engine takes them.
fn standing(subject: &Subject, edits: &[ModelEdit]) -> Result<Standing<f32>> {
    let refused = |i: usize| move |why: String| Error::Edit { number: i + 1, why };
    let mut asked = Vec::with_capacity(edits.len());
    for (i, edit) in edits.iter().enumerate() {
        asked.push(Asked::read(subject, edit).map_err(refused(i))?);
    }
    let values = Values::of(subject, &asked)?;
    let mut standing = Standing::default();
    for asked in asked {
        match asked {
            Asked::Mute(blocks) => standing.muted.extend(blocks),
            Asked::Change { unit, models, position, how } => {
                let units = unit.values(subject.model.spec(), 0);
                let rows = match position {
                    EditPosition::All => StandingRows::All,
                    EditPosition::Decision => StandingRows::After(values.decisions()),
                };
                let mut push = |models, op| {
                    let (point, units, rows) = (unit.point(), units.clone(), rows.clone());
                    standing.edits.push(StandingEdit { models, point, units, rows, op });
                };
                match how {
                    How::Zero => push(models, StandingOp::Scale(0.0)),
                    // Each model has a mean of its own.
                    How::Mean => models
                        .into_iter()
                        .for_each(|model| push(vec![model], StandingOp::Set(values.mean(model, &unit)))),
                    How::Patch { source } => {
                        push(models, StandingOp::SetByRow(values.of_unit(source, &unit)));
                    }
                    How::Steer { plus, minus, strength } => {
                        push(models, StandingOp::Add(values.difference(&unit, plus, minus, strength)));
                    }
                }
            }
        }
    }
    Ok(standing)
}

/// An edit whose names are resolved.
enum Asked {
    Mute(BTreeSet<(usize, usize, Module)>),
    Change { unit: Unit, models: Vec<usize>, position: EditPosition, how: How },
}

/// What a change does.
#[derive(Clone, Copy)]
enum How {
    Zero,
    Mean,
    Patch { source: usize },
    Steer { plus: usize, minus: usize, strength: f64 },
}

type Read<T> = std::result::Result<T, String>;

impl Asked {
    fn read(subject: &Subject, edit: &ModelEdit) -> Read<Self> {
        let change = |unit, models: &[String], but: Option<usize>, position, how| {
            let models = models_or_all(subject, models, but)?;
            Ok(Asked::Change { unit, models, position, how })
        };
        match edit {
            ModelEdit::Zero { unit, models, position } => {
                change(component(subject, unit)?, models, None, *position, How::Zero)
            }
            ModelEdit::Mean { unit, models, position } => {
                change(component(subject, unit)?, models, None, *position, How::Mean)
            }
            ModelEdit::Patch { unit, source, models, position } => {
                let source = model(subject, source)?;
                change(component(subject, unit)?, models, Some(source), *position, How::Patch { source })
            }
            ModelEdit::Steer { layer, plus, minus, strength, models, position } => {
                if !strength.is_finite() {
                    return Err(format!("strength is {strength}; it must be a number"));
                }
                let n = subject.model.spec().n_layers;
                if *layer >= n {
                    return Err(format!("layer {layer} is not there; the model has 0 to {}", n - 1));
                }
                let (plus, minus) = (model(subject, plus)?, model(subject, minus)?);
                if plus == minus {
                    return Err("a direction needs two models that differ".to_owned());
                }
                let unit = Unit { layer: *layer, kind: PlaceKind::Whole(Site::ResidPost), index: 0 };
                change(unit, models, None, *position, How::Steer { plus, minus, strength: *strength })
            }
            ModelEdit::Mute { models, layers, modules } => {
                mute(subject, models, layers, modules).map(Asked::Mute)
            }
        }
    }
}

/// The model of that name.
fn model(subject: &Subject, name: &str) -> Read<usize> {
    let names = subject.model.names();
    let found = names.iter().position(|n| *n == name);
    found.ok_or_else(|| format!("there is no model `{name}`; there are {}", names.join(", ")))
}

fn models_or_all(subject: &Subject, names: &[String], but: Option<usize>) -> Read<Vec<usize>> {
    if names.is_empty() {
        return Ok((0..subject.model.n_models()).filter(|m| Some(*m) != but).collect());
    }
    let mut models = names.iter().map(|n| model(subject, n)).collect::<Read<Vec<usize>>>()?;
    models.sort_unstable();
    models.dedup();
    Ok(models)
}

/// A unit that attribution has as a component, or as a part of one.
fn component(subject: &Subject, given: &str) -> Read<Unit> {
    let unit = Unit::parse(given, subject.model.spec())?;
    match unit.kind {
        PlaceKind::Head(Site::Z) | PlaceKind::Whole(Site::MlpPost) | PlaceKind::Neuron => Ok(unit),
        _ => Err(format!(
            "`{given}` can't be edited so that every analysis stays exact; heads (z:LAYER.HEAD), MLPs (mlp_post:LAYER) and \
             neurons (neuron:LAYER.NEURON) can"
        )),
    }
}

fn mute(
    subject: &Subject,
    models: &[String],
    layers: &[usize],
    modules: &[String],
) -> Read<BTreeSet<(usize, usize, Module)>> {
    let module = |name: &String| {
        let known = || Module::ALL.map(|m| m.to_string()).join(", ");
        let found = Module::ALL.into_iter().find(|m| m.to_string() == *name);
        found.ok_or_else(|| format!("`{name}` is not a module; modules are {}", known()))
    };
    let modules = modules.iter().map(module).collect::<Read<Vec<Module>>>()?;
    let models = models_or_all(subject, models, Some(0))?;
    let mut blocks = BTreeSet::new();
    for which in models {
        let Some(adapter) = which.checked_sub(1).map(|i| &subject.model.adapters()[i]) else {
            return Err("the base has no adapter to mute".to_owned());
        };
        let wanted = |(layer, module): &(usize, Module)| {
            (layers.is_empty() || layers.contains(layer)) && (modules.is_empty() || modules.contains(module))
        };
        let of_model: Vec<(usize, Module)> = adapter.adapted().filter(wanted).collect();
        if of_model.is_empty() {
            return Err(format!("adapter `{}` has no update there", adapter.name));
        }
        blocks.extend(of_model.into_iter().map(|(layer, module)| (which, layer, module)));
    }
    Ok(blocks)
}

/// For each row, by its tokens, a value.
type ByRow = BTreeMap<Vec<u32>, Vec<f32>>;

/// Everything that is read of the models without edits: by model and place.
type Places = BTreeMap<(usize, HookPoint), ByRow>;
