//! The text as a tree whose every node knows its place, whatever the language.

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::config::diagnostic::{Diagnostic, Sink, Span};

/// A value and its place.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) span: Span,
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Text(String),
    Int(i64),
    Float(f64),
    Bool(bool),
    /// A TOML date or time, as written.
    Date(String),
    /// JSON only.
    Null,
    List(Vec<Node>),
    Table(Vec<Entry>),
}

/// A key with its value.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) key_span: Span,
    pub(super) node: Node,
}

impl Node {
    /// What it is, for "expected …, found …".
    pub(super) const fn describe(&self) -> &'static str {
        match self.value {
            Value::Text(_) => "a string",
            Value::Int(_) => "a whole number",
            Value::Float(_) => "a number",
            Value::Bool(_) => "true or false",
            Value::Date(_) => "a date",
            Value::Null => "null",
            Value::List(_) => "an array",
            Value::Table(_) => "a table",
        }
    }
}

/// Reads TOML. Syntax errors are reported, all of them; what could be read comes back.
pub(super) fn read_toml(text: &str, sink: &Sink) -> Node {
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let span = error.span().unwrap_or(0..0);
        let mut label = "syntax error";
        let mut message = error.message().trim().replace('\n', ", ");
        if let ("duplicate key", Some(key)) = (message.as_str(), text.get(span.clone())) {
            message = format!("the key `{key}` is given twice");
            label = "already given above";
        }
        sink.push(Diagnostic::error(span, "", message).label(label));
    }
    let span = table.span();
    Node {
        span,
        value: Value::Table(entries(table.into_inner())),
    }
}

fn entries(table: DeTable<'_>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = table
        .into_iter()
        .map(|(key, node)| Entry {
            key_span: key.span(),
            key: key.into_inner().into_owned(),
            node: convert(node),
        })
        .collect();
    entries.sort_by_key(|entry| entry.key_span.start);
    entries
}

fn convert(node: Spanned<DeValue<'_>>) -> Node {
    let span = node.span();
    let value = match node.into_inner() {
        DeValue::String(text) => Value::Text(text.into_owned()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix()).map_or_else(
            |_| Value::Float(number.as_str().parse().unwrap_or(f64::INFINITY)),
            Value::Int,
        ),
        DeValue::Float(number) => Value::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(on) => Value::Bool(on),
        DeValue::Datetime(date) => Value::Date(date.to_string()),
        DeValue::Array(list) => Value::List(list.into_iter().map(convert).collect()),
        DeValue::Table(table) => Value::Table(entries(table)),
    };
    Node { span, value }
}
