//! Arrays as a safetensors file whose bytes depend on nothing but them: the library's writer puts the metadata in random order.

use serde_json::{Map, Value, json};

/// An array by name, with its shape and its values, row by row.
pub(crate) type Named = (String, Vec<usize>, Vec<f32>);

/// The file, with metadata of texts.
pub(crate) fn safetensors(metadata: &Value, arrays: Vec<Named>) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    header.insert("__metadata__".to_owned(), metadata.clone());
    for (name, shape, values) in arrays {
        let first = data.len();
        data.extend(values.into_iter().flat_map(f32::to_le_bytes));
        let entry = json!({"dtype": "F32", "shape": shape, "data_offsets": [first, data.len()]});
        header.insert(name, entry);
    }
    let mut text = Value::Object(header).to_string();
    // Readers want the data aligned.
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
    bytes.extend(text.into_bytes());
    bytes.extend(data);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::SafeTensors;

    #[test]
    fn the_library_reads_what_is_written() {
        let arrays = || {
            vec![
                ("b".to_owned(), vec![2, 1], vec![1.0, -2.5]),
                ("a.x".to_owned(), vec![3], vec![0.0, 0.1, 7.0]),
            ]
        };
        let bytes = safetensors(&json!({"format": "pt", "unit": "x"}), arrays());
        let (_, header) = SafeTensors::read_metadata(&bytes).expect("a header");
        let metadata = header.metadata().clone().expect("metadata");
        assert_eq!((metadata["format"].as_str(), metadata["unit"].as_str()), ("pt", "x"));
        let file = SafeTensors::deserialize(&bytes).expect("a file");
        for (name, shape, values) in arrays() {
            let tensor = file.tensor(&name).expect("the array");
            let found: Vec<f32> =
                tensor.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
            assert_eq!((tensor.shape(), found), (&shape[..], values));
        }
    }
}
