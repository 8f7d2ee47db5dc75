//! The head of a GGUF file: magic, version, metadata, and where each tensor lies; all checked before anything is made of
//! it.

use super::GgufProblem;
use super::cursor::Cursor;
use super::metadata::Metadata;
use crate::dtype::{Blocked, DType, n_values};
use std::collections::HashSet;
use std::ops::Range;

/// Alignment of tensor data where the metadata give none.
const DEFAULT_ALIGNMENT: u64 = 32;

/// Least bytes of a metadata entry (key length, type, one byte of value) and of a tensor entry (name length, number of
/// dimensions, type, offset).
const LEAST_METADATA: usize = 8 + 4 + 1;
const LEAST_TENSOR: usize = 8 + 4 + 4 + 8;

const MAX_DIMS: u32 = 4;

/// A tensor's entry, checked; `range` is its bytes in the file.
#[derive(Debug)]
pub(super) struct TensorInfo {
    pub(super) name: String,
    /// Row-major, outermost dimension first (the file has it the other way round).
    pub(super) shape: Vec<usize>,
    pub(super) blocked: Blocked,
    pub(super) range: Range<usize>,
}

struct Raw {
    name: String,
    dims: Vec<u64>,
    kind: u32,
    offset: u64,
}

/// Reads the head of `file`.
pub(super) fn parse(file: &[u8]) -> Result<(Metadata, Vec<TensorInfo>), GgufProblem> {
    if !file.starts_with(b"GGUF") {
        let found = String::from_utf8_lossy(&file[..file.len().min(4)]).into_owned();
        return Err(GgufProblem::Magic { found });
    }
    let mut cursor = Cursor::new(file);
    cursor.take(4, "the magic")?;
    let version = cursor.u32("the version")?;
    if !(2..=3).contains(&version) {
        return Err(GgufProblem::Version { version });
    }
    let n_tensors = cursor.u64("the number of tensors")?;
    let n_metadata = cursor.u64("the number of metadata")?;
    let n_metadata = cursor.check_count(n_metadata, LEAST_METADATA, "the metadata")?;
    let n_tensors = cursor.check_count(n_tensors, LEAST_TENSOR, "the list of tensors")?;
    let metadata = Metadata::read(&mut cursor, n_metadata)?;
    let alignment = alignment(&metadata)?;
    let raw = (0..n_tensors).map(|_| read_raw(&mut cursor)).collect::<Result<Vec<_>, _>>()?;
    let data_start = (cursor.position() as u64).next_multiple_of(alignment);
    let mut seen = HashSet::new();
    let mut infos = Vec::with_capacity(raw.len());
    for raw in raw {
        if !seen.insert(raw.name.clone()) {
            return Err(GgufProblem::Duplicate { name: raw.name });
        }
        infos.push(check(raw, data_start, alignment, file.len())?);
    }
    infos.sort_by_key(|info| (info.range.start, info.range.end));
    check_overlap(&infos)?;
    Ok((metadata, infos))
}

/// `infos` come sorted by where they begin.
fn check_overlap(infos: &[TensorInfo]) -> Result<(), GgufProblem> {
    let mut furthest: Option<&TensorInfo> = None;
    for info in infos.iter().filter(|info| !info.range.is_empty()) {
        if let Some(other) = furthest.filter(|other| info.range.start < other.range.end) {
            return Err(GgufProblem::Overlap { tensor: info.name.clone(), other: other.name.clone() });
        }
        furthest = Some(info);
    }
    Ok(())
}

fn alignment(metadata: &Metadata) -> Result<u64, GgufProblem> {
    const KEY: &str = "general.alignment";
    let Some(value) = metadata.get(KEY) else { return Ok(DEFAULT_ALIGNMENT) };
    match metadata.get_u64(KEY) {
        Some(n) if n.is_power_of_two() && n <= 1 << 30 => Ok(n),
        _ => Err(GgufProblem::MetadataValue {
            key: KEY.into(),
            value: format!("{value:?}"),
            wanted: "a power of two of at most 2^30",
        }),
    }
}

fn read_raw(cursor: &mut Cursor<'_>) -> Result<Raw, GgufProblem> {
    let name = cursor.string("a tensor's name")?;
    let what = format!("the entry of tensor `{name}`");
    let n_dims = cursor.u32(&what)?;
    if n_dims == 0 || n_dims > MAX_DIMS {
        return Err(GgufProblem::Dimensions { tensor: name, n_dims });
    }
    let dims = (0..n_dims).map(|_| cursor.u64(&what)).collect::<Result<_, _>>()?;
    Ok(Raw { dims, kind: cursor.u32(&what)?, offset: cursor.u64(&what)?, name })
}

fn check(raw: Raw, data_start: u64, alignment: u64, n_bytes: usize) -> Result<TensorInfo, GgufProblem> {
    let Raw { name: tensor, dims, kind, offset } = raw;
    let Some(blocked) = dtype_of(kind).and_then(Blocked::new) else {
        return Err(GgufProblem::TensorType { tensor, kind: name_of(kind) });
    };
    let shape: Option<Vec<usize>> = dims.iter().rev().map(|n| usize::try_from(*n).ok()).collect();
    let n_values = shape.as_deref().and_then(n_values);
    let (Some(shape), Some(n_values)) = (shape, n_values) else {
        return Err(GgufProblem::ShapeOverflow { tensor, dims });
    };
    if !dims[0].is_multiple_of(blocked.n_values as u64) {
        return Err(GgufProblem::Block { tensor, n_cols: dims[0], block: blocked.n_values });
    }
    let Some(length) = blocked.bytes_for(n_values) else {
        return Err(GgufProblem::ShapeOverflow { tensor, dims });
    };
    if !offset.is_multiple_of(alignment) {
        return Err(GgufProblem::Misaligned { tensor, offset, alignment });
    }
    let begin = data_start.saturating_add(offset);
    let end = begin.saturating_add(length as u64);
    if end > n_bytes as u64 {
        return Err(GgufProblem::OutOfRange { tensor, begin, end, n_bytes });
    }
    Ok(TensorInfo { name: tensor, shape, blocked, range: begin as usize..end as usize })
}

/// The types of ggml that are read here.
fn dtype_of(kind: u32) -> Option<DType> {
    Some(match kind {
        0 => DType::F32,
        1 => DType::F16,
        2 => DType::Q4_0,
        3 => DType::Q4_1,
        6 => DType::Q5_0,
        7 => DType::Q5_1,
        8 => DType::Q8_0,
        12 => DType::Q4_K,
        13 => DType::Q5_K,
        14 => DType::Q6_K,
        30 => DType::BF16,
        _ => return None,
    })
}

/// Names of ggml's other types, for the message (`ggml.h`, `enum ggml_type`).
fn name_of(kind: u32) -> String {
    let name = match kind {
        9 => "Q8_1",
        10 => "Q2_K",
        11 => "Q3_K",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        _ => return format!("the unknown type {kind}"),
    };
    format!("`{name}`")
}
