//! Text of others, shown: what would move the cursor, begin a line, or turn the reading direction becomes visible.
//!
//! Names, keys and values come from network definitions, policies, objects of the API and files. One newline in a key would
//! give its author a line of his own in the log of a node, in a file that a program reads line by line, or in a pod's
//! event; an escape sequence the terminal of its reader. So each program writes its events through [`Lines`], and what it
//! answers through [`visible`]: in one place each, whatever the text is made of.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::{self, Write};

/// Longest text that is shown, in bytes. A key or a value may be as long as the document that it comes from.
const LONGEST: usize = 8 << 10;

/// `text` with its invisible characters escaped as Rust writes them: `\n`, `\t`, `\u{1b}`, `\u{202e}`. Of a text above 8 KiB
/// only the beginning.
///
/// Invisible are control characters, line and paragraph separators, format characters (also those for the reading
/// direction), blanks other than the space, combining marks, and what Unicode has not assigned. Quotes and backslashes stay: this is for
/// people, and text that is escaped already, as JSON, stays readable.
pub fn visible(text: &str) -> Cow<'_, str> {
    let end = (0..=text.len().min(LONGEST)).rfind(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let part = &text[..end];
    if part.len() == text.len() && text.chars().all(is_visible) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(part.len() + 16);
    for c in part.chars() {
        if is_visible(c) {
            shown.push(c);
        } else {
            let _ = write!(shown, "{}", c.escape_debug());
        }
    }
    if part.len() < text.len() {
        shown.push('…');
    }
    Cow::Owned(shown)
}

fn is_visible(c: char) -> bool {
    // The standard library knows which characters have a shape; quotes and the backslash it escapes for another reason.
    (' '..='~').contains(&c) || (!c.is_ascii() && c.escape_debug().eq([c]))
}

/// `items`, each made [`visible`] on a line of its own.
pub fn lines<T: ToString>(items: &[T]) -> String {
    let mut text = String::new();
    for item in items {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&visible(&item.to_string()));
    }
    text
}

/// A writer of whole lines, one for each call, as `tracing` writes its events: the newline at the end stays, everything before
/// it is made [`visible`].
#[derive(Debug)]
pub struct Lines<W>(pub W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (text, end): (_, &[u8]) = match line.strip_suffix(b"\n") {
            Some(text) => (text, b"\n"),
            None => (line, b""),
        };
        match visible(&String::from_utf8_lossy(text)) {
            // Most lines: one write of the very bytes.
            Cow::Borrowed(shown) if shown.len() == text.len() => self.0.write_all(line)?,
            // One write as well: several programs append to one file.
            shown => self.0.write_all(&[shown.as_bytes(), end].concat())?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_the_cursor_or_turns_the_text_is_shown() {
        for (text, shown) in [
            ("x\nssh-rsa AAAA\r\n", r"x\nssh-rsa AAAA\r\n"),
            ("\u{1b}[2J\u{7}\u{7f}\u{9b}1m\0", r"\u{1b}[2J\u{7}\u{7f}\u{9b}1m\0"),
            ("a\u{2028}b\u{2029}c\u{85}", r"a\u{2028}b\u{2029}c\u{85}"),
            ("\u{202e}txt.exe\u{2066}\u{200f}", r"\u{202e}txt.exe\u{2066}\u{200f}"),
            ("\u{200b}\u{feff}\u{ad}\u{e0041}", r"\u{200b}\u{feff}\u{ad}\u{e0041}"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn other_text_stays_as_it_is() {
        for text in ["", r#"ipam.range: "a\nb" is 'x' \ y"#, "Grüße, 網, 🙂", "…"] {
            assert!(matches!(visible(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn a_list_has_a_line_for_each_item() {
        assert_eq!(lines(&["a\nb", "c"]), "a\\nb\nc");
        assert_eq!(lines::<&str>(&[]), "");
    }

    #[test]
    fn a_text_of_a_megabyte_is_cut() {
        let shown = visible(&"ü".repeat(1 << 20)).into_owned();
        assert!(shown.ends_with("ü…") && shown.len() <= LONGEST + 3, "{}", shown.len());
    }

    #[test]
    fn one_event_is_one_line_and_one_write() {
        struct Once(Vec<Vec<u8>>);
        impl Write for Once {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0.push(bytes.to_vec());
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut lines = Lines(Once(Vec::new()));
        for line in ["WARN plain\n", "WARN x\ny\n", "no end\t"] {
            lines.write_all(line.as_bytes()).unwrap();
        }
        lines.write_all(b"\xff\n").unwrap();
        let written: Vec<String> =
            lines.0.0.iter().map(|line| String::from_utf8(line.clone()).unwrap()).collect();
        assert_eq!(written, ["WARN plain\n", "WARN x\\ny\n", "no end\\t", "\u{fffd}\n"]);
    }
}
