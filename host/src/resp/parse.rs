//! The protocol, RESP2: <https://redis.io/docs/latest/develop/reference/protocol-spec/>.

use std::ops::Range;

use super::Error;
use crate::model::{Entries, EntryId};

/// Arrays within arrays, at most.
const DEPTH_MAX: usize = 16;
/// Items in one array, and bytes in one text, at most.
const LENGTH_MAX: u64 = 1 << 30;

/// A reply with its own memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reply {
    /// Nothing.
    Null,
    /// `+OK` and the like.
    Status(String),
    /// A number.
    Integer(i64),
    /// Bytes.
    Bulk(Vec<u8>),
    /// Several replies.
    Array(Vec<Reply>),
    /// An error; the server's words.
    Error(String),
}

impl Reply {
    /// The reply, if it is not an error.
    pub fn ok(self) -> Result<Reply, Error> {
        match self {
            Reply::Error(words) => Err(Error::Server(words)),
            Reply::Null | Reply::Status(_) | Reply::Integer(_) | Reply::Bulk(_) | Reply::Array(_) => Ok(self),
        }
    }
}

/// Finds the end of a reply, however the bytes arrive: it goes on where it stopped, and counts what is still to come instead of nesting.
#[derive(Debug, Default)]
pub struct Scan {
    at: usize,
    /// Values still to come; `None` before the first.
    missing: Option<u64>,
}

impl Scan {
    /// Looks at what has arrived since the last call. The length of the reply once all of it is there.
    pub fn advance(&mut self, input: &[u8]) -> Result<Option<usize>, Error> {
        let mut missing = self.missing.unwrap_or(1);
        while missing > 0 {
            self.missing = Some(missing);
            let Some((sign, text, next)) = header(input, self.at)? else { return Ok(None) };
            missing -= 1;
            match sign {
                b'$' => {
                    let end = length(text)?.map_or(next, |bytes| next + bytes as usize + 2);
                    if input.len() < end {
                        return Ok(None);
                    }
                    self.at = end;
                }
                b'*' => {
                    missing += length(text)?.unwrap_or(0);
                    self.at = next;
                }
                _ => self.at = next,
            }
        }
        Ok(Some(self.at))
    }
}

/// A line's sign, the rest of it, and where the next one begins.
type Line<'i> = (u8, &'i [u8], usize);

/// The sign, the rest of the line that begins at `at`, and where the next line begins; `None` when it has not ended yet.
fn header(input: &[u8], at: usize) -> Result<Option<Line<'_>>, Error> {
    let rest = input.get(at..).unwrap_or_default();
    let Some(end) = rest.iter().position(|byte| *byte == b'\r') else {
        let is_text = matches!(rest.first(), Some(b'+' | b'-') | None);
        if !is_text && rest.len() > 32 {
            return Err(Error::Protocol("a length has no end"));
        }
        return Ok(None);
    };
    if rest.len() < end + 2 {
        return Ok(None);
    }
    let Some((sign, text)) = rest.get(..end).and_then(<[u8]>::split_first) else { return Err(Error::Protocol("a line is empty")) };
    if !matches!(sign, b'$' | b'*' | b'+' | b'-' | b':') {
        return Err(Error::Protocol("a line begins with an unknown sign; is this a Redis server?"));
    }
    Ok(Some((*sign, text, at + end + 2)))
}

/// A length; `None` for -1, which means null.
fn length(text: &[u8]) -> Result<Option<u64>, Error> {
    if text == b"-1" {
        return Ok(None);
    }
    let digits = !text.is_empty() && text.len() <= 10 && text.iter().all(u8::is_ascii_digit);
    let number = text.iter().fold(0, |number: u64, digit| number.wrapping_mul(10).wrapping_add(u64::from(digit.wrapping_sub(b'0'))));
    if !digits || number > LENGTH_MAX {
        return Err(Error::Protocol("a length is not a number, or is too large"));
    }
    Ok(Some(number))
}

