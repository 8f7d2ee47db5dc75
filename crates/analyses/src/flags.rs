//! Settings that an analysis also takes as flags of its command.

use serde::{Deserialize, Deserializer};

/// A setting as a flag: `--NAME VALUE` sets the setting NAME; given several times it makes a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flag {
    /// Name of the setting and of the flag: one word.
    pub name: &'static str,
    /// What its value is, for the help: `MODEL`.
    pub value: &'static str,
    /// What it does.
    pub help: &'static str,
}

/// A list that may be written as a single value.
pub(crate) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany<T> {
        One(T),
        Many(Vec<T>),
    }
    Ok(match OneOrMany::deserialize(deserializer)? {
        OneOrMany::One(value) => vec![value],
        OneOrMany::Many(values) => values,
    })
}
