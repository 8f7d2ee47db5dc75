//! Requests to the hub. Redirects are followed here, not in the HTTP library, because the token may go to the hub
//! alone: large files are redirected to other hosts.

use crate::error::{Error, Result};
use crate::needed::is_safe;
use crate::settings::HubSettings;
use crate::spec::{RepoSpec, is_commit};
use serde::Deserialize;
use std::time::Duration;
use ureq::http::{HeaderMap, Response, header};
use ureq::{Agent, Body};

const MAX_REDIRECTS: usize = 10;
const MAX_LISTING_BYTES: u64 = 64 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// Longest silence in the middle of an answer.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// A repository's files at one commit.
#[derive(Debug)]
pub(crate) struct Listing {
    pub commit: String,
    pub files: Vec<String>,
}

/// What the hub says of a file before it is downloaded.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub file: String,
    /// Name of the blob: the SHA-256 of a large file, git's hash of a small one.
    pub etag: String,
    pub size: u64,
}

enum Verb {
    Head,
    Get { from: u64 },
}

pub(crate) struct Client<'s> {
    settings: &'s HubSettings,
    agent: Agent,
}

impl<'s> Client<'s> {
    pub(crate) fn new(settings: &'s HubSettings) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_per_read(Some(READ_TIMEOUT))
            .user_agent(concat!("lorascope/", env!("CARGO_PKG_VERSION")));
        // A hub on this machine is never behind a proxy.
        let config = if is_loopback(&settings.endpoint) { config.proxy(None) } else { config };
        Self { settings, agent: config.build().new_agent() }
    }

    /// The files of `spec` at its revision.
    pub(crate) fn list(&self, spec: &RepoSpec) -> Result<Listing> {
        #[derive(Deserialize)]
        struct Answer {
            sha: String,
            siblings: Vec<Sibling>,
        }
        #[derive(Deserialize)]
        struct Sibling {
            rfilename: String,
        }
        let endpoint = &self.settings.endpoint;
        let url = format!("{endpoint}/api/models/{}/revision/{}", spec.id(), encode(&spec.revision, ""));
        let mut response = self.follow(&Verb::Get { from: 0 }, &url)?;
        self.check(&response, &url, spec, None)?;
        let text = response.body_mut().with_config().limit(MAX_LISTING_BYTES).read_to_string();
        let text = text.map_err(|e| network(&url, &e))?;
        let not_a_hub = |why: String| Error::NotAHub { url: url.clone(), why };
        let answer: Answer = serde_json::from_str(&text).map_err(|e| not_a_hub(e.to_string()))?;
        if !is_commit(&answer.sha) {
            return Err(not_a_hub(format!("`{}` is not a commit", answer.sha)));
        }
        let files: Vec<String> = answer.siblings.into_iter().map(|s| s.rfilename).collect();
        match files.iter().find(|file| !is_safe(file)) {
            Some(file) => Err(Error::UnsafeName { repo: spec.id(), file: file.clone() }),
            None => Ok(Listing { commit: answer.sha, files }),
        }
    }

    /// Size and checksum of a file.
    pub(crate) fn look_up(&self, spec: &RepoSpec, commit: &str, file: &str) -> Result<Remote> {
        let url = self.file_url(spec, commit, file);
        let response = self.follow(&Verb::Head, &url)?;
        if !response.status().is_redirection() {
            self.check(&response, &url, spec, Some((commit, file)))?;
        }
        let headers = response.headers();
        let first = |names: [&str; 2]| names.into_iter().find_map(|name| text(headers, name));
        let not_a_hub = |why: &str| Error::NotAHub { url: url.clone(), why: why.into() };
        let etag = first(["x-linked-etag", "etag"]).ok_or_else(|| not_a_hub("there is no ETag"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"').to_owned();
        if etag.is_empty() || !etag.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return Err(not_a_hub("the ETag is no hash"));
        }
        let size = first(["x-linked-size", "content-length"]).and_then(|size| size.parse().ok());
        let size = size.ok_or_else(|| not_a_hub("there is no size"))?;
        Ok(Remote { file: file.to_owned(), etag, size })
    }

    /// The bytes of a file from `from` on, or all of them if the server likes that better: the second value is where
    /// they begin. `None` if nothing lies at `from` or after it.
    pub(crate) fn open(
        &self,
        spec: &RepoSpec,
        commit: &str,
        file: &str,
        from: u64,
    ) -> Result<Option<(Response<Body>, u64)>> {
        let url = self.file_url(spec, commit, file);
        let response = self.follow(&Verb::Get { from }, &url)?;
        if response.status().as_u16() == 416 {
            return Ok(None);
        }
        self.check(&response, &url, spec, Some((commit, file)))?;
        if response.status().as_u16() != 206 {
            return Ok(Some((response, 0)));
        }
        let range = text(response.headers(), "content-range").unwrap_or_default();
        if !range.starts_with(&format!("bytes {from}-")) {
            return Err(Error::NotAHub { url, why: format!("asked for bytes from {from}, got `{range}`") });
        }
        Ok(Some((response, from)))
    }

    fn file_url(&self, spec: &RepoSpec, commit: &str, file: &str) -> String {
        format!("{}/{}/resolve/{commit}/{}", self.settings.endpoint, spec.id(), encode(file, "/"))
    }

    /// Sends a request and follows redirects, with the token on those that stay on the hub. A HEAD stops before it
    /// would leave the hub, where only the hub knows the checksum.
    fn follow(&self, verb: &Verb, url: &str) -> Result<Response<Body>> {
        let mut at = url.to_owned();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(verb, &at)?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            let Some(location) = text(response.headers(), "location") else {
                return Err(Error::NotAHub { url: at, why: "it redirects to nowhere".into() });
            };
            let next = join(&at, location)?;
            if matches!(verb, Verb::Head) && !self.is_hub(&next) {
                return Ok(response);
            }
            at = next;
        }
        Err(Error::NotAHub {
            url: url.to_owned(),
            why: format!("it redirects more than {MAX_REDIRECTS} times"),
        })
    }

