//! Edges of the computation: what one component writes, as it reaches one reader only.
//!
//! Path patching (Wang et al. 2022, appendix B): the sender's output is replaced by the source's, every other component
//! is frozen at its target value, so the change reaches the receiver through the residual stream alone; the receiver computes
//! with that input, and everything after it runs freely. Because all components between are frozen, the receiver's input is
//! the target's residual stream plus the difference of the sender's outputs, and nothing below the receiver has to be
//! computed.

use super::places::{PlaceKind, Unit};
use super::sweep::{Change, Replacement, Source};
use lorascope_engine::{HookPoint, ModelSpec, Site};
use std::fmt;

/// What reads the residual stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Receiver {
    /// A head's query.
    Q { layer: usize, head: usize },
    /// A key head.
    K { layer: usize, head: usize },
    /// A value head.
    V { layer: usize, head: usize },
    /// A head's query, and the key and value head that it uses, together.
    Head { layer: usize, head: usize },
    /// An MLP.
    Mlp { layer: usize },
    /// The output matrix, through the final norm.
    Logits,
    /// The same with the final norm's scale frozen at the target's: the change of the direct logit attribution.
    LogitsFrozen,
}

/// How receivers are written.
const FORM: &str =
    "q:LAYER.HEAD, k:LAYER.HEAD, v:LAYER.HEAD, head:LAYER.HEAD, mlp:LAYER, logits or logits_frozen";

impl Receiver {
    pub fn parse(given: &str, spec: &ModelSpec) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{given}` is not a receiver of this model: {why}");
        match given {
            "logits" => return Ok(Self::Logits),
            "logits_frozen" => return Ok(Self::LogitsFrozen),
            _ => {}
        }
        let form = || wrong(&format!("it must be {FORM}"));
        let (kind, place) = given.split_once(':').ok_or_else(form)?;
        let (layer, head) = place.split_once('.').map_or((place, None), |(l, h)| (l, Some(h)));
        let number = |text: &str| text.parse::<usize>().map_err(|_| form());
        let (layer, head) = (number(layer)?, head.map(number).transpose()?);
        if layer >= spec.n_layers {
            return Err(wrong(&format!("its layers are 0 to {}", spec.n_layers - 1)));
        }
        let within = |n: usize| match head {
            Some(h) if h < n => Ok(h),
            Some(_) => Err(wrong(&format!("its heads there are 0 to {}", n - 1))),
            None => Err(form()),
        };
        Ok(match kind {
            "q" => Self::Q { layer, head: within(spec.n_heads)? },
            "k" => Self::K { layer, head: within(spec.n_kv_heads)? },
            "v" => Self::V { layer, head: within(spec.n_kv_heads)? },
            "head" => Self::Head { layer, head: within(spec.n_heads)? },
            "mlp" if head.is_none() => Self::Mlp { layer },
            _ => return Err(form()),
        })
    }

    /// Its kind, layer and head, for tables.
    pub fn parts(self) -> (&'static str, Option<usize>, Option<usize>) {
        match self {
            Self::Q { layer, head } => ("q", Some(layer), Some(head)),
            Self::K { layer, head } => ("k", Some(layer), Some(head)),
            Self::V { layer, head } => ("v", Some(layer), Some(head)),
            Self::Head { layer, head } => ("head", Some(layer), Some(head)),
            Self::Mlp { layer } => ("mlp", Some(layer), None),
            Self::Logits => ("logits", None, None),
            Self::LogitsFrozen => ("logits_frozen", None, None),
        }
    }

    /// Whether what the sender writes reaches it.
    pub fn comes_after(self, sender: &Unit) -> bool {
        let attention = sender.point().comes_before(HookPoint::Layer(sender.layer, Site::MlpIn));
        match self.parts() {
            ("mlp", Some(layer), _) => sender.layer < layer || (sender.layer == layer && attention),
            (_, Some(layer), _) => sender.layer < layer,
            _ => true,
        }
    }

    /// The places at which it reads, with the part that is its own.
    fn inputs(self, spec: &ModelSpec) -> Vec<(HookPoint, usize)> {
        let at = HookPoint::Layer;
        match self {
            Self::Q { layer, head } => vec![(at(layer, Site::QInput), head)],
            Self::K { layer, head } => vec![(at(layer, Site::KInput), head)],
            Self::V { layer, head } => vec![(at(layer, Site::VInput), head)],
            Self::Head { layer, head } => {
                let group = head / spec.group();
                vec![
                    (at(layer, Site::QInput), head),
                    (at(layer, Site::KInput), group),
                    (at(layer, Site::VInput), group),
                ]
            }
            Self::Mlp { layer } => vec![(at(layer, Site::MlpIn), 0)],
            Self::Logits | Self::LogitsFrozen => vec![(at(spec.n_layers - 1, Site::ResidPost), 0)],
        }
    }
}

impl fmt::Display for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.parts() {
            (kind, Some(layer), Some(head)) => write!(f, "{kind}:{layer}.{head}"),
            (kind, Some(layer), None) => write!(f, "{kind}:{layer}"),
            (kind, ..) => f.write_str(kind),
        }
    }
}

/// Whether a unit's values are what it adds to the residual stream.
pub(crate) fn is_sender(unit: &Unit) -> bool {
    matches!(
        unit.kind,
        PlaceKind::Head(Site::Result) | PlaceKind::Whole(Site::AttnOut) | PlaceKind::Whole(Site::MlpOut)
    )
}

/// The changes of a run of `target` in which what `sender` writes is the source's, for this receiver only.
pub(crate) fn edge(
    spec: &ModelSpec,
    sender: &Unit,
    receiver: Receiver,
    source: Source,
    target: (usize, usize),
) -> Vec<Change> {
    let (position, d) = (source.position, spec.d_model);
    let written = sender.values(spec, position);
    let shift = |(point, part): (HookPoint, usize)| Change {
        point,
        units: part * d..(part + 1) * d,
        position,
        replacement: Replacement::Shift { source, point: sender.point(), units: written.clone() },
    };
    let mut changes: Vec<Change> = receiver.inputs(spec).into_iter().map(shift).collect();
    if receiver == Receiver::LogitsFrozen {
        let own = Source { model: target.0, prompt: target.1, position };
        let replacement = Replacement::From(own);
        changes.push(Change { point: HookPoint::FinalScale, units: 0..1, position, replacement });
    }
    changes
}
