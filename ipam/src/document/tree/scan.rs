//! The words of a JSON document, one after the other.

use std::fmt;

use serde_json::Value;

use super::number;

/// Why a text is not JSON.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotJson {
    what: String,
    line: usize,
    column: usize,
}

impl std::error::Error for NotJson {}

impl fmt::Display for NotJson {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {} column {}", self.what, self.line, self.column)
    }
}

pub(super) struct Scanner<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// An error about the last byte that was read.
    pub(super) fn wrong(&self, what: &str) -> NotJson {
        let before = &self.text[..self.at.min(self.text.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let column = before.iter().rev().take_while(|byte| **byte != b'\n').count();
        NotJson { what: what.to_owned(), line, column }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn take(&mut self) -> Result<u8, NotJson> {
        let byte = self.peek().ok_or_else(|| self.wrong("EOF while parsing"))?;
        self.at += 1;
        Ok(byte)
    }

    fn skip_blanks(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    /// The first byte of a value, which is read.
    pub(super) fn first_of_value(&mut self) -> Result<u8, NotJson> {
        self.skip_blanks();
        self.take()
    }

    /// Whether this byte comes next; then it is read.
    pub(super) fn next_is(&mut self, byte: u8) -> bool {
        self.skip_blanks();
        let is_next = self.peek() == Some(byte);
        self.at += usize::from(is_next);
        is_next
    }

    /// Whether a comma comes next, and not the `end` of a list or an object.
    pub(super) fn goes_on(&mut self, end: u8) -> Result<bool, NotJson> {
        self.skip_blanks();
        match self.take()? {
            b',' => Ok(true),
            byte if byte == end => Ok(false),
            _ => Err(self.wrong(&format!("expected ',' or '{}'", char::from(end)))),
        }
    }

    /// A key with the colon after it.
    pub(super) fn key(&mut self) -> Result<String, NotJson> {
        self.skip_blanks();
        if self.take()? != b'"' {
            return Err(self.wrong("expected a key in double quotes"));
        }
        let key = self.rest_of_text()?;
        self.skip_blanks();
        if self.take()? != b':' {
            return Err(self.wrong("expected ':'"));
        }
        Ok(key)
    }

    /// A text after its first quote.
    pub(super) fn rest_of_text(&mut self) -> Result<String, NotJson> {
        let mut bytes = Vec::new();
        loop {
            match self.take()? {
                b'"' => break,
                b'\\' => self.escape(&mut bytes)?,
                0..=0x1f => return Err(self.wrong("control character in a text")),
                byte => bytes.push(byte),
            }
        }
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    fn escape(&mut self, bytes: &mut Vec<u8>) -> Result<(), NotJson> {
        let plain = match self.take()? {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => {
                let decoded = self.unicode()?;
                bytes.extend(decoded.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err(self.wrong("invalid escape")),
        };
        bytes.push(plain);
        Ok(())
    }

    /// What follows `\u`: four digits, and a second `\u` with four where the first is the first half of a pair.
    fn unicode(&mut self) -> Result<char, NotJson> {
        let first = self.four_digits()?;
        if let Some(single) = char::from_u32(first) {
            return Ok(single);
        }
        if self.text[self.at..].starts_with(b"\\u") {
            let after_first = self.at;
            self.at += 2;
            let second = self.four_digits()?;
            if let (0xd800..=0xdbff, 0xdc00..=0xdfff) = (first, second) {
                let pair = 0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return Ok(char::from_u32(pair).unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            // It stands for itself.
            self.at = after_first;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn four_digits(&mut self) -> Result<u32, NotJson> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = char::from(self.take()?).to_digit(16);
            code = code * 16 + digit.ok_or_else(|| self.wrong("invalid escape"))?;
        }
        Ok(code)
    }

    /// A number or a word after its `first` byte.
    pub(super) fn rest_of_scalar(&mut self, first: u8) -> Result<Value, NotJson> {
        for (word, value) in
            [("true", Value::Bool(true)), ("false", Value::Bool(false)), ("null", Value::Null)]
        {
            if word.as_bytes()[0] == first {
                return self.rest_of_word(&word[1..]).map(|()| value);
            }
        }
        let from = self.at - 1;
        let mut digit = first;
        if first == b'-' {
            digit = self.take()?;
        }
        match digit {
            b'0' => {}
            b'1'..=b'9' => self.digits(),
            _ => return Err(self.wrong("expected a value")),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.at_least_one_digit()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.at_least_one_digit()?;
        }
        let text = std::str::from_utf8(&self.text[from..self.at]).unwrap_or_default();
        number(text).ok_or_else(|| self.wrong("invalid number"))
    }

    fn rest_of_word(&mut self, rest: &str) -> Result<(), NotJson> {
        for expected in rest.bytes() {
            if self.take()? != expected {
                return Err(self.wrong("expected true, false or null"));
            }
        }
        Ok(())
    }

    fn at_least_one_digit(&mut self) -> Result<(), NotJson> {
        if !self.take()?.is_ascii_digit() {
            return Err(self.wrong("invalid number"));
        }
        self.digits();
        Ok(())
    }

    fn digits(&mut self) {
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
    }

    /// Nothing but blanks may follow.
    pub(super) fn end(&mut self) -> Result<(), NotJson> {
        self.skip_blanks();
        if self.peek().is_some() {
            self.at += 1;
            return Err(self.wrong("trailing characters"));
        }
        Ok(())
    }
}
