//! One file from the hub into its blob: resumed where it broke off, checked, and moved into place at the end.

use crate::cache::{RepoCache, make_parent};
use crate::client::{Client, Remote, network};
use crate::error::{Error, Result, io};
use crate::spec::RepoSpec;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use std::time::Duration;

/// How often in a row a request may fail without a byte of progress.
const MAX_ATTEMPTS: u32 = 5;
const PIECE_BYTES: usize = 1 << 18;

/// Repeats `request` while it fails for reasons that may pass, pausing longer each time.
pub(crate) fn retrying<T>(pause: Duration, mut request: impl FnMut() -> Result<T>) -> Result<T> {
    let mut attempt = 1;
    loop {
        match request() {
            Err(e) if e.is_transient() && attempt < MAX_ATTEMPTS => {
                std::thread::sleep(pause * 2u32.pow(attempt - 1));
                attempt += 1;
            }
            result => return result,
        }
    }
}

/// What is downloaded, from where to where.
pub(crate) struct Download<'a> {
    pub client: &'a Client<'a>,
    pub spec: &'a RepoSpec,
    pub commit: &'a str,
    pub cache: &'a RepoCache,
    pub retry_pause: Duration,
}

impl Download<'_> {
    /// Sees to it that the snapshot has the file. `progress` hears how many of the file's bytes are there.
    pub(crate) fn fetch(&self, remote: &Remote, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let _lock = self.cache.lock(&remote.etag)?;
        let blob = self.cache.blob(&remote.etag);
        if !blob.exists() {
            make_parent(&blob)?;
            let partial = self.cache.partial(&remote.etag);
            self.complete(remote, &partial, progress)?;
            verify(remote, &partial)?;
            fs::rename(&partial, &blob).map_err(io(&blob))?;
        }
        progress(remote.size);
        self.cache.link(self.commit, &remote.file, &remote.etag)
    }

    /// Downloads until `partial` has the file's size. Every broken connection that brought bytes earns new attempts.
    fn complete(&self, remote: &Remote, partial: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
        loop {
            let before = length(partial);
            let result = retrying(self.retry_pause, || {
                let start = length(partial);
                match self.extend(remote, partial, progress) {
                    Err(e) if e.is_transient() && length(partial) > start => Ok(()),
                    result => result,
                }
            });
            let now = length(partial);
            if result.is_err() || now == remote.size {
                return result;
            }
            if now <= before {
                return Err(self.broken(remote, "the server begins again and again"));
            }
        }
    }

    /// One request's worth of bytes, appended to `partial`.
    fn extend(&self, remote: &Remote, partial: &Path, progress: &mut dyn FnMut(u64)) -> Result<()> {
        let have = match length(partial) {
            have if have > remote.size => 0,
            have if have == remote.size && have > 0 => return Ok(()),
            have => have,
        };
        let Some((response, from)) = self.client.open(self.spec, self.commit, &remote.file, have)? else {
            let _ = fs::remove_file(partial);
            return Err(self.broken(remote, "the server has no bytes from there on"));
        };
        let mut file = OpenOptions::new().create(true).append(true).open(partial).map_err(io(partial))?;
        file.set_len(from).map_err(io(partial))?;
        let mut body = response.into_body().into_reader();
        let (mut at, mut piece) = (from, vec![0; PIECE_BYTES]);
        loop {
            progress(at);
            let n = body.read(&mut piece).map_err(|e| self.broken(remote, &e.to_string()))?;
            if n == 0 {
                break;
            }
            at += n as u64;
            if at > remote.size {
                let _ = fs::remove_file(partial);
                let why = format!("`{}` is longer than the {} bytes announced", remote.file, remote.size);
                return Err(Error::NotAHub { url: self.spec.to_string(), why });
            }
            file.write_all(&piece[..n]).map_err(io(partial))?;
        }
        file.sync_all().map_err(io(partial))?;
        if at < remote.size {
            return Err(
                self.broken(remote, &format!("the connection ended after {at} of {} bytes", remote.size))
            );
        }
        Ok(())
    }

    fn broken(&self, remote: &Remote, message: &str) -> Error {
        network(&format!("{}: `{}`", self.spec, remote.file), &message)
    }
}

fn length(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |m| m.len())
}

/// Holds a large file, whose ETag is its SHA-256, against it; a damaged one is removed.
fn verify(remote: &Remote, partial: &Path) -> Result<()> {
    let is_sha256 = remote.etag.len() == 64 && remote.etag.bytes().all(|b| b.is_ascii_hexdigit());
    if !is_sha256 {
        return Ok(());
    }
    let mut file = File::open(partial).map_err(io(partial))?;
    let (mut hash, mut piece) = (Sha256::new(), vec![0; PIECE_BYTES]);
    loop {
        match file.read(&mut piece).map_err(io(partial))? {
            0 => break,
            n => hash.update(&piece[..n]),
        }
    }
    let found: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    if found.eq_ignore_ascii_case(&remote.etag) {
        return Ok(());
    }
    fs::remove_file(partial).map_err(io(partial))?;
    Err(Error::Checksum { file: remote.file.clone(), expected: remote.etag.clone(), found })
}
