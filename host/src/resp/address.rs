use std::fmt;

use redis::{ConnectionAddr, IntoConnectionInfo};

use crate::model::Location;

/// Where a Redis server is and how to log in. Printing it shows neither user nor password.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    /// Name or number of the machine.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// The database.
    pub db: i64,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
}

impl Address {
    /// Parses `redis://[user:password@]host[:port][/db]`. The error does not repeat the URL, which may hold a password.
    pub fn parse(url: &str) -> Result<Address, String> {
        let info = url.into_connection_info().map_err(|_| "not a Redis URL; write redis://HOST:PORT/DB".to_owned())?;
        let ConnectionAddr::Tcp(host, port) = info.addr().clone() else {
            return Err("only redis://HOST:PORT/DB can be used, without TLS and without Unix sockets".into());
        };
        let settings = info.redis_settings();
        let own = |text: Option<&str>| text.map(str::to_owned);
        Ok(Address { host, port, db: settings.db(), user: own(settings.username()), password: own(settings.password()) })
    }

    /// For comparing where a stream and a store are: the loopback's names are one.
    pub fn location(&self) -> Location {
        let host = if matches!(self.host.as_str(), "localhost" | "::1") { "127.0.0.1" } else { &self.host };
        Location::Redis(format!("{host}:{}/{}", self.port, self.db))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}:{}/{}", self.host, self.port, self.db)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}
