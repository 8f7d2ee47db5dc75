//! Resolving names against a server on this machine that plays the hub, good days and bad.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use common::{COMMIT, REPO, Server, sha256};
use lorascope_hub::{Error, Event, HubSettings, Options, RepoKind, resolve};
use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const MODEL: &[(&str, &[u8])] = &[
    ("README.md", b"not needed"),
    ("config.json", b"{}"),
    ("model.safetensors", b"these are many weights in one file"),
    ("pytorch_model.bin", b"not needed"),
    ("tokenizer.json", b"{\"model\": 1}"),
];
const WEIGHTS: &[u8] = MODEL[2].1;

fn hub(server: &Server, cache: &TempDir) -> HubSettings {
    HubSettings {
        endpoint: server.address.clone(),
        cache: cache.path().join("hub"),
        token: Some("secret".into()),
        offline: false,
        retry_pause: Duration::from_millis(1),
    }
}

fn get(spec: &str, kind: RepoKind, hub: HubSettings) -> Result<PathBuf, Error> {
    resolve(spec, kind, &Options { hub, gguf: None, on_event: &|_| {} })
}

fn model(hub: HubSettings) -> Result<PathBuf, Error> {
    get(REPO, RepoKind::Model, hub)
}

fn blobs(cache: &TempDir) -> Vec<String> {
    let blobs = cache.path().join("hub/models--org--tiny/blobs");
    let Ok(entries) = std::fs::read_dir(blobs) else { return Vec::new() };
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_local_path_is_returned_as_it_is() {
    let (server, cache) = (Server::start(), tempfile::tempdir().unwrap());
    let path = cache.path().to_str().unwrap();
    assert_eq!(get(path, RepoKind::Model, hub(&server, &cache)).unwrap(), Path::new(path));
    assert!(server.state().seen.is_empty());
    let error = get("no/such/path", RepoKind::Model, hub(&server, &cache)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "`no/such/path` is neither an existing path nor a hub id of the form `org/name` or `org/name@revision`: owner \
         and name are letters, digits, `-`, `_` and `.`, and begin with a letter or digit"
    );
}

#[test]
fn a_fresh_download_has_the_hubs_layout_and_only_what_is_needed() {
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    let snapshot = model(hub(&server, &cache)).unwrap();
    let repo = cache.path().join("hub/models--org--tiny");
    assert_eq!(snapshot, repo.join("snapshots").join(COMMIT));
    assert_eq!(server.downloads(), ["config.json", "tokenizer.json", "model.safetensors"]);
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), WEIGHTS);
    assert_eq!(std::fs::read_to_string(repo.join("refs/main")).unwrap(), COMMIT);
    assert_eq!(blobs(&cache).len(), 3);
    assert!(blobs(&cache).contains(&sha256(WEIGHTS)));
    #[cfg(unix)]
    assert_eq!(
        std::fs::read_link(snapshot.join("model.safetensors")).unwrap(),
        Path::new("../../blobs").join(sha256(WEIGHTS))
    );
}

#[test]
fn progress_ends_at_the_total() {
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    let last = RefCell::new((0, 0));
    let on_event = |event: Event| {
        let Event::Progress { done, total, .. } = event else { panic!("{event:?}") };
        assert!(done >= last.borrow().0 && done <= total);
        *last.borrow_mut() = (done, total);
    };
    resolve(REPO, RepoKind::Model, &Options { hub: hub(&server, &cache), gguf: None, on_event: &on_event })
        .unwrap();
    let needed = (2 + WEIGHTS.len() + 12) as u64;
    assert_eq!(*last.borrow(), (needed, needed));
}

#[test]
fn the_second_time_nothing_is_downloaded_and_no_network_is_needed() {
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    let first = model(hub(&server, &cache)).unwrap();
    server.state().seen.clear();
    assert_eq!(model(hub(&server, &cache)).unwrap(), first);
    assert_eq!(server.state().seen.len(), 1, "one question whether the branch has moved");

    // A port that nobody listens on.
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let unreachable = HubSettings { endpoint: format!("http://{gone}"), ..hub(&server, &cache) };
    let told = RefCell::new(Vec::new());
    let on_event = |event: Event| told.borrow_mut().push(format!("{event:?}"));
    let options = Options { hub: unreachable.clone(), gguf: None, on_event: &on_event };
    assert_eq!(resolve(REPO, RepoKind::Model, &options).unwrap(), first);
    assert_eq!(told.borrow().len(), 1);
    assert!(told.borrow()[0].starts_with("UsingCache { repo: \"org/tiny@main\""), "{told:?}");

    let by_commit = format!("{REPO}@{COMMIT}");
    assert_eq!(get(&by_commit, RepoKind::Model, unreachable.clone()).unwrap(), first);
    let empty = tempfile::tempdir().unwrap();
    let error = model(HubSettings { cache: empty.path().into(), ..unreachable }).unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error}");
}

