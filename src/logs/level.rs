//! The level of a line that is a JSON object with one, as structured loggers write them.
//!
//! Other lines cost one look at their first byte. An object is walked, not parsed: strings are skipped by `memchr`, and
//! nothing is allocated unless a key or value that matters has escapes.

use memchr::memchr2;

use crate::model::level::Level;

/// The keys under which libraries write it.
const KEYS: [&[u8]; 4] = [b"level", b"severity", b"lvl", b"levelname"];
/// How far a line is looked at, in bytes. Some libraries write the level after the message.
const LOOK: usize = 64 << 10;

/// The level of this line, by the first key on its top level that has one: a word or a number as in [`Level`].
#[must_use]
pub fn of_json(line: &[u8]) -> Option<Level> {
    if line.first() != Some(&b'{') {
        return None;
    }
    let line = line.get(..LOOK).unwrap_or(line);
    let mut walk = Walk { rest: line.get(1..)? };
    loop {
        let key = walk.key()?;
        walk.skip_space();
        if KEYS.iter().any(|known| key.is(known))
            && let Some(level) = walk.level()
        {
            return Some(level);
        }
        walk.value()?;
    }
}

/// What is left of the line.
struct Walk<'a> {
    rest: &'a [u8],
}

/// The inside of a string, as it stands.
#[derive(Clone, Copy)]
struct Text<'a> {
    raw: &'a [u8],
    escaped: bool,
}

impl<'a> Walk<'a> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_ascii_start();
    }

    fn next(&mut self) -> Option<u8> {
        self.skip_space();
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(*first)
    }

    /// The next key of the top level and its colon; what stands between it and the value before is dealt with.
    fn key(&mut self) -> Option<Text<'a>> {
        let mut first = self.next()?;
        if first == b',' {
            first = self.next()?;
        }
        if first != b'"' {
            return None;
        }
        let key = self.text()?;
        (self.next()? == b':').then_some(key)
    }

    /// The rest of a string whose quote is behind us.
    fn text(&mut self) -> Option<Text<'a>> {
        let all = self.rest;
        let mut at = 0;
        let mut escaped = false;
        loop {
            let found = at + memchr2(b'"', b'\\', all.get(at..)?)?;
            if all.get(found) == Some(&b'"') {
                self.rest = all.get(found + 1..)?;
                let raw = all.get(..found)?;
                return Some(Text { raw, escaped });
            }
            escaped = true;
            at = found + 2;
        }
    }

    /// Skips a value of any kind.
    fn value(&mut self) -> Option<()> {
        let mut depth = 0_u32;
        loop {
            match self.next()? {
                b'"' => drop(self.text()?),
                b'{' | b'[' => depth += 1,
                b'}' | b']' => depth = depth.checked_sub(1)?,
                // Inside: commas, colons, numbers, `true`.
                _ if depth > 0 => continue,
                _ => {
                    let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']') || byte.is_ascii_whitespace();
                    let end = self.rest.iter().position(ends)?;
                    self.rest = self.rest.get(end..)?;
                }
            }
            if depth == 0 {
                return Some(());
            }
        }
    }

    /// The level that the next value is; it is not skipped.
    fn level(&self) -> Option<Level> {
        let (first, rest) = self.rest.split_first()?;
        if *first == b'"' {
            return Walk { rest }.text()?.level();
        }
        let end = self.rest.iter().position(|byte| !byte.is_ascii_digit())?;
        // Neither a fraction nor something else that begins with a digit.
        let ended = self
            .rest
            .get(end)
            .is_some_and(|byte| matches!(byte, b',' | b'}') || byte.is_ascii_whitespace());
        let digits = std::str::from_utf8(self.rest.get(..end)?).ok()?;
        Level::of_number(digits.parse().ok().filter(|_| ended)?)
    }
}

