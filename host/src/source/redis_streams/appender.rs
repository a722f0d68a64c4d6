use async_trait::async_trait;
use redis::pipe;

use super::admin::failed;
use crate::model::{Entries, EntryId};
use crate::resp::{Queries, Site};
use crate::source::{Appender, Error};

/// The writing end of a Redis stream.
pub struct RedisAppender {
    connection: Queries,
    site: Site,
    key: String,
}

impl RedisAppender {
    /// Prepares it; the server is first spoken to when something is appended.
    pub fn open(url: &str, key: &str) -> Result<RedisAppender, Error> {
        RedisAppender::at(&Site::parse(url, false).map_err(Error::Config)?, key)
    }

    /// The same for a server, or a cluster, that is known.
    pub fn at(site: &Site, key: &str) -> Result<RedisAppender, Error> {
        Ok(RedisAppender { connection: site.queries().map_err(Error::Config)?, site: site.clone(), key: key.to_owned() })
    }

    /// That of another stream in the same place, over the same connection.
    pub fn beside(&self, key: &str) -> RedisAppender {
        RedisAppender { connection: self.connection.clone(), site: self.site.clone(), key: key.to_owned() }
    }
}

#[async_trait]
impl Appender for RedisAppender {
    async fn append(&self, entries: &Entries) -> Result<Vec<EntryId>, Error> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let mut adds = pipe();
        adds.atomic();
        for entry in entries.iter() {
            let add = adds.cmd("XADD").arg(&self.key).arg("*");
            for (name, value) in entry.fields() {
                add.arg(name).arg(value);
            }
        }
        let ids: Result<Vec<String>, _> = adds.query_async(&mut self.connection.clone()).await;
        let ids = ids.map_err(|error| failed(&self.connection, &self.site, "XADD", &error))?;
        ids.iter().map(|id| id.parse().map_err(|_| Error::Protocol(format!("XADD answered {id:?}")))).collect()
    }

    async fn newest(&self, entries_max: usize) -> Result<Entries, Error> {
        let mut command = redis::cmd("XREVRANGE");
        command.arg(&self.key).arg("+").arg("-").arg("COUNT").arg(entries_max);
        let found: Result<Vec<(String, Vec<Vec<u8>>)>, _> = command.query_async(&mut self.connection.clone()).await;
        let mut entries = Entries::default();
        for (id, fields) in found.map_err(|error| failed(&self.connection, &self.site, "XREVRANGE", &error))?.into_iter().rev() {
            let id = id.parse().map_err(|_| Error::Protocol(format!("XREVRANGE answered {id:?}")))?;
            entries.push(id, fields.as_chunks::<2>().0.iter().map(|[name, value]| (name.as_slice(), value.as_slice())));
        }
        Ok(entries)
    }
}
