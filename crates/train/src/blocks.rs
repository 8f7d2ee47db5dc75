//! Names of blocks in settings and flags, as `lorascope surgery` writes them: `L2 attn.q_proj`, `L2 attention`, `L2 mlp`, `L2`.
//!
//! A block is one module of a layer, its attention, its MLP, or all of it. What modules a layer has is the model's to say.

use lorascope_engine::Module;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Which part of a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BlockPart {
    /// One linear map.
    Module(Module),
    /// The linear maps of its attention.
    Attention,
    /// The linear maps of its MLP.
    Mlp,
    /// All of its linear maps.
    Layer,
}

impl BlockPart {
    /// Whether a module belongs to it.
    pub fn has(self, module: Module) -> bool {
        let in_mlp = matches!(module, Module::Gate | Module::Up | Module::Down);
        match self {
            Self::Module(one) => one == module,
            Self::Attention => !in_mlp,
            Self::Mlp => in_mlp,
            Self::Layer => true,
        }
    }

    /// The name that surgery's tables give it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Module(module) => module.name(),
            Self::Attention => "attention",
            Self::Mlp => "mlp",
            Self::Layer => "layer",
        }
    }

    /// The part of that name; modules also by their last part (`q_proj`) or short (`q`).
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "attention" => Some(Self::Attention),
            "mlp" => Some(Self::Mlp),
            "layer" => Some(Self::Layer),
            module => module_named(module).map(Self::Module),
        }
    }
}

/// A module by its full name (`attn.q_proj`), without its place (`q_proj`), or short (`q`).
pub(crate) fn module_named(name: &str) -> Option<Module> {
    let last = |m: &Module| m.name().rsplit('.').next().unwrap_or_default().to_owned();
    let named = |m: &Module| m.name() == name || last(m) == name || last(m) == format!("{name}_proj");
    Module::ALL.into_iter().find(named)
}

/// A part of one layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockName {
    /// The layer.
    pub layer: usize,
    /// Which part of it.
    pub part: BlockPart,
}

/// Blocks that are trained; none: all modules of all layers, or what other settings say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blocks(pub Vec<BlockName>);

impl FromStr for BlockName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let layer = words.next().and_then(|w| w.strip_prefix(['L', 'l'])).and_then(|n| n.parse().ok());
        let part = match (words.next(), words.next()) {
            (None, _) => Some(BlockPart::Layer),
            (Some(name), None) => BlockPart::from_name(name),
            _ => None,
        };
        let found = layer.zip(part).map(|(layer, part)| BlockName { layer, part });
        found.ok_or_else(|| {
            format!("`{text}` is no block; write it as surgery does, e.g. `L2 attn.q_proj`, `L2 attention`, `L2 mlp` or `L2`")
        })
    }
}

impl fmt::Display for BlockName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.part {
            BlockPart::Layer => write!(f, "L{}", self.layer),
            part => write!(f, "L{} {}", self.layer, part.name()),
        }
    }
}

impl fmt::Display for Blocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(", "))
    }
}

impl FromStr for Blocks {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
        Ok(Self(names.map(str::parse).collect::<Result<_, _>>()?))
    }
}

impl Serialize for Blocks {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Blocks {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = |text: String| text.parse().map_err(serde::de::Error::custom);
        Ok(Self(Vec::<String>::deserialize(deserializer)?.into_iter().map(read).collect::<Result<_, _>>()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_surgery_and_come_back() {
        let text = "L2 attn.q_proj, L0 attention, L11 mlp, L3";
        let blocks: Blocks = text.parse().unwrap();
        assert_eq!(blocks.0.len(), 4);
        assert_eq!(blocks.to_string(), text);
        let short: Blocks = "L2 q,L2 q_proj".parse().unwrap();
        assert!(short.0.iter().all(|b| *b == blocks.0[0]));
        assert!(BlockPart::Attention.has(Module::O) && !BlockPart::Attention.has(Module::Gate));
        assert!(BlockPart::Mlp.has(Module::Down) && BlockPart::Layer.has(Module::K));
        for wrong in ["2 attn.q_proj", "L2 q_proj more", "Lx", "L1 heads"] {
            let said = wrong.parse::<BlockName>().unwrap_err();
            assert!(said.contains(&format!("`{wrong}` is no block")), "{said}");
        }
    }
}
