//! Talking to a running host.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio_rustls::rustls::crypto::ring;
use ureq::http::Response;
use ureq::tls::{Certificate, PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::typestate::{WithBody, WithoutBody};
use ureq::{Agent, Body, RequestBuilder, SendBody};

use super::Failure;

/// Which host. Its options stand after those of the command, also where they come from a command above it.
#[derive(clap::Args)]
pub(super) struct HostArgument {
    /// The host's address
    #[arg(long, value_name = "URL", env = "GRISTMILL_HOST", global = true, default_value = "http://127.0.0.1:7171", display_order = 901)]
    host: String,
    /// The environment variable that holds the token, for a host that asks for one
    #[arg(long, value_name = "NAME", global = true, default_value = TOKEN_ENV, display_order = 902)]
    token_env: String,
    /// The authority to trust for https, PEM; the system's when absent
    #[arg(long, value_name = "FILE", global = true, display_order = 903)]
    ca: Option<PathBuf>,
}

/// Where the token is unless the command line says otherwise.
const TOKEN_ENV: &str = "GRISTMILL_TOKEN";

/// More time than a host takes, unless it is told otherwise, so that its own word arrives; and the same where it compiles a component.
const TIMEOUT: Duration = Duration::from_secs(120);
const PUT_TIMEOUT: Duration = Duration::from_secs(360);

/// A client of one host.
pub(super) struct Client {
    base: String,
    agent: Agent,
    /// The value of the `Authorization` header.
    authorization: Option<String>,
}

/// An answer with a status that means trouble.
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) message: String,
}

impl HostArgument {
    pub(super) fn client(&self) -> Result<Client, Failure> {
        let token = std::env::var(&self.token_env).ok().filter(|token| !token.is_empty());
        if token.is_none() && self.token_env != TOKEN_ENV {
            return Err(Failure::Wrong(anyhow!("the environment variable `{}` holds no token", self.token_env)));
        }
        let roots = match &self.ca {
            None => RootCerts::PlatformVerifier,
            Some(path) => RootCerts::Specific(Arc::new(authorities(path).map_err(Failure::Wrong)?)),
        };
        let tls = TlsConfig::builder().root_certs(roots).unversioned_rustls_crypto_provider(Arc::new(ring::default_provider())).build();
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .tls_config(tls)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(TIMEOUT))
            .build();
        let authorization = token.map(|token| format!("Bearer {token}"));
        let host = &self.host;
        if !["http://", "https://"].iter().any(|scheme| host.get(..scheme.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(scheme))) {
            let bare = host.split_once("://").map_or(host.as_str(), |(_, bare)| bare);
            return Err(Failure::Wrong(anyhow!(
                "`{host}` is no address of a host; write http://{bare}, or https://{bare} if it has a certificate"
            )));
        }
        Ok(Client { base: self.host.trim_end_matches('/').to_owned(), agent: agent.into(), authorization })
    }
}

/// The certificates in a file.
fn authorities(path: &Path) -> anyhow::Result<Vec<Certificate<'static>>> {
    let pem = std::fs::read(path).with_context(|| format!("--ca: cannot read {}", path.display()))?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) = item.with_context(|| format!("--ca: {} is not PEM", path.display()))? {
            found.push(certificate);
        }
    }
    anyhow::ensure!(!found.is_empty(), "--ca: {} holds no certificate in PEM", path.display());
    Ok(found)
}

