//! Talking to a running host.

use std::time::Duration;

use anyhow::anyhow;
use serde_json::Value;
use ureq::http::Response;
use ureq::{Agent, Body};

use super::Failure;

/// Which host.
#[derive(clap::Args)]
pub(super) struct HostArgument {
    /// The host's address
    #[arg(long, value_name = "URL", env = "GRISTMILL_HOST", global = true, default_value = "http://127.0.0.1:7171")]
    host: String,
}

/// A client of one host.
pub(super) struct Client {
    base: String,
    agent: Agent,
}

/// An answer with a status that means trouble.
pub(super) struct Refused {
    pub(super) status: u16,
    pub(super) message: String,
}

impl HostArgument {
    pub(super) fn client(&self) -> Client {
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_global(Some(Duration::from_secs(120)))
            .build();
        Client { base: self.host.trim_end_matches('/').to_owned(), agent: agent.into() }
    }
}

impl Client {
    pub(super) fn get(&self, path: &str) -> Result<Value, Failure> {
        self.value(self.agent.get(self.url(path)).call())
    }

    pub(super) fn delete(&self, path: &str) -> Result<Value, Failure> {
        self.value(self.agent.delete(self.url(path)).call())
    }

    pub(super) fn put(&self, path: &str, body: &[u8]) -> Result<Value, Failure> {
        self.value(self.agent.put(self.url(path)).header("content-type", "application/wasm").send(body))
    }

    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        self.value(self.agent.post(self.url(path)).send_json(body))
    }

    /// POST of bytes; a refusal is told apart from other failures, because some are worth another try.
    pub(super) fn try_post(&self, path: &str, body: &[u8]) -> Result<Result<Value, Refused>, Failure> {
        let response = self.agent.post(self.url(path)).header("content-type", "application/x-ndjson").send(body);
        self.answer(response)
    }

    fn value(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Value, Failure> {
        self.answer(response)?.map_err(|refused| {
            let error = anyhow!("{}", refused.message);
            match refused.status {
                404 => Failure::NotFound(error),
                400..500 => Failure::Wrong(error),
                _ => Failure::Failed(error),
            }
        })
    }

    fn answer(&self, response: Result<Response<Body>, ureq::Error>) -> Result<Result<Value, Refused>, Failure> {
        let mut response = response.map_err(|error| {
            Failure::Unreachable(anyhow!(
                "no host answers at {} ({error}); start one with `gristmill run`, or name it with --host",
                self.base
            ))
        })?;
        let status = response.status().as_u16();
        let text = response.body_mut().with_config().limit(1 << 30).read_to_string()?;
        let value: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        if status < 400 {
            return Ok(Ok(value));
        }
        let message = value.pointer("/error/message").and_then(Value::as_str);
        Ok(Err(Refused { status, message: message.map_or(format!("the host answered {status}: {text}"), str::to_owned) }))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }
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
