//! What can be wrong with a GGUF file.

/// What is wrong with a GGUF file; the path is in [`crate::Error::Gguf`].
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufProblem {
    /// The first four bytes are not `GGUF`.
    #[error("it begins with {found:?} instead of `GGUF`")]
    Magic {
        /// The first bytes (at most four).
        found: String,
    },
    /// A version that is not read.
    #[error(
        "its version is {version}; readable are 2 and 3, little-endian; convert it again with a current llama.cpp"
    )]
    Version {
        /// Version as read in little-endian order.
        version: u32,
    },
    /// The file ends inside its header.
    #[error("it ends at byte {n_bytes}, inside {what}; the file is truncated or damaged")]
    Truncated {
        /// What was being read.
        what: String,
        /// Length of the file.
        n_bytes: usize,
    },
    /// A count that the rest of the file cannot hold.
    #[error("{what} has {count} entries, more than the rest of the file can hold; the file is damaged")]
    Count {
        /// What is counted.
        what: String,
        /// The count.
        count: u64,
    },
    /// Text that is not UTF-8.
    #[error("{what} is not UTF-8")]
    Text {
        /// Which text.
        what: String,
    },
    /// A metadata type that the format does not have, or arrays of arrays.
    #[error("metadata `{key}` has the unreadable type {kind}")]
    MetadataType {
        /// The key.
        key: String,
        /// The type's number.
        kind: u32,
    },
    /// A key or tensor name that occurs twice.
    #[error("`{name}` occurs twice")]
    Duplicate {
        /// Key or tensor name.
        name: String,
    },
    /// Metadata that a model needs.
    #[error("metadata `{key}` is missing or is not {wanted}")]
    Metadata {
        /// The key.
        key: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A value that makes no sense.
    #[error("metadata `{key}` is {value}, but should be {wanted}")]
    MetadataValue {
        /// The key.
        key: String,
        /// Its value.
        value: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// An architecture that is not known here.
    #[error("its architecture is `{arch}`; readable are llama, qwen2, qwen3, gemma2, gemma3 and gpt2")]
    Architecture {
        /// `general.architecture`.
        arch: String,
    },
    /// A tensor type that is not read.
    #[error(
        "tensor `{tensor}` is stored as {kind}; readable are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K \
         and Q6_K; quantise the model to one of them"
    )]
    TensorType {
        /// The tensor's name.
        tensor: String,
        /// The type's name, or its number.
        kind: String,
    },
    /// More than four dimensions, or none.
    #[error("tensor `{tensor}` has {n_dims} dimensions")]
    Dimensions {
        /// The tensor's name.
        tensor: String,
        /// How many.
        n_dims: u32,
    },
    /// The shape's product does not fit into memory addresses.
    #[error("the shape of tensor `{tensor}`, {dims:?}, overflows")]
    ShapeOverflow {
        /// The tensor's name.
        tensor: String,
        /// Its dimensions, fastest first, as in the file.
        dims: Vec<u64>,
    },
    /// Rows that do not consist of whole blocks.
    #[error("tensor `{tensor}` has rows of {n_cols} numbers, not a multiple of its type's block of {block}")]
    Block {
        /// The tensor's name.
        tensor: String,
        /// Length of a row.
        n_cols: u64,
        /// Numbers in a block.
        block: usize,
    },
    /// An offset that is not aligned.
    #[error("tensor `{tensor}` has the offset {offset}, not a multiple of the alignment {alignment}")]
    Misaligned {
        /// The tensor's name.
        tensor: String,
        /// Its offset.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// Data outside the file.
    #[error(
        "tensor `{tensor}` lies at bytes {begin}..{end}, but the file has {n_bytes}; it is truncated or damaged"
    )]
    OutOfRange {
        /// The tensor's name.
        tensor: String,
        /// First byte in the file.
        begin: u64,
        /// One past the last byte.
        end: u64,
        /// Length of the file.
        n_bytes: usize,
    },
    /// Two tensors share bytes.
    #[error("the data of tensor `{tensor}` overlap those of tensor `{other}`")]
    Overlap {
        /// The tensor that begins later.
        tensor: String,
        /// The tensor that begins earlier.
        other: String,
    },
    /// One part of a model that was split over several files.
    #[error("it is one of {n_parts} parts of a model; join them with `llama-gguf-split --merge`")]
    Split {
        /// How many parts there are.
        n_parts: u64,
    },
    /// A tensor that the architecture does not have.
    #[error("tensor `{tensor}` is unknown for architecture `{arch}`; leaving it out would change the model")]
    UnknownTensor {
        /// The tensor's name.
        tensor: String,
        /// The architecture.
        arch: String,
    },
    /// A shape that llama.cpp's conversion cannot have produced.
    #[error("tensor `{tensor}` has shape {shape:?}, which does not fit the heads that the metadata give")]
    Conversion {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Rotary frequency factors that no known scaling gives.
    #[error("`rope_freqs.weight` does not follow the llama3 rule; such a scaling is not supported")]
    RopeFactors,
}