#[test]
fn offline_uses_the_cache_alone() {
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    let offline = HubSettings { offline: true, ..hub(&server, &cache) };
    let error = model(offline.clone()).unwrap_err().to_string();
    let folder = cache.path().join("hub").display().to_string();
    assert_eq!(
        error,
        format!(
            "`org/tiny@main` is not complete in the cache `{folder}` (no snapshot of that revision), and HF_HUB_OFFLINE \
             or TRANSFORMERS_OFFLINE forbids downloading it; unset them once, or give a local folder"
        )
    );
    let snapshot = model(hub(&server, &cache)).unwrap();
    server.state().seen.clear();
    assert_eq!(model(offline.clone()).unwrap(), snapshot);
    assert!(server.state().seen.is_empty());
    std::fs::remove_file(snapshot.join("model.safetensors")).unwrap();
    assert!(model(offline).unwrap_err().to_string().contains("(no `model.safetensors`)"));
}

#[test]
fn a_broken_connection_is_resumed_where_it_broke() {
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    server.state().cuts.insert("model.safetensors".into(), vec![10, 0, 5]);
    let snapshot = model(hub(&server, &cache)).unwrap();
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), WEIGHTS);
    assert_eq!(
        server.downloads()[2..],
        [
            "model.safetensors",
            "model.safetensors bytes=10-",
            "model.safetensors bytes=10-",
            "model.safetensors bytes=15-"
        ]
    );
}

#[test]
fn a_killed_download_is_resumed_by_the_next_run() {
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    server.state().cuts.insert("model.safetensors".into(), vec![10, 0, 0, 0, 0, 0]);
    let error = model(hub(&server, &cache)).unwrap_err();
    assert!(matches!(error, Error::Network { .. }), "{error}");
    let partial = format!("{}.incomplete", sha256(WEIGHTS));
    assert!(blobs(&cache).contains(&partial));
    server.state().cuts.clear();
    server.state().seen.clear();
    let snapshot = model(hub(&server, &cache)).unwrap();
    assert_eq!(server.downloads(), ["model.safetensors bytes=10-"]);
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), WEIGHTS);
    assert!(!blobs(&cache).contains(&partial));
}

#[test]
fn a_server_without_ranges_is_read_from_the_start() {
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    server.state().whole_only = true;
    server.state().cuts.insert("model.safetensors".into(), vec![10]);
    let snapshot = model(hub(&server, &cache)).unwrap();
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), WEIGHTS);
}

#[test]
fn trouble_of_the_server_is_waited_out_but_not_for_ever() {
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    server.state().hiccups = vec![503, 429, 500];
    model(hub(&server, &cache)).unwrap();
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    server.state().hiccups = vec![503; 20];
    let error = model(hub(&server, &cache)).unwrap_err();
    assert!(matches!(error, Error::Status { status: 503, .. }), "{error}");
    assert_eq!(server.state().seen.len(), 5);
}

#[test]
fn a_wrong_checksum_removes_the_download() {
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    let announced = sha256(b"something else");
    server.state().wrong_checksums.insert("model.safetensors".into(), announced.clone());
    let error = model(hub(&server, &cache)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the download of `model.safetensors` is damaged: its SHA-256 is `{}`, the hub says `{announced}`; it was \
             removed, try again",
            sha256(WEIGHTS)
        )
    );
    assert!(!blobs(&cache).iter().any(|name| name.starts_with(&announced)), "{:?}", blobs(&cache));
    assert!(!cache.path().join("hub/models--org--tiny/refs/main").exists());
}

#[test]
fn refused_access_says_how_to_get_it() {
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    server.state().refuse =
        Some((401, "X-Error-Code: GatedRepo\r\nX-Error-Message: Access is restricted\r\n"));
    let anonymous = HubSettings { token: None, ..hub(&server, &cache) };
    assert_eq!(
        model(anonymous).unwrap_err().to_string(),
        format!(
            "the hub refuses access to `org/tiny` (status 401: Access is restricted): it is gated, private or misspelt. \
             Ask for access on {}/org/tiny, then set HF_TOKEN to a token of that account (no token is set now)",
            server.address
        )
    );
    server.state().refuse = Some((403, ""));
    let error = model(hub(&server, &cache)).unwrap_err().to_string();
    assert!(error.ends_with("(the present token was sent and did not suffice)"), "{error}");
    assert!(!error.contains("secret"));
}

#[test]
fn what_is_not_there_is_named() {
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    assert_eq!(
        get("org/other", RepoKind::Model, hub(&server, &cache)).unwrap_err().to_string(),
        format!(
            "there is no local path `org/other` and no repository of that name on {} (status 404); check the spelling",
            server.address
        )
    );
    assert_eq!(
        get("org/tiny@v9", RepoKind::Model, hub(&server, &cache)).unwrap_err().to_string(),
        format!("repository `org/tiny` on {} has no revision `v9` (status 404)", server.address)
    );
    server.state().listed.push("generation_config.json".into());
    assert_eq!(
        model(hub(&server, &cache)).unwrap_err().to_string(),
        format!(
            "file `generation_config.json` of `org/tiny` at `{COMMIT}` is listed but not there (status 404)"
        )
    );
    assert_eq!(
        get(REPO, RepoKind::Adapter, hub(&server, &cache)).unwrap_err().to_string(),
        "`org/tiny@main` can't be used: it has no `adapter_config.json`, so it is not a PEFT adapter"
    );
}

