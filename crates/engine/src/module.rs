//! The linear maps of a layer that adapters can change.

use std::fmt;

/// A linear map of one layer, in the names that Llama-like checkpoints use for it.
///
/// GPT-2's fused `c_attn` counts as `Q`, `K` and `V`; its `c_fc` is `Up` and it has no `Gate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Module {
    /// Query projection, `[n_heads · d_head, d_model]`.
    Q,
    /// Key projection, `[n_kv_heads · d_head, d_model]`.
    K,
    /// Value projection, `[n_kv_heads · d_head, d_model]`.
    V,
    /// Output projection of attention, `[d_model, n_heads · d_head]`.
    O,
    /// Gate projection of a gated MLP, `[d_mlp, d_model]`.
    Gate,
    /// Up projection, `[d_mlp, d_model]`.
    Up,
    /// Down projection, `[d_model, d_mlp]`.
    Down,
}

impl Module {
    /// All modules in the order in which a layer uses them.
    pub const ALL: [Module; 7] =
        [Module::Q, Module::K, Module::V, Module::O, Module::Gate, Module::Up, Module::Down];

    /// Name within a layer, as in hook names and tables: `attn.q_proj` … `mlp.down_proj`.
    pub fn name(self) -> &'static str {
        match self {
            Module::Q => "attn.q_proj",
            Module::K => "attn.k_proj",
            Module::V => "attn.v_proj",
            Module::O => "attn.o_proj",
            Module::Gate => "mlp.gate_proj",
            Module::Up => "mlp.up_proj",
            Module::Down => "mlp.down_proj",
        }
    }

    /// The module of that name.
    pub fn from_name(name: &str) -> Option<Module> {
        Module::ALL.into_iter().find(|m| m.name() == name)
    }

    /// Position in [`Module::ALL`].
    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
