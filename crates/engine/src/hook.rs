//! Hook points: the named places of the forward pass where activations can be read and replaced.
//!
//! Names and meanings are TransformerLens's (docs/hooks.md lists them with their shapes); adapters add two of
//! their own per adapted module. Names parse strictly: an unknown one is an error with the nearest valid name,
//! because a hook that silently does nothing is the worst bug of this field.

use crate::error::{Error, Result};
use crate::module::Module;
use crate::spec::{Mlp, ModelSpec, Positions};
use std::fmt;
use std::str::FromStr;

/// A place in the forward pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum HookPoint {
    /// `hook_embed`: token embedding, scaled where the family scales it.
    Embed,
    /// `hook_pos_embed`: learned position embedding (GPT-2 only).
    PosEmbed,
    /// A place inside a layer.
    Layer(usize, Site),
    /// `ln_final.hook_scale`: denominator of the final norm.
    FinalScale,
    /// `ln_final.hook_normalized`: output of the final norm, what the unembedding sees.
    FinalNormalized,
}

/// A place inside a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Site {
    /// Residual stream before the layer.
    ResidPre,
    /// Denominator of the norm before attention.
    Ln1Scale,
    /// What each query head reads from the residual stream, before the norm: the residual stream, unless edited.
    QInput,
    /// What each key head reads.
    KInput,
    /// What each value head reads.
    VInput,
    /// Query after bias and q-norm, before rotary.
    Q,
    /// Key after bias and k-norm, before rotary.
    K,
    /// Value.
    V,
    /// Query after rotary.
    RotQ,
    /// Key after rotary.
    RotK,
    /// Scaled, capped and masked scores of a row against the keys before it.
    AttnScores,
    /// Softmax of the scores.
    Pattern,
    /// Pattern times values.
    Z,
    /// Denominator of the norm after attention (families with post norms).
    Ln1PostScale,
    /// Each head's share of the attention output, as added.
    Result,
    /// Attention output, as added.
    AttnOut,
    /// Residual stream after attention.
    ResidMid,
    /// What the MLP reads from the residual stream, before the norm: the residual stream, unless edited.
    MlpIn,
    /// Denominator of the norm before the MLP.
    Ln2Scale,
    /// Gate pre-activation (gated MLP) or pre-activation.
    MlpPre,
    /// What enters the down projection.
    MlpPost,
    /// Denominator of the norm after the MLP (families with post norms).
    Ln2PostScale,
    /// MLP output, as added.
    MlpOut,
    /// Residual stream after the layer.
    ResidPost,
    /// `A·x` of an adapted module: the adapter's own r features.
    LoraA(Module),
    /// What the adapter adds to the module's output.
    LoraOut(Module),
    /// Each head's share of what the adapter adds at the output projection; an edit there changes the projection's output
    /// by the difference.
    LoraResult,
}

impl Site {
    /// Sites other than the adapters' own, in the order of the forward pass.
    pub const PLAIN: [Site; 24] = [
        Site::ResidPre,
        Site::Ln1Scale,
        Site::QInput,
        Site::KInput,
        Site::VInput,
        Site::Q,
        Site::K,
        Site::V,
        Site::RotQ,
        Site::RotK,
        Site::AttnScores,
        Site::Pattern,
        Site::Z,
        Site::Ln1PostScale,
        Site::Result,
        Site::AttnOut,
        Site::ResidMid,
        Site::MlpIn,
        Site::Ln2Scale,
        Site::MlpPre,
        Site::MlpPost,
        Site::Ln2PostScale,
        Site::MlpOut,
        Site::ResidPost,
    ];

    /// Every site.
    pub fn all() -> impl Iterator<Item = Site> {
        let lora = Module::ALL.into_iter().flat_map(|m| [Site::LoraA(m), Site::LoraOut(m)]);
        Site::PLAIN.into_iter().chain(lora).chain([Site::LoraResult])
    }