#[test]
fn the_token_stays_with_the_hub() {
    let (server, blob_host) = (Server::with(MODEL), Server::with(MODEL));
    let cache = tempfile::tempdir().unwrap();
    server.state().blobs_at = Some(blob_host.address.clone());
    let snapshot = model(hub(&server, &cache)).unwrap();
    assert_eq!(std::fs::read(snapshot.join("model.safetensors")).unwrap(), WEIGHTS);
    assert!(blobs(&cache).contains(&sha256(WEIGHTS)), "the blob is named by the hub's checksum");
    assert!(server.state().seen.iter().all(|seen| seen.token.as_deref() == Some("Bearer secret")));
    let there = blob_host.state();
    assert_eq!(there.seen.len(), 1);
    assert_eq!((there.seen[0].verb.as_str(), &there.seen[0].token), ("GET", &None));
}

#[test]
fn resuming_works_through_a_redirect() {
    let (server, blob_host) = (Server::with(MODEL), Server::with(MODEL));
    let cache = tempfile::tempdir().unwrap();
    server.state().blobs_at = Some(blob_host.address.clone());
    blob_host.state().cuts.insert("model.safetensors".into(), vec![7]);
    model(hub(&server, &cache)).unwrap();
    assert_eq!(blob_host.downloads(), ["model.safetensors", "model.safetensors bytes=7-"]);
}

#[test]
fn a_listed_name_that_leaves_the_folder_is_refused() {
    for name in ["../../../evil", "/etc/evil", "a/../../evil", "..\\evil"] {
        let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
        server.state().listed.push(name.into());
        assert_eq!(
            model(hub(&server, &cache)).unwrap_err().to_string(),
            format!(
                "`org/tiny` lists the file name `{name}`, which is not a plain relative path; nothing was downloaded"
            )
        );
        assert!(server.downloads().is_empty());
        assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 0);
    }
}

#[test]
fn shards_come_from_the_index_and_stay_in_the_folder() {
    let index = br#"{"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors", "c": "model-1.safetensors"}}"#;
    let files: &[(&str, &[u8])] = &[
        ("config.json", b"{}"),
        ("model-1.safetensors", b"one"),
        ("model-2.safetensors", b"two"),
        ("model-3.safetensors", b"of another precision"),
        ("model.safetensors.index.json", index),
    ];
    let (server, cache) = (Server::with(files), tempfile::tempdir().unwrap());
    model(hub(&server, &cache)).unwrap();
    assert_eq!(
        server.downloads(),
        ["config.json", "model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"]
    );
    let offline = HubSettings { offline: true, ..hub(&server, &cache) };
    model(offline).unwrap();

    for (evil, why) in [("../x", "not a plain file name"), ("model-9.safetensors", "which it does not have")]
    {
        let (server, cache) = (Server::with(files), tempfile::tempdir().unwrap());
        let index = format!("{{\"weight_map\": {{\"a\": \"{evil}\"}}}}");
        server.state().files.insert("model.safetensors.index.json".into(), index.into_bytes());
        let error = model(hub(&server, &cache)).unwrap_err().to_string();
        assert!(error.contains(evil) && error.contains(why), "{error}");
    }
}

#[test]
fn one_of_several_gguf_files_by_name() {
    let files: &[(&str, &[u8])] = &[("q4.gguf", b"four"), ("q8.gguf", b"eight")];
    let (server, cache) = (Server::with(files), tempfile::tempdir().unwrap());
    assert_eq!(
        model(hub(&server, &cache)).unwrap_err().to_string(),
        "`org/tiny@main` can't be used: it has several GGUF files, name one: `q4.gguf`, `q8.gguf`"
    );
    let options = Options { hub: hub(&server, &cache), gguf: Some("q8.gguf".into()), on_event: &|_| {} };
    let path = resolve(REPO, RepoKind::Model, &options).unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"eight");
    assert_eq!(server.downloads(), ["q8.gguf"]);
}

#[test]
fn adapters_take_their_two_files() {
    let files: &[(&str, &[u8])] =
        &[("adapter_config.json", b"{}"), ("adapter_model.safetensors", b"w"), ("optimizer.pt", b"x")];
    let (server, cache) = (Server::with(files), tempfile::tempdir().unwrap());
    get(REPO, RepoKind::Adapter, hub(&server, &cache)).unwrap();
    assert_eq!(server.downloads(), ["adapter_config.json", "adapter_model.safetensors"]);
}

#[test]
fn something_that_is_no_hub_is_recognised() {
    let (server, cache) = (Server::with(MODEL), tempfile::tempdir().unwrap());
    server.state().refuse = Some((200, ""));
    let error = model(hub(&server, &cache)).unwrap_err();
    assert!(matches!(error, Error::NotAHub { .. }), "{error}");
    server.state().refuse = Some((302, "Location: /org/tiny\r\n"));
    let error = model(hub(&server, &cache)).unwrap_err();
    assert!(error.to_string().contains("redirects more than 10 times"), "{error}");
}
