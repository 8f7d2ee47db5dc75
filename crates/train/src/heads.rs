//! Names of heads in settings and flags: `3` in every layer that is trained, `2.5` head 5 of layer 2.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// A query head of one layer, or of every layer that is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeadName {
    /// The layer; `None`: every one.
    pub layer: Option<usize>,
    /// The query head.
    pub head: usize,
}

/// Heads that are trained; none: whole modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heads(pub Vec<HeadName>);

impl FromStr for HeadName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |part: &str| part.trim().parse::<usize>().ok();
        let found = match text.split_once('.') {
            None => number(text).map(|head| HeadName { layer: None, head }),
            Some((layer, head)) => {
                number(layer).zip(number(head)).map(|(layer, head)| HeadName { layer: Some(layer), head })
            }
        };
        found.ok_or_else(|| format!("`{text}` is no head; write HEAD or LAYER.HEAD, e.g. `3` or `2.5`"))
    }
}

impl fmt::Display for HeadName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.layer {
            Some(layer) => write!(f, "{layer}.{}", self.head),
            None => write!(f, "{}", self.head),
        }
    }
}

impl fmt::Display for Heads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(", "))
    }
}

impl Serialize for Heads {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ToString::to_string))
    }
}

impl<'de> Deserialize<'de> for Heads {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Number(usize),
            Text(String),
        }
        let read = |written: Written| match written {
            Written::Number(head) => Ok(HeadName { layer: None, head }),
            Written::Text(text) => text.parse().map_err(serde::de::Error::custom),
        };
        Ok(Heads(Vec::<Written>::deserialize(deserializer)?.into_iter().map(read).collect::<Result<_, _>>()?))
    }
}
