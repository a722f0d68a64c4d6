//! The end of the database's journal after a crash.
//!
//! The engine drops a batch that ends too early. It refuses to open a journal whose last batches have holes, which is what the loss of power leaves behind when pages reach the
//! disk in another order than they were written in; and it drops what follows a damaged mark without a word. So what is not whole is looked for and cut off here, before the
//! engine sees it, and whoever opens the folder is told.
//!
//! A batch is a start (1, items as u32, sequence as u64), items (2, two bytes, keyspace as u64, length of the key as u16, of the value as u32, of the stored value as u32, key,
//! stored value) or clearings (4, keyspace as u64), and an end (3, XXH3 of everything between as u64, `FJL` and 3); numbers are little-endian.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

const MAGIC: [u8; 4] = *b"FJL\x03";
/// More than this is not torn by a crash: it would have to be written between two syncs.
const TORN_BYTES_MAX: u64 = 16 << 20;

/// What was cut off.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// The journal.
    pub(super) journal: PathBuf,
    /// Where it ends now.
    pub(super) at: u64,
    /// Bytes that were cut off, not counting zeros at their end.
    pub(super) bytes: u64,
}

/// Cuts off what is not whole at the end of the journal that was written last; copies it to `aside` first.
pub(super) fn cut_torn_end(database: &Path, aside: &Path) -> io::Result<Option<Cut>> {
    let Some(journal) = newest_journal(database)? else { return Ok(None) };
    let mut file = File::options().read(true).write(true).open(&journal)?;
    let whole = whole_batches(&mut BufReader::new(&file), file.metadata()?.len())?;
    file.seek(SeekFrom::Start(whole))?;
    let bytes = used(&mut BufReader::new(&file))?;
    if bytes == 0 {
        return Ok(None);
    }
    if bytes > TORN_BYTES_MAX {
        let name = journal.display();
        let reason = format!(
            "{name} is damaged at byte {whole}, {bytes} bytes before its end, which no crash explains; put back a copy of the folder"
        );
        return Err(io::Error::new(io::ErrorKind::InvalidData, reason));
    }
    file.seek(SeekFrom::Start(whole))?;
    io::copy(&mut (&file).take(bytes), &mut File::create(aside)?)?;
    file.set_len(whole)?;
    file.sync_all()?;
    Ok(Some(Cut { journal, at: whole, bytes }))
}

fn newest_journal(database: &Path) -> io::Result<Option<PathBuf>> {
    let files = match std::fs::read_dir(database) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let number = |path: &Path| path.file_name()?.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok();
    let paths = files.map(|file| Ok(file?.path())).collect::<io::Result<Vec<PathBuf>>>()?;
    Ok(paths.into_iter().filter_map(|path| Some((number(&path)?, path))).max().map(|(_, path)| path))
}

/// Where the last batch ends before which everything is whole.
fn whole_batches(journal: &mut impl Read, length: u64) -> io::Result<u64> {
    let mut whole = 0;
    let mut walk = Walk { journal, left: length, bytes: Vec::new() };
    loop {
        match walk.batch() {
            Ok(true) => whole = length - walk.left,
            Ok(false) => return Ok(whole),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(whole),
            Err(error) => return Err(error),
        }
    }
}

/// The bytes up to the last that is not zero.
fn used(rest: &mut impl Read) -> io::Result<u64> {
    let (mut at, mut used, mut buffer) = (0, 0, vec![0; 1 << 16]);
    loop {
        let read = rest.read(&mut buffer)?;
        if read == 0 {
            return Ok(used);
        }
        if let Some(last) = buffer.get(..read).unwrap_or_default().iter().rposition(|byte| *byte != 0) {
            used = at + last as u64 + 1;
        }
        at += read as u64;
    }
}

struct Walk<'r, R> {
    journal: &'r mut R,
    left: u64,
    /// What was taken since the batch began, its start left out.
    bytes: Vec<u8>,
}

