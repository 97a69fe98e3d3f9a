//! JSON that people can look at and version control can keep: wide above, one line for each small thing below.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// The text of a value whose lists and objects are on one line where they stand in `depth` others.
pub(super) fn text(value: &impl Serialize, depth: usize) -> serde_json::Result<String> {
    let mut out = Vec::new();
    let formatter = Shallow { pretty: PrettyFormatter::new(), at: 0, depth };
    value.serialize(&mut Serializer::with_formatter(&mut out, formatter))?;
    out.push(b'\n');
    Ok(String::from_utf8_lossy(&out).into_owned())
}

struct Shallow {
    pretty: PrettyFormatter<'static>,
    /// In how many lists and objects we are.
    at: usize,
    depth: usize,
}

impl Shallow {
    /// Whether the innermost list or object is on one line.
    fn is_flat(&self) -> bool {
        self.at > self.depth
    }

    fn separate<W: ?Sized + Write>(writer: &mut W, is_first: bool) -> io::Result<()> {
        if is_first { Ok(()) } else { writer.write_all(b", ") }
    }
}

impl Formatter for Shallow {
    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.at += 1;
        if self.is_flat() { writer.write_all(b"[") } else { self.pretty.begin_array(writer) }
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let is_flat = self.is_flat();
        self.at -= 1;
        if is_flat { writer.write_all(b"]") } else { self.pretty.end_array(writer) }
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        if self.is_flat() {
            Self::separate(writer, is_first)
        } else {
            self.pretty.begin_array_value(writer, is_first)
        }
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.is_flat() { Ok(()) } else { self.pretty.end_array_value(writer) }
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.at += 1;
        if self.is_flat() { writer.write_all(b"{") } else { self.pretty.begin_object(writer) }
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        let is_flat = self.is_flat();
        self.at -= 1;
        if is_flat { writer.write_all(b"}") } else { self.pretty.end_object(writer) }
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, is_first: bool) -> io::Result<()> {
        if self.is_flat() {
            Self::separate(writer, is_first)
        } else {
            self.pretty.begin_object_key(writer, is_first)
        }
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        writer.write_all(b": ")
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        if self.is_flat() { Ok(()) } else { self.pretty.end_object_value(writer) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::example;
    use super::*;

    #[test]
    fn what_is_deep_is_on_one_line() {
        let value = serde_json::json!({"a": [[1, 2], {"b": [], "c": {"d": "e"}}], "f": {}});
        let expected =
            "{\n  \"a\": [\n    [1, 2],\n    {\"b\": [], \"c\": {\"d\": \"e\"}}\n  ],\n  \"f\": {}\n}\n";
        assert_eq!(text(&value, 2).expect("it is plain data"), expected);
        assert_eq!(
            text(&value, 9).expect("likewise"),
            serde_json::to_string_pretty(&value).expect("") + "\n"
        );
        for depth in 0..5 {
            let back: serde_json::Value =
                serde_json::from_str(&text(&value, depth).expect("it is plain data")).expect("it is JSON");
            assert_eq!(back, value, "depth {depth}");
        }
    }

    #[test]
    fn a_second_of_a_report_is_one_line() {
        let text = text(&example(), 2).expect("it is plain data");
        assert_eq!(
            text.lines().filter(|line| line.trim_start().starts_with("{\"at\"")).count(),
            10,
            "{text}"
        );
    }
}
