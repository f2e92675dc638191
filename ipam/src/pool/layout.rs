//! How a document is laid out: as pretty-printed, but each entry on a line of its own.
//!
//! People read it, and a pool of 60,000 entries is written at each ADD and DEL.

use std::io::{self, Write};

use serde_json::ser::Formatter;

/// Objects and arrays nested deeper than this stay on one line: an entry is in the document, in `spec`, and in `allocations`.
const BROKEN: usize = 3;
/// A new line, and two spaces for each level.
const LINE: &[u8] = b"\n      ";

#[derive(Default)]
pub(super) struct LineEach {
    depth: usize,
    /// The object or array that was begun last has something in it.
    has_value: bool,
}

impl LineEach {
    fn begin(&mut self, to: &mut (impl Write + ?Sized), bracket: &[u8]) -> io::Result<()> {
        self.depth += 1;
        self.has_value = false;
        to.write_all(bracket)
    }

    fn end(&mut self, to: &mut (impl Write + ?Sized), bracket: &[u8]) -> io::Result<()> {
        let is_broken = self.depth <= BROKEN;
        self.depth -= 1;
        if self.has_value {
            self.space(to, is_broken)?;
        }
        to.write_all(bracket)
    }

    /// What stands before a key, or an array's value.
    fn part(&self, to: &mut (impl Write + ?Sized), first: bool) -> io::Result<()> {
        if !first {
            to.write_all(b",")?;
        }
        self.space(to, self.depth <= BROKEN)
    }

    fn space(&self, to: &mut (impl Write + ?Sized), is_broken: bool) -> io::Result<()> {
        to.write_all(if is_broken { &LINE[..1 + 2 * self.depth] } else { b" " })
    }
}

impl Formatter for LineEach {
    fn begin_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.begin(to, b"[")
    }

    fn end_array<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.end(to, b"]")
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.part(to, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, _to: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }

    fn begin_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.begin(to, b"{")
    }

    fn end_object<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        self.end(to, b"}")
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, to: &mut W, first: bool) -> io::Result<()> {
        self.part(to, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, to: &mut W) -> io::Result<()> {
        to.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, _to: &mut W) -> io::Result<()> {
        self.has_value = true;
        Ok(())
    }
}