/// Parses one whole reply from the front of `input`; also says where it ends.
pub fn parse_reply(input: &[u8]) -> Result<(Reply, usize), Error> {
    Cursor { input, at: 0 }.reply(0)
}

/// Entries of one stream.
#[derive(Debug, Default)]
pub struct StreamEntries {
    /// Those that have fields.
    pub entries: Entries,
    /// Ids of entries that are pending but no longer in the stream.
    pub gone: Vec<EntryId>,
    /// The last id of all, in the order of the reply.
    pub last: Option<EntryId>,
}

/// Takes the buffer that holds the reply to XREAD or XREADGROUP on one stream, and gives out its entries as spans of it. `None` for a null reply.
pub fn parse_entries(input: Vec<u8>) -> Result<Option<StreamEntries>, Error> {
    let mut found = Vec::new();
    let mut spans: Vec<(Range<u32>, Range<u32>)> = Vec::new();
    {
        let mut cursor = Cursor { input: &input, at: 0 };
        let Some(streams) = cursor.array()? else { return Ok(None) };
        for _ in 0..streams {
            cursor.array_of(2)?;
            cursor.bulk()?;
            let entries = cursor.array()?.unwrap_or(0);
            for _ in 0..entries {
                cursor.array_of(2)?;
                let id = cursor.bulk()?.and_then(|span| EntryId::parse(cursor.bytes(&span)));
                let id = id.ok_or(Error::Protocol("an entry has no id"))?;
                let fields = cursor.array()?;
                let start = spans.len();
                for _ in 0..fields.unwrap_or(0) / 2 {
                    let name = cursor.bulk()?.ok_or(Error::Protocol("a field has no name"))?;
                    let value = cursor.bulk()?.ok_or(Error::Protocol("a field has no value"))?;
                    spans.push((name, value));
                }
                found.push((id, fields.map(|_| start..spans.len())));
            }
        }
    }
    let mut all = StreamEntries { entries: Entries::over(input), gone: Vec::new(), last: found.last().map(|(id, _)| *id) };
    for (id, fields) in found {
        match fields {
            Some(fields) => all.entries.push_spans(id, spans.get(fields).unwrap_or_default().iter().cloned()),
            None => all.gone.push(id),
        }
    }
    Ok(Some(all))
}

/// Replies behind one another, read where they stand.
pub struct Replies<'i>(Cursor<'i>);

impl<'i> Replies<'i> {
    /// All in here are whole.
    pub fn new(input: &'i [u8]) -> Replies<'i> {
        Replies(Cursor { input, at: 0 })
    }

    /// Begins an array; how many items follow, `None` for null.
    pub fn array(&mut self) -> Result<Option<u64>, Error> {
        self.0.array()
    }

    /// A text; `None` for null.
    pub fn bulk(&mut self) -> Result<Option<&'i [u8]>, Error> {
        Ok(self.0.bulk()?.map(|span| self.0.bytes(&span)))
    }

    /// How many bytes have been read.
    pub fn read(&self) -> usize {
        self.0.at
    }
}

struct Cursor<'i> {
    input: &'i [u8],
    at: usize,
}

impl<'i> Cursor<'i> {
    fn header(&mut self) -> Result<(u8, &'i [u8]), Error> {
        let (sign, text, next) = header(self.input, self.at)?.ok_or(Error::Protocol("a reply is cut short"))?;
        self.at = next;
        if sign == b'-' { Err(Error::Server(words(text))) } else { Ok((sign, text)) }
    }

    fn array(&mut self) -> Result<Option<u64>, Error> {
        match self.header()? {
            (b'*', text) => length(text),
            (b'$', b"-1") => Ok(None),
            _ => Err(Error::Protocol("a reply is not the array that it should be")),
        }
    }

    fn array_of(&mut self, items: u64) -> Result<(), Error> {
        if self.array()? == Some(items) { Ok(()) } else { Err(Error::Protocol("an array has not the length that it should have")) }
    }

