//! A connection over which many ask at once: what is asked while others wait goes out together, and replies are handed out as they came, for those who asked to
//! read.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::{Address, CONNECT_TIMEOUT, Commands, Connection, Error, READ_BYTES, REPLY_BYTES_MAX, Scan};

/// Time for one answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Questions that are taken up at once.
const TOGETHER_MAX: usize = 64;

/// One server, and the connection to it while there is one.
#[derive(Debug)]
pub struct Line {
    address: Address,
    name: String,
    asked: Mutex<Option<mpsc::UnboundedSender<Question>>>,
    /// Held by who makes a connection.
    connecting: tokio::sync::Mutex<()>,
}

/// Commands, and who waits for their replies.
#[derive(Debug)]
struct Question {
    commands: Commands,
    answer: oneshot::Sender<Bytes>,
}

/// Who waits, and for how many more replies.
struct Waiting {
    answer: oneshot::Sender<Bytes>,
    missing: usize,
}

impl Line {
    /// To a server that is not spoken to before something is asked of it.
    pub fn new(address: Address, name: &str) -> Line {
        Line { address, name: name.to_owned(), asked: Mutex::default(), connecting: tokio::sync::Mutex::default() }
    }

    /// The replies to all of these commands, one behind the other as they came. What only reads may be asked twice: a connection that the server
    /// has closed since it was last used is replaced.
    pub async fn ask(&self, commands: Commands) -> Result<Bytes, Error> {
        let again = Commands { bytes: commands.bytes.clone(), count: commands.count };
        match self.ask_once(commands).await {
            Err(Error::Io(_)) => self.ask_once(again).await,
            other => other,
        }
    }

    async fn ask_once(&self, commands: Commands) -> Result<Bytes, Error> {
        let asked = self.connected().await?;
        let (answer, answered) = oneshot::channel();
        let broken = || Error::Io("the connection broke".into());
        asked.send(Question { commands, answer }).map_err(|_| broken())?;
        match timeout(ANSWER_TIMEOUT, answered).await {
            Ok(answered) => answered.map_err(|_| broken()),
            Err(_) => {
                // Whoever asks next is not to wait for a server that is gone without a word.
                let mut current = self.asked();
                if current.as_ref().is_some_and(|current| current.same_channel(&asked)) {
                    *current = None;
                }
                Err(Error::Timeout(ANSWER_TIMEOUT.as_millis()))
            }
        }
    }

    /// Whoever asks next does so over a connection that is made anew; what was asked is still answered.
    pub fn leave(&self) {
        *self.asked() = None;
    }

    async fn connected(&self) -> Result<mpsc::UnboundedSender<Question>, Error> {
        let current = || self.asked().clone().filter(|asked| !asked.is_closed());
        if let Some(asked) = current() {
            return Ok(asked);
        }
        // Not one after the other until each has failed.
        let connecting = timeout(CONNECT_TIMEOUT, self.connecting.lock()).await;
        let _connecting = connecting.map_err(|_| Error::Timeout(CONNECT_TIMEOUT.as_millis()))?;
        if let Some(asked) = current() {
            return Ok(asked);
        }
        let connection = Connection::open(&self.address, &self.name).await?;
        let (asked, questions) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let Err(error) = carry(connection.stream, questions).await else { return };
            tracing::debug!("a connection for reading ended: {error}");
        });
        *self.asked() = Some(asked.clone());
        Ok(asked)
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Option<mpsc::UnboundedSender<Question>>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries questions there and replies back until nobody can ask any more, or the connection breaks, which everybody who waits is then told.
async fn carry(mut stream: TcpStream, mut questions: mpsc::UnboundedReceiver<Question>) -> Result<(), Error> {
    let (mut from, mut to) = stream.split();
    let (mut input, mut output) = (BytesMut::new(), BytesMut::new());
    let (mut waiting, mut scan, mut whole): (VecDeque<Waiting>, Scan, usize) = Default::default();
    let (mut taken, mut is_left) = (Vec::with_capacity(TOGETHER_MAX), false);
    while !is_left || !waiting.is_empty() {
        if input.capacity() - input.len() < READ_BYTES / 4 {
            // As much again as there is, so that a long reply is not moved again and again.
            input.reserve(READ_BYTES.max(input.len()));
        }
        tokio::select! {
            many = questions.recv_many(&mut taken, TOGETHER_MAX), if !is_left => {
                is_left = many == 0;
                for Question { commands, answer } in taken.drain(..) {
                    output.extend_from_slice(&commands.bytes);
                    waiting.push_back(Waiting { answer, missing: commands.count });
                }
            }
            written = to.write(&output), if output.has_remaining() => output.advance(written?),
            read = from.read_buf(&mut input) => {
                if read? == 0 {
                    return Err(Error::Io("the server closed the connection".into()));
                }
                hand_out(&mut input, &mut waiting, &mut scan, &mut whole)?;
            }
            // Nobody waits longer than that, and a server that is gone without a word may never close the connection.
            () = tokio::time::sleep(ANSWER_TIMEOUT), if is_left => return Err(Error::Timeout(ANSWER_TIMEOUT.as_millis())),
        }
    }
    Ok(())
}

/// Hands out the replies that have arrived. The replies to one question are told complete one by one: so much of what has arrived is `whole`.
fn hand_out(input: &mut BytesMut, waiting: &mut VecDeque<Waiting>, scan: &mut Scan, whole: &mut usize) -> Result<(), Error> {
    while !input.is_empty() {
        let Some(next) = waiting.front_mut() else { return Err(Error::Protocol("a reply came that nobody has asked for")) };
        let Some(bytes) = scan.advance(input.get(*whole..).unwrap_or_default())? else {
            return if input.len() > REPLY_BYTES_MAX { Err(Error::TooLarge) } else { Ok(()) };
        };
        *scan = Scan::default();
        *whole += bytes;
        next.missing = next.missing.saturating_sub(1);
        if next.missing == 0 {
            let replies = input.split_to(std::mem::take(whole)).freeze();
            if let Some(Waiting { answer, .. }) = waiting.pop_front() {
                // Who has gone away needs no answer.
                let _ = answer.send(replies);
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replies_go_to_those_who_asked_however_they_arrive() {
        let all = b"$2\r\nab\r\n*1\r\n$1\r\nc\r\n-ERR no\r\n$-1\r\n";
        let wanted: [&[u8]; 3] = [b"$2\r\nab\r\n*1\r\n$1\r\nc\r\n", b"-ERR no\r\n", b"$-1\r\n"];
        for split in 0..all.len() {
            let (mut waiting, mut scan, mut whole) = (VecDeque::new(), Scan::default(), 0);
            let mut answers: Vec<oneshot::Receiver<Bytes>> = Vec::new();
            for missing in [2, 1, 1] {
                let (answer, answered) = oneshot::channel();
                waiting.push_back(Waiting { answer, missing });
                answers.push(answered);
            }
            let mut input = BytesMut::from(&all[..split]);
            hand_out(&mut input, &mut waiting, &mut scan, &mut whole).unwrap();
            input.extend_from_slice(&all[split..]);
            hand_out(&mut input, &mut waiting, &mut scan, &mut whole).unwrap();
            assert!(input.is_empty() && waiting.is_empty());
            let answers: Vec<Bytes> = answers.iter_mut().map(|answered| answered.try_recv().unwrap()).collect();
            assert_eq!(answers, wanted, "split at {split}");
        }
        let mut input = BytesMut::from("+OK\r\n");
        hand_out(&mut input, &mut VecDeque::new(), &mut Scan::default(), &mut 0).unwrap_err();
    }
}
