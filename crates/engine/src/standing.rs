//! Edits that stand: changes of a model that every run of it honours, whoever asks for the run.
//!
//! A head that is switched off, a vector that is added, a block of an adapter that is muted are a property of the model, not of one
//! question asked of it. [`Model::stand`] sets them, and from then on every pass, there and back, with branches or without, happens
//! under them: they are put before the edits of a run's own hooks, in the one place where those are laid out ([`crate::tap`]). A
//! muted block is an update that the model does not have ([`crate::weights`]). So no analysis knows of them.
//!
//! A branch inherits what its origin had, standing edits included; what it computes anew is edited anew. So a patched run of an
//! edited model has the bits of a whole run under both.
//!
//! Mixtures are no models with a name, so an edited model refuses them.

use crate::adapter::Update;
use crate::batch::{Batch, ModelId};
use crate::branch::{Birth, Stage};
use crate::error::{Error, Result};
use crate::hook::{HookPoint, Site, Width};
use crate::model::Model;
use crate::module::Module;
use crate::number::Number;
use crate::request::{Edit, EditOp};
use crate::spec::ModelSpec;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// Everything that stands.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing<R> {
    /// Edits in the order of application where several concern the same values.
    pub edits: Vec<StandingEdit<R>>,
    /// Updates of adapters that are switched off: model (from 1), layer, module.
    pub muted: BTreeSet<(ModelId, usize, Module)>,
}

impl<R> Default for Standing<R> {
    fn default() -> Self {
        Self { edits: Vec::new(), muted: BTreeSet::new() }
    }
}

/// One edit that stands.
#[derive(Clone, Debug, PartialEq)]
pub struct StandingEdit<R> {
    /// The models that have it.
    pub models: Vec<ModelId>,
    /// A place in a layer that has the same number of values in every row.
    pub point: HookPoint,
    /// Which of its values.
    pub units: Range<usize>,
    /// In which rows.
    pub rows: StandingRows,
    /// What happens to them.
    pub op: StandingOp<R>,
}

/// Rows of an edit. A row is named by the tokens of its sequence up to it, its own included: these decide what a model computes there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StandingRows {
    /// Every row.
    All,
    /// Rows after these tokens.
    After(BTreeSet<Vec<u32>>),
}

/// What a standing edit does.
#[derive(Clone, Debug, PartialEq)]
pub enum StandingOp<R> {
    /// Multiplies; 0 ablates.
    Scale(R),
    /// Adds.
    Add(Vec<R>),
    /// Replaces.
    Set(Vec<R>),
    /// Replaces by values that differ from row to row; a row of the edit for which there are none is an error.
    SetByRow(BTreeMap<Vec<u32>, Vec<R>>),
}

impl<R: Number> Standing<R> {
    /// Whether nothing stands.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty() && self.muted.is_empty()
    }

    /// Whether a model is the same under both.
    pub(crate) fn is_same_for(&self, other: &Self, model: ModelId) -> bool {
        let edits =
            |s: &'_ Self| s.edits.iter().filter(|e| e.models.contains(&model)).cloned().collect::<Vec<_>>();
        let muted = |s: &'_ Self| s.muted.iter().filter(|b| b.0 == model).copied().collect::<Vec<_>>();
        let same = |(a, b): (&StandingEdit<R>, &StandingEdit<R>)| {
            (a.point, &a.units, &a.rows, &a.op) == (b.point, &b.units, &b.rows, &b.op)
        };
        let (own, others) = (edits(self), edits(other));
        muted(self) == muted(other) && own.len() == others.len() && own.iter().zip(&others).all(same)
    }

    /// How many of a sequence's first rows have the same done to them on a model under both.
    pub(crate) fn same_rows(&self, other: &Self, model: ModelId, tokens: &[u32]) -> usize {
        let muted = |s: &'_ Self| s.muted.iter().filter(|b| b.0 == model).copied().collect::<Vec<_>>();
        if muted(self) != muted(other) {
            return 0;
        }
        let at = |s: &'_ Self, row: &[u32]| -> Vec<(HookPoint, Range<usize>, Option<StandingOp<R>>)> {
            let own = s.edits.iter().filter(|e| e.models.contains(&model) && e.rows.have(row));
            own.map(|e| (e.point, e.units.clone(), e.op.at(row))).collect()
        };
        (1..=tokens.len()).take_while(|&n| at(self, &tokens[..n]) == at(other, &tokens[..n])).count()
    }

    /// What is added to a model's residual stream at the last of these tokens, by itself: the layer and the vector of each.
    pub fn added_to_stream<'s>(
        &'s self,
        model: ModelId,
        tokens: &'s [u32],
    ) -> impl Iterator<Item = (usize, &'s [R])> {
        self.edits.iter().filter_map(move |edit| match (edit.point, &edit.op) {
            (
                HookPoint::Layer(
                    layer,
                    Site::ResidPre | Site::AttnOut | Site::ResidMid | Site::MlpOut | Site::ResidPost,
                ),
                StandingOp::Add(vector),
            ) if edit.models.contains(&model) && edit.rows.have(tokens) => Some((layer, vector.as_slice())),
            _ => None,
        })
    }

    /// As edits of the rows of a batch.
    pub(crate) fn edits_of(&self, batch: &Batch) -> Result<Vec<Edit<R>>> {
        let mut edits = Vec::new();
        if self.edits.is_empty() {
            return Ok(edits);
        }
        let needs_tokens = |e: &StandingEdit<R>| {
            matches!(e.rows, StandingRows::After(_)) || matches!(e.op, StandingOp::SetByRow(_))
        };
        let with_tokens = self.edits.iter().any(needs_tokens);
        for row in batch.n_kept..batch.n_rows() {
            let model = batch.row(row).model;
            let tokens = if with_tokens { batch.tokens_to(row) } else { Vec::new() };
            for edit in &self.edits {
                let applies = edit.models.contains(&model)
                    && batch.birth(row).is_none_or(|birth| is_made_anew(birth, edit.point))
                    && (edit.rows == StandingRows::All || edit.rows.have(&tokens));
                if applies {
                    let op = edit.op_at(row, &tokens)?;
                    edits.push(Edit { point: edit.point, row, units: edit.units.clone(), op });
                }
            }
        }
        Ok(edits)
    }
}

