//! Files that are read whole, and how much of one is read at most: a config that is a device without end, or a disk's worth of
//! something else, is refused and not swallowed.
//!
//! Not for weights, which are mapped, nor for results, which lorascope wrote itself.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

/// Settings that people and programs write: configs, study files, manifests, lists of tensors. The largest known, an index of a model of
/// hundreds of billions of parameters, has some ten MB.
pub const SETTINGS: u64 = 64 << 20;

/// Vocabularies with their merges. The largest known has 35 MB.
pub const VOCABULARY: u64 = 512 << 20;

/// The contents of a file of at most `limit` bytes. Neither more is read nor room made for more, whatever length the file claims.
///
/// # Errors
/// The file can't be read, or is longer ([`ErrorKind::FileTooLarge`]).
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    // A byte more than allowed is enough to know; a pipe or a device has no length to ask for.
    File::open(path)?.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let most = limit >> 20;
        let why = format!("it is longer than {most} MiB, the most that is read of such a file");
        return Err(io::Error::new(ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// [`read`] for a text.
///
/// # Errors
/// As [`read`]; bytes that are not UTF-8 ([`ErrorKind::InvalidData`]).
pub fn read_to_string(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?).map_err(|error| io::Error::new(ErrorKind::InvalidData, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_limit_and_not_beyond() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "12345").unwrap();
        assert_eq!(read_to_string(file.path(), 5).unwrap(), "12345");
        let error = read(file.path(), 4).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        std::fs::write(file.path(), [0xff]).unwrap();
        assert_eq!(read_to_string(file.path(), 5).unwrap_err().kind(), ErrorKind::InvalidData);
        assert_eq!(read(Path::new("/no/such/file"), 5).unwrap_err().kind(), ErrorKind::NotFound);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_device_without_end_is_refused() {
        let error = read(Path::new("/dev/zero"), 1 << 20).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::FileTooLarge);
        assert!(error.to_string().contains("longer than 1 MiB"), "{error}");
    }
}
