//! Settings that an analysis also takes as flags of its command.

use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

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

/// A list that may be written as a single value. Values of flags are texts: where a number is wanted, a text that is one will
/// do; where a text is wanted (a model may be called `7` or `null`), it stays one.
pub(crate) fn one_or_many<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let values = match Value::deserialize(deserializer)? {
        Value::Array(values) => values,
        one => vec![one],
    };
    values.iter().map(|value| one(value).map_err(D::Error::custom)).collect()
}

/// A single value, which a flag writes as a list of one.
pub(crate) fn single<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let values = match Value::deserialize(deserializer)? {
        Value::Array(values) => values,
        one => vec![one],
    };
    match values.as_slice() {
        [value] => one(value).map_err(D::Error::custom),
        _ => Err(D::Error::custom("one value is wanted")),
    }
}

fn one<T: DeserializeOwned>(value: &Value) -> serde_json::Result<T> {
    T::deserialize(value).or_else(|e| {
        let number = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        number.and_then(|n| T::deserialize(n).ok()).ok_or(e)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[derive(Debug, Deserialize)]
    struct Single {
        #[serde(default, deserialize_with = "single")]
        number: Option<usize>,
        #[serde(default, deserialize_with = "single")]
        text: Option<String>,
    }

    #[test]
    fn a_single_value_may_come_as_a_list_of_one() {
        let read = |value: Value| serde_json::from_value::<Single>(value).map_err(|e| e.to_string());
        let found = read(json!({"number": ["7"], "text": ["7"]})).unwrap();
        assert_eq!((found.number, found.text.as_deref()), (Some(7), Some("7")));
        let found = read(json!({"number": 7, "text": null})).unwrap();
        assert_eq!((found.number, found.text), (Some(7), None));
        assert!(read(json!({"text": ["a", "b"]})).unwrap_err().contains("one value is wanted"));
    }

    #[derive(Debug, Deserialize)]
    struct Lists {
        #[serde(default, deserialize_with = "one_or_many")]
        texts: Vec<String>,
        #[serde(default, deserialize_with = "one_or_many")]
        numbers: Vec<usize>,
    }

    #[test]
    fn texts_stay_texts_and_numbers_may_be_written_as_texts() {
        let read = |value: Value| serde_json::from_value::<Lists>(value).map_err(|e| e.to_string());
        let lists = read(json!({"texts": ["7", "null"], "numbers": ["7", 8]})).unwrap();
        assert_eq!((lists.texts, lists.numbers), (vec!["7".to_owned(), "null".into()], vec![7, 8]));
        let lists = read(json!({"texts": "one", "numbers": 3})).unwrap();
        assert_eq!((lists.texts, lists.numbers), (vec!["one".to_owned()], vec![3]));
        assert_eq!(
            read(json!({"numbers": ["x"]})).unwrap_err(),
            "invalid type: string \"x\", expected usize"
        );
        assert!(read(json!({"numbers": -1})).is_err());
    }
}
