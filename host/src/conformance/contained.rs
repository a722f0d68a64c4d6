//! Guests that misbehave when they run, and how the error shows.

use super::Row;
use super::guest::{ANSWER_AT, COLUMNS_AT};
use super::making::{EAT, LOOP, applies, folds, loads, migrated, migrates, realloc, refusing, sharing_a_text};

/// In the start function and in `describe`.
pub(super) fn in_describe() -> Vec<Row> {
    vec![
        ("loops", loads(|guest| guest.describe = LOOP.into()), "Deadline { deadline_ms: 1000 }"),
        (
            "traps",
            loads(|guest| guest.describe = "unreachable".into()),
            "Trap(\"wasm trap: wasm `unreachable` instruction executed, in describe",
        ),
        (
            "traps at start",
            loads(|guest| guest.extra = "(func $start unreachable) (start $start)".into()),
            "Trap(\"wasm trap: wasm `unreach",
        ),
        (
            "loops at start",
            loads(|guest| guest.extra = format!("(func $start {LOOP} drop) (start $start)")),
            "Deadline { deadline_ms: 1000 }",
        ),
        (
            "recurs",
            loads(|guest| guest.describe = "(call $describe (i32.const 0) (i32.const 0))".into()),
            "Trap(\"wasm trap: call stack exhausted",
        ),
        ("eats memory", loads(|guest| guest.describe = EAT.into()), "Memory { memory_bytes_max: 4194304 }"),
        ("wants a second one from the start", loads(|guest| guest.extra = "(memory $more 65)".into()), "Refused"),
        ("a wild pointer", loads(|guest| guest.describe = "(i32.const 0x7ffffff0)".into()), "Invalid"),
        ("a wild tag", loads(|guest| guest.describe = "(i32.store8 (i32.const 1024) (i32.const 9)) (i32.const 1024)".into()), "Invalid"),
    ]
}

/// In `apply`, in `cabi_realloc` and in post-return.
pub(super) fn in_apply() -> Vec<Row> {
    let table = "(table $table 1 funcref)";
    let grow_table = "(drop (table.grow $table (ref.null func) (i32.const 50000))) unreachable";
    let claim = |length: u32| format!("(i32.store (i32.const {}) (i32.const {length})) (i32.const {ANSWER_AT})", COLUMNS_AT + 8);
    vec![
        ("loops", applies(LOOP), "Deadline { deadline_ms: 50 }"),
        ("traps", applies("unreachable"), "Trap(\"wasm trap: wasm `unreachable` instruction executed, in apply\")"),
        ("divides by zero", applies("(i32.div_u (i32.const 1) (i32.const 0))"), "Trap(\"wasm trap: integer divide by zero"),
        ("recurs", applies("(call $apply (i32.const 0) (i32.const 0) (i32.const 0))"), "Trap(\"wasm trap: call stack exhausted"),
        ("eats memory", applies(EAT), "Memory { memory_bytes_max: 4194304 }"),
        (
            "grows tables",
            loads(|guest| (guest.extra, guest.apply) = (table.into(), grow_table.into())),
            "Trap(\"it needs more than its 20000 table elements\")",
        ),
        ("traps in cabi_realloc", loads(|guest| guest.realloc = realloc("unreachable")), "Trap"),
        ("allocates outside its memory", loads(|guest| guest.realloc = realloc("(i32.const -8)")), "Invalid"),
        ("allocates unaligned", loads(|guest| guest.realloc = realloc("(i32.const 3)")), "Invalid"),
        ("loops in cabi_realloc", loads(|guest| guest.realloc = realloc(LOOP)), "Deadline { deadline_ms: 50 }"),
        ("traps in post-return", loads(|guest| guest.post = "unreachable".into()), "Trap"),
        ("loops in post-return", loads(|guest| guest.post = format!("{LOOP} drop")), "Deadline { deadline_ms: 50 }"),
        ("says no", applies(&refusing(b"bad batch")), "Guest(\"bad batch\")"),
        ("says no with bytes that are no text", applies(&refusing(b"\xff\xfe")), "Invalid"),
        ("a wild result", applies("(i32.const 0x7ffffff0)"), "Invalid"),
        ("an unaligned result", applies("(i32.const 1025)"), "Invalid"),
        ("a gigabyte", applies(&claim(1 << 27)), "Invalid"),
        ("a length that wraps around", applies(&claim(u32::MAX)), "Invalid"),
        ("a wild kind", applies(&format!("(i32.store8 (i32.const {COLUMNS_AT}) (i32.const 99)) (i32.const {ANSWER_AT})")), "Invalid"),
        (
            "too many bytes",
            applies(&format!("(drop (memory.grow (i32.const 50))) {}", claim(380_000))),
            "Invalid(\"more than the 1048576 bytes",
        ),
        ("one text fifty times", sharing_a_text(), "Invalid(\"more than the 1048576 bytes"),
    ]
}

/// In `apply` of a stateful guest.
pub(super) fn in_fold() -> Vec<Row> {
    vec![
        ("loops", folds(LOOP), "Deadline { deadline_ms: 50 }"),
        ("traps", folds("unreachable"), "Trap(\"wasm trap: wasm `unreachable` instruction executed, in apply\")"),
        ("recurs", folds(&format!("(call $apply {})", "(i32.const 0)".repeat(13))), "Trap(\"wasm trap: call stack exhausted"),
        ("eats memory", folds(EAT), "Memory { memory_bytes_max: 4194304 }"),
        ("says no", folds(&refusing(b"bad states")), "Guest(\"bad states\")"),
        ("a wild result", folds("(i32.const 0x7ffffff0)"), "Invalid"),
    ]
}

/// In `migrate`, which is asked for the states of three entities.
pub(super) fn in_migration() -> Vec<Row> {
    vec![
        ("loops", migrates(LOOP), "Deadline { deadline_ms: 50 }"),
        ("traps", migrates("unreachable"), "Trap(\"wasm trap: wasm `unreachable` instruction executed"),
        ("eats memory", migrates(EAT), "Memory { memory_bytes_max: 4194304 }"),
        ("says no", migrates(&refusing(b"unknown version")), "Guest(\"unknown version\")"),
        ("says no with bytes that are no text", migrates(&refusing(b"\xff\xfe")), "Invalid"),
        ("a wild result", migrates("(i32.const 0x7ffffff0)"), "Invalid"),
        ("a state too few", migrates(&migrated(4, 3, false)), "Invalid(\"states: 3 offsets; 4 are right\")"),
        ("states of another kind", migrates(&migrated(3, 4, false)), "Invalid(\"states: a column of text values"),
        ("a state that is gone", migrates(&migrated(4, 4, true)), "Invalid(\"states: a migration returned null\")"),
        ("states without end", migrates(&migrated(4, u32::MAX, false)), "Invalid"),
    ]
}
