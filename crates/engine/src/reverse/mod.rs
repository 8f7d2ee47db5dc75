//! Gradients: a run gone through backwards.
//!
//! A run with gradients is a run: the same pass, which writes its steps down ([`crate::forward::tape`]). The way back takes those steps
//! last first, and multiplies the gradient by each one's derivative. Nothing here knows in which order a model does
//! things, so there is one definition of the model, and what is right forward is right backward.
//!
//! Gradients are available with respect to the values at every hook point, and to the trainable arrays of the models. Where the
//! tapes of all layers do not fit into the memory allowed, only the residual stream before each layer is kept, and a layer is
//! computed again when its turn comes.
//!
//! [`Rules`] replace derivatives that mislead attribution (of saturated softmaxes, of norms) by those of the literature.

mod attention;
mod linear;
mod log_probs;
mod parameter;
mod rules;
mod walk;

pub(crate) use log_probs::{TakeBlock, logit_gradients};
pub use parameter::Parameter;
pub use rules::{Rules, SoftmaxRule};

use crate::batch::{Batch, ModelId};
use crate::error::{Error, Result};
use crate::forward::{self, Kept, Memory, Pass, Record, Run};
use crate::hook::{HookPoint, Site};
use crate::joined::{Joined, JoinedRun};
use crate::mat::Mat;
use crate::model::Model;
use crate::number::Number;
use crate::request::{Capture, Edit, EditOp, Hooks};
use crate::spec::ModelSpec;
use crate::standing::Standing;
use crate::tap::Tap;
use parameter::Collected;
use walk::Walk;

/// What the way back is asked for.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Hook points and rows at which the gradient is wanted: with respect to the values that the rest of the model saw, edits
    /// included.
    pub captures: Vec<Capture>,
    /// Trainable arrays of models.
    pub parameters: Vec<(ModelId, Parameter)>,
    /// Derivatives that are replaced; none by default.
    pub rules: Rules,
}

/// Derivatives of a scalar.
#[derive(Clone, Debug)]
pub struct Gradients<R> {
    /// As [`Run::captures`], for [`Wanted::captures`].
    pub captures: Vec<Vec<Vec<R>>>,
    /// One for each of [`Wanted::parameters`], in its shape.
    pub parameters: Vec<Mat<R>>,
}

impl<R: Number> Model<R> {
    /// About the bytes that the tapes of all layers take for so many rows; rows that compute the same count once. Whoever gives
    /// [`Model::gradients`] less has every layer computed twice.
    pub fn tape_bytes(&self, rows: usize) -> usize {
        tape_bytes::<R>(self.spec(), rows).saturating_mul(self.spec().n_layers)
    }

    /// Runs a batch and goes back through it. `loss` sees the run and returns the derivative of a scalar with respect to
    /// [`Run::readout`], in its shape; [`Model::log_probs_backward`] helps.
    ///
    /// Edits are part of the function whose derivative is taken; what an edit copies from another row counts as a constant. At most
    /// `memory` bytes are taken for the tapes of all layers; with less, layers are computed twice, with the same result.
    ///
    /// # Errors
    /// As [`Model::run`] and `loss`; a batch with branches or kept rows; an edit at a place whose edits have no way back
    /// (per-head results and inputs); a parameter that the model does not have or that can't be trained; a derivative of
    /// another shape; a gradient that is not finite.
    pub fn gradients<E: From<Error>>(
        &self,
        batch: &Batch,
        hooks: &Hooks<R>,
        readout: &[usize],
        wanted: &Wanted,
        memory: usize,
        loss: impl FnOnce(&Run<R>) -> std::result::Result<Mat<R>, E>,
    ) -> std::result::Result<(Run<R>, Gradients<R>), E> {
        if batch.n_kept > 0 {
            return Err(Error::OtherBatch.into());
        }
        self.there_and_back(None, batch, hooks, readout, wanted, memory, loss)
    }

