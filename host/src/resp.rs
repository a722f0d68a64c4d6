//! One connection to a Redis server, for the paths on which every microsecond of the client counts: reading entries, committing, and reading
//! rows.
//!
//! Replies are told complete by a scan that never looks at a byte twice, and entries are handed out as spans of the buffer that they arrived in.
//! Everything else goes through the `redis` crate.

mod address;
mod line;
mod parse;
mod site;

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

pub use address::Address;
pub use line::Line;
pub use parse::{Replies, Reply, Scan, StreamEntries, parse_entries, parse_reply};
pub use site::{Queries, Site};

/// Bytes in one reply, at most.
const REPLY_BYTES_MAX: usize = 256 << 20;
/// Free room that is made before each read.
const READ_BYTES: usize = 256 << 10;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// What went wrong on a connection. It is of no use after any of these but [`Error::Server`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server cannot be reached, or the connection broke.
    #[error("{0}")]
    Io(String),
    /// No reply came in time.
    #[error("no reply within {0} ms")]
    Timeout(u128),
    /// The server answered with an error; its words.
    #[error("{0}")]
    Server(String),
    /// The reply is larger than any that is taken.
    #[error("a reply has more than {REPLY_BYTES_MAX} bytes")]
    TooLarge,
    /// What came is not the protocol.
    #[error("{0}")]
    Protocol(&'static str),
}

impl Error {
    /// Whether a node of a cluster says that another one has the key now, or will have it, or that nobody has; or a server that it takes no
    /// writes any more.
    pub fn is_moved(&self) -> bool {
        const WORDS: [&str; 6] = ["MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN", "READONLY", "EXECABORT"];
        matches!(self, Error::Server(words) if WORDS.iter().any(|word| words.starts_with(word)))
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Error {
        Error::Io(error.to_string())
    }
}

/// Commands to be sent together.
#[derive(Debug, Default)]
pub struct Commands {
    bytes: Vec<u8>,
    count: usize,
}

impl Commands {
    /// Begins a command of this many words, each of which must follow as an argument.
    pub fn begin(&mut self, words: usize) -> &mut Commands {
        self.count += 1;
        self.header(b'*', words);
        self
    }

    /// One word of the command that was begun.
    pub fn arg(&mut self, word: &[u8]) -> &mut Commands {
        self.header(b'$', word.len());
        self.bytes.extend_from_slice(word);
        self.bytes.extend_from_slice(b"\r\n");
        self
    }

    /// One word made of two pieces.
    pub fn arg_joined(&mut self, first: &[u8], second: &[u8]) -> &mut Commands {
        self.header(b'$', first.len() + second.len());
        self.bytes.extend_from_slice(first);
        self.bytes.extend_from_slice(second);
        self.bytes.extend_from_slice(b"\r\n");
        self
    }

    /// A whole command.
    pub fn command(&mut self, words: &[&[u8]]) -> &mut Commands {
        self.begin(words.len());
        for word in words {
            self.arg(word);
        }
        self
    }

    /// How many there are, and so how many replies will come.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Forgets them and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.count = 0;
    }

    fn header(&mut self, sign: u8, number: usize) {
        self.bytes.push(sign);
        self.bytes.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
        self.bytes.extend_from_slice(b"\r\n");
    }
}

/// A connection that nobody else uses.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    /// What has arrived and was not handed out; a reply begins at its front.
    input: Vec<u8>,
}

impl Connection {
    /// Connects, authenticates and selects the database, within five seconds.
    pub async fn open(address: &Address, name: &str) -> Result<Connection, Error> {
        let opening = async {
            let stream = TcpStream::connect((address.host.as_str(), address.port)).await?;
            stream.set_nodelay(true)?;
            let mut connection = Connection { stream, input: Vec::new() };
            let mut hello = Commands::default();
            if let Some(password) = &address.password {
                match &address.user {
                    Some(user) => hello.command(&[b"AUTH", user.as_bytes(), password.as_bytes()]),
                    None => hello.command(&[b"AUTH", password.as_bytes()]),
                };
            }
            hello.command(&[b"SELECT", address.db.to_string().as_bytes()]);
            hello.command(&[b"CLIENT", b"SETNAME", name.as_bytes()]);
            connection.send(&hello).await?;
            for _ in 0..hello.count() {
                connection.reply(CONNECT_TIMEOUT).await?.ok()?;
            }
            Ok(connection)
        };
        timeout(CONNECT_TIMEOUT, opening).await.map_err(|_| Error::Timeout(CONNECT_TIMEOUT.as_millis()))?
    }

    /// Writes commands. Their replies must be read before the next ones are of any use.
    pub async fn send(&mut self, commands: &Commands) -> Result<(), Error> {
        Ok(self.stream.write_all(&commands.bytes).await?)
    }

    /// Reads one reply.
    pub async fn reply(&mut self, wait: Duration) -> Result<Reply, Error> {
        let bytes = self.complete(wait).await?;
        let (reply, _) = parse_reply(self.input.get(..bytes).unwrap_or_default())?;
        self.input.drain(..bytes);
        Ok(reply)
    }

    /// Reads the reply to XREAD or XREADGROUP on one stream; `None` when the server waited in vain.
    pub async fn entries(&mut self, wait: Duration) -> Result<Option<StreamEntries>, Error> {
        let bytes = self.complete(wait).await?;
        let rest = self.input.split_off(bytes);
        parse_entries(std::mem::replace(&mut self.input, rest))
    }

    /// Waits until a whole reply has arrived; returns its length.
    async fn complete(&mut self, wait: Duration) -> Result<usize, Error> {
        let mut scan = Scan::default();
        loop {
            if let Some(bytes) = scan.advance(&self.input)? {
                return Ok(bytes);
            }
            if self.input.len() > REPLY_BYTES_MAX {
                return Err(Error::TooLarge);
            }
            self.input.reserve(READ_BYTES);
            let read = timeout(wait, self.stream.read_buf(&mut self.input)).await.map_err(|_| Error::Timeout(wait.as_millis()))??;
            if read == 0 {
                return Err(Error::Io("the server closed the connection".into()));
            }
        }
    }
}
