//! SHA-256 of files, to say in a record which weights were used. Knows no formats.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Bytes read in one go.
const PIECE: usize = 1 << 20;

/// The file's SHA-256 in hexadecimal; `read` hears how many bytes each step has read.
///
/// Reads through a buffer, not through the map: hashing must not keep a model's pages in this process.
pub(crate) fn of_file(path: &Path, mut read: impl FnMut(usize)) -> Result<String> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut buffer = vec![0; PIECE];
    let mut hasher = Sha256::new();
    loop {
        match file.read(&mut buffer).map_err(io)? {
            0 => return Ok(hex(&hasher.finalize())),
            n => {
                hasher.update(&buffer[..n]);
                read(n);
            }
        }
    }
}

/// The SHA-256 of `text` in hexadecimal.
pub(crate) fn of_text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a `String` cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
