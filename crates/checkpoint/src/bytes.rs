//! Bytes that many tensors share: a memory-mapped file, or a buffer in memory. Knows nothing of what they mean.

use crate::{Error, Result};
use memmap2::Mmap;
use std::fs::File;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug)]
enum Backing {
    Mapped(Mmap),
    Owned(Vec<u8>),
}

/// A range of a shared file or buffer; cloning it copies no data.
#[derive(Clone, Debug)]
pub(crate) struct Bytes {
    backing: Arc<Backing>,
    range: Range<usize>,
}

impl Bytes {
    /// Maps the whole file at `path` read-only.
    pub(crate) fn map(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.to_owned(), source };
        let file = File::open(path).map_err(io)?;
        // SAFETY: the map is read-only and private to this value. Rust cannot rule out that another program
        // shortens the file while it is mapped; like every reader of mapped weights we rely on model files being
        // replaced (a new inode) rather than rewritten in place, which is how the hub's cache and `save_pretrained`
        // write them. All reads go through bounds-checked slices of the length seen here.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        let range = 0..map.len();
        Ok(Self { backing: Arc::new(Backing::Mapped(map)), range })
    }

    /// Shares a buffer in memory.
    pub(crate) fn owned(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { backing: Arc::new(Backing::Owned(bytes)), range }
    }

    /// The part `range` (relative to this one); `None` if it does not lie inside.
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.range.len() {
            return None;
        }
        let start = self.range.start;
        Some(Self { backing: Arc::clone(&self.backing), range: start + range.start..start + range.end })
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        match &*self.backing {
            Backing::Mapped(map) => &map[self.range.clone()],
            Backing::Owned(bytes) => &bytes[self.range.clone()],
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.range.len()
    }

    /// Asks the system to begin reading a part from the file, where that is mapped. A hint: a refusal is not an error.
    pub(crate) fn expect(&self, part: Range<usize>) {
        #[cfg(unix)]
        if let Backing::Mapped(map) = &*self.backing
            && !part.is_empty()
            && part.end <= self.range.len()
        {
            drop(map.advise_range(memmap2::Advice::WillNeed, self.range.start + part.start, part.len()));
        }
        #[cfg(not(unix))]
        let _ = part;
    }

    /// Lets the system take back the physical pages behind a mapped range; the next read loads them again. A refusal
    /// is not an error: the call is a hint about memory, never about contents.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        if let Backing::Mapped(map) = &*self.backing
            && !self.range.is_empty()
        {
            // SAFETY: the map is a read-only, file-backed, unmodified mapping, so dropped pages come back from the
            // file with the same contents; the range lies inside the map by construction.
            let hint = unsafe {
                map.unchecked_advise_range(
                    memmap2::UncheckedAdvice::DontNeed,
                    self.range.start,
                    self.range.len(),
                )
            };
            drop(hint);
        }
    }
}
