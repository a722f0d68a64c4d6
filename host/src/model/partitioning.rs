use serde::{Deserialize, Serialize};

use super::{KeyPart, push_key_part};

/// Partitions of one stream, at most: each has connections of its own on the host that works on it.
pub const PARTITIONS_MAX: u32 = 256;

/// How a stream is split, so that several hosts work on it at the same time: an entity's events all stand in one partition, in order.
///
/// A partition is told from the values of some fields: CRC16 (XMODEM, by which Redis Cluster tells slots) of their text, modulo the number
/// of partitions. The text is the one that entity keys are made of: integers in decimal digits, texts as they are but for `%`, `|` and
/// control bytes, which are written as `%xx`, and a `|` between two values.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Partitioning {
    /// What stands in the tags of its keys, before the partition's number: the stream's key.
    pub key: String,
    /// How many there are.
    pub count: u32,
    /// Of a stream: the fields of its events. Of a view: the fields of its entity.
    pub by: Vec<String>,
}

impl Partitioning {
    /// What every key of a partition has in it, `{KEY:INDEX}`. On a cluster it puts all of them in one slot.
    pub fn tag(&self, index: u32) -> String {
        partition_tag(&self.key, index)
    }

    /// The partition of what has these values.
    pub fn partition_of<'v>(&self, values: impl IntoIterator<Item = KeyPart<'v>>) -> u32 {
        let mut text = Vec::with_capacity(64);
        for (index, value) in values.into_iter().enumerate() {
            push_key_part(&mut text, index == 0, value);
        }
        self.partition_of_text(&text)
    }

    /// The partition of this text.
    pub fn partition_of_text(&self, text: &[u8]) -> u32 {
        u32::from(crc16(text)) % self.count.max(1)
    }
}

/// The tag of a partition of the stream that has this key.
pub fn partition_tag(key: &str, index: u32) -> String {
    format!("{{{key}:{index}}}")
}

/// The slot of a key on a Redis cluster.
pub fn cluster_slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = key.get(open + 1..)?;
        rest.get(..rest.iter().position(|byte| *byte == b'}')?)
    });
    crc16(tag.filter(|tag| !tag.is_empty()).unwrap_or(key)) % 16_384
}

fn crc16(bytes: &[u8]) -> u16 {
    crc16::State::<crc16::XMODEM>::calculate(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_and_slots_are_those_of_redis_cluster() {
        // The check value of the specification, and slots as `CLUSTER KEYSLOT` of Redis 7.0 gives them.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!([&b"foo"[..], b"bar{foo}", b"{}foo", b"a{}b"].map(cluster_slot), [12_182, 12_182, 9_500, 13_694]);
        assert_eq!(cluster_slot(b"gristmill:row:{events:3}view:a"), cluster_slot(b"{events:3}"));
    }

    #[test]
    fn a_partition_is_told_from_the_text_of_entity_keys() {
        let by = |count| Partitioning { key: "k".into(), count, by: vec!["a".into()] };
        let text = by(16).partition_of_text(b"ann|7|%25");
        assert_eq!(by(16).partition_of([KeyPart::Bytes(b"ann"), KeyPart::Integer(7), KeyPart::Bytes(b"%")]), text);
        assert_eq!(by(16).partition_of([KeyPart::Bytes(b"foo")]), 12_182 % 16, "16 divides the number of slots");
        assert_eq!(by(1).partition_of_text(b"anything"), 0);
        assert_eq!(by(3).tag(2), "{k:2}");
    }
}