    /// The same for a batch that goes on kept sequences: kept rows are constants.
    ///
    /// # Errors
    /// As [`Model::gradients`]; a batch of other sequences.
    #[allow(clippy::too_many_arguments, reason = "`gradients`, and what was kept")]
    pub fn gradients_after<E: From<Error>>(
        &self,
        kept: &Kept<R>,
        batch: &Batch,
        hooks: &Hooks<R>,
        readout: &[usize],
        wanted: &Wanted,
        memory: usize,
        loss: impl FnOnce(&Run<R>) -> std::result::Result<Mat<R>, E>,
    ) -> std::result::Result<(Run<R>, Gradients<R>), E> {
        kept.check(batch)?;
        self.there_and_back(Some(kept), batch, hooks, readout, wanted, memory, loss)
    }

    #[allow(clippy::too_many_arguments, reason = "`gradients`, and what was kept")]
    fn there_and_back<E: From<Error>>(
        &self,
        kept: Option<&Kept<R>>,
        batch: &Batch,
        hooks: &Hooks<R>,
        readout: &[usize],
        wanted: &Wanted,
        memory: usize,
        loss: impl FnOnce(&Run<R>) -> std::result::Result<Mat<R>, E>,
    ) -> std::result::Result<(Run<R>, Gradients<R>), E> {
        self.check_readout(batch, readout)?;
        if batch.n_trunk < batch.n_rows() {
            return Err(Error::NoGradient { why: "the batch has branches".to_owned() }.into());
        }
        hooks.edits.iter().try_for_each(check_edit)?;
        let collected = Collected::new(self, &wanted.parameters)?;
        let spec = self.spec();
        let joined = match wanted.parameters.is_empty() && kept.is_none() {
            true => JoinedRun::of(spec, batch, hooks, readout)?,
            false => None,
        };
        let lowest = lowest_layer(wanted);
        let n_taped = spec.n_layers - lowest.unwrap_or(0).min(spec.n_layers);
        let n_rows = joined.as_ref().map_or(batch, |j| &j.joined.batch).n_rows();
        let mut record = Record {
            keeps_tapes: tape_bytes::<R>(spec, n_rows).saturating_mul(n_taped) <= memory,
            trained: (0..spec.n_layers).map(|layer| collected.trained(layer)).collect(),
            lowest: lowest.unwrap_or(0),
            starts: Vec::new(),
            tapes: Vec::new(),
            end: Mat::default(),
            edited: std::collections::HashMap::new(),
        };
        let memory = Memory::Record(&mut record, kept);
        let run = match &joined {
            None => forward::run(self, batch, hooks, readout, &|_, _| {}, memory),
            Some(JoinedRun { joined, hooks, readout }) => {
                forward::run(self, &joined.batch, hooks, readout, &|_, _| {}, memory)
                    .map_err(|error| joined.explained(error))
            }
        }?;
        let gradient = loss(&run)?;
        if (gradient.rows, gradient.cols) != (run.readout.rows, run.readout.cols) {
            let why = format!(
                "the derivative is {} x {}, but the readout is {} x {}",
                gradient.rows, gradient.cols, run.readout.rows, run.readout.cols
            );
            return Err(Error::NoGradient { why }.into());
        }
        let joined = joined.map(|run| run.joined);
        let recorded = Recorded { record, collected, kept, joined };
        let gradients = R::go_back(self, batch, hooks, readout, wanted, recorded, &gradient)?;
        Ok((run, gradients))
    }
}

/// A run that can be gone through backwards.
pub struct Recorded<'k, R> {
    record: Record<R>,
    collected: Collected<R>,
    kept: Option<&'k Kept<R>>,
    /// Which rows went forward as one.
    joined: Option<Joined>,
}

