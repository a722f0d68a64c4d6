//! Random files: core modules with the exports of a transform and random bodies, the same as components, random components, and good ones with some bytes changed.

use std::collections::BTreeMap;

use anyhow::bail;
use arbitrary::Unstructured;
use wasm_smith::{Component, Config, Module};
use wit_component::ComponentEncoder;

use super::guest::{Guest, with_world};
use super::{keys, limits};
use crate::transform::{Engine, Error, Limits};

/// Random bytes that a file is made of.
const ENTROPY_BYTES: usize = 4_096;
/// Bytes of a good component that are changed.
const CHANGES: u64 = 8;

/// How random files have ended, by what was said of them.
#[derive(Debug, Default)]
pub struct Tally {
    /// How many ended so.
    pub ends: BTreeMap<&'static str, u64>,
}

/// Makes the file of this seed, loads it, and calls it where it loads. Whatever it does is right as long as the engine says so in an error, or takes its
/// answer for what it is; only an error of the engine itself is not.
pub(super) fn check(engine: &Engine, seed: u64, tally: &mut Tally) -> anyhow::Result<String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let file = match seed % 4 {
        0 => shaped(&mut random)?,
        1 => wrapped(&shaped(&mut random)?),
        2 => component(&mut random)?,
        _ => changed(&mut random)?,
    };
    let limits = Limits { deadline_ms: 5, ..limits() };
    let end = match engine.load("random", &file, "", limits) {
        Err(error) => end(&error)?,
        Ok(transform) => match transform.apply(&keys(5)) {
            Err(error) => end(&error)?,
            Ok(_) => "answered, by the contract",
        },
    };
    *tally.ends.entry(end).or_default() += 1;
    Ok(end.to_owned())
}

fn end(error: &Error) -> anyhow::Result<&'static str> {
    Ok(match error {
        Error::Refused(_) => "refused at load",
        Error::Trap(_) => "trapped",
        Error::Deadline { .. } => "out of time",
        Error::Memory { .. } => "out of memory",
        Error::Guest(_) => "said no",
        Error::Invalid(_) => "broke the contract",
        Error::Engine(said) => bail!("the engine itself failed: {said}"),
    })
}

/// A core module with the world of a transform, and nothing behind its exports that makes sense.
fn shaped(random: &mut Random) -> anyhow::Result<Vec<u8>> {
    let config = Config { module_shape: Some(Guest::doubling().core()?), ..config() };
    let bytes = random.bytes(ENTROPY_BYTES);
    let mut module = Module::new(config, &mut Unstructured::new(&bytes))?;
    // Some may run for ever; each of those costs a deadline.
    if !random.next().is_multiple_of(16) {
        module.ensure_termination(10_000).ok();
    }
    with_world(module.to_bytes(), "row-transform")
}

/// The module as the component that a toolchain makes of it; the module where it makes none.
fn wrapped(module: &[u8]) -> Vec<u8> {
    let encoded = ComponentEncoder::default().module(module).and_then(|mut encoder| encoder.encode());
    encoded.unwrap_or_else(|_| module.to_vec())
}

fn component(random: &mut Random) -> anyhow::Result<Vec<u8>> {
    let bytes = random.bytes(ENTROPY_BYTES);
    Ok(Component::new(config(), &mut Unstructured::new(&bytes))?.to_bytes())
}

fn changed(random: &mut Random) -> anyhow::Result<Vec<u8>> {
    let mut bytes = if random.next().is_multiple_of(2) { Guest::doubling().component()? } else { Guest::doubling().module()? };
    for _ in 0..random.next() % CHANGES + 1 {
        let at = random.next() as usize % bytes.len().max(1);
        if let Some(byte) = bytes.get_mut(at) {
            *byte = random.next() as u8;
        }
    }
    Ok(bytes)
}

/// What the engine knows; what it does not know would be refused before anything of it runs.
fn config() -> Config {
    Config {
        exceptions_enabled: false,
        gc_enabled: false,
        reference_types_enabled: false,
        memory64_enabled: false,
        relaxed_simd_enabled: false,
        threads_enabled: false,
        max_memories: 1,
        max_instructions: 500,
        ..Config::default()
    }
}

/// A small generator of numbers (xorshift64*, Vigna 2016); the same seed gives the same file on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| (self.next() >> 32) as u8).collect()
    }
}