impl Text<'_> {
    fn is(self, known: &[u8]) -> bool {
        if !self.escaped {
            return self.raw == known;
        }
        // An escape is longer than what it stands for.
        self.raw.len() <= 6 * known.len() && self.unescaped().is_some_and(|text| text.as_bytes() == known)
    }

    fn level(self) -> Option<Level> {
        if self.escaped {
            return self.unescaped().and_then(|text| Level::of_word(text.trim()));
        }
        Level::of_word(std::str::from_utf8(self.raw).ok()?.trim())
    }

    fn unescaped(self) -> Option<String> {
        if self.raw.len() > 100 {
            return None;
        }
        let quoted = [b"\"", self.raw, b"\""].concat();
        serde_json::from_slice(&quoted).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::{KEYS, of_json};
    use crate::model::level::Level;
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    #[test]
    fn finds_the_level_of_a_record() {
        let warn = Some(Level::Warn);
        for line in [
            r#"{"level":"warn","msg":"x"}"#,
            r#"{ "msg" : "x" , "severity" : "WARNING" }"#,
            r#"{"level":40,"time":1}"#,
            r#"{"time":1,"level":40}"#,
            r#"{"lvl" :	"wrn"}"#,
            r#"{"msg":"\"level\":\"error\"","levelname":"Warn"}"#,
            r#"{"msg":"\\","level":"warn"}"#,
            r#"{"a":{"level":"error"},"b":[{"level":"fatal"},[]],"level":"warn"}"#,
            r#"{"level":null,"severity":"warn"}"#,
            r#"{"level":"no such","n":-1.5e3,"t":true,"severity":"warn"}"#,
            r#"{"l\u0065vel":"w\u0061rn"}"#,
            "{\"level\":\"warn\"}\r",
        ] {
            assert_eq!(of_json(line.as_bytes()), warn, "{line}");
        }
    }

    #[test]
    fn other_lines_have_none() {
        for line in [
            "",
            "{",
            "{}",
            "level=warn",
            r#" {"level":"warn"}"#,
            r#"["level","warn"]"#,
            r#"{"msg":"level","x":"warn"}"#,
            r#"{"a":{"level":"error"}}"#,
            r#"{"level":-40}"#,
            r#"{"level":40.5}"#,
            r#"{"level":0}"#,
            r#"{"level":"#,
            r#"{"level":"warn"#,
            r#"{"level" "warn"}"#,
            r#"{level:"warn"}"#,
            r#"{"a":}},"level":"warn"}"#,
        ] {
            assert_eq!(of_json(line.as_bytes()), None, "{line}");
        }
        let late = format!(r#"{{"msg":"{}","level":"warn"}}"#, "x".repeat(super::LOOK));
        assert_eq!(of_json(late.as_bytes()), None);
    }

    fn json() -> impl Strategy<Value = Value> {
        let text = "level|severity|warn|error|[a-z\"\\\\{}\\[\\],: ü\n]{0,12}";
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..80_u64).prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 5, move |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::vec((text, inner), 0..6)
                    .prop_map(|all| Value::Object(all.into_iter().collect::<Map<_, _>>())),
            ]
        })
    }

    proptest! {
        #[test]
        fn agrees_with_a_parser(value in json()) {
            let own = |value: &Value| match value {
                Value::String(word) => Level::of_word(word.trim()),
                Value::Number(number) => number.as_u64().and_then(Level::of_number),
                Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
            };
            let named = |key: &str| KEYS.contains(&key.as_bytes());
            let expected = value.as_object().and_then(|object| {
                object.iter().find_map(|(key, value)| named(key).then(|| own(value)).flatten())
            });
            prop_assert_eq!(of_json(value.to_string().as_bytes()), expected);
            prop_assert_eq!(of_json(serde_json::to_string_pretty(&value).unwrap().as_bytes()), expected);
        }

        #[test]
        fn takes_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _any = of_json(&[b"{\"level\":", &bytes[..]].concat());
            let _any = of_json(&[b"{\"", &bytes[..]].concat());
        }
    }
}
