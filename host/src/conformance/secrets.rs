//! What a guest leaves in memory, or in a table, must be gone for the next one that gets the same place in the pool.

use anyhow::{Context, bail};

use super::guest::{ANSWER_AT, Guest};
use super::{keys, limits};
use crate::transform::{Engine, Error};

/// How often a guest takes the place of another one.
const ROUNDS: usize = 20;

/// One guest fills all the memory it can get with a word and goes; the next one looks for the word in all the memory that it can get.
pub(super) fn memory(engine: &Engine) -> anyhow::Result<String> {
    let mut writer = Guest::doubling();
    writer.apply = format!(
        "(local $at i32)
         {GROW}
         (local.set $at (i32.const {FREE}))
         (loop $next
           (i32.store (local.get $at) (i32.const 0x5ec2e75))
           (local.set $at (i32.add (local.get $at) (i32.const 4)))
           (br_if $next (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
         unreachable"
    );
    let mut reader = Guest::doubling();
    // Ends with a division by zero where it finds anything, with `unreachable` where it finds nothing.
    reader.apply = format!(
        "(local $at i32)
         {GROW}
         (local.set $at (i32.const {FREE}))
         (loop $next
           (if (i32.load (local.get $at)) (then (return (i32.div_u (i32.const 1) (i32.const 0)))))
           (local.set $at (i32.add (local.get $at) (i32.const 4)))
           (br_if $next (i32.lt_u (local.get $at) (i32.mul (memory.size) (i32.const 65536)))))
         unreachable"
    );
    take_turns(engine, &writer, &reader)?;
    Ok(format!("{ROUNDS} times nothing was found in {} bytes", limits().memory_bytes_max))
}

/// One guest fills a table with functions and goes; the next one looks for any in a table that nobody has put anything into.
pub(super) fn table(engine: &Engine) -> anyhow::Result<String> {
    // What wraps a module in a component has small tables too, and the limit counts them all.
    let elements = limits().table_elements_max / 2;
    let extra = format!("(table $table {elements} funcref) (elem declare func $describe)");
    let mut writer = Guest::doubling();
    writer.extra.clone_from(&extra);
    writer.apply = format!("(table.fill $table (i32.const 0) (ref.func $describe) (i32.const {elements})) unreachable");
    let mut reader = Guest::doubling();
    reader.extra = extra;
    reader.apply = format!(
        "(local $at i32)
         (loop $next
           (if (i32.eqz (ref.is_null (table.get $table (local.get $at)))) (then (return (i32.div_u (i32.const 1) (i32.const 0)))))
           (local.set $at (i32.add (local.get $at) (i32.const 1)))
           (br_if $next (i32.lt_u (local.get $at) (i32.const {elements}))))
         unreachable"
    );
    take_turns(engine, &writer, &reader)?;
    Ok(format!("{ROUNDS} times nothing was found in {elements} elements"))
}

fn take_turns(engine: &Engine, writer: &Guest, reader: &Guest) -> anyhow::Result<()> {
    let (writer, reader) = (writer.module()?, reader.module()?);
    for _ in 0..ROUNDS {
        let writing = engine.load("writer", &writer, "", limits()).context("the writer is refused")?;
        trap(writing.apply(&keys(1)).err(), "unreachable")?;
        drop(writing);
        let reading = engine.load("reader", &reader, "", limits()).context("the reader is refused")?;
        trap(reading.apply(&keys(1)).err(), "unreachable").context("it found what another guest has left")?;
    }
    Ok(())
}

/// Takes all memory there is.
const GROW: &str = "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))";
/// Behind what the host has written for this call, and the guest's own data.
const FREE: u32 = (ANSWER_AT + 65_536) * 2;

fn trap(error: Option<Error>, expected: &str) -> anyhow::Result<()> {
    match error {
        Some(Error::Trap(said)) if said.contains(expected) => Ok(()),
        // Growing until it is denied is what memory ends with when the guest traps afterwards.
        Some(Error::Memory { .. }) if expected == "unreachable" => Ok(()),
        other => bail!("it ended with {other:?}"),
    }
}
