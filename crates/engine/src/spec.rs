//! What a model is: dimensions and the choices in which families differ. Data only; no weights, no arithmetic.

use crate::module::Module;
pub use lorascope_kernels::Activation;

/// A decoder-only transformer, as far as its computation goes.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSpec {
    /// Family name, e.g. `gemma2`.
    pub family: &'static str,
    /// Number of layers N.
    pub n_layers: usize,
    /// Width of the residual stream d.
    pub d_model: usize,
    /// Query heads H.
    pub n_heads: usize,
    /// Key/value heads; each serves `n_heads / n_kv_heads` query heads.
    pub n_kv_heads: usize,
    /// Width of a head.
    pub d_head: usize,
    /// Width of the MLP.
    pub d_mlp: usize,
    /// Vocabulary size V.
    pub d_vocab: usize,
    /// Longest sequence that the model has positions for.
    pub n_ctx: usize,
    /// Kind of every norm.
    pub norm: NormKind,
    /// Norms on the outputs of attention and MLP, before they are added (Gemma-2 and 3).
    pub post_norms: bool,
    /// RMSNorm on each head's query and key (Gemma-3, Qwen3).
    pub qk_norm: bool,
    /// Factor on q·k.
    pub attn_scale: f64,
    /// Soft cap of attention scores.
    pub attn_softcap: Option<f64>,
    /// Soft cap of the logits.
    pub final_softcap: Option<f64>,
    /// Factor on token embeddings.
    pub embed_scale: f64,
    /// Positions.
    pub positions: Positions,
    /// One entry per layer.
    pub layers: Vec<LayerSpec>,
    /// The MLP.
    pub mlp: Mlp,
    /// Which linear maps add a bias.
    pub biases: Biases,
    /// Output matrix is the embedding matrix.
    pub tied_embeddings: bool,
}

/// Which linear maps of a layer add a bias.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Biases {
    /// Query, key and value projections.
    pub qkv: bool,
    /// Output projection of attention.
    pub out: bool,
    /// Maps of the MLP.
    pub mlp: bool,
}

/// Kind of norm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum NormKind {
    /// RMSNorm with `weight`, or `1 + weight` where the family stores it so (Gemma).
    Rms {
        /// Inside the square root.
        eps: f64,
        /// The checkpoint stores weight − 1.
        unit_offset: bool,
    },
    /// LayerNorm with weight and bias.
    Layer {
        /// Inside the square root.
        eps: f64,
    },
}

/// How the model knows positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Positions {
    /// Rotary embedding of queries and keys; layers choose one of these.
    Rotary(Vec<Rotary>),
    /// A learned vector per position, added to the embedding (GPT-2).
    Learned,
}

/// One rotary embedding.
#[derive(Clone, Debug, PartialEq)]
pub struct Rotary {
    /// Base θ of the frequencies.
    pub theta: f64,
    /// Change of the frequencies for longer contexts.
    pub scaling: RotaryScaling,
}

/// Change of the rotary frequencies for longer contexts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum RotaryScaling {
    /// Frequencies as they are.
    None,
    /// All frequencies divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama-3.1: low frequencies divided, high ones kept, a smooth passage between.
    Llama3 {
        /// Divisor of the low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low` are divided.
        low: f64,
        /// Wavelengths below `original_context / high` are kept.
        high: f64,
        /// Context of the first training.
        original_context: f64,
    },
}

/// What differs between the layers of one model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LayerSpec {
    /// A query sees this many keys, its own included; `None` sees all before it.
    pub window: Option<usize>,
    /// Index into [`Positions::Rotary`].
    pub rotary: usize,
}

/// Shape and nonlinearity of the MLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mlp {
    /// `down(act(gate(x)) ⊙ up(x))`.
    Gated(Activation),
    /// `down(act(up(x)))`.
    Plain(Activation),
}

impl ModelSpec {
    /// Query heads per key/value head.
    pub fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Modules that a layer has.
    pub fn modules(&self) -> impl Iterator<Item = Module> + use<> {
        let gated = matches!(self.mlp, Mlp::Gated(_));
        Module::ALL.into_iter().filter(move |&m| gated || m != Module::Gate)
    }

    /// Whether a module adds a bias.
    pub fn has_bias(&self, module: Module) -> bool {
        match module {
            Module::Q | Module::K | Module::V => self.biases.qkv,
            Module::O => self.biases.out,
            Module::Gate | Module::Up | Module::Down => self.biases.mlp,
        }
    }

