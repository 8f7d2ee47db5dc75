//! Names of places as users write them, and the units of a model that they stand for.
//!
//! A *site* names a kind of place (`z`, `mlp_out`); its *units* are what can be patched by itself there: a head's slice in one
//! layer, the whole vector of a layer, one neuron, one block of an adapter. A unit is written `SITE:LAYER` or
//! `SITE:LAYER.HEAD`, e.g. `z:3.1`, `mlp_out:5`.

use crate::subject::Subject;
use lorascope_engine::{HookPoint, Mlp, ModelSpec, Module, Positions, Site};
use std::fmt;
use std::ops::Range;

/// What a site's units are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum PlaceKind {
    /// The whole vector of a layer.
    Whole(Site),
    /// A query head's slice.
    Head(Site),
    /// A key/value head's slice.
    KvHead(Site),
    /// One neuron of the MLP, at `mlp.hook_post`.
    Neuron,
    /// What an adapter adds at one module of a layer.
    Adapter(Module),
    /// One head's slice of what an adapter adds at the attention's modules: of the output where heads are written, of the
    /// input at the output projection.
    AdapterHead(Module),
    /// One component of the singular value decomposition of an adapter's update: what it adds along one left singular
    /// vector.
    AdapterRank(Module),
}

/// Sites by name; a name that stands for several kinds of place appears several times.
const SITES: &[(&str, PlaceKind)] = &[
    ("resid_pre", PlaceKind::Whole(Site::ResidPre)),
    ("resid_mid", PlaceKind::Whole(Site::ResidMid)),
    ("resid_post", PlaceKind::Whole(Site::ResidPost)),
    ("attn_out", PlaceKind::Whole(Site::AttnOut)),
    ("mlp_out", PlaceKind::Whole(Site::MlpOut)),
    ("mlp_post", PlaceKind::Whole(Site::MlpPost)),
    ("z", PlaceKind::Head(Site::Z)),
    ("result", PlaceKind::Head(Site::Result)),
    ("q", PlaceKind::Head(Site::Q)),
    ("k", PlaceKind::KvHead(Site::K)),
    ("v", PlaceKind::KvHead(Site::V)),
    ("pattern", PlaceKind::Head(Site::Pattern)),
    ("neuron", PlaceKind::Neuron),
    ("adapter", PlaceKind::Adapter(Module::Q)),
    ("adapter", PlaceKind::Adapter(Module::K)),
    ("adapter", PlaceKind::Adapter(Module::V)),
    ("adapter", PlaceKind::Adapter(Module::O)),
    ("adapter", PlaceKind::Adapter(Module::Gate)),
    ("adapter", PlaceKind::Adapter(Module::Up)),
    ("adapter", PlaceKind::Adapter(Module::Down)),
    ("adapter_head", PlaceKind::AdapterHead(Module::Q)),
    ("adapter_head", PlaceKind::AdapterHead(Module::K)),
    ("adapter_head", PlaceKind::AdapterHead(Module::V)),
    ("adapter_head", PlaceKind::AdapterHead(Module::O)),
    ("adapter_rank", PlaceKind::AdapterRank(Module::Q)),
    ("adapter_rank", PlaceKind::AdapterRank(Module::K)),
    ("adapter_rank", PlaceKind::AdapterRank(Module::V)),
    ("adapter_rank", PlaceKind::AdapterRank(Module::O)),
    ("adapter_rank", PlaceKind::AdapterRank(Module::Gate)),
    ("adapter_rank", PlaceKind::AdapterRank(Module::Up)),
    ("adapter_rank", PlaceKind::AdapterRank(Module::Down)),
];

/// All names of sites.
pub(crate) fn site_names() -> Vec<&'static str> {
    let mut names: Vec<&str> = SITES.iter().map(|(name, _)| *name).collect();
    names.dedup();
    names
}

/// The kinds of place that a name stands for. `adapter:attn.q_proj` is one module of `adapter`.
pub(crate) fn parse_site(given: &str) -> Result<Vec<PlaceKind>, String> {
    let kinds: Vec<PlaceKind> = SITES
        .iter()
        .map(|(_, kind)| *kind)
        .filter(|kind| kind.site_name() == given || kind.family() == given)
        .collect();
    if kinds.is_empty() {
        return Err(format!("`{given}` is not a site; sites are {}", site_names().join(", ")));
    }
    Ok(kinds)
}

impl PlaceKind {
    /// Name without the module.
    fn family(self) -> &'static str {
        SITES.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| *name)
    }

    /// Name in tables: the site's, with the module where it is an adapter's block.
    pub fn site_name(self) -> String {
        match self {
            Self::Adapter(module) | Self::AdapterHead(module) | Self::AdapterRank(module) => {
                format!("{}:{module}", self.family())
            }
            _ => self.family().to_owned(),
        }
    }

    fn site(self) -> Site {
        match self {
            Self::Whole(site) | Self::Head(site) | Self::KvHead(site) => site,
            Self::Neuron => Site::MlpPost,
            Self::AdapterHead(Module::O) => Site::LoraResult,
            Self::Adapter(module) | Self::AdapterHead(module) | Self::AdapterRank(module) => {
                Site::LoraOut(module)
            }
        }
    }

    /// Units per layer; 0 where the model has no such place.
    fn n_units(self, spec: &ModelSpec) -> usize {
        match self {
            Self::Whole(_) => 1,
            Self::Head(_) | Self::AdapterHead(Module::Q | Module::O) => spec.n_heads,
            Self::KvHead(_) | Self::AdapterHead(_) => spec.n_kv_heads,
            Self::Neuron => spec.d_mlp,
            Self::Adapter(Module::Gate) | Self::AdapterRank(Module::Gate)
                if matches!(spec.mlp, Mlp::Plain(_)) =>
            {
                0
            }
            Self::Adapter(_) => 1,
            // As many as the adapter's rank, which the specification does not know.
            Self::AdapterRank(module) => spec.module_shape(module).0.min(spec.module_shape(module).1),
        }
    }
}

