//! The typed key-value metadata of a GGUF file. Not here: what the keys mean.

use super::GgufProblem;
use super::cursor::Cursor;
use std::collections::BTreeMap;

/// A metadata value; integers of all widths are widened to 64 bits, the sign kept.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum MetadataValue {
    /// u8, u16, u32 or u64.
    Unsigned(u64),
    /// i8, i16, i32 or i64.
    Signed(i64),
    /// f32.
    F32(f32),
    /// f64.
    F64(f64),
    /// A truth value.
    Bool(bool),
    /// Text.
    String(String),
    /// An array of unsigned integers of one width.
    UnsignedArray(Vec<u64>),
    /// An array of signed integers of one width.
    SignedArray(Vec<i64>),
    /// An array of f32.
    F32Array(Vec<f32>),
    /// An array of f64.
    F64Array(Vec<f64>),
    /// An array of truth values.
    BoolArray(Vec<bool>),
    /// An array of texts (tokens, merges).
    StringArray(Vec<String>),
}

/// All metadata of a file, by key.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    values: BTreeMap<String, MetadataValue>,
}

impl Metadata {
    /// All keys, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.values.keys().map(String::as_str)
    }

    /// The value of `key`, whatever its type.
    pub fn get(&self, key: &str) -> Option<&MetadataValue> {
        self.values.get(key)
    }

    /// The text of `key`; `None` if it is absent or no text.
    pub fn get_str(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            MetadataValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The integer of `key`; `None` if it is absent, no integer or negative.
    pub fn get_u64(&self, key: &str) -> Option<u64> {
        match self.get(key)? {
            MetadataValue::Unsigned(n) => Some(*n),
            MetadataValue::Signed(n) => u64::try_from(*n).ok(),
            _ => None,
        }
    }

    /// The number of `key`; an f32 becomes the f64 with the same shortest decimal (`1e-5` stays `1e-5`), which is what the
    /// model's author wrote. `None` if it is absent or no float.
    pub fn get_f64(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            MetadataValue::F32(x) => Some(x.to_string().parse().unwrap_or(f64::from(*x))),
            MetadataValue::F64(x) => Some(*x),
            _ => None,
        }
    }

    /// The truth value of `key`; `None` if it is absent or none.
    pub fn get_bool(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            MetadataValue::Bool(b) => Some(*b),
            _ => None,
        }
    }

    /// The texts of `key`; `None` if it is absent or no array of texts.
    pub fn get_str_array(&self, key: &str) -> Option<&[String]> {
        match self.get(key)? {
            MetadataValue::StringArray(texts) => Some(texts),
            _ => None,
        }
    }

    /// The numbers of `key`; `None` if it is absent or no array of f32.
    pub fn get_f32_array(&self, key: &str) -> Option<&[f32]> {
        match self.get(key)? {
            MetadataValue::F32Array(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// The integers of `key`; `None` if it is absent, no array of integers, or one does not fit into an i32.
    pub fn get_i32_array(&self, key: &str) -> Option<Vec<i32>> {
        match self.get(key)? {
            MetadataValue::SignedArray(numbers) => numbers.iter().map(|n| i32::try_from(*n).ok()).collect(),
            MetadataValue::UnsignedArray(numbers) => numbers.iter().map(|n| i32::try_from(*n).ok()).collect(),
            _ => None,
        }
    }

    /// Reads `n` pairs of key and value.
    pub(super) fn read(cursor: &mut Cursor<'_>, n: usize) -> Result<Self, GgufProblem> {
        let mut values = BTreeMap::new();
        for _ in 0..n {
            let key = cursor.string("a metadata key")?;
            let value = read_value(cursor, &key)?;
            if values.insert(key.clone(), value).is_some() {
                return Err(GgufProblem::Duplicate { name: key });
            }
        }
        Ok(Self { values })
    }
}

const ARRAY: u32 = 9;

fn read_value(cursor: &mut Cursor<'_>, key: &str) -> Result<MetadataValue, GgufProblem> {
    let what = format!("metadata `{key}`");
    let kind = cursor.u32(&what)?;
    if kind == ARRAY {
        return read_array(cursor, key, &what);
    }
    Ok(match kind {
        0 | 2 | 4 | 10 => MetadataValue::Unsigned(unsigned(cursor, kind, &what)?),
        1 | 3 | 5 | 11 => MetadataValue::Signed(signed(cursor, kind, &what)?),
        6 => MetadataValue::F32(cursor.array(&what).map(f32::from_le_bytes)?),
        7 => MetadataValue::Bool(truth(cursor, &what)?),
        8 => MetadataValue::String(cursor.string(&what)?),
        12 => MetadataValue::F64(cursor.array(&what).map(f64::from_le_bytes)?),
        _ => return Err(GgufProblem::MetadataType { key: key.to_owned(), kind }),
    })
}

fn read_array(cursor: &mut Cursor<'_>, key: &str, what: &str) -> Result<MetadataValue, GgufProblem> {
    let kind = cursor.u32(what)?;
    let unreadable = || GgufProblem::MetadataType { key: key.to_owned(), kind };
    let least = match kind {
        0 | 1 | 7 => 1,
        2 | 3 => 2,
        4..=6 => 4,
        8 | 10 | 11 | 12 => 8,
        _ => return Err(unreadable()),
    };
    let count = cursor.u64(what)?;
    let n = cursor.check_count(count, least, what)?;
    Ok(match kind {
        0 | 2 | 4 | 10 => MetadataValue::UnsignedArray(repeat(n, || unsigned(cursor, kind, what))?),
        1 | 3 | 5 | 11 => MetadataValue::SignedArray(repeat(n, || signed(cursor, kind, what))?),
        6 => MetadataValue::F32Array(repeat(n, || cursor.array(what).map(f32::from_le_bytes))?),
        7 => MetadataValue::BoolArray(repeat(n, || truth(cursor, what))?),
        8 => MetadataValue::StringArray(repeat(n, || cursor.string(what))?),
        12 => MetadataValue::F64Array(repeat(n, || cursor.array(what).map(f64::from_le_bytes))?),
        _ => return Err(unreadable()),
    })
}

fn repeat<T>(n: usize, mut read: impl FnMut() -> Result<T, GgufProblem>) -> Result<Vec<T>, GgufProblem> {
    (0..n).map(|_| read()).collect()
}

/// A u8 (type 0), u16 (2), u32 (4) or u64.
fn unsigned(cursor: &mut Cursor<'_>, kind: u32, what: &str) -> Result<u64, GgufProblem> {
    Ok(match kind {
        0 => u64::from(cursor.array::<1>(what)?[0]),
        2 => u64::from(u16::from_le_bytes(cursor.array(what)?)),
        4 => u64::from(cursor.u32(what)?),
        _ => cursor.u64(what)?,
    })
}

/// An i8 (type 1), i16 (3), i32 (5) or i64.
fn signed(cursor: &mut Cursor<'_>, kind: u32, what: &str) -> Result<i64, GgufProblem> {
    Ok(match kind {
        1 => i64::from(cursor.array::<1>(what)?[0].cast_signed()),
        3 => i64::from(i16::from_le_bytes(cursor.array(what)?)),
        5 => i64::from(i32::from_le_bytes(cursor.array(what)?)),
        _ => i64::from_le_bytes(cursor.array(what)?),
    })
}

fn truth(cursor: &mut Cursor<'_>, what: &str) -> Result<bool, GgufProblem> {
    match cursor.array::<1>(what)?[0] {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(GgufProblem::MetadataValue {
            key: what.to_owned(),
            value: other.to_string(),
            wanted: "0 or 1",
        }),
    }
}
