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
}

/// A random token: 32 bytes as hexadecimal digits.
pub(crate) fn random_token() -> Result<String> {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).map_err(|e| Error::NoRandom(e.to_string()))?;
    Ok(bytes.iter().map(|b| format!("{b:02x}")).collect())
}

impl Guard {
    /// For a server at `address`, reached under `host` where that is a name.
    pub fn new(token: String, host: &str, address: SocketAddr) -> Self {
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
        Self { token, hosts }
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
        let site = headers.get("sec-fetch-site").map(|v| v.to_str().unwrap_or("?"));
        if site.is_some_and(|s| !["same-origin", "none"].contains(&s)) {
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

/// Everything comes from this server, nothing else is loaded, embedded or told.
const HEADERS: [(&str, &str); 8] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; font-src 'self' data:; \
         connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ("cache-control", "no-store"),
];

/// Puts the headers on a response.
pub(crate) fn protect(headers: &mut HeaderMap) {
    for (name, value) in HEADERS {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(host: &str, address: &str) -> Guard {
        Guard::new("secret".to_owned(), host, address.parse().expect("an address"))
    }

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = all
            .iter()
            .map(|(n, v)| (header::HeaderName::from_static(n), HeaderValue::from_str(v).expect("a header")));
        pairs.collect()
    }

    #[test]
    fn hosts_origins_and_tokens() {
        let guard = guard("127.0.0.1", "127.0.0.1:80");
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
    fn tokens_are_long_and_differ() {
        let (one, other) = (random_token().expect("a token"), random_token().expect("a token"));
        assert!(one.len() == 64 && one != other && one.chars().all(|c| c.is_ascii_hexdigit()));
    }
}
