//! Who may ask a host that listens on the loopback only: the programs of this machine. A browser is one of them and runs what any web page says,
//! so that what comes from a page of somebody else's is told by its headers and refused.

use std::net::IpAddr;

use axum::http::{HeaderMap, HeaderName, Method, StatusCode, Uri, header};

use super::error::ApiError;

/// Refuses a request that reached the loopback under a foreign name (a page whose name was made to point here would be of the same origin as
/// the host and could do anything), and one by which a page of another origin would change something.
///
/// `is_invited` says that the configuration names the page's origin.
pub(super) fn check(method: &Method, uri: &Uri, headers: &HeaderMap, is_invited: bool) -> Result<(), ApiError> {
    let text = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = text(header::HOST);
    // A request may name its host twice, and in its first line too.
    let hosts = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
    let mut hosts = hosts.chain(uri.authority().map(|authority| authority.as_str()));
    if hosts.any(|host| !is_loopback(host)) {
        return Err(forbidden(
            "this host answers under localhost and 127.0.0.1 only; behind a proxy that checks who is asking, set http.allow_remote = true",
        ));
    }
    let origin = text(header::ORIGIN).filter(|_| !is_invited && method != Method::GET && method != Method::HEAD);
    if origin.is_some_and(|origin| origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")) != host) {
        return Err(forbidden("a web page of another origin may not change anything here"));
    }
    Ok(())
}

fn forbidden(message: &str) -> ApiError {
    ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
}

/// Whether `host`, with or without a port, names this machine and cannot be made to name another.
fn is_loopback(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_loopback_is_local() {
        for host in ["localhost", "LOCALHOST:7171", "127.0.0.1", "127.0.0.1:80", "127.1.2.3:1", "[::1]", "[::1]:7171"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example:7171",
            "127.0.0.1.evil.example",
            "10.0.0.1:7171",
            "127.0.0.1:",
            "[::2]:1",
            "0.0.0.0",
        ] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
