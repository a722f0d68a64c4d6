//! Who may ask, from the configuration to the edge.

use crate::config::Config;
use crate::serve::{self, AccessOptions, RemoteError, Tls, TlsError, TlsFiles};

/// Whether the configured address is safe with what is configured beside it.
pub(super) fn may_listen(config: &Config) -> Result<(), RemoteError> {
    let http = &config.http;
    serve::may_listen(config.host.listen, http.allow_remote, !http.tokens.is_empty(), http.tls.is_some())
}

/// The certificate, read.
pub(super) fn tls(config: &Config) -> Result<Option<Tls>, TlsError> {
    let files = config.http.tls.as_ref().map(|tls| TlsFiles { certificate: tls.certificate.clone(), key: tls.key.clone() });
    files.map(Tls::open).transpose()
}

/// Tokens and bounds of clients.
pub(super) fn options(config: &Config) -> AccessOptions {
    let http = &config.http;
    let token = |token: &crate::config::Token| serve::Token {
        name: token.name.clone(),
        sha256: token.sha256,
        scopes: token.scopes.clone(),
        reach: token.reach(),
        expires: token.expires,
    };
    AccessOptions {
        tokens: http.tokens.iter().map(token).collect(),
        requests_per_second_max: http.requests_per_second_max,
        client_concurrency_max: http.client_concurrency_max,
    }
}
