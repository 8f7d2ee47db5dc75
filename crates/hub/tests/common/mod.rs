//! A server on this machine that plays the hub, and the host that the hub redirects large files to.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};

pub const REPO: &str = "org/tiny";
pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Seen {
    pub verb: String,
    pub path: String,
    pub token: Option<String>,
    pub range: Option<String>,
}

/// What the server has and how it behaves.
#[derive(Default)]
pub struct State {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Names that are listed without being there.
    pub listed: Vec<String>,
    /// Checksums to announce in place of the true ones.
    pub wrong_checksums: BTreeMap<String, String>,
    /// Bytes of the body after which a download of the file is cut, one entry per download.
    pub cuts: BTreeMap<String, Vec<usize>>,
    /// Answer everything with this status and these headers.
    pub refuse: Option<(u16, &'static str)>,
    /// Status for the next requests, one entry each.
    pub hiccups: Vec<u16>,
    /// Address that large files are redirected to.
    pub blobs_at: Option<String>,
    /// Whether ranges are ignored.
    pub whole_only: bool,
    pub seen: Vec<Seen>,
}

/// A running server; it ends with the test program.
pub struct Server {
    pub address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State::default()));
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = Arc::clone(&shared);
                // A client that hangs up is no failure of the server.
                std::thread::spawn(move || drop(serve(stream, &state)));
            }
        });
        Self { address, state }
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn with(files: &[(&str, &[u8])]) -> Self {
        let server = Self::start();
        server.state().files = files.iter().map(|(n, b)| ((*n).to_owned(), b.to_vec())).collect();
        server
    }

    /// Downloads so far, as `file` or `file range`.
    pub fn downloads(&self) -> Vec<String> {
        let name = |seen: &Seen| seen.path.rsplit('/').next().unwrap().to_owned();
        let with_range = |seen: &Seen| match &seen.range {
            Some(range) => format!("{} {range}", name(seen)),
            None => name(seen),
        };
        let state = self.state();
        state
            .seen
            .iter()
            .filter(|s| s.verb == "GET" && !s.path.starts_with("/api/"))
            .map(with_range)
            .collect()
    }
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let Some(seen) = read_request(&mut BufReader::new(stream.try_clone()?))? else { return Ok(()) };
    let mut state = state.lock().unwrap();
    state.seen.push(seen.clone());
    let reply = answer(&mut state, &seen);
    drop(state);
    let mut head = format!(
        "HTTP/1.1 {} X\r\nConnection: close\r\nContent-Length: {}\r\n",
        reply.status,
        reply.body.len()
    );
    head += &reply.headers;
    stream.write_all((head + "\r\n").as_bytes())?;
    if seen.verb == "GET" {
        stream.write_all(&reply.body[..reply.cut.unwrap_or(usize::MAX).min(reply.body.len())])?;
    }
    stream.flush()
}

fn read_request(reader: &mut impl BufRead) -> std::io::Result<Option<Seen>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(verb), Some(path)) = (words.next(), words.next()) else { return Ok(None) };
    let mut seen = Seen { verb: verb.into(), path: path.into(), token: None, range: None };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { return Ok(Some(seen)) };
        match name.to_ascii_lowercase().as_str() {
            "authorization" => seen.token = Some(value.into()),
            "range" => seen.range = Some(value.into()),
            _ => {}
        }
    }
}

struct Reply {
    status: u16,
    headers: String,
    body: Vec<u8>,
    cut: Option<usize>,
}

fn reply(status: u16, headers: impl Into<String>, body: impl Into<Vec<u8>>) -> Reply {
    Reply { status, headers: headers.into(), body: body.into(), cut: None }
}

fn answer(state: &mut State, seen: &Seen) -> Reply {
    if let Some((status, headers)) = state.refuse {
        return reply(status, headers, "");
    }
    if !state.hiccups.is_empty() {
        return reply(state.hiccups.remove(0), "", "");
    }
    if let Some(rest) = seen.path.strip_prefix(&format!("/api/models/{REPO}/revision/")) {
        return match rest {
            "main" | COMMIT => reply(200, "Content-Type: application/json\r\n", listing(state)),
            _ => reply(404, "X-Error-Code: RevisionNotFound\r\n", ""),
        };
    }
    let at_hub = format!("/{REPO}/resolve/{COMMIT}/");
    let name = seen.path.strip_prefix(&at_hub).or_else(|| seen.path.strip_prefix("/blob/"));
    let Some((name, bytes)) = name.and_then(|n| Some((n.to_owned(), state.files.get(n)?.clone()))) else {
        return reply(404, "X-Error-Code: RepoNotFound\r\n", "");
    };
    let is_large = name.ends_with(".safetensors") || name.ends_with(".gguf");
    let etag = state.wrong_checksums.get(&name).cloned().unwrap_or_else(|| sha256(&bytes));
    if is_large
        && seen.path.starts_with(&at_hub)
        && let Some(blobs_at) = &state.blobs_at
    {
        let headers = format!(
            "Location: {blobs_at}/blob/{name}\r\nX-Linked-Etag: \"{etag}\"\r\nX-Linked-Size: {}\r\nETag: \"other\"\r\n",
            bytes.len()
        );
        return reply(302, headers, "");
    }
    let etag = if is_large { etag } else { etag[..40].to_owned() };
    file(state, seen, &name, &bytes, &etag)
}

fn file(state: &mut State, seen: &Seen, name: &str, bytes: &[u8], etag: &str) -> Reply {
    let from = seen.range.as_deref().filter(|_| !state.whole_only);
    let from = from.and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let mut reply = match from {
        Some(from) if from >= bytes.len() => return reply(416, "", ""),
        Some(from) => {
            let range = format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len());
            reply(206, range, &bytes[from..])
        }
        None => reply(200, "", bytes),
    };
    reply.headers += &format!("ETag: W/\"{etag}\"\r\n");
    if seen.verb == "GET"
        && let Some(cuts) = state.cuts.get_mut(name).filter(|cuts| !cuts.is_empty())
    {
        reply.cut = Some(cuts.remove(0));
    }
    reply
}

fn listing(state: &State) -> String {
    let names = state.files.keys().chain(&state.listed);
    let siblings: Vec<_> = names.map(|name| serde_json::json!({ "rfilename": name })).collect();
    serde_json::json!({ "id": REPO, "sha": COMMIT, "siblings": siblings }).to_string()
}