impl<R: Number> StandingOp<R> {
    /// What it does to the last of these tokens; `None` where it lacks values for it.
    fn at(&self, tokens: &[u32]) -> Option<Self> {
        match self {
            Self::SetByRow(values) => values.get(tokens).cloned().map(Self::Set),
            other => Some(other.clone()),
        }
    }
}

impl<R: Number> StandingEdit<R> {
    fn op_at(&self, row: usize, tokens: &[u32]) -> Result<EditOp<R>> {
        Ok(match &self.op {
            StandingOp::Scale(factor) => EditOp::Scale(*factor),
            StandingOp::Add(vector) => EditOp::Add(vector.clone()),
            StandingOp::Set(values) => EditOp::Set(values.clone()),
            StandingOp::SetByRow(values) => match values.get(tokens) {
                Some(values) => EditOp::Set(values.clone()),
                None => {
                    let why =
                        "a standing edit has no values for this row's tokens; it was made for other prompts";
                    let (point, why) = (self.point.to_string(), why.to_owned());
                    return Err(Error::BadHook { kind: "standing edit", point, row, why });
                }
            },
        })
    }

    fn check(&self, spec: &ModelSpec) -> std::result::Result<(), String> {
        if !matches!(self.point, HookPoint::Layer(..)) {
            return Err("it is no place in a layer".to_owned());
        }
        let Width::Fixed(width) = self.point.width(spec).map_err(|e| e.to_string())? else {
            return Err("its number of values differs from row to row".to_owned());
        };
        let units = &self.units;
        if units.is_empty() || units.end > width {
            return Err(format!("units {units:?} are not within the {width} values there"));
        }
        let fits = |values: &Vec<R>| values.len() == units.len() && values.iter().all(|v| v.is_finite());
        let good = match &self.op {
            StandingOp::Scale(factor) => factor.is_finite(),
            StandingOp::Add(values) | StandingOp::Set(values) => fits(values),
            StandingOp::SetByRow(rows) => rows.values().all(fits),
        };
        if good { Ok(()) } else { Err(format!("it does not bring {} finite numbers", units.len())) }
    }
}

impl StandingRows {
    fn have(&self, tokens: &[u32]) -> bool {
        match self {
            StandingRows::All => true,
            StandingRows::After(rows) => rows.contains(tokens),
        }
    }
}

/// Whether a row that is born at `birth` computes the values of a point itself; else it inherits them as its origin left them.
fn is_made_anew(birth: Birth, point: HookPoint) -> bool {
    let inherited = match birth.stage {
        Stage::Layer => None,
        Stage::Heads => Some(Site::Z),
        Stage::Mlp => Some(Site::AttnOut),
        Stage::Neurons => Some(Site::MlpPost),
        Stage::End => Some(Site::MlpOut),
    };
    Birth::before(point).is_some_and(|latest| latest >= birth)
        && inherited.is_none_or(|site| point != HookPoint::Layer(birth.layer, site))
}

impl<R: Number> Model<R> {
    /// What stands.
    pub fn standing(&self) -> &Standing<R> {
        &self.standing
    }

    /// A model's update at a module, unless it is muted.
    pub(crate) fn standing_update(&self, model: ModelId, layer: usize, module: Module) -> Option<Update<'_>> {
        let adapter = model.checked_sub(1).and_then(|i| self.adapters().get(i))?;
        adapter.update(layer, module).filter(|_| !self.standing.muted.contains(&(model, layer, module)))
    }

    /// From now on every run happens under these edits, in place of those that stood before. What is remembered of the models that
    /// change holds no more until the same edits stand again ([`Model::remember`]); whoever holds a [`crate::Kept`] has to make it anew.
    ///
    /// # Errors
    /// An edit or a block that the models do not have; nothing changes then.
    pub fn stand(&mut self, standing: Standing<R>) -> Result<()> {
        for edit in &standing.edits {
            self.check_models(&edit.models)?;
            edit.check(self.spec()).map_err(|why| Error::BadHook {
                kind: "standing edit",
                point: edit.point.to_string(),
                row: 0,
                why,
            })?;
        }
        for &(model, layer, module) in &standing.muted {
            let adapter = model.checked_sub(1).and_then(|i| self.adapters().get(i));
            if adapter.and_then(|a| a.update(layer, module)).is_none() {
                let point = HookPoint::Layer(layer, Site::LoraOut(module)).to_string();
                let why = format!("`{}` has no update there to mute", self.name(model));
                return Err(Error::NoSuchHookPoint { point, why });
            }
        }
        self.weights_mut().mute(&standing.muted);
        self.standing = standing;
        self.compare_memo();
        Ok(())
    }
}