/// Something that can be patched by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Unit {
    pub layer: usize,
    pub kind: PlaceKind,
    /// Which head or neuron of the layer; 0 for whole vectors.
    pub index: usize,
}

impl Unit {
    pub fn point(&self) -> HookPoint {
        HookPoint::Layer(self.layer, self.kind.site())
    }

    /// The unit's values at a row of this position.
    pub fn values(&self, spec: &ModelSpec, position: usize) -> Range<usize> {
        let width = match self.kind {
            PlaceKind::Whole(Site::MlpPost) => spec.d_mlp,
            PlaceKind::Whole(_) | PlaceKind::Head(Site::Result) | PlaceKind::AdapterHead(Module::O) => {
                spec.d_model
            }
            PlaceKind::Head(Site::Pattern) => position + 1,
            PlaceKind::Head(_) | PlaceKind::KvHead(_) | PlaceKind::AdapterHead(_) => spec.d_head,
            PlaceKind::Neuron => 1,
            PlaceKind::Adapter(module) => spec.module_shape(module).0,
            // All outputs: which part of them is meant is a direction.
            PlaceKind::AdapterRank(module) => return 0..spec.module_shape(module).0,
        };
        self.index * width..(self.index + 1) * width
    }

    /// The head, where the unit is one's; a key/value head for `k` and `v`.
    pub fn head(&self) -> Option<usize> {
        let of_head =
            matches!(self.kind, PlaceKind::Head(_) | PlaceKind::KvHead(_) | PlaceKind::AdapterHead(_));
        of_head.then_some(self.index)
    }

    /// The neuron, or the component of an update, where the unit is one.
    pub fn component(&self) -> Option<usize> {
        matches!(self.kind, PlaceKind::Neuron | PlaceKind::AdapterRank(_)).then_some(self.index)
    }

    /// Reads `SITE:LAYER` or `SITE:LAYER.INDEX`; the index of whole vectors is left out.
    pub fn parse(given: &str, spec: &ModelSpec) -> Result<Self, String> {
        let wrong = |why: &str| format!("`{given}` is not a unit of this model: {why}");
        let form = "it must be SITE:LAYER or SITE:LAYER.HEAD, e.g. mlp_out:5 or z:3.1";
        let (site, place) = given.rsplit_once(':').ok_or_else(|| wrong(form))?;
        let [kind] = parse_site(site)?[..] else {
            return Err(wrong(&format!(
                "`{site}` stands for several modules; name one, e.g. adapter:attn.q_proj:5"
            )));
        };
        let (layer, index) = place.split_once('.').map_or((place, None), |(l, i)| (l, Some(i)));
        let number = |text: &str| text.parse::<usize>().map_err(|_| wrong(form));
        let (layer, given_index) = (number(layer)?, index.map(number).transpose()?);
        if layer >= spec.n_layers {
            return Err(wrong(&format!("its layers are 0 to {}", spec.n_layers - 1)));
        }
        let n = kind.n_units(spec);
        let index = match (n, given_index) {
            (1, None) => 0,
            (n, Some(i)) if i < n => i,
            (0, _) => return Err(wrong("it has no such place")),
            (n, None) => return Err(wrong(&format!("it has {n} of them; say which, e.g. {given}.0"))),
            (n, Some(_)) => return Err(wrong(&format!("it has {n} of them, from 0"))),
        };
        Ok(Self { layer, kind, index })
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.site_name(), self.layer)?;
        match self.head().or(self.component()) {
            Some(index) => write!(f, ".{index}"),
            None => Ok(()),
        }
    }
}

/// All units of some sites, layer by layer. Adapter blocks are those that any of `models` has; components of an update, those of
/// the first of them that has it.
pub(crate) fn units_of(
    subject: &Subject,
    kinds: &[PlaceKind],
    layers: Option<&[usize]>,
    models: &[usize],
) -> Vec<Unit> {
    let spec = subject.model.spec();
    let rank = |layer: usize, module: Module| {
        let mut adapters = models.iter().filter_map(|m| m.checked_sub(1));
        adapters.find_map(|i| subject.model.adapters()[i].rank(layer, module))
    };
    let exists = |layer: usize, kind: PlaceKind| match kind {
        PlaceKind::Adapter(module) | PlaceKind::AdapterHead(module) => rank(layer, module).is_some(),
        PlaceKind::Head(Site::RotQ) => spec.positions != Positions::Learned,
        _ => true,
    };
    let mut units = Vec::new();
    for layer in 0..spec.n_layers {
        if layers.is_some_and(|l| !l.contains(&layer)) {
            continue;
        }
        for &kind in kinds.iter().filter(|k| exists(layer, **k)) {
            let n = match kind {
                PlaceKind::AdapterRank(module) => rank(layer, module).unwrap_or(0),
                _ => kind.n_units(spec),
            };
            units.extend((0..n).map(|index| Unit { layer, kind, index }));
        }
    }
    units
}
