//! The table of keys as a JSON schema, for editors.

use serde_json::{Map, Value, json};

use crate::config::schema::{GROUPS, Key, Kind};
use crate::config::tables::{HEALTH, LISTEN, READY, READY_TABLE};
use crate::model::env::MINIMAL;
use crate::model::event::EventKind;
use crate::model::exit::SIGNALS;
use crate::model::spec::MAX_INSTANCES;

/// The schema of `ecosystem.toml` (draft 2020-12).
#[must_use]
pub fn json_schema() -> Value {
    let mut app = object(GROUPS.iter().flat_map(|(_, keys)| keys.iter()));
    app["patternProperties"] = json!({
        "^env_": { "description": "Put on top of `env` with `--env <profile>`.", "$ref": "#/$defs/env" }
    });
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "ecosystem.toml",
        "description": "Apps for clmgr.",
        "type": "object",
        "additionalProperties": false,
        "required": ["apps"],
        "properties": {
            "$schema": { "type": "string" },
            "defaults": { "description": "Applies to every app; variables are merged.", "$ref": "#/$defs/app" },
            "apps": { "description": "One table for each app.", "type": "array", "minItems": 1, "items": { "$ref": "#/$defs/app" } },
        },
        "$defs": {
            "app": app,
            "env": { "type": "object", "additionalProperties": { "type": ["string", "number", "boolean"] } },
            "command": { "anyOf": [{ "type": "string", "minLength": 1 }, { "type": "array", "minItems": 1, "items": { "type": ["string", "number"] } }] },
            "duration": { "anyOf": [{ "type": "integer", "minimum": 0 }, { "type": "string", "pattern": r"^\s*([0-9]+|([0-9]+(\.[0-9]+)?(ms|s|sec|m|min|h|d)\s*)+)\s*$" }] },
            "size": { "anyOf": [{ "type": "integer", "minimum": 1 }, { "type": "string", "pattern": r"^\s*[0-9]+(\.[0-9]+)?\s*([KMGTkmgt]?([Ii]?[Bb])?)\s*$" }] },
        },
    })
}

fn object<'k>(keys: impl Iterator<Item = &'k Key>) -> Value {
    let mut properties = Map::new();
    for key in keys {
        let mut schema = kind(key.kind);
        schema["description"] = json!(key.doc);
        if let Some(default) = default(key.default) {
            schema["default"] = default;
        }
        for alias in key.aliases {
            let mut other = schema.clone();
            other["description"] = json!(format!("Another name of `{}`. {}", key.name, key.doc));
            properties.insert((*alias).to_owned(), other);
        }
        properties.insert(key.name.to_owned(), schema);
    }
    json!({ "type": "object", "additionalProperties": false, "properties": properties })
}

fn default(text: &str) -> Option<Value> {
    if text == "{}" {
        return None;
    }
    serde_json::from_str(text).ok()
}

fn texts() -> Value {
    json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] })
}

fn kind(kind: Kind) -> Value {
    match kind {
        Kind::Text => json!({ "type": "string" }),
        Kind::Words => json!({ "$ref": "#/$defs/command" }),
        Kind::Texts => texts(),
        Kind::Bool => json!({ "type": "boolean" }),
        Kind::Duration => json!({ "$ref": "#/$defs/duration" }),
        Kind::DurationOrNever => json!({ "anyOf": [{ "$ref": "#/$defs/duration" }, { "const": "never" }] }),
        Kind::Size => json!({ "$ref": "#/$defs/size" }),
        Kind::SizeOrNone => json!({ "anyOf": [{ "$ref": "#/$defs/size" }, { "const": "none" }] }),
        Kind::FreeSpace => json!({ "anyOf": [
            { "$ref": "#/$defs/size" }, { "enum": ["auto", "none"] },
            { "type": "string", "pattern": "^[0-9]{1,2}%$" },
        ] }),
        Kind::Count => json!({ "type": "integer", "minimum": 1 }),
        Kind::Number(low, high) => json!({ "type": "number", "minimum": low, "maximum": high }),
        Kind::Instances => json!({ "anyOf": [
            { "type": "integer", "maximum": MAX_INSTANCES },
            { "type": "string", "pattern": "^(max|-?[0-9]+|[0-9]+ ?%)$" },
        ] }),
        Kind::Choice(choices) => json!({ "enum": choices }),
        Kind::Table(keys) => object(keys.iter()),
        Kind::TableOrBool(keys) => json!({ "anyOf": [object(keys.iter()), { "type": "boolean" }] }),
        Kind::Env => json!({ "$ref": "#/$defs/env" }),
        Kind::Inherit => json!({ "anyOf": [
            { "type": "boolean" },
            { "type": "array", "items": { "type": "string", "examples": MINIMAL } },
        ] }),
        Kind::ExitCodes => {
            let code = json!({ "type": "integer", "minimum": 0, "maximum": 255 });
            json!({ "anyOf": [code, { "type": "array", "items": code }] })
        }
        Kind::Signal => {
            let names: Vec<String> = SIGNALS.iter().map(|(name, _)| format!("SIG{name}")).collect();
            json!({ "anyOf": [{ "enum": names }, { "type": "string" }, { "type": "integer", "minimum": 1, "maximum": 64 }] })
        }
        Kind::Ready => {
            let mut table = object(READY_TABLE.iter());
            table["minProperties"] = json!(1);
            table["maxProperties"] = json!(1);
            json!({ "anyOf": [{ "enum": READY }, { "type": "string", "pattern": "^fd:[0-9]+$" }, table] })
        }
        Kind::Health => {
            let mut table = object(HEALTH.iter());
            table["minProperties"] = json!(1);
            table
        }
        Kind::DurationOrTable(keys) => json!({ "anyOf": [{ "$ref": "#/$defs/duration" }, object(keys.iter())] }),
        Kind::Listen => {
            let one = json!({ "anyOf": [{ "type": "string", "minLength": 1 }, object(LISTEN.iter())] });
            json!({ "anyOf": [one, { "type": "array", "items": one }] })
        }
        Kind::Events => {
            let properties: Map<String, Value> = EventKind::ALL
                .iter()
                .map(|kind| (kind.as_str().to_owned(), json!({ "$ref": "#/$defs/command" })))
                .collect();
            json!({ "type": "object", "additionalProperties": false, "properties": properties })
        }
    }
}
