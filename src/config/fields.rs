//! The entries of one table, checked against its keys: canonical names, no unknown ones, no duplicates.

use std::collections::BTreeMap;

use crate::config::diagnostic::{Diagnostic, Span, closest};
use crate::config::refused;
use crate::config::schema::{self, Key};
use crate::config::tree::{Entry, Node, Value};
use crate::config::values::Reader;
use crate::model::duration::Millis;

/// The entries of a table by canonical name.
#[derive(Clone)]
pub(super) struct Fields<'a> {
    pub(super) reader: Reader<'a>,
    prefix: String,
    map: BTreeMap<&'static str, &'a Entry>,
    /// `env_<profile>` tables, lowest first.
    pub(super) profiles: Vec<(&'a str, &'a Entry)>,
    /// All layers of `env`, lowest first.
    pub(super) envs: Vec<&'a Entry>,
}

impl<'a> Fields<'a> {
    /// The entries of an app, or of `[defaults]`.
    pub(super) fn of_app(reader: Reader<'a>, entries: &'a [Entry]) -> Self {
        let mut fields = Self::empty(reader, "");
        for entry in entries {
            if let Some(key) = schema::find(schema::app_keys(), &entry.key) {
                fields.insert(key, entry);
                if key.name == "env" {
                    fields.envs.push(entry);
                }
            } else if let (Some(profile), Value::Table(_)) = (entry.key.strip_prefix("env_"), &entry.node.value) {
                fields.profiles.push((profile, entry));
            } else {
                fields.unknown(entry, &mut schema::app_keys());
            }
        }
        fields
    }

    /// The entries of the table at `key`, which has these keys.
    pub(super) fn of_table(&self, path: &str, node: &'a Node, keys: &'static [Key]) -> Option<Self> {
        let Value::Table(entries) = &node.value else {
            self.reader.wrong(path, node, "a table");
            return None;
        };
        let mut fields = Self::empty(self.reader, &format!("{path}."));
        for entry in entries {
            match schema::find(keys.iter(), &entry.key) {
                Some(key) => fields.insert(key, entry),
                None => fields.unknown(entry, &mut keys.iter()),
            }
        }
        Some(fields)
    }

    fn empty(reader: Reader<'a>, prefix: &str) -> Self {
        Self {
            reader,
            prefix: prefix.to_owned(),
            map: BTreeMap::new(),
            profiles: Vec::new(),
            envs: Vec::new(),
        }
    }

    fn insert(&mut self, key: &'static Key, entry: &'a Entry) {
        let path = self.path(key.name);
        match self.map.get(key.name) {
            None => {
                self.map.insert(key.name, entry);
            }
            Some(first) => self.reader.sink.push(
                Diagnostic::error(
                    entry.key_span.clone(),
                    &path,
                    format!("`{}` and `{}` are the same key", first.key, entry.key),
                )
                .see(first.key_span.clone(), "first given here")
                .hint(format!("keep `{}`", key.name)),
            ),
        }
    }

