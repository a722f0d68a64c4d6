//! A real Redis server: started on a free port in a temporary folder, and stopped with the test.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::host::{signal, wait_for};

/// A running `redis-server`.
pub struct RedisServer {
    port: u16,
    folder: TempDir,
    persistent: bool,
    child: Child,
}

impl RedisServer {
    /// A server that keeps nothing on disk.
    pub fn start() -> RedisServer {
        RedisServer::start_on(free_port(), tempfile::tempdir().expect("a temporary folder"), false)
    }

    /// A server that has everything on disk before it answers.
    pub fn start_persistent() -> RedisServer {
        RedisServer::start_on(free_port(), tempfile::tempdir().expect("a temporary folder"), true)
    }

    fn start_on(port: u16, folder: TempDir, persistent: bool) -> RedisServer {
        let child = spawn(port, &folder, persistent);
        let server = RedisServer { port, folder, persistent, child };
        server.wait_until_up();
        server
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where it keeps its journal, if it is persistent.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// A connection of its own for the test.
    pub fn connection(&self) -> redis::Connection {
        redis::Client::open(self.url()).and_then(|client| client.get_connection()).expect("the server answers")
    }

    /// A connection if the server answers at once.
    pub fn try_connection(&self) -> Option<redis::Connection> {
        let wait = std::time::Duration::from_secs(2);
        let connection = redis::Client::open(self.url()).ok()?.get_connection_with_timeout(wait).ok()?;
        connection.set_read_timeout(Some(wait)).ok()?;
        Some(connection)
    }

    /// Sends a signal, by its name without `SIG`.
    pub fn signal(&self, name: &str) {
        signal(self.child.id(), name);
    }

    /// Runs one command.
    pub fn run<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let (name, arguments) = words.split_first().expect("a command has a name");
        redis::cmd(name).arg(arguments).query(&mut self.connection()).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Asks one command, its words separated by spaces.
    pub fn ask<T: redis::FromRedisValue>(&self, command: &str) -> T {
        self.run(&command.split(' ').collect::<Vec<_>>())
    }

    /// Breaks all connections that carry this name.
    pub fn cut(&self, name: &str) {
        let list: String = self.run(&["CLIENT", "LIST"]);
        let named = list.lines().filter(|line| line.contains(&format!(" name={name} ")));
        for id in named.filter_map(|line| line.strip_prefix("id=")?.split(' ').next()) {
            // It may have gone by itself.
            let _ = redis::cmd("CLIENT").arg(&["KILL", "ID", id]).query::<redis::Value>(&mut self.connection());
        }
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.child.kill().expect("a running child can be killed");
        self.child.wait().expect("a killed child can be waited for");
    }

    /// Starts it again on the same port and folder after [`RedisServer::kill`].
    pub fn start_again(&mut self) {
        self.child = spawn(self.port, &self.folder, self.persistent);
        self.wait_until_up();
    }

    fn wait_until_up(&self) {
        wait_for("redis-server to answer", || {
            let mut connection = redis::Client::open(self.url()).ok()?.get_connection().ok()?;
            redis::cmd("PING").query::<String>(&mut connection).ok()
        });
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, folder: &TempDir, persistent: bool) -> Child {
    let (append, sync) = if persistent { ("yes", "always") } else { ("no", "no") };
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", append, "--appendfsync", sync])
        .args(["--dir", &folder.path().display().to_string(), "--loglevel", "warning"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server is installed; `make test` installs it")
}

/// A port that nobody listens on.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr()).expect("a free port").port()
}
