//! The two strings that stand for the two actions in a prompt.

use std::str::FromStr;

use toml::Value;

use crate::error::GamesError;

/// A pair of symbols. Which of them means cooperate is for [`crate::Labels`] to say.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Symbols {
    first: String,
    second: String,
}

impl Default for Symbols {
    /// `action1` and `action2`, the symbols that the moral adapters were trained with.
    fn default() -> Self {
        Symbols { first: "action1".into(), second: "action2".into() }
    }
}

impl Symbols {
    /// A pair of symbols, e.g. `action1` and `action2`.
    ///
    /// # Errors
    /// A symbol is blank, longer than 40 bytes, has white space at an end, or holds a line break or
    /// a `|`; or one is the beginning of the other.
    pub fn new(first: &str, second: &str) -> Result<Self, GamesError> {
        let fail =
            |problem| GamesError::Symbols { first: first.to_owned(), second: second.to_owned(), problem };
        for symbol in [first, second] {
            if symbol.is_empty() || symbol.trim() != symbol {
                return Err(fail("a symbol is not empty and has no white space at its ends"));
            }
            if symbol.len() > 40 {
                return Err(fail("a symbol has at most 40 bytes"));
            }
            if symbol.chars().any(|c| c.is_control() || c == '|') {
                return Err(fail(
                    "a symbol holds no control characters and no `|`, which would break the table",
                ));
            }
        }
        // "yes" is also the beginning of "yes please": the probability of the first answer would
        // then contain that of the second.
        if first.starts_with(second) || second.starts_with(first) {
            return Err(fail(
                "one is the beginning of the other, so their probabilities cannot be told apart",
            ));
        }
        Ok(Symbols { first: first.to_owned(), second: second.to_owned() })
    }

    /// The pair's first symbol.
    pub fn first(&self) -> &str {
        &self.first
    }

    /// The pair's second symbol.
    pub fn second(&self) -> &str {
        &self.second
    }

    /// A pair from an array of two strings, or from `a/b`.
    pub(crate) fn from_value(value: &Value) -> Result<Self, GamesError> {
        match value {
            Value::String(text) => text.parse(),
            Value::Array(pair) => match pair.as_slice() {
                [Value::String(a), Value::String(b)] => Symbols::new(a, b),
                _ => Err(wrong_shape()),
            },
            _ => Err(wrong_shape()),
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        Value::Array(vec![Value::String(self.first.clone()), Value::String(self.second.clone())])
    }

    /// A short name for ids: `action1`, `action2` → `action12`; `A`, `B` → `AB`; `yes`, `no` →
    /// `yes_no`. Letters, digits and `_` only; may be empty, and is not unique.
    fn short_name(&self) -> String {
        let shared = self.first.chars().zip(self.second.chars()).take_while(|(a, b)| a == b).count();
        let prefix: String = self.first.chars().take(shared).collect();
        let a: String = self.first.chars().skip(shared).collect();
        let b: String = self.second.chars().skip(shared).collect();
        let single = a.chars().count() == 1 && b.chars().count() == 1;
        let name = if single { format!("{prefix}{a}{b}") } else { format!("{}_{}", self.first, self.second) };
        name.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect()
    }
}

fn wrong_shape() -> GamesError {
    let problem = "expected pairs of two strings, e.g. `[[\"action1\", \"action2\"], [\"A\", \"B\"]]`";
    GamesError::Value { key: "symbols".into(), problem: problem.into() }
}

impl FromStr for Symbols {
    type Err = GamesError;

    /// `a/b`, as in a flag.
    fn from_str(text: &str) -> Result<Self, GamesError> {
        match text.split_once('/') {
            Some((a, b)) => Symbols::new(a, b),
            None => {
                let problem = format!("`{text}` is not a pair of symbols; write `action1/action2`");
                Err(GamesError::Value { key: "symbols".into(), problem })
            }
        }
    }
}

/// A short name for each pair, pairwise distinct.
pub(crate) fn short_names(pairs: &[Symbols]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(pairs.len());
    for (at, pair) in pairs.iter().enumerate() {
        let mut name = pair.short_name();
        if name.is_empty() || names.contains(&name) {
            name = format!("{name}symbols{}", at + 1);
        }
        names.push(name);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_readable_and_distinct() {
        let pairs: Vec<Symbols> = ["action1/action2", "A/B", "yes/no", "甲/乙", "+/-", "!/?", "A./B."]
            .iter()
            .map(|s| s.parse().unwrap())
            .collect();
        let names = short_names(&pairs);
        assert_eq!(names[..4], ["action12", "AB", "yes_no", "甲乙"]);
        let distinct: std::collections::HashSet<_> = names.iter().collect();
        assert_eq!(distinct.len(), names.len(), "{names:?}");
    }
}