    /// Name within a layer, e.g. `attn.hook_z`.
    fn name(self) -> String {
        let fixed = match self {
            Site::ResidPre => "hook_resid_pre",
            Site::Ln1Scale => "ln1.hook_scale",
            Site::Ln1PostScale => "ln1_post.hook_scale",
            Site::Ln2Scale => "ln2.hook_scale",
            Site::Ln2PostScale => "ln2_post.hook_scale",
            Site::QInput => "hook_q_input",
            Site::KInput => "hook_k_input",
            Site::VInput => "hook_v_input",
            Site::Q => "attn.hook_q",
            Site::K => "attn.hook_k",
            Site::V => "attn.hook_v",
            Site::RotQ => "attn.hook_rot_q",
            Site::RotK => "attn.hook_rot_k",
            Site::AttnScores => "attn.hook_attn_scores",
            Site::Pattern => "attn.hook_pattern",
            Site::Z => "attn.hook_z",
            Site::Result => "attn.hook_result",
            Site::AttnOut => "hook_attn_out",
            Site::ResidMid => "hook_resid_mid",
            Site::MlpIn => "hook_mlp_in",
            Site::MlpPre => "mlp.hook_pre",
            Site::MlpPost => "mlp.hook_post",
            Site::MlpOut => "hook_mlp_out",
            Site::ResidPost => "hook_resid_post",
            Site::LoraA(m) => return format!("{m}.hook_lora_a"),
            Site::LoraOut(m) => return format!("{m}.hook_lora_out"),
            Site::LoraResult => return format!("{}.hook_lora_result", Module::O),
        };
        fixed.to_owned()
    }

    /// Place within a layer in the order of the forward pass; a module's low-rank points come at the module.
    pub(crate) fn rank(self) -> usize {
        let plain = |site: Site| 4 * Site::PLAIN.iter().position(|&s| s == site).unwrap_or(0);
        let module = |m: Module| match m {
            Module::Q | Module::K | Module::V => plain(Site::VInput),
            Module::O => plain(Site::Z),
            Module::Gate | Module::Up => plain(Site::Ln2Scale),
            Module::Down => plain(Site::MlpPost),
        };
        match self {
            Site::LoraA(m) => module(m) + 1,
            Site::LoraOut(m) => module(m) + 2,
            Site::LoraResult => module(Module::O) + 3,
            _ => plain(self),
        }
    }

    /// Short name for tables: `resid_post`, `z`, `attn_out`, `ln1_scale` …
    pub fn short_name(self) -> String {
        let name = self.name();
        match self {
            Site::LoraA(_) | Site::LoraOut(_) | Site::LoraResult => name.replace("hook_", ""),
            // There is a scale for each norm; the last part alone would not say which.
            Site::Ln1Scale | Site::Ln1PostScale | Site::Ln2Scale | Site::Ln2PostScale => {
                name.replace(".hook_", "_")
            }
            _ => name.rsplit("hook_").next().unwrap_or(&name).to_owned(),
        }
    }
}

/// Number of values that a hook point has per row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// The same for every row.
    Fixed(usize),
    /// This many per key that the row's position has (itself included): attention scores and patterns.
    PerKey(usize),
    /// The adapter's rank, which differs between models and modules.
    Rank,
}

impl HookPoint {
    /// How many values the point has per row, or why the model does not have it.
    pub fn width(self, spec: &ModelSpec) -> Result<Width> {
        let none = |why: &str| Err(Error::NoSuchHookPoint { point: self.to_string(), why: why.to_owned() });
        if let HookPoint::Layer(layer, _) = self
            && layer >= spec.n_layers
        {
            return none(&format!("it has {} layers, 0 to {}", spec.n_layers, spec.n_layers - 1));
        }
        let site = match self {
            HookPoint::Embed | HookPoint::FinalNormalized => return Ok(Width::Fixed(spec.d_model)),
            HookPoint::FinalScale => return Ok(Width::Fixed(1)),
            HookPoint::PosEmbed if spec.positions == Positions::Learned => {
                return Ok(Width::Fixed(spec.d_model));
            }
            HookPoint::PosEmbed => return none("its positions are rotary"),
            HookPoint::Layer(_, site) => site,
        };
        Ok(match site {
            Site::Q | Site::Z => Width::Fixed(spec.n_heads * spec.d_head),
            Site::K | Site::V => Width::Fixed(spec.n_kv_heads * spec.d_head),
            Site::RotQ | Site::RotK if spec.positions == Positions::Learned => {
                return none("its positions are learned, not rotary");
            }
            Site::RotQ => Width::Fixed(spec.n_heads * spec.d_head),
            Site::RotK => Width::Fixed(spec.n_kv_heads * spec.d_head),
            Site::AttnScores | Site::Pattern => Width::PerKey(spec.n_heads),
            Site::Ln1PostScale | Site::Ln2PostScale if !spec.post_norms => {
                return none("it has no norms after attention and MLP");
            }
            Site::Ln1Scale | Site::Ln1PostScale | Site::Ln2Scale | Site::Ln2PostScale => Width::Fixed(1),
            Site::Result | Site::LoraResult | Site::QInput => Width::Fixed(spec.n_heads * spec.d_model),
            Site::KInput | Site::VInput => Width::Fixed(spec.n_kv_heads * spec.d_model),
            Site::MlpPre | Site::MlpPost => Width::Fixed(spec.d_mlp),
            Site::LoraA(Module::Gate) | Site::LoraOut(Module::Gate) if matches!(spec.mlp, Mlp::Plain(_)) => {
                return none("its MLP has no gate");
            }
            Site::LoraA(_) => Width::Rank,
            Site::LoraOut(m) => Width::Fixed(spec.module_shape(m).0),
            Site::ResidPre
            | Site::ResidMid
            | Site::ResidPost
            | Site::AttnOut
            | Site::MlpIn
            | Site::MlpOut => Width::Fixed(spec.d_model),
        })
    }

