//! The interface as an OpenAPI 3.1 document, assembled from the route table and the wire types.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use crate::api::error::ErrorBody;
use crate::api::health::HealthReply;
use crate::api::logs::{LogLine, LogSources};
use crate::api::operation::{ApplyRequest, OperationReply, ScaleRequest, SendRequest, SignalRequest, TargetRequest};
use crate::api::routes::{self, Route};
use crate::api::status::{DescribeReply, EnvReply, Ping, StatusReply};
use crate::api::trigger::TriggerRequest;
use crate::api::upgrade::{UpgradeBegun, UpgradeRequest, UpgradeStatus};
use crate::model::event::{Event, EventKind};
use crate::model::level::Level;
use crate::model::logspec::Stream;
use crate::model::version::version;

/// What one route takes and gives.
#[derive(Debug)]
struct Shape {
    query: Vec<Value>,
    body: Option<Schema>,
    reply: Reply,
}

#[derive(Debug)]
enum Reply {
    /// One JSON value.
    Json(Schema),
    /// One JSON value per line.
    Lines(Schema),
    /// The same, or one event each.
    Stream(Schema),
}

/// The document.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12()
        .with(|settings| settings.definitions_path = "/components/schemas".into())
        .into_generator();
    let error = generator.subschema_for::<ErrorBody>();
    let mut paths = Map::new();
    for route in routes::ALL {
        if let Some(shape) = shape(*route, &mut generator) {
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            path[route.method.to_ascii_lowercase()] = operation(*route, shape, &error);
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "clmgr",
            "version": version(),
            "description": "The control API of a clmgr daemon, HTTP/1.1 over its Unix socket. Fields may be added, none is renamed or removed within /v1.",
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" }
        },
        "servers": [{ "url": "http://localhost", "description": "curl --unix-socket clmgr.sock http://localhost/v1/status" }],
        "paths": paths,
        "components": { "schemas": generator.take_definitions(true) }
    })
}

fn operation(route: Route, shape: Shape, error: &Schema) -> Value {
    let ok = match shape.reply {
        Reply::Json(schema) => json!({ "application/json": { "schema": schema } }),
        Reply::Stream(schema) => json!({
            "application/x-ndjson": { "schema": schema },
            "text/event-stream": { "schema": { "type": "string", "description": "The same objects as the data of events." } }
        }),
        Reply::Lines(schema) => json!({ "application/x-ndjson": { "schema": schema } }),
    };
    let mut operation = json!({
        "operationId": route.path.trim_start_matches("/v1/").trim_start_matches('/').replace(['/', '.'], "_"),
        "summary": route.summary,
        "responses": {
            "200": { "description": "It worked.", "content": ok },
            "default": {
                "description": "It did not; the kind says why.",
                "content": { "application/json": { "schema": error } }
            }
        }
    });
    if !shape.query.is_empty() {
        operation["parameters"] = Value::Array(shape.query);
    }
    if let Some(body) = shape.body {
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": { "schema": body } } });
    }
    operation
}

/// None for a route that was forgotten here; a test looks for those.
fn shape(route: Route, generator: &mut SchemaGenerator) -> Option<Shape> {
    let mut shape = match route {
        routes::PING => get::<Ping>(generator),
        routes::HEALTH => get::<HealthReply>(generator),
        routes::STATUS => get::<StatusReply>(generator),
        routes::DESCRIBE => get::<DescribeReply>(generator),
        routes::ENV => get::<Vec<EnvReply>>(generator),
        routes::LOG_SOURCES => get::<LogSources>(generator),
        routes::LOGS => Shape {
            reply: Reply::Stream(generator.subschema_for::<LogLine>()),
            ..get::<()>(generator)
        },
        routes::EVENTS => Shape {
            reply: Reply::Lines(generator.subschema_for::<Event>()),
            ..get::<()>(generator)
        },
        routes::APPLY => post::<ApplyRequest>(generator),
        routes::START | routes::STOP | routes::RESTART | routes::RELOAD => post::<TargetRequest>(generator),
        routes::DELETE | routes::RESET | routes::FLUSH | routes::REOPEN => post::<TargetRequest>(generator),
        routes::SCALE => post::<ScaleRequest>(generator),
        routes::SIGNAL => post::<SignalRequest>(generator),
        routes::SEND => post::<SendRequest>(generator),
        routes::TRIGGER => post::<TriggerRequest>(generator),
        routes::SAVE | routes::KILL => Shape {
            body: None,
            ..post::<()>(generator)
        },
        routes::UPGRADE => Shape {
            body: Some(generator.subschema_for::<UpgradeRequest>()),
            ..get::<UpgradeBegun>(generator)
        },
        routes::UPGRADE_OUTCOME => get::<UpgradeStatus>(generator),
        routes::OPENAPI => Shape {
            reply: Reply::Json(schemars::json_schema!({ "type": "object" })),
            ..get::<()>(generator)
        },
        _ => return None,
    };
    shape.query = query(route, generator);
    Some(shape)
}

