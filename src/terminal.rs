//! What a person at a terminal reads: data on stdout, talk on stderr, nothing of a visitor's that a terminal would obey.

use std::fmt::Write as _;
use std::io::Write as _;

/// Prints data. Whoever stops reading has what they wanted.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    match std::io::stdout().write_all(format!("{text}\n").as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Says something to the person at the terminal. A closed stderr is no reason to stop serving.
pub(crate) fn talk(line: &str) {
    // At one go, so that no line of another thread comes between the line and its end.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

/// A line of text for a log, which nobody can take for JSON of the program's own: texts of visitors can begin neither an object
/// nor a line.
pub(crate) fn log_line(text: &str) -> String {
    text.replace('{', "%7B").replace(['\n', '\r'], " ")
}

/// JSON on one line, fit for a terminal.
pub(crate) fn json_line(value: &serde_json::Value) -> String {
    harmless_json(&value.to_string())
}

/// JSON text without raw control characters: JSON itself escapes only those below U+0020, and terminals obey U+009B, too.
pub(crate) fn harmless_json(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for character in json.chars() {
        if is_obeyed(character) && !matches!(character, '\n' | '\t') {
            // Outside of texts JSON has no such characters.
            let _ = write!(line, "\\u{:04x}", u32::from(character));
        } else {
            line.push(character);
        }
    }
    line
}

/// Whether a terminal does something else with a character than show it: control characters, and those that turn the
/// direction in which the others are shown (Unicode, UAX 9), behind which a text can look like another.
fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// A text from a visitor, fit for a terminal: no character that it would obey, at most `width` characters.
pub(crate) fn printable(text: &str, width: usize) -> String {
    let clean = |character: char| if is_obeyed(character) { '\u{fffd}' } else { character };
    let mut line: String = text.chars().take(width).map(clean).collect();
    if text.chars().nth(width).is_some() {
        line.pop();
        line.push('…');
    }
    line
}
