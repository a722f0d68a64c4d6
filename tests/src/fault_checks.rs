//! What must hold after a schedule beside the features themselves: what was emitted, which version made what, and what the servers' own journals say of who committed.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::host::Host;
use crate::mixed::Mixed;

/// By the count: how many entities have come to it, and the sum of their totals then.
pub type Counts = BTreeMap<u64, [u64; 2]>;

/// After which entry, if any was applied before, which component came into force.
type Cut = (Option<(u64, u64)>, String);

/// What the second fold must have come to.
pub fn counts(events: &[Mixed]) -> Counts {
    let mut tallies: BTreeMap<&str, [u64; 2]> = BTreeMap::new();
    let mut counts = Counts::new();
    for event in events {
        let Some(amount) = event.amount else { continue };
        let [seen, total] = tallies.entry(&event.id).or_default();
        (*seen, *total) = (*seen + 1, *total + amount);
        let [entities, sum] = counts.entry(*seen).or_default();
        (*entities, *sum) = (*entities + 1, *sum + *total);
    }
    counts
}

/// What the second fold has come to, by its state; nothing where its window says something else.
pub fn served_counts(host: &Host, expected: &Counts) -> Counts {
    let entities: Vec<Value> = expected.keys().map(|count| json!({"id": count.to_string()})).collect();
    let body = json!({"features": ["by_count:seen", "by_count:total", "by_count:n"], "entities": entities}).to_string();
    let Ok((200, answer)) = host.post("/v1/features", &body) else { return Counts::new() };
    let result = |result: &Value| {
        let values = result["values"].as_array()?;
        let (seen, total) = (values.first()?.as_u64()?, values.get(1)?.as_f64()? as u64);
        (values.get(2)?.as_u64()? == seen).then_some((result["entity"]["id"].as_str()?.parse().ok()?, [seen, total]))
    };
    answer["results"].as_array().into_iter().flatten().filter_map(result).collect()
}

/// The entries that the fold has emitted must be of each entity its counts, one after the other.
pub fn check_emitted(emitted: &[(String, BTreeMap<String, String>)], expected: &Counts) -> Result<(), String> {
    let mut seen: BTreeMap<&str, u64> = BTreeMap::new();
    for (entry, fields) in emitted {
        let (Some(id), Some(count)) = (fields.get("id"), fields.get("seen").and_then(|seen| seen.parse::<u64>().ok())) else {
            return Err(format!("the emitted entry {entry} is {fields:?}"));
        };
        let before = seen.insert(id, count).unwrap_or(0);
        if count != before + 1 {
            return Err(format!("the emitted entry {entry} has {count} of {id} after {before}"));
        }
    }
    let wanted = expected.values().map(|[entities, _]| entities).sum::<u64>();
    if emitted.len() as u64 == wanted { Ok(()) } else { Err(format!("{} entries were emitted instead of {wanted}", emitted.len())) }
}

/// An id as it is ordered.
fn parse(id: &str) -> (u64, u64) {
    let number = |part: Option<&str>| part.and_then(|part| part.parse().ok()).unwrap_or_default();
    let mut parts = id.split('-');
    (number(parts.next()), number(parts.next()))
}

/// Every row of a view is of the version that the cuts of its partition name for its entry. Returns how many cuts there are.
pub fn check_provenance<'k>(
    host: &Host,
    feature: &str,
    key: &str,
    entities: impl Iterator<Item = &'k String>,
    partition_of: impl Fn(&str) -> u64,
) -> Result<usize, String> {
    let view = feature.split(':').next().unwrap_or_default();
    let shown = host.get(&format!("/v1/transforms/{view}/versions")).map_err(|error| format!("{error:#}"))?.1;
    let mut cuts: BTreeMap<u64, Vec<Cut>> = BTreeMap::new();
    for partition in shown["cuts"].as_array().into_iter().flatten() {
        let of_partition = partition["cuts"].as_array().cloned().unwrap_or_default();
        if let Some(pair) = of_partition.windows(2).find(|pair| pair[0]["to"]["component"] != pair[1]["from"]["component"]) {
            return Err(format!("one cut of {view} does not follow the other: {pair:?}"));
        }
        let cut = |cut: &Value| (cut["after"].as_str().map(parse), cut["to"]["component"].as_str().unwrap_or_default().to_owned());
        let of_partition: Vec<_> = of_partition.iter().map(cut).collect();
        if !of_partition.is_sorted_by_key(|(after, _)| *after) {
            return Err(format!("the cuts of {view} are out of order: {of_partition:?}"));
        }
        cuts.insert(partition["partition"].as_u64().unwrap_or_default(), of_partition);
    }
    let entities: Vec<Value> = entities.map(|entity| json!({key: entity})).collect();
    if entities.is_empty() {
        return Ok(0);
    }
    let body = json!({"features": [feature], "entities": entities, "provenance": true}).to_string();
    let answer = host.post("/v1/features", &body).map_err(|error| format!("{error:#}"))?.1;
    let mut compared = 0;
    for result in answer["results"].as_array().into_iter().flatten() {
        let (of, entity) = (&result["provenance"][0], result["entity"][key].as_str().unwrap_or_default());
        let Some(entry) = of["entry_id"].as_str() else { continue };
        let of_partition = cuts.get(&partition_of(entity)).map(Vec::as_slice).unwrap_or_default();
        let made_by = of_partition.iter().rev().find(|(after, _)| *after < Some(parse(entry))).map(|(_, component)| component.as_str());
        if made_by != of["component"].as_str() {
            return Err(format!("{feature} of {entity} is {of}, and the cuts say {made_by:?}: {of_partition:?}"));
        }
        compared += 1;
    }
    if compared < entities.len() {
        return Err(format!("{compared} of {} rows of {view} tell what they are of: {answer}", entities.len()));
    }
    Ok(cuts.values().map(Vec::len).sum())
}