impl Client {
    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.value(self.bare(self.agent.get(self.url(path))).call())
    }

    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.value(self.bare(self.agent.delete(self.url(path))).call())
    }

    /// PUT of a component. Shows how much of it has been sent, and then how long the host has been at it.
    pub(super) fn put(&self, path: &str, component: &[u8]) -> Result<Value, Failure> {
        let all = component.len() as u64;
        let progress = ProgressBar::new(all);
        let style = |template: &str| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        progress.set_style(style("{spinner} sending {bar:30} {bytes} of {total_bytes}"));
        progress.enable_steady_tick(Duration::from_millis(100));
        let mut sent = |bytes| {
            progress.inc(bytes);
            if progress.position() == all {
                progress.set_style(style("{spinner} {total_bytes} sent; the host compiles and checks them, {elapsed}"));
            }
        };
        let request = self.full(self.agent.put(self.url(path))).header("content-type", "application/wasm");
        let request = request.header("content-length", all.to_string());
        let mut told = Told { rest: component, sent: &mut sent };
        let response = request.config().timeout_global(Some(PUT_TIMEOUT)).build().send(SendBody::from_reader(&mut told));
        progress.finish_and_clear();
        self.value(response)
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.value(self.full(self.agent.post(self.url(path))).send_json(body))
    }

    /// POST of something for which the host compiles a component.
    pub(super) fn post_slowly(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let request = self.full(self.agent.post(self.url(path)));
        self.value(request.config().timeout_global(Some(PUT_TIMEOUT)).build().send_json(body))
    }

    /// POST of bytes; a refusal is told apart from other failures, because some are worth another try.
    pub(super) fn try_post(&self, path: &str, body: &[u8]) -> Result<Result<Value, Refused>, Failure> {
        let response = self.full(self.agent.post(self.url(path))).header("content-type", "application/x-ndjson").send(body);
        self.answer(response)
    }

    /// A request without a body, with the token.
    fn bare(&self, request: RequestBuilder<WithoutBody>) -> RequestBuilder<WithoutBody> {
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    /// A request with a body, with the token.
    fn full(&self, request: RequestBuilder<WithBody>) -> RequestBuilder<WithBody> {
        match &self.authorization {
            Some(authorization) => request.header("authorization", authorization),
            None => request,
        }
    }

    fn value(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Value, Failure> {
        self.answer(response)?.map_err(|refused| {
            let error = anyhow!("{}", refused.message);
            match refused.status {
                401 => Failure::Wrong(anyhow!("{error}; put one into {TOKEN_ENV}, or name another variable with --token-env")),
                404 => Failure::NotFound(error),
                400..500 => Failure::Wrong(error),
                _ => Failure::Failed(error),
            }
        })
    }

    fn answer(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Result<Value, Refused>, Failure> {
        let mut response = response.map_err(|error| self.unreachable(&error))?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(1 << 30).read_to_string()?;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status < 400 {
            return Ok(Ok(value));
        }
        let message = value.pointer("/error/message").and_then(Value::as_str);
        Ok(Err(Refused { status, message: message.map_or(format!("the host answered {status}: {text}"), str::to_owned) }))
    }

    /// What is wrong with the way to the host.
    fn unreachable(&self, error: &ureq::Error) -> Failure {
        let base = &self.base;
        let bare = base.split_once("://").map_or(base.as_str(), |(_, bare)| bare);
        let text = error.to_string();
        let is_plain = !base.to_ascii_lowercase().starts_with("https://");
        let is_of_tls =
            !is_plain && matches!(error, ureq::Error::Tls(_) | ureq::Error::Rustls(_) | ureq::Error::Io(_)) && is_about_tls(&text);
        Failure::Unreachable(if is_of_tls && text.contains("certificate") {
            anyhow!("{base} shows a certificate that is not trusted ({text}); {}", mended(&text))
        } else if is_of_tls {
            anyhow!("{base} and this client do not agree on TLS ({text}); if it has no certificate, name it as http://{bare}")
        } else if is_plain && matches!(error, ureq::Error::Protocol(_)) {
            anyhow!("what answers at {base} does not speak HTTP ({text}); if it has a certificate, name it as https://{bare}")
        } else {
            anyhow!("no host answers at {base} ({text}); start one with `gristmill run`, or name it with --host")
        })
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
}

/// A body that tells how much of it has been taken.
struct Told<'t> {
    rest: &'t [u8],
    sent: &'t mut dyn FnMut(u64),
}

impl Read for Told<'_> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let taken = self.rest.read(into)?;
        (self.sent)(taken as u64);
        Ok(taken)
    }
}

/// What to do about a certificate that is not trusted, told by what rustls says of it.
fn mended(text: &str) -> &'static str {
    if text.contains("CaUsedAsEndEntity") {
        "it is one of an authority, which a host cannot show: make one that is not (with openssl `-addext basicConstraints=critical,CA:FALSE`)"
    } else if text.contains("not valid for name") || text.contains("NotValidForName") {
        "name the host as its certificate does, or give it one for this name too"
    } else if text.contains("expired") || text.contains("not valid yet") {
        "give the host one that is valid today"
    } else {
        "name its authority with --ca"
    }
}

/// Whether an error is one of TLS; some come wrapped in one of the connection.
fn is_about_tls(text: &str) -> bool {
    ["TLS", "tls", "certificate", "corrupt message", "handshake"].iter().any(|word| text.contains(word))
}

/// A path segment or a query value as it may stand in a URL.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}
