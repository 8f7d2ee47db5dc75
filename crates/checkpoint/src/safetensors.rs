//! The safetensors container: header checked in full before any tensor is made, data left mapped.
//!
//! The rules are those of the `safetensors` crate (no gaps, no overlaps, nothing after the last tensor), which the
//! tests compare against; read here because that crate's errors do not name the tensor, and it lets a name occur
//! twice.

use crate::bytes::Bytes;
use crate::dtype::{Blocked, DType, n_values};
use crate::error::{Error, Result, SafetensorsProblem as Problem};
use crate::tensor::{Store, StoredTensor};
use crate::view::View;
use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::path::Path;

/// The format's own bound on the header.
const MAX_HEADER: u64 = 100_000_000;

/// Bytes before the header: its length.
const LENGTH_BYTES: usize = 8;

/// One tensor of the file: a checked place, not yet a supported type.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) dtype: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) bytes: Bytes,
}

impl Entry {
    /// The tensor, if its type is one of the four float types.
    pub(crate) fn into_tensor(self, path: &Path) -> Result<StoredTensor> {
        let blocked = match self.dtype.as_str() {
            "F64" => Blocked::new(DType::F64),
            "F32" => Blocked::new(DType::F32),
            "F16" => Blocked::new(DType::F16),
            "BF16" => Blocked::new(DType::BF16),
            _ => None,
        };
        let Some(blocked) = blocked else {
            return Err(Error::UnsupportedDType {
                path: path.to_owned(),
                tensor: self.name,
                dtype: self.dtype,
            });
        };
        Ok(StoredTensor::new(self.name, self.shape, Store::Blocked(blocked, self.bytes), View::AsStored))
    }
}

/// Maps the safetensors file at `path` and gives its tensors, in the order of their data. For files that are no
/// model, such as adapters; a model is a [`crate::Checkpoint`].
///
/// # Errors
/// [`Error::Io`], [`Error::Safetensors`] if the header does not hold, [`Error::UnsupportedDType`] if a tensor is not
/// of a float type.
pub fn read_safetensors(path: &Path) -> Result<Vec<StoredTensor>> {
    entries(path)?.into_iter().map(|entry| entry.into_tensor(path)).collect()
}

/// Maps and checks a file.
pub(crate) fn entries(path: &Path) -> Result<Vec<Entry>> {
    let bytes = Bytes::map(path)?;
    parse(&bytes).map_err(|problem| Error::Safetensors { path: path.to_owned(), problem })
}

fn parse(file: &Bytes) -> Result<Vec<Entry>, Problem> {
    let bytes = file.as_slice();
    let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
        return Err(Problem::NoHeaderLength { n_bytes: bytes.len() });
    };
    let declared = u64::from_le_bytes(*length);
    if declared > rest.len() as u64 {
        return Err(Problem::HeaderBeyondFile { declared, available: rest.len() });
    }
    if declared > MAX_HEADER {
        return Err(Problem::HeaderTooLong { declared });
    }
    let (header, data) = rest.split_at(declared as usize);
    let Header(mut tensors) =
        serde_json::from_slice(header).map_err(|e| Problem::Header { problem: e.to_string() })?;
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    let data_start = LENGTH_BYTES + header.len();
    let mut previous_end = 0;
    let mut entries = Vec::with_capacity(tensors.len());
    for (name, info) in tensors {
        let range = place(&name, &info, previous_end, data.len())?;
        previous_end = range.end;
        let Some(bytes) = file.slice(data_start + range.start..data_start + range.end) else {
            let (begin, end) = info.data_offsets;
            return Err(Problem::OutOfRange { tensor: name, begin, end, n_data: data.len() });
        };
        entries.push(Entry { name, dtype: info.dtype, shape: info.shape, bytes });
    }
    if previous_end != data.len() {
        return Err(Problem::Unused { begin: previous_end, end: data.len() });
    }
    Ok(entries)
}

/// Checks one tensor's type, shape and offsets; the data of the tensors before it end at `previous_end`.
fn place(name: &str, info: &Info, previous_end: usize, n_data: usize) -> Result<Range<usize>, Problem> {
    let tensor = || name.to_owned();
    let (begin, end) = info.data_offsets;
    if end < begin || end > n_data {
        return Err(Problem::OutOfRange { tensor: tensor(), begin, end, n_data });
    }
    let Some(bits) = bits_of(&info.dtype) else {
        return Err(Problem::UnknownDType { tensor: tensor(), dtype: info.dtype.clone() });
    };
    let n_bits = n_values(&info.shape).and_then(|n| n.checked_mul(bits));
    let Some(n_bits) = n_bits else {
        return Err(Problem::ShapeOverflow { tensor: tensor(), shape: info.shape.clone() });
    };
    let needed = n_bits.div_ceil(8);
    if needed != end - begin || !n_bits.is_multiple_of(8) {
        return Err(Problem::WrongLength {
            tensor: tensor(),
            shape: info.shape.clone(),
            needed,
            given: end - begin,
        });
    }
    if begin < previous_end {
        return Err(Problem::Overlap { tensor: tensor(), begin, previous_end });
    }
    if begin > previous_end {
        return Err(Problem::Unused { begin: previous_end, end: begin });
    }
    Ok(begin..end)
}

/// Bits of one number of a type that the format knows.
fn bits_of(dtype: &str) -> Option<usize> {
    Some(match dtype {
        "F4" => 4,
        "F6_E2M3" | "F6_E3M2" => 6,
        "BOOL" | "U8" | "I8" | "F8_E5M2" | "F8_E4M3" | "F8_E8M0" | "F8_E4M3FNUZ" | "F8_E5M2FNUZ" => 8,
        "I16" | "U16" | "F16" | "BF16" => 16,
        "I32" | "U32" | "F32" => 32,
        "I64" | "U64" | "F64" | "C64" => 64,
        _ => return None,
    })
}

#[derive(serde::Deserialize)]
struct Info {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: (usize, usize),
}

/// The header's object, in order, without `__metadata__`; a second entry of a name is an error.
struct Header(Vec<(String, Info)>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object that maps tensor names to dtype, shape and data_offsets")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = Vec::new();
                let mut seen = HashSet::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom(format!("`{name}` occurs twice")));
                    }
                    if name == "__metadata__" {
                        map.next_value::<Option<HashMap<String, String>>>()?;
                    } else {
                        tensors.push((name, map.next_value()?));
                    }
                }
                Ok(Header(tensors))
            }
        }
        deserializer.deserialize_map(Entries)
    }
}
