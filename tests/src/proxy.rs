//! What lies between two processes: a TCP proxy that cuts, delays, holds and half-opens connections when a test says so.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// How bytes pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    /// At once.
    Freely,
    /// After this time, in both directions.
    After(Duration),
    /// Requests pass, and no reply does.
    OneWay,
    /// Not at all, though connections stay open and new ones are taken.
    NotAtAll,
    /// New connections are closed at once, and no byte of the others passes.
    Refused,
}

/// A proxy on a port of its own.
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    target: AtomicU16,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    passing: Passing,
    open: Vec<Pair>,
    /// Bytes of replies that still pass before the connection that carries them is cut.
    cut_after: Option<usize>,
    /// Connections with a lower number are frozen for good.
    frozen: u64,
    made: u64,
    stopped: bool,
}

struct Pair {
    number: u64,
    ends: [TcpStream; 2],
}

impl Proxy {
    /// One before the port of a server on this machine.
    pub fn before(target: u16) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let port = listener.local_addr().expect("it is bound").port();
        let state = State { passing: Passing::Freely, open: Vec::new(), cut_after: None, frozen: 0, made: 0, stopped: false };
        let shared = Arc::new(Shared { target: AtomicU16::new(target), state: Mutex::new(state), changed: Condvar::new() });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || accepting.accept(&listener));
        Proxy { port, shared }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on new connections lead to another server.
    pub fn lead_to(&self, target: u16) {
        self.shared.target.store(target, Ordering::SeqCst);
    }

    /// Changes how bytes pass, on the connections that are there too.
    pub fn set(&self, passing: Passing) {
        self.shared.state().passing = passing;
        self.shared.changed.notify_all();
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        self.shared.state().open.drain(..).for_each(|pair| pair.cut());
        self.shared.changed.notify_all();
    }

    /// Breaks a connection in the middle of a reply, after so many more bytes of replies.
    pub fn cut_after(&self, bytes: usize) {
        self.shared.state().cut_after = Some(bytes);
    }

    /// The connections that are there stay open and carry nothing any more; new ones work.
    pub fn freeze(&self) {
        let mut state = self.shared.state();
        state.frozen = state.made;
    }

    /// Everything works again; what is frozen is cut.
    pub fn heal(&self) {
        let mut state = self.shared.state();
        (state.passing, state.cut_after) = (Passing::Freely, None);
        let frozen = state.frozen;
        state.open.extract_if(.., |pair| pair.number < frozen).for_each(|pair| pair.cut());
        drop(state);
        self.shared.changed.notify_all();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.state().stopped = true;
        self.cut();
        // Wakes who accepts; nobody need answer.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

impl Pair {
    fn cut(self) {
        for end in self.ends {
            // Already closed by the other side, perhaps.
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    fn accept(self: Arc<Self>, listener: &TcpListener) {
        for client in listener.incoming() {
            if self.state().stopped {
                return;
            }
            let Ok(client) = client else { continue };
            if self.state().passing == Passing::Refused {
                continue;
            }
            // A server that is down refuses, and so does this.
            let Ok(server) = TcpStream::connect(("127.0.0.1", self.target.load(Ordering::SeqCst))) else { continue };
            self.open(client, server);
        }
    }

    fn open(self: &Arc<Self>, client: TcpStream, server: TcpStream) {
        let copy = |stream: &TcpStream| stream.try_clone().expect("a socket can be cloned");
        for end in [&client, &server] {
            let _ = end.set_nodelay(true);
        }
        let number = {
            let mut state = self.state();
            let number = state.made;
            state.made += 1;
            state.open.push(Pair { number, ends: [copy(&client), copy(&server)] });
            number
        };
        for (from, to, is_reply) in [(copy(&client), copy(&server), false), (server, client, true)] {
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.pump(number, from, to, is_reply));
        }
    }

    fn pump(&self, number: u64, mut from: TcpStream, mut to: TcpStream, is_reply: bool) {
        let mut buffer = [0; 16 << 10];
        while let Ok(bytes @ 1..) = from.read(&mut buffer) {
            let Some(may_pass) = self.wait_to_pass(number, bytes, is_reply) else { break };
            if to.write_all(buffer.get(..may_pass).unwrap_or_default()).is_err() || may_pass < bytes {
                break;
            }
        }
        let mut state = self.state();
        state.open.extract_if(.., |pair| pair.number == number).for_each(|pair| pair.cut());
    }

    /// Waits until bytes may pass; how many of them, or none at all when the connection is cut.
    fn wait_to_pass(&self, number: u64, bytes: usize, is_reply: bool) -> Option<usize> {
        let since = Instant::now();
        let mut state = self.state();
        loop {
            if !state.open.iter().any(|pair| pair.number == number) {
                return None;
            }
            let wait = match state.passing {
                _ if number < state.frozen => Duration::from_secs(3_600),
                Passing::Freely => break,
                Passing::After(delay) if since.elapsed() >= delay => break,
                Passing::After(delay) => delay.saturating_sub(since.elapsed()),
                Passing::OneWay if !is_reply => break,
                Passing::OneWay | Passing::NotAtAll | Passing::Refused => Duration::from_secs(3_600),
            };
            state = self.changed.wait_timeout(state, wait).expect("nobody panics while holding it").0;
        }
        let Some(left) = state.cut_after.filter(|_| is_reply) else { return Some(bytes) };
        state.cut_after = left.checked_sub(bytes).filter(|left| *left > 0);
        Some(bytes.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A server that says everything back, in capitals.
    fn echo() -> u16 {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                std::thread::spawn(move || {
                    let mut buffer = [0; 100];
                    while let Ok(bytes @ 1..) = stream.read(&mut buffer) {
                        buffer.make_ascii_uppercase();
                        if stream.write_all(&buffer[..bytes]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        port
    }

    fn say(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
        stream.write_all(text.as_bytes())?;
        let mut heard = vec![0; text.len()];
        stream.read_exact(&mut heard)?;
        Ok(String::from_utf8(heard).unwrap())
    }

    #[test]
    fn a_proxy_passes_delays_freezes_and_cuts() {
        let proxy = Proxy::before(echo());
        let connect = || {
            let stream = TcpStream::connect(("127.0.0.1", proxy.port())).unwrap();
            stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            stream
        };
        let mut first = connect();
        assert_eq!(say(&mut first, "hello").unwrap(), "HELLO");
        proxy.set(Passing::After(Duration::from_millis(50)));
        let started = Instant::now();
        assert_eq!(say(&mut first, "slow").unwrap(), "SLOW");
        assert!(started.elapsed() >= Duration::from_millis(100), "both ways are delayed");
        proxy.set(Passing::OneWay);
        assert_eq!(say(&mut first, "lost?").unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        proxy.set(Passing::Freely);
        let mut late = [0; 5];
        first.read_exact(&mut late).unwrap();
        assert_eq!(&late, b"LOST?");
        proxy.freeze();
        assert!(say(&mut first, "frozen").is_err());
        let mut second = connect();
        assert_eq!(say(&mut second, "fresh").unwrap(), "FRESH");
        proxy.cut_after(3);
        second.write_all(b"half a reply").unwrap();
        let mut heard = Vec::new();
        let _ = second.read_to_end(&mut heard);
        assert_eq!(heard, b"HAL");
        proxy.set(Passing::Refused);
        assert!(say(&mut connect(), "no").is_err());
        proxy.heal();
        assert_eq!(say(&mut connect(), "well").unwrap(), "WELL");
        proxy.cut();
        assert!(say(&mut first, "gone").is_err());
    }
}
