//! One node to one value, or a problem that says what was expected and what was found.

use crate::config::context::Context;
use crate::config::diagnostic::{Diagnostic, Sink, Span, did_you_mean};
use crate::config::tree::{Node, Value};
use crate::model::duration::Millis;
use crate::model::exit::{SIGNALS, parse_signal};
use crate::model::size::Bytes;

/// Reads values; where they are wrong, reports and returns `None`.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) cx: &'a Context<'a>,
    pub(super) sink: &'a Sink,
}

impl<'a> Reader<'a> {
    pub(super) fn wrong(&self, key: &str, node: &Node, expected: &str) {
        self.sink.push(
            Diagnostic::error(
                node.span.clone(),
                key,
                format!("`{key}` must be {expected}, not {}", node.describe()),
            )
            .label(format!("expected {expected}")),
        );
    }

    pub(super) fn bad(&self, key: &str, span: &Span, message: impl Into<String>) {
        self.sink.push(Diagnostic::error(span.clone(), key, message));
    }

    /// Text without NUL.
    pub(super) fn text<'n>(&self, key: &str, node: &'n Node) -> Option<&'n str> {
        let Value::Text(text) = &node.value else {
            self.wrong(key, node, "a string");
            return None;
        };
        if text.contains('\0') {
            self.bad(key, &node.span, format!("`{key}` contains a NUL character"));
            return None;
        }
        Some(text)
    }

    pub(super) fn boolean(&self, key: &str, node: &Node) -> Option<bool> {
        if let Value::Bool(on) = node.value {
            return Some(on);
        }
        self.wrong(key, node, "true or false");
        None
    }

    /// One of these.
    pub(super) fn choice(&self, key: &str, node: &Node, choices: &[&'static str]) -> Option<&'static str> {
        let text = self.text(key, node)?;
        let found = choices.iter().find(|choice| **choice == text).copied();
        if found.is_none() {
            let all = choices
                .iter()
                .map(|c| format!("\"{c}\""))
                .collect::<Vec<_>>()
                .join(" or ");
            self.sink.push(
                Diagnostic::error(node.span.clone(), key, format!("`{key}` must be {all}, not {text:?}"))
                    .hints(did_you_mean(text, choices.iter().copied())),
            );
        }
        found
    }

    pub(super) fn duration(&self, key: &str, node: &Node) -> Option<Millis> {
        let parsed = match &node.value {
            Value::Int(number) => u64::try_from(*number)
                .map(Millis)
                .map_err(|_| format!("a duration cannot be negative: {number}")),
            Value::Float(number) if *number < 0.0 => Err(format!("a duration cannot be negative: {number}")),
            Value::Float(number) => Err(format!(
                "a bare number counts whole milliseconds; write `{key} = \"{number}s\"` for {number} seconds"
            )),
            Value::Text(text) => text.parse::<Millis>().map_err(|error| error.to_string()),
            Value::Bool(_) | Value::Date(_) | Value::Null | Value::List(_) | Value::Table(_) => {
                self.wrong(key, node, "a duration like \"5s\"");
                return None;
            }
        };
        match parsed {
            // Ten years: what is longer was not meant, and sums must not overflow.
            Ok(Millis(number)) if number > 315_360_000_000 => {
                self.bad(key, &node.span, format!("`{key}` is longer than ten years"));
                None
            }
            Ok(duration) => Some(duration),
            Err(message) => {
                self.bad(key, &node.span, format!("`{key}`: {message}"));
                None
            }
        }
    }

    /// A duration above zero.
    pub(super) fn span_of_time(&self, key: &str, node: &Node) -> Option<Millis> {
        let duration = self.duration(key, node)?;
        if duration == Millis::ZERO {
            self.bad(key, &node.span, format!("`{key}` must be longer than 0"));
            return None;
        }
        Some(duration)
    }

    /// A size above zero.
    pub(super) fn size(&self, key: &str, node: &Node) -> Option<Bytes> {
        let parsed = match &node.value {
            Value::Int(number) => u64::try_from(*number)
                .map(Bytes)
                .map_err(|_| format!("a size cannot be negative: {number}")),
            Value::Text(text) if text.trim_start().starts_with('-') => {
                Err(format!("a size cannot be negative: {text:?}"))
            }
            Value::Text(text) => text.parse::<Bytes>().map_err(|error| error.to_string()),
            Value::Float(_) | Value::Bool(_) | Value::Date(_) | Value::Null | Value::List(_) | Value::Table(_) => {
                self.wrong(key, node, "a size like \"500M\"");
                return None;
            }
        };
        match parsed {
            Ok(Bytes(0)) => {
                self.bad(key, &node.span, format!("`{key}` must be more than 0"));
                None
            }
            Ok(size) => Some(size),
            Err(message) => {
                self.bad(key, &node.span, format!("`{key}`: {message}"));
                None
            }
        }
    }

    /// A whole number, at least 1.
    pub(super) fn count(&self, key: &str, node: &Node) -> Option<u32> {
        let Value::Int(number) = node.value else {
            self.wrong(key, node, "a whole number");
            return None;
        };
        let count = u32::try_from(number).ok().filter(|n| *n >= 1);
        if count.is_none() {
            let message = if number < 1 {
                format!("`{key}` must be at least 1, not {number}")
            } else {
                format!("`{key}` is too large: {number}")
            };
            self.bad(key, &node.span, message);
        }
        count
    }

    /// A number between.
    pub(super) fn number(&self, key: &str, node: &Node, low: f64, high: f64) -> Option<f64> {
        let number = match node.value {
            #[expect(clippy::cast_precision_loss, reason = "it is compared with small limits next")]
            Value::Int(number) => number as f64,
            Value::Float(number) => number,
            Value::Text(_) | Value::Bool(_) | Value::Date(_) | Value::Null | Value::List(_) | Value::Table(_) => {
                self.wrong(key, node, "a number");
                return None;
            }
        };
        if (low..=high).contains(&number) {
            return Some(number);
        }
        self.bad(
            key,
            &node.span,
            format!("`{key}` must be between {low} and {high}, not {number}"),
        );
        None
    }

    /// A string or an array of strings, each with its place.
    pub(super) fn texts<'n>(&self, key: &str, node: &'n Node) -> Option<Vec<(&'n str, &'n Span)>> {
        match &node.value {
            Value::List(list) => {
                let texts: Vec<_> = list
                    .iter()
                    .filter_map(|item| Some((self.text(key, item)?, &item.span)))
                    .collect();
                (texts.len() == list.len()).then_some(texts)
            }
            Value::Text(_) => Some(vec![(self.text(key, node)?, &node.span)]),
            Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Date(_) | Value::Null | Value::Table(_) => {
                self.wrong(key, node, "a string or an array of strings");
                None
            }
        }
    }

    /// A command: a string is split like a shell would, an array is taken as it is (numbers become text).
    /// Each word comes with its place, and is still to be expanded.
    pub(super) fn words(&self, key: &str, node: &Node) -> Option<Vec<(String, Span)>> {
        match &node.value {
            Value::Text(_) => {
                let text = self.text(key, node)?;
                let Some(words) = shlex::split(text) else {
                    self.bad(key, &node.span, format!("`{key}` has a quote that is not closed"));
                    return None;
                };
                Some(words.into_iter().map(|word| (word, node.span.clone())).collect())
            }
            Value::List(list) => {
                let words: Vec<_> = list
                    .iter()
                    .filter_map(|item| match &item.value {
                        Value::Int(number) => Some((number.to_string(), item.span.clone())),
                        Value::Float(number) => Some((number.to_string(), item.span.clone())),
                        Value::Text(_)
                        | Value::Bool(_)
                        | Value::Date(_)
                        | Value::Null
                        | Value::List(_)
                        | Value::Table(_) => Some((self.text(key, item)?.to_owned(), item.span.clone())),
                    })
                    .collect();
                (words.len() == list.len()).then_some(words)
            }
            Value::Int(_) | Value::Float(_) | Value::Bool(_) | Value::Date(_) | Value::Null | Value::Table(_) => {
                self.wrong(key, node, "a string or an array of strings");
                None
            }
        }
    }

    /// A signal.
    pub(super) fn signal(&self, key: &str, node: &Node) -> Option<i32> {
        let (shown, signal) = match &node.value {
            Value::Int(number) => (number.to_string(), parse_signal(&number.to_string())),
            Value::Text(text) => (format!("{text:?}"), parse_signal(text)),
            Value::Float(_) | Value::Bool(_) | Value::Date(_) | Value::Null | Value::List(_) | Value::Table(_) => {
                self.wrong(key, node, "a signal like \"SIGTERM\"");
                return None;
            }
        };
        if signal.is_none() {
            let names: Vec<String> = SIGNALS.iter().map(|(name, _)| format!("SIG{name}")).collect();
            let word = shown.trim_matches('"').to_ascii_uppercase();
            let word = if word.starts_with("SIG") {
                word
            } else {
                format!("SIG{word}")
            };
            self.sink.push(
                Diagnostic::error(node.span.clone(), key, format!("{shown} is not a signal"))
                    .hints(did_you_mean(&word, names.iter().map(String::as_str))),
            );
        }
        signal
    }
}
