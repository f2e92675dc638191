//! What the user sees: headings, sentences, tables. Readable without colour.

use std::fmt::Debug;
use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::Duration;

const BOLD: &str = "1";
const GREEN: &str = "32";

/// Standard output, with colours where a person is reading it.
#[derive(Debug)]
pub(crate) struct Screen {
    colour: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        // https://no-color.org
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: stdout().is_terminal() && !unwanted }
    }

    /// Begins a section.
    pub(crate) fn heading(&self, text: &str) {
        line("");
        line(&self.painted(BOLD, text));
    }

    /// Lines as they are, indented.
    pub(crate) fn say(&self, text: &str) {
        text.lines().for_each(|text| line(format!("  {text}").trim_end()));
    }

    /// What was checked and held.
    pub(crate) fn holds(&self, text: &str) {
        line(&format!("  {} {text}", self.painted(GREEN, "ok")));
    }

    /// The last line.
    pub(crate) fn conclude(&self, text: &str) {
        line("");
        line(&self.painted(GREEN, text));
    }

    /// Columns as wide as their widest cell.
    pub(crate) fn table<const N: usize>(&self, header: [&str; N], rows: &[[String; N]]) {
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([header[column].len()]).max().unwrap_or(0)
        };
        let widths: [usize; N] = std::array::from_fn(width);
        let joined = |cells: [&str; N]| {
            let mut text = String::new();
            for (cell, width) in cells.iter().zip(widths) {
                text += &format!("{cell:width$}  ");
            }
            text.trim_end().to_owned()
        };
        line(&format!("  {}", self.painted(BOLD, &joined(header))));
        for row in rows {
            line(&format!("  {}", joined(row.each_ref().map(String::as_str))));
        }
    }

    fn painted(&self, colour: &str, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

fn line(text: &str) {
    writeln!(stdout(), "{text}").expect("write to standard output");
}

/// A line on standard error.
pub(crate) fn complain(text: &str) {
    // A failure here cannot be reported; the exit status still shows the result.
    writeln!(stderr(), "\n{text}").unwrap_or_default();
}

/// Ends the demo unless the two are equal, saying both.
#[track_caller]
#[expect(
    clippy::needless_pass_by_value,
    reason = "callers read like sentences, most of their values are literals"
)]
pub(crate) fn check<T: PartialEq + Debug>(what: &str, expected: T, seen: T) {
    assert!(expected == seen, "{what}\n  expected: {expected:?}\n  seen:     {seen:?}");
}

/// Milliseconds with one decimal.
pub(crate) fn ms(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1000.0)
}

/// Breaks text at spaces into lines of at most `width` characters where that is possible.
pub(crate) fn wrapped(text: &str, width: usize) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let room = lines.last().is_some_and(|line| line.is_empty() || line.len() + word.len() < width);
        match lines.last_mut() {
            Some(line) if room => {
                if !line.is_empty() {
                    line.push(' ');
                }
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}
