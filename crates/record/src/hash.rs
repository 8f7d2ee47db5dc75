//! SHA-256 of bytes and of files of any size.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Bytes read at a time; a model file is never held in memory for its hash.
const BLOCK: usize = 1 << 20;

/// SHA-256 of `bytes`, as 64 lower-case hex digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// SHA-256 of a file as 64 lower-case hex digits, and its size in bytes.
///
/// # Errors
/// [`Error::Io`] if it can't be read.
pub fn sha256_file(path: &Path) -> Result<(String, u64)> {
    let refused = |source| Error::io("read", path, source);
    let mut file = File::open(path).map_err(refused)?;
    let (mut hasher, mut block, mut size) = (Sha256::new(), vec![0; BLOCK], 0);
    loop {
        let n_read = file.read(&mut block).map_err(refused)?;
        if n_read == 0 {
            return Ok((hex(&hasher.finalize()), size));
        }
        hasher.update(&block[..n_read]);
        size += n_read as u64;
    }
}

fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn a_file_and_its_bytes_have_the_published_hash() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"abc").unwrap();
        assert_eq!(sha256_hex(b"abc"), ABC);
        assert_eq!(sha256_file(file.path()).unwrap(), (ABC.to_owned(), 3));
    }

    #[test]
    fn a_file_longer_than_a_block_is_read_whole() {
        let bytes: Vec<u8> = (0..BLOCK + 7).map(|i| (i % 251) as u8).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        assert_eq!(sha256_file(file.path()).unwrap(), (sha256_hex(&bytes), bytes.len() as u64));
    }
}
