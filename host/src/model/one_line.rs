use std::fmt::Write;

/// A foreign text as one line of a log or a message: cut to this many bytes, with control characters escaped so that it can neither forge lines
/// nor drive a terminal.
pub fn one_line(message: &str, bytes_max: usize) -> String {
    let kept = message.get(..message.floor_char_boundary(bytes_max)).unwrap_or_default();
    let mut line = String::with_capacity(kept.len() + 16);
    for character in kept.chars() {
        if character == '\t' {
            line.push_str("    ");
        } else if character.is_control() {
            line.extend(character.escape_default());
        } else {
            line.push(character);
        }
    }
    let cut = message.len() - kept.len();
    if cut > 0 {
        // Writing into a String cannot fail.
        write!(line, " [{cut} bytes more]").ok();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_between_characters_and_cannot_forge_another() {
        assert_eq!(one_line("a\nERROR forged\u{1b}[2J", 99), "a\\nERROR forged\\u{1b}[2J");
        let long = "é".repeat(3_000);
        assert_eq!(one_line(&long, 4_096), format!("{} [1904 bytes more]", "é".repeat(2_048)));
    }
}