fn get<Rep: JsonSchema>(generator: &mut SchemaGenerator) -> Shape {
    Shape {
        query: Vec::new(),
        body: None,
        reply: Reply::Json(generator.subschema_for::<Rep>()),
    }
}

fn post<Req: JsonSchema>(generator: &mut SchemaGenerator) -> Shape {
    Shape {
        body: Some(generator.subschema_for::<Req>()),
        ..get::<OperationReply>(generator)
    }
}

fn query(route: Route, generator: &mut SchemaGenerator) -> Vec<Value> {
    let target = || {
        let schema = json!({ "type": "array", "items": { "type": "string" } });
        parameter(
            "target",
            "all, /regex/, name:slot, an id, a name or a namespace; repeatable.",
            &schema,
        )
    };
    let number = json!({ "type": "integer", "minimum": 0 });
    let flag = json!({ "type": "boolean", "default": false });
    match route {
        routes::STATUS | routes::DESCRIBE | routes::LOG_SOURCES => vec![target()],
        routes::ENV => vec![
            target(),
            parameter("reveal", "Show values instead of masking them.", &flag),
        ],
        routes::LOGS => log_parameters(target(), generator),
        routes::EVENTS => {
            let kinds = json!({ "type": "array", "items": generator.subschema_for::<EventKind>() });
            vec![
                target(),
                parameter(
                    "since",
                    "Not before this, in milliseconds since 1970.",
                    &json!({ "type": "integer" }),
                ),
                parameter("after", "Only events with a larger seq.", &number),
                parameter("kind", "Only these kinds; repeatable.", &kinds),
                parameter("limit", "At most the newest so many of the past.", &number),
                parameter("follow", "Go on with events as they happen.", &flag),
            ]
        }
        _ => Vec::new(),
    }
}

fn log_parameters(target: Value, generator: &mut SchemaGenerator) -> Vec<Value> {
    let text = json!({ "type": "string" });
    let texts = json!({ "type": "array", "items": text });
    let number = json!({ "type": "integer", "minimum": 0 });
    let numbers = json!({ "type": "array", "items": number });
    let flag = json!({ "type": "boolean", "default": false });
    let level = json!(generator.subschema_for::<Level>());
    let stream = json!(generator.subschema_for::<Stream>());
    let since = "Not before this: how long ago, like `15m`; a time of today, like `14:03`; a date and time, with its offset or in the daemon's time zone; or milliseconds since 1970.";
    vec![
        target,
        parameter("since", since, &text),
        parameter("until", "Before this, in the same words.", &text),
        parameter(
            "grep",
            "The message matches this regular expression, or one of several.",
            &texts,
        ),
        parameter("invert", "It matches none of them.", &flag),
        parameter("level", "At least this grave.", &level),
        parameter(
            "lines",
            "The last so many; 100 unless `since` or `until` is given.",
            &number,
        ),
        parameter(
            "stream",
            "Of this stream. A file of both that is not JSON does not tell, and is read whole.",
            &stream,
        ),
        parameter(
            "instance",
            "Of these instances. A file of all that is not JSON does not tell, and is left out.",
            &numbers,
        ),
        parameter("follow", "Go on with lines as they are written.", &flag),
    ]
}

fn parameter(name: &str, description: &str, schema: &Value) -> Value {
    json!({ "name": name, "in": "query", "required": false, "description": description, "schema": schema })
}

#[cfg(test)]
mod tests {
    use super::document;
    use crate::api::routes;
    use serde_json::Value;

    fn references<'a>(value: &'a Value, found: &mut Vec<&'a str>) {
        match value {
            Value::Object(map) => {
                found.extend(map.get("$ref").and_then(Value::as_str));
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(list) => list.iter().for_each(|value| references(value, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }

    #[test]
    fn every_route_is_described_with_its_types() {
        let document = document();
        for route in routes::ALL {
            let operation = &document["paths"][route.path][route.method.to_ascii_lowercase()];
            assert!(operation["responses"]["200"]["content"].is_object(), "{}", route.path);
            assert!(
                operation["responses"]["default"]["content"].is_object(),
                "{}",
                route.path
            );
            let bodiless = [routes::SAVE, routes::KILL].contains(route);
            assert_eq!(
                operation["requestBody"].is_object(),
                route.method == "POST" && !bodiless,
                "{}",
                route.path
            );
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, &mut found);
        assert!(found.len() > 30);
        for reference in found {
            let pointer = reference.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
        assert!(document["components"]["schemas"]["$schema"].is_null());
    }

    #[test]
    fn is_the_same_each_time() {
        assert_eq!(document().to_string(), document().to_string());
    }
}