    /// Whether the forward pass reaches `self` before `other`, for one row.
    pub fn comes_before(self, other: HookPoint) -> bool {
        let place = |point| match point {
            HookPoint::Embed => (0, 0, 0),
            HookPoint::PosEmbed => (0, 0, 1),
            HookPoint::Layer(layer, site) => (1, layer, site.rank()),
            HookPoint::FinalScale => (2, 0, 0),
            HookPoint::FinalNormalized => (2, 0, 1),
        };
        place(self) < place(other)
    }

    /// Every hook point of a model, in the order of the forward pass.
    pub fn all(spec: &ModelSpec) -> Vec<HookPoint> {
        let layers = (0..spec.n_layers).flat_map(|l| Site::all().map(move |s| HookPoint::Layer(l, s)));
        [HookPoint::Embed, HookPoint::PosEmbed]
            .into_iter()
            .chain(layers)
            .chain([HookPoint::FinalScale, HookPoint::FinalNormalized])
            .filter(|p| p.width(spec).is_ok())
            .collect()
    }
}

impl fmt::Display for HookPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HookPoint::Embed => f.write_str("hook_embed"),
            HookPoint::PosEmbed => f.write_str("hook_pos_embed"),
            HookPoint::Layer(l, site) => write!(f, "blocks.{l}.{}", site.name()),
            HookPoint::FinalScale => f.write_str("ln_final.hook_scale"),
            HookPoint::FinalNormalized => f.write_str("ln_final.hook_normalized"),
        }
    }
}

impl FromStr for HookPoint {
    type Err = Error;

    fn from_str(given: &str) -> Result<Self> {
        let top = [HookPoint::Embed, HookPoint::PosEmbed, HookPoint::FinalScale, HookPoint::FinalNormalized];
        if let Some(point) = top.into_iter().find(|p| p.to_string() == given) {
            return Ok(point);
        }
        let in_layer = given.strip_prefix("blocks.").and_then(|rest| rest.split_once('.'));
        let layer = in_layer.and_then(|(layer, site)| Some((layer.parse::<usize>().ok()?, layer, site)));
        if let Some((layer, written, name)) = layer
            // `+3` and `03` parse as numbers but are not how a layer is written.
            && written == layer.to_string()
            && let Some(site) = Site::all().find(|s| s.name() == name)
        {
            return Ok(HookPoint::Layer(layer, site));
        }
        let layer = layer.map_or(0, |(l, _, _)| l);
        let candidates = top.into_iter().chain(Site::all().map(|s| HookPoint::Layer(layer, s)));
        let nearest = candidates
            .map(|p| p.to_string())
            .map(|name| (strsim::jaro_winkler(&name, given), name))
            .filter(|(similarity, _)| *similarity > 0.75)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, name)| name);
        Err(Error::UnknownHookPoint { given: given.to_owned(), nearest })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for site in Site::all() {
            let point = HookPoint::Layer(12, site);
            assert_eq!(point.to_string().parse::<HookPoint>().unwrap(), point);
        }
        assert_eq!(
            HookPoint::Layer(3, Site::Z).to_string(),
            "blocks.3.attn.hook_z",
            "names are TransformerLens's"
        );
        assert_eq!(
            "blocks.0.mlp.down_proj.hook_lora_out".parse::<HookPoint>().unwrap(),
            HookPoint::Layer(0, Site::LoraOut(Module::Down))
        );
    }

    #[test]
    fn unknown_names_are_errors_with_the_nearest_name() {
        let message = |s: &str| s.parse::<HookPoint>().unwrap_err().to_string();
        assert_eq!(
            message("blocks.3.hook_resid_pst"),
            "`blocks.3.hook_resid_pst` is not a hook point; did you mean `blocks.3.hook_resid_post`?"
        );
        assert_eq!(message("???"), "`???` is not a hook point");
        assert!("blocks.-1.hook_resid_post".parse::<HookPoint>().is_err(), "-1 does not exist");
        assert!("blocks.03.hook_resid_post".parse::<HookPoint>().is_err());
    }
}
