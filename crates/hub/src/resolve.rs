//! From a name to a folder: the order in which path, cache and network are asked.

use crate::cache::RepoCache;
use crate::client::{Client, Listing, Remote};
use crate::download::{Download, retrying};
use crate::error::{Error, Result};
use crate::needed::{RepoKind, choose, missing, shards};
use crate::settings::HubSettings;
use crate::spec::RepoSpec;
use std::path::{Path, PathBuf};

/// What a caller is told while it waits.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event<'e> {
    /// Bytes are coming in.
    Progress {
        /// The file being downloaded.
        file: &'e str,
        /// Bytes of this repository that are there.
        done: u64,
        /// Bytes that are needed in all.
        total: u64,
    },
    /// The hub can't be reached; what it said last time is used.
    UsingCache {
        /// Repository with revision.
        repo: String,
        /// The commit in the cache.
        commit: String,
        /// Why the hub could not be asked.
        reason: String,
    },
}

/// How to resolve a name.
pub struct Options<'o> {
    /// Where the hub and its cache are.
    pub hub: HubSettings,
    /// The GGUF file to take from a repository that has several; the result is then the file's path.
    pub gguf: Option<String>,
    /// Told of progress and of falling back to the cache.
    pub on_event: &'o dyn Fn(Event),
}

impl Options<'_> {
    /// As the environment says, and silent.
    pub fn from_env() -> Self {
        Self { hub: HubSettings::from_env(), gguf: None, on_event: &|_| {} }
    }
}

/// Turns `spec` into a path: an existing local path is returned as it is; `org/name` or `org/name@revision` is looked
/// up on the hub, and the files that `kind` needs are downloaded into the hub's cache unless they are there.
///
/// A branch is asked for anew each time; if the hub can't be reached, a complete snapshot in the cache is used and
/// [`Event::UsingCache`] says so. A full commit hash that is complete in the cache needs no network.
///
/// # Errors
/// [`Error`]; what was downloaded so far stays and is resumed next time.
pub fn resolve(spec: &str, kind: RepoKind, options: &Options) -> Result<PathBuf> {
    if Path::new(spec).exists() {
        return Ok(PathBuf::from(spec));
    }
    let repo = RepoSpec::parse(spec)?;
    let cache = RepoCache::new(&options.hub.cache, &repo);
    let wanted = Wanted { kind, gguf: options.gguf.as_deref() };
    if options.hub.offline {
        return wanted.cached(&repo, &cache).map(|(_, path)| path).map_err(|missing| Error::Offline {
            repo: repo.to_string(),
            cache: options.hub.cache.clone(),
            missing,
        });
    }
    if repo.is_commit()
        && let Ok((_, path)) = wanted.cached(&repo, &cache)
    {
        return Ok(path);
    }
    let client = Client::new(&options.hub);
    match retrying(options.hub.retry_pause, || client.list(&repo)) {
        Ok(listing) => wanted.download(&repo, &cache, &client, &listing, options),
        Err(e) if e.is_transient() => match wanted.cached(&repo, &cache) {
            Ok((commit, path)) => {
                let reason = e.to_string();
                (options.on_event)(Event::UsingCache { repo: repo.to_string(), commit, reason });
                Ok(path)
            }
            Err(_) => Err(e),
        },
        Err(e) => Err(e),
    }
}

/// What is looked for in a repository.
struct Wanted<'w> {
    kind: RepoKind,
    gguf: Option<&'w str>,
}

impl Wanted<'_> {
    /// Commit and path of a complete snapshot, or what is missing.
    fn cached(&self, repo: &RepoSpec, cache: &RepoCache) -> Result<(String, PathBuf), String> {
        let commit = cache.commit(&repo.revision).ok_or("no snapshot of that revision")?;
        let snapshot = cache.snapshot(&commit);
        match missing(self.kind, &snapshot, self.gguf) {
            Some(missing) => Err(missing),
            None => Ok((commit, self.path(snapshot))),
        }
    }

    fn path(&self, snapshot: PathBuf) -> PathBuf {
        match self.gguf {
            Some(file) => snapshot.join(file),
            None => snapshot,
        }
    }

    fn download(
        &self,
        repo: &RepoSpec,
        cache: &RepoCache,
        client: &Client,
        listing: &Listing,
        options: &Options,
    ) -> Result<PathBuf> {
        let needed = choose(self.kind, &listing.files, self.gguf, &repo.to_string())?;
        let retry_pause = options.hub.retry_pause;
        let download = Download { client, spec: repo, commit: &listing.commit, cache, retry_pause };
        let mut ledger = Ledger { done: 0, total: 0, on_event: options.on_event };
        let snapshot = cache.snapshot(&listing.commit);
        fetch_all(&download, &snapshot, &needed.files, &mut ledger)?;
        if needed.has_index {
            let shards = shards(&snapshot)?;
            if let Some(shard) = shards.iter().find(|shard| !listing.files.contains(shard)) {
                let why = format!("its weights index names `{shard}`, which it does not have");
                return Err(Error::Unusable { repo: repo.to_string(), why });
            }
            fetch_all(&download, &snapshot, &shards, &mut ledger)?;
        }
        cache.write_ref(&repo.revision, &listing.commit)?;
        Ok(self.path(snapshot))
    }
}

/// Bytes there and bytes needed, over all files.
struct Ledger<'l> {
    done: u64,
    total: u64,
    on_event: &'l dyn Fn(Event),
}

/// Looks up all sizes first, so that progress has a total, then downloads what the snapshot lacks: a file of a commit
/// never changes.
fn fetch_all(download: &Download, snapshot: &Path, files: &[String], ledger: &mut Ledger) -> Result<()> {
    let lacking = files.iter().filter(|file| !snapshot.join(file).exists());
    let look_up = |file: &String| {
        retrying(download.retry_pause, || download.client.look_up(download.spec, download.commit, file))
    };
    let remotes: Vec<Remote> = lacking.map(look_up).collect::<Result<_>>()?;
    ledger.total += remotes.iter().map(|remote| remote.size).sum::<u64>();
    for remote in &remotes {
        let (done, total, on_event) = (ledger.done, ledger.total, ledger.on_event);
        download.fetch(remote, &mut |bytes| {
            on_event(Event::Progress { file: &remote.file, done: done + bytes, total });
        })?;
        ledger.done += remote.size;
    }
    Ok(())
}
