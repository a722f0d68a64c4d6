//! What a view keeps of an entity did not all begin with the entity: windowed features that a version brought when there were events already, and outputs.

use super::wire::{Reader, push_number, push_signed};

/// See the module. Empty for nearly all entities, and then nothing is stored: it is the last part of an entity.
#[derive(Clone, Default)]
pub(super) struct Begun {
    /// Positions among the windowed features, and the earliest moment as of which each can be told; microseconds.
    features: Vec<(usize, i64)>,
    /// Positions among the outputs, and the newest event that came before each.
    outputs: Vec<(usize, i64)>,
}

impl Begun {
    pub(super) fn read(reader: &mut Reader<'_>) -> Option<Begun> {
        let mut begun = Begun::default();
        while !reader.0.is_empty() {
            let (key, moment) = (usize::try_from(reader.number()?).ok()?, reader.signed()?);
            if key & 1 == 1 { &mut begun.outputs } else { &mut begun.features }.push((key >> 1, moment));
        }
        Some(begun)
    }

    /// What reads as of this moment and later ones need not know any more is left out.
    pub(super) fn push(&self, out: &mut Vec<u8>, kept_from: i64) {
        let features = self.features.iter().map(|(position, moment)| (position << 1, *moment));
        let outputs = self.outputs.iter().map(|(position, moment)| (position << 1 | 1, *moment));
        for (key, moment) in features.chain(outputs).filter(|(_, moment)| *moment > kept_from) {
            push_number(out, key as u64);
            push_signed(out, moment);
        }
    }

    /// The earliest moment as of which a windowed feature can be told; `None` where it has been there from the beginning.
    pub(super) fn feature(&self, position: usize) -> Option<i64> {
        found(&self.features, position)
    }

    /// The newest event that came before an output was there; `None` where it has been there from the beginning.
    pub(super) fn output(&self, position: usize) -> Option<i64> {
        found(&self.outputs, position)
    }

    pub(super) fn with_feature(&mut self, position: usize, moment: i64) {
        self.features.push((position, moment));
    }

    pub(super) fn with_output(&mut self, position: usize, moment: i64) {
        self.outputs.push((position, moment));
    }
}

fn found(all: &[(usize, i64)], position: usize) -> Option<i64> {
    all.iter().find(|(known, _)| *known == position).map(|(_, moment)| *moment)
}
