//! The yardstick of the end-to-end bench: what a careful Rust programmer writes by hand for one stream and one transform. One thread,
//! one blocking connection, one write a batch, replies parsed in place, and the same guarantees: the rows, the place and the
//! acknowledgement in one transaction, fenced by a watched key.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::Range;

/// Entries in one read, at most.
const BATCH: usize = 1_000;
const HEADER_BYTES: usize = 29;

/// What keeps the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// The group's pending list.
    Acknowledge,
    /// The last id, kept with the rows; the group is moved along.
    Checkpoint,
}

/// Consumes the stream `orders` with the group `group` until `events` entries are committed.
pub fn consume(port: u16, mode: Mode, events: usize) {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("redis-server listens");
    stream.set_nodelay(true).expect("the socket takes options");
    let mut replies = Replies { stream, buffer: vec![0; 1 << 20], start: 0, end: 0 };
    let mut out = Vec::with_capacity(1 << 20);
    command(&mut out, &[b"SET", b"native:fence", b"token"]);
    if mode == Mode::Acknowledge {
        command(&mut out, &[b"XREADGROUP", b"GROUP", b"group", b"me", b"COUNT", b"1000", b"STREAMS", b"orders", b">"]);
    } else {
        command(&mut out, &[b"XREAD", b"COUNT", b"1000", b"STREAMS", b"orders", b"0-0"]);
    }
    replies.stream.write_all(&out).expect("the server reads");
    replies.skip();
    let mut committed = 0;
    let mut entries = Vec::with_capacity(BATCH);
    let mut rows = Vec::with_capacity(BATCH * 128);
    loop {
        replies.entries(&mut entries);
        if entries.is_empty() {
            assert_eq!(committed, events, "the stream ended early");
            return;
        }
        rows.clear();
        entries.iter().for_each(|entry| push_row(&mut rows, &replies.buffer, entry));
        let last = &replies.buffer[entries[entries.len() - 1].id.clone()];
        out.clear();
        command(&mut out, &[b"MULTI"]);
        write!(out, "*{}\r\n$4\r\nMSET\r\n", 1 + entries.len() * 2).expect("memory takes bytes");
        out.extend_from_slice(&rows);
        command(&mut out, &[b"HSET", b"native:place", b"last", last]);
        match mode {
            Mode::Acknowledge => {
                write!(out, "*{}\r\n$4\r\nXACK\r\n$6\r\norders\r\n$5\r\ngroup\r\n", 3 + entries.len()).expect("memory takes bytes");
                entries.iter().for_each(|entry| bulk(&mut out, &replies.buffer[entry.id.clone()]));
            }
            Mode::Checkpoint => command(&mut out, &[b"XGROUP", b"SETID", b"orders", b"group", last]),
        }
        command(&mut out, &[b"EXEC"]);
        command(&mut out, &[b"WATCH", b"native:fence"]);
        command(&mut out, &[b"GET", b"native:fence"]);
        match mode {
            Mode::Acknowledge => {
                command(&mut out, &[b"XREADGROUP", b"GROUP", b"group", b"me", b"COUNT", b"1000", b"STREAMS", b"orders", b">"]);
            }
            Mode::Checkpoint => command(&mut out, &[b"XREAD", b"COUNT", b"1000", b"STREAMS", b"orders", last]),
        }
        committed += entries.len();
        replies.stream.write_all(&out).expect("the server reads");
        replies.start = 0;
        replies.end = 0;
        (0..4).for_each(|_| replies.skip());
        let executed = replies.number(b'*');
        assert_eq!(executed, 3, "the transaction was fenced off");
        (0..3).for_each(|_| replies.skip());
        replies.skip();
        let fence = replies.bulk().expect("the fence is there");
        assert_eq!(&replies.buffer[fence], b"token");
    }
}

/// One entry: its id, then the values in the order of the event's fields.
struct Entry {
    id: Range<usize>,
    values: [Range<usize>; 7],
}

