/// Bytes in one delivery, about, once it is known how large the entries are.
const DELIVERY_BYTES: usize = 32 << 20;

/// How many entries to ask for at once, by how large they turn out to be: a server counts entries and not bytes, and a reply that is too large
/// would be too large again the next time.
#[derive(Debug)]
pub(super) struct Fit {
    entries_max: usize,
    asked: usize,
}

impl Default for Fit {
    fn default() -> Fit {
        Fit { entries_max: usize::MAX, asked: usize::MAX }
    }
}

impl Fit {
    /// How many of at most `wanted` to ask for.
    pub(super) fn ask(&mut self, wanted: usize) -> usize {
        self.asked = wanted.min(self.entries_max);
        self.asked
    }

    /// So many entries came, of so many bytes together.
    pub(super) fn came(&mut self, entries: usize, bytes: usize) {
        if bytes > DELIVERY_BYTES {
            self.entries_max = (entries.saturating_mul(DELIVERY_BYTES) / bytes).max(1);
        } else if entries > 0 && bytes < DELIVERY_BYTES / 2 {
            self.entries_max = self.entries_max.saturating_mul(2);
        }
    }

    /// What was asked for did not fit into a reply.
    pub(super) fn was_too_large(&mut self) {
        self.entries_max = (self.asked / 2).max(1);
    }
}
