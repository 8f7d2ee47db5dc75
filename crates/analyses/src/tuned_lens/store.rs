//! The maps as one safetensors file in the run folder: `layers.{l}.weight` (A, `[d, d]`) and `layers.{l}.bias` (b, `[d]`), f32,
//! for every layer but the last, whose map is the identity.

use super::affine::Affine;
use crate::error::Result;
use lorascope_record::{RunFolder, sha256_hex, write_atomic};
use serde_json::json;

/// The file's name in the run folder.
pub(super) const FILE: &str = "tuned_lens.safetensors";

/// Writes the file; gives back the SHA-256 of its content.
pub(super) fn write(run: &RunFolder, maps: &[Option<Affine>], d: usize) -> Result<String> {
    let bytes = safetensors(maps, d);
    write_atomic(&run.dir().join(FILE), &bytes)?;
    Ok(sha256_hex(&bytes))
}

fn safetensors(maps: &[Option<Affine>], d: usize) -> Vec<u8> {
    let metadata = json!({"format": "pt", "site": super::SITE, "map": "weight @ r + bias"});
    let mut arrays = Vec::new();
    for (layer, map) in maps.iter().enumerate() {
        let Some(map) = map else { continue };
        let (weight, bias) = map.plain_form();
        arrays.push((format!("layers.{layer}.weight"), vec![d, d], weight));
        arrays.push((format!("layers.{layer}.bias"), vec![d], bias));
    }
    crate::tensors::safetensors(&metadata, arrays)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuned_lens::testing::noise;

    #[test]
    fn the_file_holds_the_maps_in_their_plain_form() {
        let map = Affine { theta: noise(4, 5, 1), in_scale: vec![0.5; 4], out_scale: vec![2.0; 4] };
        let bytes = safetensors(&[Some(map.clone()), None], 4);
        let n = u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + n]).expect("JSON");
        let at = |name: &str| -> Vec<f32> {
            let range = &header[name]["data_offsets"];
            let (lo, hi) =
                (range[0].as_u64().expect("offset") as usize, range[1].as_u64().expect("offset") as usize);
            bytes[8 + n..][lo..hi].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
        };
        let (a, b, r) = (at("layers.0.weight"), at("layers.0.bias"), noise::<f32>(1, 4, 2));
        let mapped = map.apply(&r);
        for o in 0..4 {
            let own: f32 = (0..4).map(|i| a[o * 4 + i] * r.data[i]).sum::<f32>() + b[o];
            assert!((own - mapped.data[o]).abs() < 1e-5);
        }
        assert!(header.get("layers.1.weight").is_none());
        assert_eq!((8 + n) % 8, 0);
    }
}
