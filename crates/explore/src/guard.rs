//! Who may ask: the token, the host and the origin of a request; and what every response tells the browser.

use crate::error::{Error, Result};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use std::net::SocketAddr;
use subtle::ConstantTimeEq;

/// What a request has to bring.
#[derive(Clone, Debug)]
pub(crate) struct Guard {
    token: String,
    /// `HOST:PORT` as browsers write them; empty where the server listens on all addresses, whose names nobody knows beforehand.
    hosts: Vec<String>,
    /// Whether notebooks of this machine may show the page in a frame.
    framed: bool,
}

/// A random token: 32 bytes as hexadecimal digits.
pub(crate) fn random_token() -> Result<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| Error::NoRandom(e.to_string()))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

impl Guard {
    /// For a server at `address`, reached under `host` where that is a name.
    pub fn new(token: String, host: &str, address: SocketAddr, framed: bool) -> Self {
        let port = address.port();
        let mut names = vec![host.to_owned()];
        if address.ip().is_loopback() {
            names.extend(["127.0.0.1", "localhost", "[::1]"].map(str::to_owned));
        }
        if address.is_ipv6() && !host.starts_with('[') {
            names.push(format!("[{host}]"));
        }
        let mut hosts: Vec<String> = names.iter().map(|name| format!("{name}:{port}")).collect();
        if address.ip().is_unspecified() {
            hosts.clear();
        }
        Self { token, hosts, framed }
    }

    /// The token, for the address that is printed.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Why a request is refused.
    pub fn check(
        &self,
        token: &str,
        headers: &HeaderMap,
    ) -> std::result::Result<(), (StatusCode, &'static str)> {
        let text = |name: header::HeaderName| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
        // A foreign page that has its own name lead here (DNS rebinding) says that name.
        let Some(host) = text(header::HOST) else {
            return Err((StatusCode::BAD_REQUEST, "the request names no host"));
        };
        if !self.hosts.is_empty() && !self.hosts.iter().any(|h| h.eq_ignore_ascii_case(host)) {
            return Err((StatusCode::MISDIRECTED_REQUEST, "this server is not called so"));
        }
        if let Some(origin) = text(header::ORIGIN)
            && !origin.strip_prefix("http://").is_some_and(|o| o.eq_ignore_ascii_case(host))
        {
            return Err((StatusCode::FORBIDDEN, "requests of other pages are refused"));
        }
        let fetch = |name: &str| headers.get(name).map(|v| v.to_str().unwrap_or("?"));
        // That a foreign page opens this one in a frame shows it nothing; which pages may, the browser is told with the answer.
        let opens_frame =
            fetch("sec-fetch-mode") == Some("navigate") && fetch("sec-fetch-dest") == Some("iframe");
        let is_own = fetch("sec-fetch-site").is_none_or(|site| ["same-origin", "none"].contains(&site));
        if !(is_own || self.framed && opens_frame) {
            return Err((StatusCode::FORBIDDEN, "requests of other pages are refused"));
        }
        // Every byte is compared, whatever the first difference is.
        if bool::from(token.as_bytes().ct_eq(self.token.as_bytes())) {
            Ok(())
        } else {
            Err((
                StatusCode::FORBIDDEN,
                "the address lacks this server's token; use the one that the program printed",
            ))
        }
    }
}

/// Everything comes from this server, nothing else is loaded, embedded or told; who may show the page in a frame is said last.
macro_rules! policy {
    ($frames:literal) => {
        concat!(
            "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; ",
            "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors ",
            $frames
        )
    };
}

const HEADERS: [(&str, &str); 6] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("cache-control", "no-store"),
];