    fn send(&self, verb: &Verb, url: &str) -> Result<Response<Body>> {
        let mut request = match verb {
            Verb::Head => self.agent.head(url),
            Verb::Get { .. } => self.agent.get(url),
        };
        // Sizes and checksums are those of the plain bytes.
        request = request.header(header::ACCEPT_ENCODING, "identity");
        if let Verb::Get { from } = verb
            && *from > 0
        {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(token) = self.settings.token.as_ref().filter(|_| self.is_hub(url)) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        request.call().map_err(|e| network(url, &e))
    }

    /// Whether `url` has the hub's scheme, host and port.
    fn is_hub(&self, url: &str) -> bool {
        origin(url).is_some_and(|o| Some(o) == origin(&self.settings.endpoint))
    }

    fn check(
        &self,
        response: &Response<Body>,
        url: &str,
        spec: &RepoSpec,
        file: Option<(&str, &str)>,
    ) -> Result<()> {
        let status = response.status().as_u16();
        let endpoint = self.settings.endpoint.clone();
        let repo = spec.id();
        Err(match (status, file) {
            (200..=299, _) => return Ok(()),
            (401 | 403, _) => Error::Refused {
                page: format!("{endpoint}/{repo}"),
                repo,
                status,
                detail: text(response.headers(), "x-error-message")
                    .map(|m| format!(": {m}"))
                    .unwrap_or_default(),
                token: match self.settings.token {
                    Some(_) => "the present token was sent and did not suffice",
                    None => "no token is set now",
                },
            },
            (404, Some((commit, file))) => {
                Error::NoFile { repo, revision: commit.to_owned(), file: file.to_owned() }
            }
            (404, None) if text(response.headers(), "x-error-code") == Some("RevisionNotFound") => {
                Error::NoRevision { repo, endpoint, revision: spec.revision.clone() }
            }
            (404, None) => Error::NoRepository { repo, endpoint },
            _ => Error::Status { url: url.to_owned(), status },
        })
    }
}

/// A [`Error::Network`]; what follows a `?` in the address may be a signature, and is left out.
pub(crate) fn network(url: &str, e: &dyn std::fmt::Display) -> Error {
    let url = url.split('?').next().unwrap_or(url);
    Error::Network { url: url.to_owned(), message: e.to_string() }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

/// Scheme, host and port as written.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?;
    Some(format!("{}://{}", scheme.to_ascii_lowercase(), host.to_ascii_lowercase()))
}

fn is_loopback(url: &str) -> bool {
    let host = origin(url).unwrap_or_default();
    ["http://127.0.0.1:", "http://localhost:", "http://[::1]:"].iter().any(|own| host.starts_with(own))
}

/// The address that `location` means when `from` answered with it.
fn join(from: &str, location: &str) -> Result<String> {
    if location.starts_with("http://") || location.starts_with("https://") {
        return Ok(location.to_owned());
    }
    match origin(from) {
        Some(origin) if location.starts_with('/') && !location.starts_with("//") => Ok(origin + location),
        _ => Err(Error::NotAHub { url: from.to_owned(), why: format!("it redirects to `{location}`") }),
    }
}

/// Percent-encodes all but letters, digits, `-._~` and what `keep` lists.
fn encode(part: &str, keep: &str) -> String {
    let mut out = String::new();
    for byte in part.bytes() {
        let c = byte as char;
        if byte.is_ascii_alphanumeric() || "-._~".contains(c) || keep.contains(c) {
            out.push(c);
        } else {
            out += &format!("%{byte:02X}");
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_port_scheme_or_user_is_another_host() {
        let settings = HubSettings { endpoint: "https://hub.co".into(), ..HubSettings::from_vars(|_| None) };
        let client = Client::new(&settings);
        assert!(client.is_hub("https://HUB.co/a?b"));
        for url in
            ["http://hub.co/a", "https://hub.co:8443/a", "https://hub.co.evil/a", "https://hub.co@evil/a"]
        {
            assert!(!client.is_hub(url), "{url}");
        }
    }

    #[test]
    fn names_are_encoded_for_addresses() {
        assert_eq!(encode("refs/pr/1", ""), "refs%2Fpr%2F1");
        assert_eq!(encode("dir/ä b#?.gguf", "/"), "dir/%C3%A4%20b%23%3F.gguf");
    }
}
