//! Reads little-endian values off a byte slice; every read is checked against the end. Knows no GGUF structure.

use super::GgufProblem;

/// A position in the file.
#[derive(Debug)]
pub(crate) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    pub(crate) fn position(&self) -> usize {
        self.at
    }

    /// Refuses a count whose entries, of at least `least` bytes each, cannot fit into what is left: before anything is
    /// allocated for them.
    pub(crate) fn check_count(&self, count: u64, least: usize, what: &str) -> Result<usize, GgufProblem> {
        let left = self.bytes.len() - self.at;
        match usize::try_from(count) {
            Ok(n) if n.checked_mul(least).is_some_and(|needed| needed <= left) => Ok(n),
            _ => Err(GgufProblem::Count { what: what.to_owned(), count }),
        }
    }

    pub(crate) fn take(&mut self, n: usize, what: &str) -> Result<&'a [u8], GgufProblem> {
        let end = self.at.checked_add(n).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            return Err(GgufProblem::Truncated { what: what.to_owned(), n_bytes: self.bytes.len() });
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub(crate) fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufProblem> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N, what)?);
        Ok(array)
    }

    pub(crate) fn u32(&mut self, what: &str) -> Result<u32, GgufProblem> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self, what: &str) -> Result<u64, GgufProblem> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// A length and as many bytes of UTF-8.
    pub(crate) fn string(&mut self, what: &str) -> Result<String, GgufProblem> {
        let n = self.u64(what)?;
        let truncated = || GgufProblem::Truncated { what: what.to_owned(), n_bytes: self.bytes.len() };
        let n = usize::try_from(n).map_err(|_| truncated())?;
        let bytes = self.take(n, what)?;
        let text = std::str::from_utf8(bytes).map_err(|_| GgufProblem::Text { what: what.to_owned() })?;
        Ok(text.to_owned())
    }
}
