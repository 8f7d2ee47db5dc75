//! Derivatives that attribution replaces.

/// How the way back treats the steps at which a gradient misleads about the effect of a change. [`Rules::EXACT`] is the gradient.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rules {
    /// Scales of norms count as constants.
    pub frozen_norms: bool,
    /// The softmax of attention.
    pub softmax: SoftmaxRule,
    /// Products within attention (q·k, pattern times values) give each factor half of the gradient, so that what both factors
    /// claim adds up to the whole.
    pub halved_attention: bool,
    /// The gated product of the MLP likewise.
    pub halved_gate: bool,
    /// Activations have the slope of the line through the origin, `f(x) / x`, instead of the tangent's.
    pub secant_activation: bool,
    /// Nothing goes back into the attention and the MLP of this layer, only past them (GradDrop of AtP*, arXiv 2403.00745).
    pub dropped_layer: Option<usize>,
}

/// The softmax on the way back.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum SoftmaxRule {
    /// Its derivative.
    #[default]
    Exact,
    /// The pattern counts as a constant.
    Frozen,
    /// `p ⊙ (dy − Σ p dy)` with p the softmax of the scores divided by this temperature: where it is saturated, its own derivative
    /// says that nothing matters.
    Softened(f64),
}

impl Rules {
    /// The gradient itself.
    pub const EXACT: Rules = Rules {
        frozen_norms: false,
        softmax: SoftmaxRule::Exact,
        halved_attention: false,
        halved_gate: false,
        secant_activation: false,
        dropped_layer: None,
    };

    /// RelP (arXiv 2508.21258): relevance propagation as a gradient: norms and patterns frozen, activations by their secant, gated
    /// products halved.
    pub const RELP: Rules = Rules {
        frozen_norms: true,
        softmax: SoftmaxRule::Frozen,
        halved_gate: true,
        secant_activation: true,
        ..Rules::EXACT
    };

    /// GIM (arXiv 2505.17630): norms frozen, the softmax at temperature 2, every product of two activations halved.
    pub const GIM: Rules = Rules {
        frozen_norms: true,
        softmax: SoftmaxRule::Softened(2.0),
        halved_attention: true,
        halved_gate: true,
        ..Rules::EXACT
    };
}