    /// `(outputs, inputs)` of a module.
    pub fn module_shape(&self, module: Module) -> (usize, usize) {
        let (q, kv) = (self.n_heads * self.d_head, self.n_kv_heads * self.d_head);
        match module {
            Module::Q => (q, self.d_model),
            Module::K | Module::V => (kv, self.d_model),
            Module::O => (self.d_model, q),
            Module::Gate | Module::Up => (self.d_mlp, self.d_model),
            Module::Down => (self.d_model, self.d_mlp),
        }
    }

    /// Parameters, embeddings included once where they are tied.
    pub fn n_parameters(&self) -> usize {
        let linears: usize = self.modules().map(|m| self.module_shape(m)).map(|(o, i)| o * i).sum();
        let embeddings = self.d_vocab * self.d_model * if self.tied_embeddings { 1 } else { 2 };
        let positions = if self.positions == Positions::Learned { self.n_ctx * self.d_model } else { 0 };
        self.n_layers * linears + embeddings + positions
    }
}

impl Rotary {
    /// Inverse frequencies of the `d_head / 2` pairs, rounded to f32 step by step as Hugging Face computes them.
    pub fn inverse_frequencies(&self, d_head: usize) -> Vec<f32> {
        let base = self.theta as f32;
        (0..d_head / 2)
            .map(|i| 1.0 / base.powf((2 * i) as f32 / d_head as f32))
            .map(|f| self.scaling.apply(f))
            .collect()
    }
}

impl RotaryScaling {
    fn apply(self, frequency: f32) -> f32 {
        match self {
            RotaryScaling::None => frequency,
            RotaryScaling::Linear { factor } => frequency / factor as f32,
            RotaryScaling::Llama3 { factor, low, high, original_context } => {
                let wavelength = 2.0 * std::f32::consts::PI / frequency;
                let (factor, low, high) = (factor as f32, low as f32, high as f32);
                let context = original_context as f32;
                if wavelength > context / low {
                    frequency / factor
                } else if wavelength < context / high {
                    frequency
                } else {
                    let smooth = (context / wavelength - low) / (high - low);
                    (1.0 - smooth) * frequency / factor + smooth * frequency
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::read_spec;

    #[test]
    fn frequencies_are_those_of_the_definition_in_every_range_of_wavelengths() {
        let rotary = |scaling| Rotary { theta: 10_000.0, scaling }.inverse_frequencies(16);
        let plain = rotary(RotaryScaling::None);
        for (i, f) in plain.iter().enumerate() {
            assert!((f64::from(*f) - 10_000f64.powf(-(i as f64) / 8.0)).abs() < 1e-6 * f64::from(*f));
        }
        let halved = rotary(RotaryScaling::Linear { factor: 2.0 });
        assert!(plain.iter().zip(&halved).all(|(p, h)| p / 2.0 == *h));
        // Original context 32: wavelengths over 32 are divided by 8, under 8 kept, between them mixed.
        let scaled =
            rotary(RotaryScaling::Llama3 { factor: 8.0, low: 1.0, high: 4.0, original_context: 32.0 });
        let mut seen = [0; 3];
        for (p, s) in plain.iter().zip(&scaled) {
            let wavelength = 2.0 * std::f32::consts::PI / p;
            if wavelength > 32.0 {
                assert_eq!(*s, p / 8.0);
                seen[0] += 1;
            } else if wavelength < 8.0 {
                assert_eq!(s, p);
                seen[1] += 1;
            } else {
                let smooth = (32.0 / wavelength - 1.0) / 3.0;
                assert!((s - (smooth * p + (1.0 - smooth) * p / 8.0)).abs() < 1e-6 * p);
                assert!(*s > p / 8.0 && s < p);
                seen[2] += 1;
            }
        }
        assert!(seen.iter().all(|n| *n > 0), "all three ranges occur: {seen:?}");
    }

    #[test]
    fn shapes_follow_from_heads_and_groups() {
        let config = serde_json::json!({
            "model_type": "llama", "hidden_size": 6, "intermediate_size": 10, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 7,
            "max_position_embeddings": 5, "hidden_act": "silu"
        });
        let spec = read_spec(&config).unwrap().1;
        let shapes: Vec<(usize, usize)> = spec.modules().map(|m| spec.module_shape(m)).collect();
        assert_eq!(shapes, [(32, 6), (16, 6), (16, 6), (6, 32), (10, 6), (10, 6), (6, 10)]);
        assert_eq!(spec.group(), 2);
        assert_eq!(spec.n_parameters(), 2 * (6 * (32 + 16 + 16 + 32) + 3 * 60) + 2 * 7 * 6);
    }
}