    fn unknown(&self, entry: &Entry, keys: &mut dyn Iterator<Item = &'static Key>) {
        if self.reader.sink.is_full() {
            return;
        }
        let path = self.path(&entry.key);
        let span = entry.key_span.clone();
        let diagnostic = if let Some((_, instead)) = refused::REPLACED.iter().find(|(name, _)| *name == entry.key) {
            Diagnostic::error(span, &path, format!("clmgr has no key `{path}`")).hint(*instead)
        } else if refused::LATER.contains(&entry.key.as_str()) && self.prefix.is_empty() {
            Diagnostic::error(span, &path, format!("`{path}` is not supported by this version"))
                .hint("remove it: it would have no effect")
                .list_keys()
        } else if self.prefix.is_empty() && entry.key.starts_with("env_") {
            let near = ["env_file", "env_inherit"]
                .into_iter()
                .find(|name| entry.key.len() < 20 && strsim::damerau_levenshtein(name, &entry.key) <= 2);
            let found = entry.node.describe();
            Diagnostic::error(
                span,
                &path,
                format!("`{path}` must be a table of variables, not {found}"),
            )
            .hint(near.map_or_else(
                || format!("`--env {}` puts it on top of `env`", &entry.key["env_".len()..]),
                |near| format!("did you mean `{near}`?"),
            ))
        } else {
            let names: Vec<&str> = keys
                .flat_map(|key| std::iter::once(key.name).chain(key.aliases.iter().copied()))
                .collect();
            let unknown = Diagnostic::error(span, &path, format!("unknown key `{path}`"));
            match closest(&entry.key, names.iter().copied()) {
                Some(found) => unknown.hint(format!("did you mean `{found}`?")),
                None if self.prefix.is_empty() => unknown.list_keys(),
                None => {
                    let table = self.prefix.trim_end_matches('.');
                    unknown.hint(format!("`{table}` has the keys {}", names.join(", ")))
                }
            }
        };
        self.reader.sink.push(diagnostic);
    }

    /// What this table does not say, `defaults` does; tables of variables are merged. A default that would
    /// contradict what is said here is left out.
    pub(super) fn with_defaults(mut self, defaults: &Self) -> Self {
        let displaced: Vec<&str> = refused::DISPLACES
            .iter()
            .filter(|(key, _)| self.map.contains_key(key))
            .flat_map(|(_, others)| others.iter().copied())
            .collect();
        for (name, entry) in &defaults.map {
            if !displaced.contains(name) {
                self.map.entry(name).or_insert(entry);
            }
        }
        self.envs = defaults.envs.iter().copied().chain(self.envs).collect();
        self.profiles = defaults.profiles.iter().copied().chain(self.profiles).collect();
        self
    }

    /// The key with the tables it is in.
    pub(super) fn path(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    pub(super) fn get(&self, key: &'static str) -> Option<&'a Entry> {
        debug_assert!(
            !self.prefix.is_empty() || schema::find(schema::app_keys(), key).is_some(),
            "{key}"
        );
        self.map.get(key).copied()
    }

    pub(super) fn text(&self, key: &'static str) -> Option<(&'a str, &'a Span)> {
        let entry = self.get(key)?;
        Some((self.reader.text(&self.path(key), &entry.node)?, &entry.node.span))
    }

    pub(super) fn boolean(&self, key: &'static str) -> Option<bool> {
        self.reader.boolean(&self.path(key), &self.get(key)?.node)
    }

    pub(super) fn duration(&self, key: &'static str) -> Option<Millis> {
        self.reader.duration(&self.path(key), &self.get(key)?.node)
    }

    pub(super) fn span_of_time(&self, key: &'static str) -> Option<Millis> {
        self.reader.span_of_time(&self.path(key), &self.get(key)?.node)
    }

    pub(super) fn count(&self, key: &'static str) -> Option<u32> {
        self.reader.count(&self.path(key), &self.get(key)?.node)
    }

    pub(super) fn choice(&self, key: &'static str, choices: &[&'static str]) -> Option<&'static str> {
        self.reader.choice(&self.path(key), &self.get(key)?.node, choices)
    }

    /// The table at `key`.
    pub(super) fn table(&self, key: &'static str, keys: &'static [Key]) -> Option<Self> {
        self.of_table(&self.path(key), &self.get(key)?.node, keys)
    }

    /// Reports that two keys contradict each other.
    pub(super) fn contradiction(&self, one: &'static str, other: &'static str, message: &str, hint: &str) {
        let (Some(first), Some(second)) = (self.get(one), self.get(other)) else {
            return;
        };
        let (earlier, later) = if first.key_span.start <= second.key_span.start {
            (first, second)
        } else {
            (second, first)
        };
        self.reader.sink.push(
            Diagnostic::error(later.key_span.clone(), &later.key, message)
                .label("contradicts")
                .see(earlier.key_span.clone(), "this")
                .hint(hint),
        );
    }
}