impl<R: Read> Walk<'_, R> {
    /// Takes so many bytes; an error where they run out, however many are asked for.
    fn take(&mut self, count: u64) -> io::Result<&[u8]> {
        self.left = self.left.checked_sub(count).ok_or(io::ErrorKind::UnexpectedEof)?;
        let before = self.bytes.len();
        self.journal.by_ref().take(count).read_to_end(&mut self.bytes)?;
        let taken = self.bytes.get(before..).unwrap_or_default();
        if taken.len() as u64 == count { Ok(taken) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn number(&mut self, bytes: u64) -> io::Result<u64> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |number, byte| (number << 8) | u64::from(*byte)))
    }

    /// Whether a whole batch follows, which is then passed over.
    fn batch(&mut self) -> io::Result<bool> {
        if self.number(1)? != 1 {
            return Ok(false);
        }
        let items = self.number(4)?;
        self.take(8)?;
        self.bytes.clear();
        for _ in 0..items {
            match self.number(1)? {
                2 => {
                    self.take(10)?;
                    let (key, _, value) = (self.number(2)?, self.number(4)?, self.number(4)?);
                    self.take(key + value)?;
                }
                4 => drop(self.take(8)?),
                _ => return Ok(false),
            }
        }
        let mut hasher = Xxh3::new();
        hasher.update(&self.bytes);
        let is_end = self.number(1)? == 3;
        let sum = self.number(8)?;
        let is_whole = is_end && sum == hasher.digest() && self.take(4)? == MAGIC;
        self.bytes.clear();
        Ok(is_whole)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(items: &[(&[u8], &[u8])]) -> Vec<u8> {
        let mut between = Vec::new();
        for (key, value) in items {
            between.extend([2, 0, 0]);
            between.extend(7_u64.to_le_bytes());
            between.extend((key.len() as u16).to_le_bytes());
            between.extend((value.len() as u32).to_le_bytes());
            between.extend((value.len() as u32).to_le_bytes());
            between.extend([*key, *value].concat());
        }
        let mut hasher = Xxh3::new();
        hasher.update(&between);
        let start = [&[1], &(items.len() as u32).to_le_bytes()[..], &9_u64.to_le_bytes()].concat();
        [start, between, vec![3], hasher.digest().to_le_bytes().to_vec(), MAGIC.to_vec()].concat()
    }

    /// What is left of a journal, and what was cut off.
    fn cut(journal: &[u8]) -> (Vec<u8>, Option<Vec<u8>>) {
        let folder = tempfile::tempdir().unwrap();
        let (file, aside) = (folder.path().join("3.jnl"), folder.path().join("aside"));
        std::fs::write(folder.path().join("2.jnl"), b"sealed").unwrap();
        std::fs::write(&file, journal).unwrap();
        let found = cut_torn_end(folder.path(), &aside).unwrap();
        assert!(found.as_ref().is_none_or(|cut| cut.journal == file));
        (std::fs::read(&file).unwrap(), found.map(|_| std::fs::read(&aside).unwrap()))
    }

    #[test]
    fn what_is_whole_stays_and_what_is_torn_goes() {
        let (one, two) = (batch(&[(b"a", b"1"), (b"b", b"")]), batch(&[(b"c", &[0; 300])]));
        let whole = [one.clone(), two.clone()].concat();
        assert_eq!(cut(&whole), (whole.clone(), None));
        let long = [whole.clone(), vec![0; 100_000]].concat();
        assert_eq!(cut(&long), (long.clone(), None), "the zeros that a journal is made with are no loss");
        for length in 1..two.len() - 1 {
            let torn = &two[..two.len() - length];
            let used = torn.iter().rposition(|byte| *byte != 0).unwrap() + 1;
            assert_eq!(cut(&[&one, torn].concat()), (one.clone(), Some(torn[..used].to_vec())));
        }
        for at in 0..two.len() {
            let mut flipped = two.clone();
            flipped[at] ^= 4;
            // The sequence number is part of no sum.
            if (5..13).contains(&at) {
                continue;
            }
            let after = [one.clone(), flipped.clone(), one.clone()].concat();
            assert_eq!(cut(&after), (one.clone(), Some([flipped, one.clone()].concat())), "byte {at}");
        }
        assert_eq!(cut(b""), (Vec::new(), None));
        let folder = tempfile::tempdir().unwrap();
        let (file, large) = (folder.path().join("0.jnl"), vec![7; TORN_BYTES_MAX as usize + 1]);
        std::fs::write(&file, [&one[..], &large].concat()).unwrap();
        assert!(cut_torn_end(folder.path(), &folder.path().join("aside")).unwrap_err().to_string().contains("damaged at byte"));
        assert_eq!(std::fs::metadata(&file).unwrap().len(), (one.len() + large.len()) as u64, "nothing is touched");
    }
}