impl Guard {
    /// Puts the headers on a response.
    pub fn protect(&self, headers: &mut HeaderMap) {
        for (name, value) in HEADERS {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // Pages of servers on this machine, as notebooks are.
        let policy =
            if self.framed { policy!("http://localhost:* http://127.0.0.1:*") } else { policy!("'none'") };
        headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
        if !self.framed {
            headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(host: &str, address: &str, framed: bool) -> Guard {
        Guard::new("secret".to_owned(), host, address.parse().expect("an address"), framed)
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = all
            .iter()
            .map(|(n, v)| (header::HeaderName::from_static(n), HeaderValue::from_str(v).expect("a header")));
        pairs.collect()
    }

    #[test]
    fn hosts_origins_and_tokens() {
        let guard = guard("127.0.0.1", "127.0.0.1:80", false);
        let ask = |token: &str, all: &[(&'static str, &str)]| {
            guard.check(token, &headers(all)).map_err(|(status, _)| status.as_u16())
        };
        let own = ("host", "127.0.0.1:80");
        assert_eq!(ask("secret", &[own]), Ok(()));
        assert_eq!(ask("secret", &[("host", "LocalHost:80"), ("origin", "http://localhost:80")]), Ok(()));
        assert_eq!(ask("secret", &[]), Err(400));
        for host in
            ["evil.example", "127.0.0.1", "127.0.0.1:81", "127.0.0.1:80.evil.example", "localhost.evil:80"]
        {
            assert_eq!(ask("secret", &[("host", host)]), Err(421), "{host}");
        }
        for origin in [
            "null",
            "http://evil.example",
            "https://127.0.0.1:80",
            "http://localhost:80",
            "http://127.0.0.1:8080",
        ] {
            assert_eq!(ask("secret", &[own, ("origin", origin)]), Err(403), "{origin}");
        }
        assert_eq!(ask("secret", &[own, ("sec-fetch-site", "cross-site")]), Err(403));
        assert_eq!(ask("secret", &[own, ("sec-fetch-site", "same-origin")]), Ok(()));
        for token in ["", "secre", "secret2", "Secret"] {
            assert_eq!(ask(token, &[own]), Err(403), "{token}");
        }
    }

    #[test]
    fn only_a_guard_that_says_so_lets_frames_be_opened() {
        let own = ("host", "127.0.0.1:80");
        let frame = [
            own,
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
            ("sec-fetch-dest", "iframe"),
        ];
        let ask = |framed: bool, token: &str, all: &[(&'static str, &str)]| {
            let guard = guard("127.0.0.1", "127.0.0.1:80", framed);
            guard.check(token, &headers(all)).map_err(|(status, _)| status.as_u16())
        };
        assert_eq!(ask(false, "secret", &frame), Err(403));
        assert_eq!(ask(true, "secret", &frame), Ok(()));
        assert_eq!(ask(true, "other", &frame), Err(403));
        let script =
            [own, ("sec-fetch-site", "cross-site"), ("sec-fetch-mode", "cors"), ("sec-fetch-dest", "empty")];
        assert_eq!(ask(true, "secret", &script), Err(403), "what a foreign page asks for itself");
        let form = [&frame[..], &[("origin", "http://localhost:8888")]].concat();
        assert_eq!(ask(true, "secret", &form), Err(403), "what a form of a foreign page sends");
        let said = |framed: bool| {
            let mut all = HeaderMap::new();
            guard("127.0.0.1", "127.0.0.1:80", framed).protect(&mut all);
            let policy = all[header::CONTENT_SECURITY_POLICY].to_str().expect("text").to_owned();
            (
                policy.rsplit_once("; ").expect("several").1.to_owned(),
                all.contains_key(header::X_FRAME_OPTIONS),
            )
        };
        assert_eq!(said(false), ("frame-ancestors 'none'".to_owned(), true));
        assert_eq!(said(true), ("frame-ancestors http://localhost:* http://127.0.0.1:*".to_owned(), false));
    }

    #[test]
    fn tokens_are_long_and_differ() {
        let (one, other) = (random_token().expect("a token"), random_token().expect("a token"));
        assert!(one.len() == 64 && one != other && one.chars().all(|c| c.is_ascii_hexdigit()));
    }
}
