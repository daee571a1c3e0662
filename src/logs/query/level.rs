//! How grave a line is, by the usual ways in which lines say it: a field of a JSON object, `level=` as in logfmt, or
//! a word near the beginning.

use serde_json::Value;

use crate::logs::level::of_json;
use crate::model::level::Level;

/// So many words from the beginning, the level stands among them: a time of two words, a thread and a name may be
/// before it.
const WORDS: usize = 6;
/// Bytes from the beginning in which it is looked for.
const HEAD: usize = 256;

/// The level of what an app wrote.
#[must_use]
pub fn of_message(message: &[u8]) -> Option<Level> {
    if let Some(level) = of_json(message.trim_ascii_start()) {
        return Some(level);
    }
    let head = message.get(..HEAD).unwrap_or(message);
    logfmt(head).or_else(|| words(head))
}

/// The level of a JSON value: a name, or a number as bunyan and pino write it.
#[must_use]
pub fn of_value(value: &Value) -> Option<Level> {
    match value {
        Value::String(word) => Level::of_word(word),
        Value::Number(number) => Level::of_number(number.as_u64()?),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// `level=warn`, `lvl="warn"`.
fn logfmt(head: &[u8]) -> Option<Level> {
    memchr::memchr_iter(b'=', head).find_map(|at| {
        let (key, value) = (head.get(..at)?, head.get(at + 1..)?);
        let key = key.rsplit(|byte| !byte.is_ascii_alphanumeric()).next()?;
        if key != b"level" && key != b"lvl" {
            return None;
        }
        let value = value.strip_prefix(b"\"").unwrap_or(value);
        let end = value.iter().position(|byte| !byte.is_ascii_alphabetic());
        word(value.get(..end.unwrap_or(value.len()))?)
    })
}

/// `ERROR`, `[warn]`, `<info>:`, `E! `… not `error` in the middle of a sentence: after [`WORDS`] it is one.
fn words(head: &[u8]) -> Option<Level> {
    let parts = head.split(|byte| byte.is_ascii_whitespace() || *byte == b'|');
    let mut parts = parts.filter(|part| !part.is_empty()).take(WORDS).enumerate();
    parts.find_map(|(at, part)| {
        let part = plain(part);
        let bare = part.strip_suffix(b":").unwrap_or(part);
        let inner = strip(bare, b'[', b']')
            .or_else(|| strip(bare, b'<', b'>'))
            .or_else(|| strip(bare, b'(', b')'));
        let is_marked = inner.is_some() || bare.len() < part.len();
        let name = inner.unwrap_or(bare);
        let name = name.strip_suffix(b":").unwrap_or(name).trim_ascii();
        let level = word(name)?;
        // A word as any other, if nothing makes it stand out: "an error", "for information".
        let stands_out = is_marked || at == 0 || name.iter().all(u8::is_ascii_uppercase);
        stands_out.then_some(level)
    })
}

/// Without the codes of a terminal's colours at both ends.
fn plain(mut part: &[u8]) -> &[u8] {
    while let Some(rest) = part.strip_prefix(b"\x1b[") {
        let end = rest
            .iter()
            .position(u8::is_ascii_alphabetic)
            .map_or(rest.len(), |at| at + 1);
        part = rest.get(end..).unwrap_or_default();
    }
    let end = memchr::memchr(0x1b, part).unwrap_or(part.len());
    part.get(..end).unwrap_or(part)
}

fn strip(text: &[u8], before: u8, after: u8) -> Option<&[u8]> {
    text.strip_prefix(&[before])?.strip_suffix(&[after])
}

fn word(text: &[u8]) -> Option<Level> {
    Level::of_word(std::str::from_utf8(text).ok()?)
}

#[cfg(test)]
mod tests {
    use super::of_message;
    use crate::model::level::Level;

    #[test]
    fn finds_what_log_libraries_write() {
        for (line, level) in [
            (&b"ERROR cannot connect"[..], Level::Error),
            (b"error: cannot connect", Level::Error),
            (b"[warn] slow", Level::Warn),
            (b"<info>: hello", Level::Info),
            (b"2026-11-21 10:00:00,123 - root - CRITICAL - no", Level::Fatal),
            (b"2026-11-21T10:00:00Z  WARN api::db: slow", Level::Warn),
            (b"\x1b[32mINFO\x1b[0m ready", Level::Info),
            (
                b"\x1b[2m2026-11-21T10:00:00Z\x1b[0m \x1b[33m WARN\x1b[0m x",
                Level::Warn,
            ),
            (b"ts=1 level=debug msg=\"level=error\"", Level::Debug),
            (b"lvl=\"eror\" level=\"error\"", Level::Error),
            (b"{\"level\":30,\"msg\":\"x\"}", Level::Info),
            (b" {\"severity\":\"WARNING\"}", Level::Warn),
            (b"10:00:00 | ERROR | x", Level::Error),
        ] {
            assert_eq!(of_message(line), Some(level), "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn a_word_in_a_sentence_is_none() {
        for line in [
            &b"there was an error here"[..],
            b"for information only",
            b"",
            b"{\"level\":true}",
            b"{\"level\"",
            b"\x1b[",
            b"one two three four five six ERROR",
            b"sublevel=error",
        ] {
            assert_eq!(of_message(line), None, "{}", String::from_utf8_lossy(line));
        }
    }
}