    /// The span of a text; `None` for null.
    fn bulk(&mut self) -> Result<Option<Range<u32>>, Error> {
        let (b'$', text) = self.header()? else { return Err(Error::Protocol("a reply is not the text that it should be")) };
        let Some(bytes) = length(text)? else { return Ok(None) };
        let end = self.at + bytes as usize;
        if self.input.len() < end + 2 {
            return Err(Error::Protocol("a reply is cut short"));
        }
        let span = self.at as u32..end as u32;
        self.at = end + 2;
        Ok(Some(span))
    }

    fn bytes(&self, span: &Range<u32>) -> &'i [u8] {
        self.input.get(span.start as usize..span.end as usize).unwrap_or_default()
    }

    fn reply(mut self, depth: usize) -> Result<(Reply, usize), Error> {
        if depth > DEPTH_MAX {
            return Err(Error::Protocol("a reply is nested too deeply"));
        }
        let (sign, text, next) = header(self.input, self.at)?.ok_or(Error::Protocol("a reply is cut short"))?;
        let reply = match sign {
            b'+' => Reply::Status(words(text)),
            b'-' => Reply::Error(words(text)),
            b':' => {
                let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
                Reply::Integer(number.ok_or(Error::Protocol("a number is not one"))?)
            }
            b'$' => {
                let reply = self.bulk()?.map_or(Reply::Null, |span| Reply::Bulk(self.bytes(&span).to_vec()));
                return Ok((reply, self.at));
            }
            _ => {
                self.at = next;
                let Some(items) = length(text)? else { return Ok((Reply::Null, self.at)) };
                let mut replies = Vec::new();
                for _ in 0..items {
                    let (reply, at) = Cursor { input: self.input, at: self.at }.reply(depth + 1)?;
                    replies.push(reply);
                    self.at = at;
                }
                return Ok((Reply::Array(replies), self.at));
            }
        };
        Ok((reply, next))
    }
}

fn words(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRIES: &[u8] =
        b"*1\r\n*2\r\n$1\r\ns\r\n*2\r\n*2\r\n$3\r\n1-0\r\n*4\r\n$1\r\na\r\n$2\r\nxy\r\n$1\r\nb\r\n$0\r\n\r\n*2\r\n$3\r\n1-1\r\n*-1\r\n";

    #[test]
    fn entries_are_spans_and_gone_ones_are_told() {
        let found = parse_entries(ENTRIES.to_vec()).unwrap().unwrap();
        assert_eq!(found.gone, [EntryId { ms: 1, seq: 1 }]);
        assert_eq!(found.last, Some(EntryId { ms: 1, seq: 1 }));
        let entry = found.entries.get(0).unwrap();
        assert_eq!(
            (entry.id, entry.value(b"a"), entry.value(b"b")),
            (EntryId { ms: 1, seq: 0 }, Some(b"xy".as_slice()), Some(b"".as_slice()))
        );
        assert!(parse_entries(b"*-1\r\n".to_vec()).unwrap().is_none());
        assert!(matches!(parse_entries(b"-NOGROUP no\r\n".to_vec()), Err(Error::Server(words)) if words == "NOGROUP no"));
    }

    #[test]
    fn a_scan_finds_the_end_wherever_the_bytes_are_split() {
        let mut input = ENTRIES.to_vec();
        input.extend_from_slice(b"+OK\r\n");
        for split in 0..input.len() {
            let mut scan = Scan::default();
            let first = scan.advance(&input[..split]).unwrap();
            assert_eq!(first.or_else(|| scan.advance(&input).unwrap()), Some(ENTRIES.len()), "split at {split}");
        }
    }

    #[test]
    fn replies_of_every_kind_are_read() {
        let text = b"*5\r\n:-7\r\n$-1\r\n+OK\r\n-ERR no\r\n*1\r\n$2\r\n\r\n\r\n";
        let (reply, end) = parse_reply(text).unwrap();
        let inner = Reply::Array(vec![Reply::Bulk(b"\r\n".to_vec())]);
        assert_eq!(
            reply,
            Reply::Array(vec![Reply::Integer(-7), Reply::Null, Reply::Status("OK".into()), Reply::Error("ERR no".into()), inner])
        );
        assert_eq!(end, text.len());
    }
}
