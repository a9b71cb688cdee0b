//! Output for a terminal: data on stdout, messages on stderr, and no control characters from visitors.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

/// Prints data that a terminal may show. A reader that stops early has what it wanted.
pub(crate) fn print(text: &str) -> anyhow::Result<()> {
    // In one write, so that no line of another process comes between the line and its end.
    match io::stdout().write_all(format!("{}\n", clean(text)).as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints a message on stderr. A closed stderr is not an error.
pub(crate) fn print_message(line: &str) {
    // In one write, so that no line of another thread comes between the line and its end.
    let _ = io::stderr().write_all(format!("{}\n", clean(line)).as_bytes());
}

/// Returns a line of text for a log that cannot be mistaken for the program's own JSON: texts of visitors can begin neither
/// an object nor a line.
pub(crate) fn log_line(text: &str) -> String {
    text.replace('{', "%7B").replace(['\n', '\r'], " ")
}

/// Returns JSON on one line, safe for a terminal.
pub(crate) fn json_line(value: &serde_json::Value) -> String {
    harmless_json(&value.to_string())
}

/// Returns JSON text without raw control characters: JSON itself escapes only those below U+0020, but terminals also obey
/// U+009B.
pub(crate) fn harmless_json(json: &str) -> String {
    let mut line = String::with_capacity(json.len());
    for character in json.chars() {
        if is_control(character) && !matches!(character, '\n' | '\t') {
            // JSON has such characters only inside strings.
            let _ = write!(line, "\\u{:04x}", u32::from(character));
        } else {
            line.push(character);
        }
    }
    line
}

/// Returns true if a terminal does something else with a character than show it: control characters, and those that change
/// the direction of text (Unicode, UAX 9), which can make one text look like another.
fn is_control(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Replaces each character that a terminal would obey, except line breaks and tabs.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    let replaced = |character: char| is_control(character) && !matches!(character, '\n' | '\t');
    if text.contains(replaced) {
        Cow::Owned(text.replace(replaced, "\u{fffd}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// Returns a visitor's text, safe for a terminal, with at most `width` characters.
pub(crate) fn printable(text: &str, width: usize) -> String {
    let clean = |character: char| if is_control(character) { '\u{fffd}' } else { character };
    let mut line: String = text.chars().take(width).map(clean).collect();
    if text.chars().nth(width).is_some() {
        line.pop();
        line.push('…');
    }
    line
}

/// Quotes a value that a spreadsheet would take for a formula.
pub(crate) fn spreadsheet_cell(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        Cow::Owned(format!("'{text}"))
    } else {
        Cow::Borrowed(text)
    }
}

/// A CSV writer. A terminal gets no character that it would obey; a pipe or a file gets the exact values.
#[derive(Debug)]
pub(crate) struct CsvWriter<W: io::Write> {
    writer: csv::Writer<W>,
    is_terminal: bool,
}

impl CsvWriter<io::StdoutLock<'static>> {
    /// Creates a writer to stdout.
    pub(crate) fn stdout() -> Self {
        let stdout = io::stdout();
        Self {
            is_terminal: stdout.is_terminal(),
            writer: csv::WriterBuilder::new()
                .buffer_capacity(1 << 16)
                .from_writer(stdout.lock()),
        }
    }
}

impl<W: io::Write> CsvWriter<W> {
    /// Writes a row.
    pub(crate) fn row<T: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = T>) -> csv::Result<()> {
        for cell in cells {
            let cell = cell.as_ref();
            if self.is_terminal && cell.contains(is_control) {
                self.writer.write_field(cell.replace(is_control, "\u{fffd}"))?;
            } else {
                self.writer.write_field(cell)?;
            }
        }
        self.writer.write_record(None::<&[u8]>)
    }

    /// Writes the buffered rows.
    pub(crate) fn flush(&mut self) -> csv::Result<()> {
        Ok(self.writer.flush()?)
    }
}

/// Accepts the error of a reader that has stopped reading: it has what it wanted.
pub(crate) fn allow_broken_pipe(result: csv::Result<()>) -> anyhow::Result<()> {
    result.or_else(|error| match error.kind() {
        csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hostile visitor's text: a title, a bell, C1 controls, text that runs backwards.
    const HOSTILE: &str = "a\u{1b}]0;x\u{7}b\u{9b}31mc\u{202e}d\u{85}\r\ne";

    fn written(is_terminal: bool) -> String {
        let mut csv = CsvWriter {
            writer: csv::Writer::from_writer(Vec::new()),
            is_terminal,
        };
        csv.row(["x", HOSTILE]).expect("it is written");
        csv.row(["y", "z"]).expect("it is written");
        String::from_utf8(csv.writer.into_inner().expect("flushed")).expect("text")
    }

    #[test]
    fn csv_is_clean_on_a_terminal_and_exact_elsewhere() {
        assert_eq!(written(false), format!("x,\"{HOSTILE}\"\ny,z\n"));
        let shown = written(true);
        assert_eq!(shown.lines().count(), 2, "{shown:?}");
        assert!(
            !shown.contains(|character| is_control(character) && character != '\n'),
            "{shown:?}"
        );
    }

    #[test]
    fn lines_and_tabs_are_all_that_is_left_of_control_characters() {
        assert_eq!(clean("a\tb\nc"), "a\tb\nc");
        let cleaned = clean(HOSTILE);
        assert!(
            !cleaned.contains(|character| is_control(character) && character != '\n'),
            "{cleaned:?}"
        );
        assert_eq!(cleaned.chars().count(), HOSTILE.chars().count());
    }
}