/// Through a recorded run backwards, from the derivative with respect to its readout.
pub(crate) fn go_back<R: Number>(
    model: &Model<R>,
    batch: &Batch,
    hooks: &Hooks<R>,
    readout: &[usize],
    wanted: &Wanted,
    recorded: Recorded<R>,
    gradient: &Mat<R>,
) -> Result<Gradients<R>> {
    let Recorded { mut record, collected, kept, joined } = recorded;
    let taped = joined.as_ref().map_or(batch, |joined| &joined.batch);
    let (spec, lowest) = (model.spec(), lowest_layer(wanted));
    // On the way back captures take gradients, and edits let through what came from before them.
    let back = Hooks { captures: wanted.captures.clone(), edits: hooks.edits.clone() };
    let tap = Tap::new(&back, &[], model.standing(), batch, spec, |row, point| {
        model.rank_at(batch.row(row).model, point)
    })?;
    let replay = replayed(&record.edited);
    let mut walk = Walk {
        pass: Pass::new(
            model,
            taped,
            Tap::new(&replay, &[], &Standing::default(), taped, spec, |_, _| None)?,
        ),
        batch,
        joined: joined.as_ref(),
        tap,
        rules: wanted.rules,
        edited: match &joined {
            None => record.edited,
            Some(joined) => joined.spread_values(&record.edited),
        },
        collected,
        reads: Vec::new(),
    };
    let end = match &joined {
        None => std::mem::take(&mut record.end),
        Some(joined) => joined.spread(&record.end),
    };
    let mut stream = walk.final_norm(&end, readout, gradient);
    for layer in (record.lowest..spec.n_layers).rev() {
        model.check_stop()?;
        let tape = match (record.tapes.pop(), record.starts.pop()) {
            (Some(tape), _) => tape,
            (None, Some(start)) => walk.again(layer, start, record.trained[layer], kept)?,
            (None, None) => unreachable!("every layer from the lowest on left one of them"),
        };
        if layer > record.lowest {
            model.weights().expect(spec, layer - 1);
        }
        walk.layer(layer, tape, &mut stream)?;
    }
    if lowest.is_none() {
        walk.embedding(&mut stream);
    }
    let captures = walk.tap.finish_captures()?;
    Ok(Gradients { captures, parameters: walk.collected.finish() })
}

/// The lowest layer that the way back has to reach; `None` where it has to reach the embedding.
fn lowest_layer(wanted: &Wanted) -> Option<usize> {
    let of_point = |point: HookPoint| match point {
        HookPoint::Embed | HookPoint::PosEmbed => None,
        HookPoint::Layer(layer, _) => Some(layer),
        HookPoint::FinalScale | HookPoint::FinalNormalized => Some(usize::MAX),
    };
    let places = wanted.captures.iter().map(|c| of_point(c.point));
    let mut lowest = Some(usize::MAX);
    for place in places.chain(wanted.parameters.iter().map(|(_, p)| p.point().and_then(of_point))) {
        lowest = match (lowest, place) {
            (Some(a), Some(b)) => Some(a.min(b)),
            _ => None,
        };
    }
    lowest
}

/// About the bytes that one layer's tape takes, inputs of trained modules left out.
fn tape_bytes<R>(spec: &ModelSpec, rows: usize) -> usize {
    let heads = (spec.n_heads + 2 * spec.n_kv_heads) * spec.d_head;
    let norms = if spec.post_norms { 4 } else { 2 };
    rows * (norms * spec.d_model + heads + 2 * spec.d_mlp) * size_of::<R>()
}

/// Edits that put in again what the edits of a run made.
fn replayed<R: Number>(edited: &std::collections::HashMap<(HookPoint, usize), Vec<R>>) -> Hooks<R> {
    let edits = edited.iter().map(|(&(point, row), values)| Edit {
        point,
        row,
        units: 0..values.len(),
        op: EditOp::Set(values.clone()),
    });
    Hooks { captures: Vec::new(), edits: edits.collect() }
}

fn check_edit<R>(edit: &Edit<R>) -> Result<()> {
    let HookPoint::Layer(_, site) = edit.point else { return Ok(()) };
    match site {
        Site::Result | Site::LoraResult | Site::QInput | Site::KInput | Site::VInput => {
            Err(Error::NoGradient { why: format!("an edit at `{}` has no way back", edit.point) })
        }
        _ => Ok(()),
    }
}
