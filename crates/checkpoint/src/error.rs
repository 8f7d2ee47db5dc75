//! What can be wrong with a file of weights: one variant per way to be wrong, so that every message can say what
//! was found, where, and what to do. Not here: errors of the network (crate `hub`) or of adapters (crate `peft`).

use crate::gguf::GgufProblem;
use std::path::PathBuf;

/// An error of this crate; every variant names the file or tensor it is about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A tensor that the model needs is not in the checkpoint.
    #[error("tensor `{name}` is missing from {path}")]
    TensorMissing {
        /// Name that was asked for.
        name: String,
        /// The checkpoint that was searched.
        path: String,
    },
    /// The operating system refused to read a file.
    #[error("cannot read `{}`: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A folder that is no checkpoint.
    #[error(
        "`{}` holds no weights: expected `model.safetensors` or `model.safetensors.index.json` beside a `config.json`, \
         or exactly one `.gguf` file",
        path.display()
    )]
    NoWeights {
        /// The folder.
        path: PathBuf,
    },
    /// More than one GGUF file in a folder: which one is meant is not ours to guess.
    #[error("`{}` holds {n_files} `.gguf` files; name one of them", path.display())]
    SeveralGguf {
        /// The folder.
        path: PathBuf,
        /// How many there are.
        n_files: usize,
    },
    /// A file with an ending that is no checkpoint.
    #[error("`{}` is neither a folder nor a `.gguf` file; give the folder that holds `config.json`", path.display())]
    NotACheckpoint {
        /// The file.
        path: PathBuf,
    },
    /// A pickle: reading one can run any program that its author put into it.
    #[error(
        "`{}` is a PyTorch pickle, which can run code when it is read, so it is refused; convert it where you trust \
         it, with `model.save_pretrained(folder, safe_serialization=True)`, or use the model's `.safetensors` files",
        path.display()
    )]
    Pickle {
        /// The pickle.
        path: PathBuf,
    },
    /// A folder with weights but without `config.json`.
    #[error("`{}` has weights but no `config.json`; download it from the same model", path.display())]
    ConfigMissing {
        /// The folder.
        path: PathBuf,
    },
    /// A JSON file that is not what it should be.
    #[error("`{}` is not valid: {problem}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// What is wrong, with line and column where there is one.
        problem: String,
    },
    /// The index names a shard that is not there.
    #[error("shard `{shard}` is named by `{}` but is not there; the download is incomplete", path.display())]
    ShardMissing {
        /// The index file.
        path: PathBuf,
        /// The shard's file name.
        shard: String,
    },
    /// The index places a tensor in a shard that does not hold it.
    #[error("`{}` places tensor `{tensor}` in shard `{shard}`, which does not hold it", path.display())]
    NotInShard {
        /// The index file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The shard's file name.
        shard: String,
    },
    /// Two files (or two entries that get the same name) give the same tensor.
    #[error("tensor `{tensor}` occurs twice in `{}`", path.display())]
    DuplicateTensor {
        /// File or folder.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
    },
    /// A safetensors file whose header does not hold.
    #[error("`{}` is not a valid safetensors file: {problem}", path.display())]
    Safetensors {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: SafetensorsProblem,
    },
    /// A GGUF file that does not hold.
    #[error("`{}` is not a readable GGUF file: {problem}", path.display())]
    Gguf {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: GgufProblem,
    },
    /// A number type that weights may not have here.
    #[error(
        "tensor `{tensor}` in `{}` is stored as `{dtype}`; readable are F64, F32, F16, BF16 and bitsandbytes NF4/FP4",
        path.display()
    )]
    UnsupportedDType {
        /// The file.
        path: PathBuf,
        /// The tensor's name.
        tensor: String,
        /// The type as the file spells it.
        dtype: String,
    },
    /// A bitsandbytes 4-bit weight whose parts do not fit together.
    #[error("4-bit weight `{tensor}` in `{}`: {problem}", path.display())]
    Bitsandbytes {
        /// File or folder.
        path: PathBuf,
        /// The weight's name.
        tensor: String,
        /// What is wrong.
        problem: String,
    },
    /// Rows that a tensor does not have, or a destination of the wrong length.
    #[error(
        "rows {start}..{end} of tensor `{tensor}` ({n_rows} rows of {n_cols}) do not fit a buffer of {n_out} numbers"
    )]
    Rows {
        /// The tensor's name.
        tensor: String,
        /// First row asked for.
        start: usize,
        /// One past the last row asked for.
        end: usize,
        /// Rows that the tensor has.
        n_rows: usize,
        /// Length of a row.
        n_cols: usize,
        /// Length of the destination.
        n_out: usize,
    },
}

/// What is wrong with a safetensors header.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsProblem {
    /// Fewer than eight bytes.
    #[error("it has {n_bytes} bytes, too few for the header's length; the file is truncated")]
    NoHeaderLength {
        /// Length of the file.
        n_bytes: usize,
    },
    /// The header is declared longer than the file.
    #[error(
        "its header is declared {declared} bytes long, but only {available} bytes follow; truncated or not safetensors"
    )]
    HeaderBeyondFile {
        /// Length that the first eight bytes give.
        declared: u64,
        /// Bytes after them.
        available: usize,
    },
    /// The header is longer than the format's own bound.
    #[error("its header is declared {declared} bytes long, more than the format's 100000000")]
    HeaderTooLong {
        /// Length that the first eight bytes give.
        declared: u64,
    },
    /// The header is no JSON object of tensors (or it names a tensor twice).
    #[error("header: {problem}")]
    Header {
        /// What the JSON parser said.
        problem: String,
    },
    /// A type that the format does not know.
    #[error("tensor `{tensor}` has the unknown dtype `{dtype}`")]
    UnknownDType {
        /// The tensor's name.
        tensor: String,
        /// What the header says.
        dtype: String,
    },
    /// The shape's product does not fit into memory addresses.
    #[error("the shape of tensor `{tensor}`, {shape:?}, overflows")]
    ShapeOverflow {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
    },
    /// Offsets that run backwards or leave the file.
    #[error(
        "tensor `{tensor}` has offsets {begin}..{end}, but the data are {n_data} bytes long; the file is truncated or damaged"
    )]
    OutOfRange {
        /// The tensor's name.
        tensor: String,
        /// First byte.
        begin: usize,
        /// One past the last byte.
        end: usize,
        /// Bytes of data in the file.
        n_data: usize,
    },
    /// Length of the data against shape and type.
    #[error("tensor `{tensor}` of shape {shape:?} needs {needed} bytes, but its offsets give {given}")]
    WrongLength {
        /// The tensor's name.
        tensor: String,
        /// Its shape.
        shape: Vec<usize>,
        /// Bytes that shape and type need.
        needed: usize,
        /// Bytes that the offsets span.
        given: usize,
    },
    /// Two tensors share bytes.
    #[error(
        "the data of tensor `{tensor}` overlap those of the tensor before it (byte {begin} < {previous_end})"
    )]
    Overlap {
        /// The tensor's name.
        tensor: String,
        /// Where it begins.
        begin: usize,
        /// Where the one before it ends.
        previous_end: usize,
    },
    /// Bytes that no tensor owns; the format forbids them, since they could hide another file.
    #[error("bytes {begin}..{end} of the data belong to no tensor")]
    Unused {
        /// First unused byte.
        begin: usize,
        /// One past the last.
        end: usize,
    },
}

/// Result of this crate; inside a format, with that format's own kind of problem.
pub type Result<T, E = Error> = std::result::Result<T, E>;