/// What a server's journal says of the commits to each partition: each number stands there once and in its turn, and no place goes back. What a host sends that
/// was stopped while another took over would stand there twice, or be missing, or go back.
pub fn check_journal(folder: &Path) -> Result<usize, String> {
    let mut files: Vec<_> = std::fs::read_dir(folder.join("appendonlydir"))
        .map_err(|error| format!("{}: {error}", folder.display()))?
        .flatten()
        .map(|file| file.path())
        .filter(|path| path.to_string_lossy().ends_with(".incr.aof"))
        .collect();
    files.sort();
    let mut places: BTreeMap<Vec<u8>, (u64, (u64, u64))> = BTreeMap::new();
    let mut commits = 0;
    for file in files {
        let journal = std::fs::read(&file).map_err(|error| format!("{}: {error}", file.display()))?;
        let mut rest = journal.as_slice();
        while let Some(words) = command(&mut rest) {
            let [name, key, fields @ ..] = words.as_slice() else { continue };
            if !name.eq_ignore_ascii_case(b"hset") || !key.windows(7).any(|part| part == b":place:") {
                continue;
            }
            let text = |name: &str| {
                let pair = fields.as_chunks::<2>().0.iter().find(|[field, _]| *field == name.as_bytes());
                pair.map(|[_, value]| String::from_utf8_lossy(value).into_owned())
            };
            let number: u64 = text("commits").and_then(|number| number.parse().ok()).unwrap_or_default();
            let last = text("last").map_or((0, 0), |last| parse(&last));
            let before = places.insert(key.to_vec(), (number, last)).unwrap_or_default();
            if number != before.0 + 1 || last < before.1 {
                let key = String::from_utf8_lossy(key);
                return Err(format!(
                    "commit {number} with the place {last:?} to {key} comes after commit {} with {:?}",
                    before.0, before.1
                ));
            }
            commits += 1;
        }
    }
    Ok(commits)
}

/// The next command of a journal.
fn command<'j>(rest: &mut &'j [u8]) -> Option<Vec<&'j [u8]>> {
    let words = number(rest, b'*')?;
    let word = |_| {
        let length = number(rest, b'$')?;
        let word = rest.get(..length)?;
        *rest = rest.get(length + 2..)?;
        Some(word)
    };
    (0..words).map(word).collect()
}

/// A line with a sign and a number.
fn number(rest: &mut &[u8], sign: u8) -> Option<usize> {
    let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
    let number = std::str::from_utf8(rest.get(..end)?.strip_prefix(&[sign])?).ok()?.parse().ok()?;
    *rest = rest.get(end + 2..)?;
    Some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal(commits: &[(&str, u64, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("appendonlydir")).unwrap();
        let mut text = String::new();
        for (key, number, last) in commits {
            let words = ["HSET", key, "last", last, "commits", &number.to_string()].map(|word| format!("${}\r\n{word}\r\n", word.len()));
            text += &format!("*1\r\n$5\r\nMULTI\r\n*6\r\n{}", words.concat());
        }
        std::fs::write(folder.path().join("appendonlydir/appendonly.aof.1.incr.aof"), text).unwrap();
        folder
    }

    #[test]
    fn a_commit_out_of_its_turn_is_found_in_the_journal() {
        let (one, other) = ("g:place:{events:0}events/group/0", "g:place:{events:1}events/group/1");
        let well = [(one, 1, "5-1"), (other, 1, "3-0"), (one, 2, "5-1"), (one, 3, "5-2"), ("g:high", 1, "1-0")];
        assert_eq!(check_journal(journal(&well).path()), Ok(4));
        for wrong in [[(one, 1, "5-1"), (one, 1, "5-2")], [(one, 1, "5-1"), (one, 3, "5-2")], [(one, 1, "5-1"), (one, 2, "4-9")]] {
            assert!(check_journal(journal(&wrong).path()).is_err(), "{wrong:?}");
        }
    }
}
