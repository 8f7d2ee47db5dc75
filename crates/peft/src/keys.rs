//! The names of tensors in an adapter file, taken apart: module path and role.
//!
//! Accepts what PEFT has written over the years: with and without the prefix `base_model.model.`, with and without
//! the adapter's name (`.default`), `base_layer` and `modules_to_save` in between.

/// What a tensor is to its module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Role {
    /// `lora_A.weight` `[r, in]`.
    A,
    /// `lora_B.weight` `[out, r]`.
    B,
    /// `lora_B.bias` `[out]`.
    BBias,
    /// `lora_magnitude_vector` `[out]`.
    Magnitude,
    /// `lora_embedding_A` `[r, rows]`.
    EmbeddingA,
    /// `lora_embedding_B` `[d, r]`.
    EmbeddingB,
    /// The module's own weight, as a replacement.
    Weight,
    /// The module's own bias, as a replacement.
    Bias,
    /// `token_adapter.trainable_tokens_delta`: single rows of an embedding.
    TokenRows,
}

/// What every PEFT file puts before the base model's own paths.
pub(crate) const PREFIX: &str = "base_model.model.";

/// Takes the name of a tensor apart; `None` if PEFT writes no such name.
pub(crate) fn parse(name: &str) -> Option<(String, Role)> {
    let name = name.strip_prefix(PREFIX).unwrap_or(name);
    let segments: Vec<&str> = name.split('.').collect();
    let Some(at) = segments.iter().position(|s| is_marker(s)) else {
        return own_parameter(&segments);
    };
    let (path, marker, rest) = (&segments[..at], segments[at], &segments[at + 1..]);
    if path.is_empty() {
        return None;
    }
    let role = match (marker, rest) {
        ("lora_A", ["weight"] | [_, "weight"]) => Role::A,
        ("lora_B", ["weight"] | [_, "weight"]) => Role::B,
        ("lora_B", ["bias"] | [_, "bias"]) => Role::BBias,
        ("lora_embedding_A", [] | [_]) => Role::EmbeddingA,
        ("lora_embedding_B", [] | [_]) => Role::EmbeddingB,
        ("lora_magnitude_vector", [] | [_] | [_, "weight"]) => Role::Magnitude,
        ("base_layer", ["weight"]) => Role::Weight,
        ("base_layer", ["bias"]) => Role::Bias,
        ("modules_to_save", rest) => {
            let rest = rest.strip_prefix(&["default"]).unwrap_or(rest);
            return own_parameter(&[path, rest].concat());
        }
        ("token_adapter", ["trainable_tokens_delta"] | ["trainable_tokens_delta", _]) => Role::TokenRows,
        _ => return None,
    };
    Some((path.join("."), role))
}

/// The name that PEFT gives the tensor of `role` in the module at `path`.
pub(crate) fn name(path: &str, role: Role, adapted: bool) -> String {
    let between = if adapted { ".base_layer" } else { "" };
    match role {
        Role::A => format!("{PREFIX}{path}.lora_A.weight"),
        Role::B => format!("{PREFIX}{path}.lora_B.weight"),
        Role::BBias => format!("{PREFIX}{path}.lora_B.bias"),
        Role::Magnitude => format!("{PREFIX}{path}.lora_magnitude_vector"),
        Role::EmbeddingA => format!("{PREFIX}{path}.lora_embedding_A"),
        Role::EmbeddingB => format!("{PREFIX}{path}.lora_embedding_B"),
        Role::Weight => format!("{PREFIX}{path}{between}.weight"),
        Role::Bias => format!("{PREFIX}{path}{between}.bias"),
        Role::TokenRows => format!("{PREFIX}{path}.token_adapter.trainable_tokens_delta"),
    }
}

fn is_marker(segment: &str) -> bool {
    matches!(
        segment,
        "lora_A"
            | "lora_B"
            | "lora_embedding_A"
            | "lora_embedding_B"
            | "lora_magnitude_vector"
            | "base_layer"
            | "modules_to_save"
            | "original_module"
            | "token_adapter"
    )
}

fn own_parameter(segments: &[&str]) -> Option<(String, Role)> {
    match segments {
        [path @ .., "weight"] if !path.is_empty() => Some((path.join("."), Role::Weight)),
        [path @ .., "bias"] if !path.is_empty() => Some((path.join("."), Role::Bias)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_taken_apart() {
        let q = "model.layers.0.self_attn.q_proj";
        let table = [
            ("base_model.model.{q}.lora_A.weight", Role::A),
            ("base_model.model.{q}.lora_A.default.weight", Role::A),
            ("{q}.lora_A.weight", Role::A),
            ("base_model.model.{q}.lora_B.default.bias", Role::BBias),
            ("base_model.model.{q}.lora_magnitude_vector", Role::Magnitude),
            ("base_model.model.{q}.lora_magnitude_vector.weight", Role::Magnitude),
            ("base_model.model.{q}.lora_magnitude_vector.default.weight", Role::Magnitude),
            ("base_model.model.{q}.lora_embedding_A", Role::EmbeddingA),
            ("base_model.model.{q}.lora_embedding_B.default", Role::EmbeddingB),
            ("base_model.model.{q}.base_layer.bias", Role::Bias),
            ("base_model.model.{q}.bias", Role::Bias),
            ("base_model.model.{q}.modules_to_save.weight", Role::Weight),
            ("base_model.model.{q}.modules_to_save.default.weight", Role::Weight),
            ("base_model.model.model.layers.0.modules_to_save.default.self_attn.q_proj.weight", Role::Weight),
            ("base_model.model.{q}.token_adapter.trainable_tokens_delta", Role::TokenRows),
        ];
        for (pattern, role) in table {
            let name = pattern.replace("{q}", q);
            assert_eq!(parse(&name), Some((q.to_owned(), role)), "{name}");
        }
    }

    #[test]
    fn foreign_names_are_not_taken_apart() {
        for name in [
            "prompt_embeddings",
            "weight",
            "x.lora_A",
            "x.lora_A.weight.more.weight",
            "x.original_module.weight",
        ] {
            assert_eq!(parse(name), None, "{name}");
        }
    }

    #[test]
    fn the_name_of_a_role_parses_back() {
        for role in [Role::A, Role::B, Role::BBias, Role::Magnitude, Role::EmbeddingA, Role::EmbeddingB] {
            assert_eq!(parse(&name("a.b", role, true)), Some(("a.b".to_owned(), role)));
        }
        assert_eq!(parse(&name("a.b", Role::Bias, true)), Some(("a.b".to_owned(), Role::Bias)));
    }
}
