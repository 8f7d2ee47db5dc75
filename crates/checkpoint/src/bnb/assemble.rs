//! From the entries of a safetensors folder to 4-bit weights: a weight `w` comes with `w.absmax`, `w.quant_map`, with double
//! quantisation `w.nested_absmax` and `w.nested_quant_map`, and a JSON text `w.quant_state.bitsandbytes__nf4` (or
//! `__fp4`). Everything is checked against everything else.

use super::{FP4, FourBit, NF4, Output, Scales};
use crate::dtype::{DType, n_values};
use crate::error::{Error, Result};
use crate::safetensors::Entry;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MARK: &str = ".quant_state.bitsandbytes__";

/// Block sizes that bitsandbytes accepts.
const BLOCKSIZES: [usize; 8] = [32, 64, 128, 256, 512, 1024, 2048, 4096];

/// A 4-bit weight with its name and shape before quantisation.
#[derive(Debug)]
pub(crate) struct Assembled {
    pub(crate) name: String,
    pub(crate) shape: Vec<usize>,
    pub(crate) weight: FourBit,
}

#[derive(serde::Deserialize)]
struct State {
    quant_type: String,
    blocksize: usize,
    dtype: String,
    shape: Vec<usize>,
    nested_blocksize: Option<usize>,
    nested_offset: Option<f64>,
}

/// Takes the parts of 4-bit weights out of `entries` and puts them together; the other entries stay.
pub(crate) fn assemble(folder: &Path, entries: &mut Vec<(PathBuf, Entry)>) -> Result<Vec<Assembled>> {
    let marked =
        |entry: &Entry| entry.name.rsplit_once(MARK).map(|(name, kind)| (name.to_owned(), kind.to_owned()));
    let states: Vec<_> = entries.iter().filter_map(|(_, entry)| marked(entry)).collect();
    if states.is_empty() {
        return Ok(Vec::new());
    }
    let mut parts = BTreeMap::new();
    for (file, entry) in entries.drain(..) {
        if let Some((_, twice)) = parts.insert(entry.name.clone(), (file, entry)) {
            return Err(Error::DuplicateTensor { path: folder.to_owned(), tensor: twice.name });
        }
    }
    let mut weights = Vec::with_capacity(states.len());
    for (name, kind) in states {
        let mut take = |part: &str| parts.remove(&format!("{name}{part}")).map(|(_, entry)| entry);
        let problem =
            |problem| Error::Bitsandbytes { path: folder.to_owned(), tensor: name.clone(), problem };
        let weight = Parts {
            state: take(&format!("{MARK}{kind}")),
            codes: take(""),
            absmax: take(".absmax"),
            map: take(".quant_map"),
            nested_absmax: take(".nested_absmax"),
            nested_map: take(".nested_quant_map"),
        };
        let (shape, weight) = weight.join(&kind).map_err(problem)?;
        weights.push(Assembled { name, shape, weight });
    }
    entries.extend(parts.into_values());
    Ok(weights)
}

struct Parts {
    state: Option<Entry>,
    codes: Option<Entry>,
    absmax: Option<Entry>,
    map: Option<Entry>,
    nested_absmax: Option<Entry>,
    nested_map: Option<Entry>,
}

impl Parts {
    fn join(self, kind: &str) -> Result<(Vec<usize>, FourBit), String> {
        let (dtype, table) = match kind {
            "nf4" => (DType::Nf4, &NF4),
            "fp4" => (DType::Fp4, &FP4),
            other => return Err(format!("unknown quantisation `{other}`; readable are `nf4` and `fp4`")),
        };
        let state = present(&self.state, "quant_state")?;
        let state: State =
            serde_json::from_slice(state.bytes.as_slice()).map_err(|e| format!("quantisation state: {e}"))?;
        if state.quant_type != kind {
            return Err(format!("its state says `{}`, its name `{kind}`", state.quant_type));
        }
        let output = match state.dtype.as_str() {
            "float32" => Output::F32,
            "float16" => Output::F16,
            "bfloat16" => Output::BF16,
            other => return Err(format!("unknown dtype `{other}` before quantisation")),
        };
        if !BLOCKSIZES.contains(&state.blocksize) {
            return Err(format!("block size {} is none of {BLOCKSIZES:?}", state.blocksize));
        }
        let n = n_values(&state.shape).ok_or_else(|| format!("the shape {:?} overflows", state.shape))?;
        let codes = present(&self.codes, "weight")?.bytes.clone();
        if codes.len() != n.div_ceil(2) {
            return Err(format!(
                "shape {:?} needs {} bytes of codes, but there are {}",
                state.shape,
                n.div_ceil(2),
                codes.len()
            ));
        }
        let map = floats(present(&self.map, "quant_map")?, 16, "quant_map")?;
        if map.iter().zip(table).any(|(theirs, ours)| theirs.is_nan() || (theirs - ours).abs() > 1e-6) {
            return Err(format!("its `quant_map` is not the table of `{kind}`"));
        }
        let scales = self.scales(&state, n.div_ceil(state.blocksize))?;
        Ok((state.shape, FourBit { dtype, codes, scales, blocksize: state.blocksize, output }))
    }

    fn scales(&self, state: &State, n_blocks: usize) -> Result<Scales, String> {
        let absmax = present(&self.absmax, "absmax")?;
        let (Some(blocksize), Some(offset)) = (state.nested_blocksize, state.nested_offset) else {
            return Ok(Scales::Plain(Arc::new(floats(absmax, n_blocks, "absmax")?)));
        };
        if absmax.dtype != "U8" || absmax.bytes.len() != n_blocks {
            let (dtype, n) = (&absmax.dtype, absmax.bytes.len());
            return Err(format!("its `absmax` should be {n_blocks} of `U8`, but is {n} bytes of `{dtype}`"));
        }
        if blocksize == 0 {
            return Err("its nested block size is 0".into());
        }
        let nested = present(&self.nested_absmax, "nested_absmax")?;
        let map = present(&self.nested_map, "nested_quant_map")?;
        Ok(Scales::Nested {
            codes: absmax.bytes.clone(),
            map: Arc::new(floats(map, 256, "nested_quant_map")?),
            absmax: Arc::new(floats(nested, n_blocks.div_ceil(blocksize), "nested_absmax")?),
            blocksize,
            offset: offset as f32,
        })
    }
}

fn present<'a>(part: &'a Option<Entry>, name: &str) -> Result<&'a Entry, String> {
    part.as_ref().ok_or_else(|| format!("its `{name}` is missing"))
}

fn floats(entry: &Entry, n: usize, name: &str) -> Result<Vec<f32>, String> {
    if entry.dtype != "F32" || entry.bytes.len() != 4 * n {
        let (dtype, bytes) = (&entry.dtype, entry.bytes.len());
        return Err(format!("its `{name}` should be {n} of `F32`, but is {bytes} bytes of `{dtype}`"));
    }
    Ok(entry.bytes.as_slice().as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect())
}
