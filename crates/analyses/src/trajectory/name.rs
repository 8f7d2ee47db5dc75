//! Names of checkpoints: `NAME@STEP`, in one place for everybody.

use std::fmt;

/// The checkpoint of an adapter's training after some steps.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CheckpointName {
    /// The adapter that was trained.
    pub of: String,
    /// Steps.
    pub step: u64,
}

impl CheckpointName {
    /// `NAME@STEP`, the step in digits without leading zeros, so that a checkpoint has one name only; `None` for any other name.
    pub fn parse(name: &str) -> Option<Self> {
        let (of, digits) = name.split_once('@')?;
        let plain = digits == "0" || !digits.starts_with('0');
        let step = digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?;
        (plain && !of.is_empty()).then(|| Self { of: of.to_owned(), step })
    }
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.of, self.step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_and_all_others_are_none() {
        for (text, of, step) in [("s@20", "s", 20), ("moral.v-1@0", "moral.v-1", 0)] {
            let name = CheckpointName::parse(text).unwrap();
            assert_eq!((name.of.as_str(), name.step), (of, step));
            assert_eq!(name.to_string(), text);
        }
        for other in
            ["s", "s@", "@3", "s@020", "s@-1", "s@3.random", "s@1@2", "s@99999999999999999999999", "s@x"]
        {
            assert_eq!(CheckpointName::parse(other), None, "{other}");
        }
    }
}
