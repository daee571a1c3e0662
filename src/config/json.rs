//! JSON with places, which serde_json does not give. Comments and trailing commas are tolerated, because
//! PM2's own files have them.

use crate::config::diagnostic::{Diagnostic, Sink, Span};
use crate::config::tree::{Entry, Node, Value};

/// Deepest nesting.
const MAX_DEPTH: u32 = 80;

/// Why and where it stops.
type Fail = (Span, String);

/// Reads JSON. The first syntax error is reported and ends it.
pub(super) fn read_json(text: &str, sink: &Sink) -> Option<Node> {
    let mut reader = Reader {
        text,
        at: if text.starts_with('\u{feff}') { 3 } else { 0 },
        depth: 0,
        sink,
    };
    let result = reader.value().and_then(|node| {
        reader.space()?;
        match reader.peek() {
            None => Ok(node),
            Some(_) => Err(reader.here("text after the end of the JSON value")),
        }
    });
    result
        .map_err(|(span, message)| sink.push(Diagnostic::error(span, "", message).label("syntax error")))
        .ok()
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
    depth: u32,
    sink: &'t Sink,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn here(&self, message: impl Into<String>) -> Fail {
        (self.at..self.at + 1, message.into())
    }

    fn space(&mut self) -> Result<(), Fail> {
        loop {
            let rest = &self.text[self.at..];
            let trimmed = rest.trim_start_matches([' ', '\t', '\n', '\r']);
            self.at += rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.at += trimmed.find('\n').unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                let end = trimmed.find("*/").ok_or_else(|| self.here("a comment without end"))?;
                self.at += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn value(&mut self) -> Result<Node, Fail> {
        self.space()?;
        let start = self.at;
        let value = match self.peek() {
            Some(b'{') => self.object()?,
            Some(b'[') => self.array()?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => self.word()?,
            None => return Err(self.here("the JSON ends where a value is expected")),
        };
        Ok(Node {
            span: start..self.at,
            value,
        })
    }

    fn nested(&mut self) -> Result<(), Fail> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.here("nested too deeply"));
        }
        self.at += 1;
        Ok(())
    }

    /// After an element: true when another may follow, false when the closing byte was read.
    fn more(&mut self, close: u8) -> Result<bool, Fail> {
        self.space()?;
        match self.peek() {
            Some(b',') => {
                self.at += 1;
                Ok(!self.closes(close)?)
            }
            Some(_) if self.closes(close)? => Ok(false),
            Some(_) => Err(self.here(format!("expected `,` or `{}`", char::from(close)))),
            None => Err(self.here(format!("the JSON ends before `{}`", char::from(close)))),
        }
    }

    fn closes(&mut self, close: u8) -> Result<bool, Fail> {
        self.space()?;
        let closes = self.peek() == Some(close);
        if closes {
            self.at += 1;
            self.depth -= 1;
        }
        Ok(closes)
    }

    fn array(&mut self) -> Result<Value, Fail> {
        self.nested()?;
        let mut list = Vec::new();
        if !self.closes(b']')? {
            loop {
                list.push(self.value()?);
                if !self.more(b']')? {
                    break;
                }
            }
        }
        Ok(Value::List(list))
    }

    fn object(&mut self) -> Result<Value, Fail> {
        self.nested()?;
        let mut entries: Vec<Entry> = Vec::new();
        if !self.closes(b'}')? {
            loop {
                self.space()?;
                let start = self.at;
                if self.peek() != Some(b'"') {
                    return Err(self.here("expected a key in double quotes"));
                }
                let key = self.string()?;
                let key_span = start..self.at;
                self.space()?;
                if self.peek() != Some(b':') {
                    return Err(self.here("expected `:` after the key"));
                }
                self.at += 1;
                let node = self.value()?;
                if let Some(first) = entries.iter().find(|entry| entry.key == key) {
                    self.sink.push(
                        Diagnostic::error(key_span, &key, format!("the key `{key}` is given twice"))
                            .see(first.key_span.clone(), "first given here"),
                    );
                } else {
                    entries.push(Entry { key, key_span, node });
                }
                if !self.more(b'}')? {
                    break;
                }
            }
        }
        Ok(Value::Table(entries))
    }

    fn string(&mut self) -> Result<String, Fail> {
        let start = self.at;
        let bytes = self.text.as_bytes();
        let mut end = start + 1;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => end += 2,
                Some(b'\n') | None => {
                    return Err((start..end.min(bytes.len()), "a string without its closing quote".into()));
                }
                Some(_) => end += 1,
            }
        }
        self.at = end + 1;
        serde_json::from_str(&self.text[start..=end])
            .map_err(|_| (start..end + 1, "a string with a bad escape or control character".into()))
    }

    fn number(&mut self) -> Result<Value, Fail> {
        let start = self.at;
        while matches!(self.peek(), Some(b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9')) {
            self.at += 1;
        }
        let digits = &self.text[start..self.at];
        if let Ok(number) = digits.parse() {
            return Ok(Value::Int(number));
        }
        match serde_json::from_str::<f64>(digits) {
            Ok(number) => Ok(Value::Float(number)),
            Err(_) => Err((start..self.at, format!("`{digits}` is not a number"))),
        }
    }

    fn word(&mut self) -> Result<Value, Fail> {
        let start = self.at;
        let rest = &self.text[start..];
        let length = rest.find(|c: char| !c.is_alphanumeric()).unwrap_or(rest.len());
        let (word, value) = match &rest[..length] {
            "true" => ("true", Value::Bool(true)),
            "false" => ("false", Value::Bool(false)),
            "null" => ("null", Value::Null),
            other => {
                let shown = if other.is_empty() {
                    rest.chars().take(1).collect()
                } else {
                    other.to_owned()
                };
                return Err((start..start + shown.len(), format!("expected a value, found `{shown}`")));
            }
        };
        self.at += word.len();
        Ok(value)
    }
}