fn push_row(out: &mut Vec<u8>, buffer: &[u8], entry: &Entry) {
    let [id, price, quantity, fee, ts, country, flag] = entry.values.clone().map(|range| &buffer[range]);
    let float = |bytes| std::str::from_utf8(bytes).ok().and_then(|text| text.parse::<f64>().ok()).expect("a number");
    let integer = |bytes: &[u8]| bytes.iter().fold(0_i64, |number, digit| number * 10 + i64::from(digit - b'0'));
    let (price, quantity, fee, ts) = (float(price), integer(quantity), float(fee), integer(ts));
    let total = price * quantity as f64 + fee;
    let entry_id = &buffer[entry.id.clone()];
    let dash = entry_id.iter().position(|byte| *byte == b'-').expect("an entry id");
    let (ms, seq) = (integer(&entry_id[..dash]), integer(&entry_id[dash + 1..]));
    let share = total != 0.0;
    let length = HEADER_BYTES + 1 + 8 + if share { 8 } else { 0 } + 4 + country.len() + 8 + 1;
    const PREFIX: &[u8] = b"gristmill:row:bench_orders:";
    write!(out, "${}\r\n", PREFIX.len() + id.len()).expect("memory takes bytes");
    out.extend_from_slice(PREFIX);
    out.extend_from_slice(id);
    write!(out, "\r\n${length}\r\n").expect("memory takes bytes");
    out.push(1);
    out.extend_from_slice(&((ts as u64) ^ (1 << 63)).to_be_bytes());
    out.extend_from_slice(&ms.to_be_bytes());
    out.extend_from_slice(&seq.to_be_bytes());
    out.extend_from_slice(&1_u32.to_be_bytes());
    out.push(if share { 31 } else { 29 });
    out.extend_from_slice(&total.to_le_bytes());
    if share {
        out.extend_from_slice(&(fee / total).to_le_bytes());
    }
    out.extend_from_slice(&(country.len() as u32).to_le_bytes());
    out.extend(country.iter().map(u8::to_ascii_uppercase));
    out.extend_from_slice(&ts.div_euclid(3_600_000_000).rem_euclid(24).to_le_bytes());
    out.push(u8::from(flag == b"true" && quantity > 1));
    out.extend_from_slice(b"\r\n");
}

fn command(out: &mut Vec<u8>, words: &[&[u8]]) {
    write!(out, "*{}\r\n", words.len()).expect("memory takes bytes");
    words.iter().for_each(|word| bulk(out, word));
}

fn bulk(out: &mut Vec<u8>, word: &[u8]) {
    write!(out, "${}\r\n", word.len()).expect("memory takes bytes");
    out.extend_from_slice(word);
    out.extend_from_slice(b"\r\n");
}

/// Replies as spans of one buffer, which is used anew for each batch.
struct Replies {
    stream: TcpStream,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Replies {
    fn fill(&mut self) {
        if self.end == self.buffer.len() {
            self.buffer.resize(self.end * 2, 0);
        }
        let read = self.stream.read(&mut self.buffer[self.end..]).expect("the server answers");
        assert!(read > 0, "the server hung up");
        self.end += read;
    }

    fn line(&mut self) -> Range<usize> {
        let mut from = self.start;
        loop {
            if let Some(found) = self.buffer[from..self.end].iter().position(|byte| *byte == b'\n') {
                let line = self.start..from + found - 1;
                self.start = from + found + 1;
                return line;
            }
            from = self.end;
            self.fill();
        }
    }

    /// The number after this mark; -1 for null.
    fn number(&mut self, mark: u8) -> i64 {
        let line = self.line();
        let line = &self.buffer[line];
        assert_eq!(line[0], mark, "{:?}", String::from_utf8_lossy(line));
        if line[1] == b'-' { -1 } else { line[1..].iter().fold(0, |number, digit| number * 10 + i64::from(digit - b'0')) }
    }

    fn bulk(&mut self) -> Option<Range<usize>> {
        let length = usize::try_from(self.number(b'$')).ok()?;
        while self.end < self.start + length + 2 {
            self.fill();
        }
        let range = self.start..self.start + length;
        self.start += length + 2;
        Some(range)
    }

    /// One reply of a single line.
    fn skip(&mut self) {
        let line = self.line();
        assert!(self.buffer[line.start] != b'-', "{:?}", String::from_utf8_lossy(&self.buffer[line]));
    }

    fn entries(&mut self, entries: &mut Vec<Entry>) {
        entries.clear();
        if self.number(b'*') < 0 {
            return;
        }
        self.number(b'*');
        self.bulk();
        for _ in 0..self.number(b'*') {
            self.number(b'*');
            let id = self.bulk().expect("an entry has an id");
            let mut values = [const { 0..0 }; 7];
            for _ in 0..self.number(b'*') / 2 {
                let name = self.bulk().expect("a field has a name");
                let value = self.bulk().expect("a field has a value");
                let index = match &self.buffer[name] {
                    b"id" => 0,
                    b"price" => 1,
                    b"qty" => 2,
                    b"fee" => 3,
                    b"ts" => 4,
                    b"country" => 5,
                    b"flag" => 6,
                    _ => continue,
                };
                values[index] = value;
            }
            entries.push(Entry { id, values });
        }
    }
}

/// The event with this number as its fields' texts; `entities` different ids come up at random.
pub fn event(number: u64, entities: u64) -> [(&'static str, String); 7] {
    let random = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let random = (random ^ (random >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 8;
    let mut id = String::from("customer/eu-west/");
    write!(id, "{:019}", random % entities).expect("memory takes text");
    [
        ("id", id),
        ("price", format!("{}.{:02}", 1_000 + random % 9_000, random % 89 + 10)),
        ("qty", format!("{}", 10 + random % 90)),
        ("fee", format!("{}.25", 10 + random % 80)),
        ("ts", format!("{}", 1_700_000_000_000_000 + number * 1_000)),
        ("country", ["nl", "de", "fr", "be"][(random % 4) as usize].to_owned()),
        ("flag", ["true", "false"][(random % 2) as usize].to_owned()),
    ]
}
