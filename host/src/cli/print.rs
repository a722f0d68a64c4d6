//! The only place that writes to standard output and standard error.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "this is what a command line is for")]

use std::io::Write;

use serde_json::Value;

use crate::model::one_line;

/// Prints a line.
pub(super) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    // Nobody is left to be told when standard output is gone.
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// Prints a value as indented JSON.
pub(super) fn json(value: &Value) {
    line(&format!("{value:#}"));
}

/// Says on standard error what went wrong.
pub(super) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "gristmill: {}", shown(text));
}

/// Says something on standard error that is not part of the output.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A message in as many lines as it has, without what would drive a terminal: it may repeat what a host or a component says.
fn shown(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| one_line(line, usize::MAX)).collect();
    lines.join("\n")
}

/// Prints rows in columns that line up, under their headings. Each cell is one line, whatever the host says.
pub(super) fn table(headings: &[&str], rows: &[Vec<String>]) {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| one_line(cell, usize::MAX)).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain(headings.get(column).map(|heading| heading.len())).max().unwrap_or(0)
    };
    let print = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<String> = cells.enumerate().map(|(column, cell)| format!("{cell:<0$}", width(column))).collect();
        line(padded.join("  ").trim_end());
    };
    print(&mut headings.iter().copied());
    for row in &rows {
        print(&mut row.iter().map(String::as_str));
    }
}

/// Restores the system's default for writing to a closed pipe.
pub(super) fn end_on_broken_pipe() {
    #[cfg(unix)]
    {
        #[allow(unsafe_code, reason = "the standard library has no stable way to say this; the call only changes a signal's disposition")]
        // SAFETY: called once, before any other thread runs; SIG_DFL is a valid disposition for SIGPIPE.
        unsafe {
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_keeps_its_lines_and_nothing_that_drives_a_terminal() {
        assert_eq!(shown("first\nsecond\u{1b}[2J"), "first\nsecond\\u{1b}[2J");
    }
}
