//! What apps written for PM2 send over the channel: `{"type": …, "data": …}`.
//!
//! ```text
//!   axm:monitor        { "Users": { "value": 42, "unit": "people", "type": "app/users", "historic": true }, … }
//!   axm:action         { "action_name": "drain", "action_type": "custom", "arity": 1 }
//!   axm:reply          { "action_name": "drain", "return": …, "at": … }
//!   process:exception  { "name": "Error", "message": …, "stack": …, "callsite": … }
//!   human:event        { "__name": "user:register", … }
//! ```
//!
//! And what they are sent: the bare name of an action, or `{"msg": name, "opts": parameters}`. Everything an app says
//! is cut to a bounded size here.

use serde_json::{Map, Value, json};

use crate::model::custom::{Action, Metric};

/// Most metrics, and most actions, of one instance.
pub const MOST: usize = 64;
/// Longest name, value or unit, in bytes.
pub const LONGEST: usize = 256;
/// Longest message of an exception, and longest text of an event, in bytes.
const MESSAGE: usize = 512;
/// Most lines of a stack that are kept.
const STACK_LINES: usize = 20;

/// One message that is understood.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// Figures as they are now, [`MOST`] at most.
    Metrics(Vec<Metric>),
    /// An action can be asked for.
    Action(Action),
    /// An action is done.
    Reply {
        /// Its name.
        action: String,
        /// What it answered.
        answer: Value,
    },
    /// An error that the app did not handle, or wants to be known.
    Exception {
        /// In one line.
        message: String,
        /// The stack, line by line.
        stack: Vec<String>,
    },
    /// Something happened that the app wants to be known, in one line.
    Event(String),
}

/// Understands a message; `None` for everything else that apps send.
#[must_use]
pub fn parse(message: &Value) -> Option<Message> {
    let message = message.as_object()?;
    let kind = message.get("type")?.as_str()?;
    let data = message.get("data")?;
    match kind {
        "axm:monitor" => {
            let metrics = data.as_object()?.iter().filter_map(|(name, entry)| metric(name, entry));
            Some(Message::Metrics(metrics.take(MOST).collect()))
        }
        "axm:action" => action(data.as_object()?).map(Message::Action),
        "axm:reply" => {
            let data = data.as_object()?;
            Some(Message::Reply {
                action: data.get("action_name")?.as_str()?.to_owned(),
                answer: data.get("return").cloned().unwrap_or(Value::Null),
            })
        }
        "process:exception" => Some(exception(data)),
        "human:event" => event(data.as_object()?),
        _ => None,
    }
}

/// The message that asks for an action.
#[must_use]
pub fn request(action: &str, params: Option<&Value>) -> Value {
    match params {
        None => Value::from(action),
        Some(params) => json!({ "msg": action, "opts": params }),
    }
}

fn metric(name: &str, entry: &Value) -> Option<Metric> {
    // Older libraries send the bare value.
    let fields = entry.as_object();
    let value = fields.map_or(Some(entry), |fields| fields.get("value"))?;
    let value = match value {
        Value::Null => return None,
        Value::Bool(_) | Value::Number(_) => value.clone(),
        Value::String(text) => Value::from(cut(text, LONGEST)),
        Value::Array(_) | Value::Object(_) => Value::from(cut(&value.to_string(), LONGEST)),
    };
    let text = |key: &str| {
        let text = fields?.get(key)?.as_str()?;
        (!text.is_empty()).then(|| cut(text, LONGEST))
    };
    Some(Metric {
        name: cut(name, LONGEST),
        value,
        unit: text("unit"),
        kind: text("type"),
    })
}

fn action(data: &Map<String, Value>) -> Option<Action> {
    let name = data.get("action_name")?.as_str()?;
    if name.is_empty() || name.len() > LONGEST {
        return None;
    }
    let kind = data.get("action_type").and_then(Value::as_str);
    Some(Action {
        name: name.to_owned(),
        kind: kind.map(|kind| cut(kind, LONGEST)),
        takes_params: data.get("arity").and_then(Value::as_u64).is_some_and(|arity| arity > 1),
    })
}

fn exception(data: &Value) -> Message {
    let text = |key: &str| data.get(key).and_then(Value::as_str).unwrap_or_default();
    let words = data.as_str().unwrap_or_else(|| text("message"));
    let name = text("name");
    let message = match (name, words) {
        ("", "") => "an error without words".to_owned(),
        ("", words) => words.to_owned(),
        (name, "") => name.to_owned(),
        (name, words) => format!("{name}: {words}"),
    };
    let stack = text("stack").lines().take(STACK_LINES);
    Message::Exception {
        message: cut(&one_line(&message), MESSAGE),
        stack: stack.map(|line| cut(line, MESSAGE)).collect(),
    }
}

fn event(data: &Map<String, Value>) -> Option<Message> {
    let name = data.get("__name").and_then(Value::as_str)?;
    let rest: Map<String, Value> = data
        .iter()
        .filter(|(key, _)| *key != "__name")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let text = if rest.is_empty() {
        name.to_owned()
    } else {
        format!("{name} {}", Value::Object(rest))
    };
    Some(Message::Event(cut(&one_line(&text), MESSAGE)))
}

fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}

/// At most so many bytes, cut between characters, with a sign that something is missing.
fn cut(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    const SIGN: &str = "…";
    let mut end = bytes.saturating_sub(SIGN.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{SIGN}", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::{LONGEST, MOST, Message, cut, parse, request};
    use crate::model::custom::{Action, Metric};
    use serde_json::{Value, json};

    fn parsed(text: &str) -> Option<Message> {
        parse(&serde_json::from_str(text).unwrap())
    }

    #[test]
    fn figures_as_the_library_sends_them() {
        let text = r#"{"type":"axm:monitor","data":{"Used Heap Size":{"historic":true,"unit":"MiB","type":"internal/v8/heap/used","value":"6.12"},"Users":{"historic":true,"unit":"people","type":"app/users","value":42},"Jobs":{"historic":true,"value":1},"gone":{"historic":true},"bare":7}}"#;
        let metric = |name: &str, value: Value, unit: Option<&str>, kind: Option<&str>| Metric {
            name: name.into(),
            value,
            unit: unit.map(Into::into),
            kind: kind.map(Into::into),
        };
        let Some(Message::Metrics(mut metrics)) = parsed(text) else {
            panic!("no metrics");
        };
        metrics.sort_by(|a, b| a.name.cmp(&b.name));
        assert_eq!(
            metrics,
            [
                metric("Jobs", json!(1), None, None),
                metric(
                    "Used Heap Size",
                    json!("6.12"),
                    Some("MiB"),
                    Some("internal/v8/heap/used")
                ),
                metric("Users", json!(42), Some("people"), Some("app/users")),
                metric("bare", json!(7), None, None),
            ]
        );
    }

    #[test]
    fn actions_and_their_answers() {
        let action = |name: &str, kind: &str, takes_params| {
            Some(Message::Action(Action {
                name: name.into(),
                kind: Some(kind.into()),
                takes_params,
            }))
        };
        assert_eq!(
            parsed(r#"{"type":"axm:action","data":{"action_name":"plain","action_type":"custom","arity":1}}"#),
            action("plain", "custom", false)
        );
        assert_eq!(
            parsed(r#"{"type":"axm:action","data":{"action_name":"km:heapdump","action_type":"internal","arity":2}}"#),
            action("km:heapdump", "internal", true)
        );
        assert_eq!(
            parsed(r#"{"type":"axm:reply","data":{"at":1795245016123,"action_name":"with","return":{"got":{"a":1}}}}"#),
            Some(Message::Reply {
                action: "with".into(),
                answer: json!({"got": {"a": 1}})
            })
        );
        assert_eq!(request("plain", None), json!("plain"));
        assert_eq!(
            request("with", Some(&json!({"a": 1}))),
            json!({"msg": "with", "opts": {"a": 1}})
        );
    }

    #[test]
    fn errors_and_events() {
        let text = r#"{"type":"process:exception","data":{"message":"caught","stack":"Error: caught\n    at Timeout._onTimeout (/app.js:10:33)\n    at listOnTimeout (node:internal/timers:581:17)","name":"Error","metadata":{},"context":"…","callsite":"/app.js:10"}}"#;
        let Some(Message::Exception { message, stack }) = parsed(text) else {
            panic!("no exception");
        };
        assert_eq!((message.as_str(), stack.len()), ("Error: caught", 3));
        assert_eq!(
            parsed(r#"{"type":"human:event","data":{"id":1,"__name":"user:register"}}"#),
            Some(Message::Event(r#"user:register {"id":1}"#.into()))
        );
        assert_eq!(
            parsed(r#"{"type":"human:event","data":{"__name":"tick\ntack"}}"#),
            Some(Message::Event("tick tack".into()))
        );
    }

    #[test]
    fn everything_else_is_no_concern() {
        for other in [
            r#""ready""#,
            "7",
            "null",
            "{}",
            r#"{"type":"process:msg","data":{}}"#,
            r#"{"type":"axm:option:configuration","data":{"error":true}}"#,
            r#"{"type":"application:dependencies","data":{}}"#,
            r#"{"type":"axm:monitor"}"#,
            r#"{"type":"axm:monitor","data":[]}"#,
            r#"{"type":"axm:action","data":{}}"#,
            r#"{"type":"axm:reply","data":{"return":1}}"#,
            r#"{"type":"human:event","data":{"id":1}}"#,
        ] {
            assert_eq!(parsed(other), None, "{other}");
        }
    }

    #[test]
    fn what_an_app_says_is_bounded() {
        let long = "ä".repeat(10_000);
        let many: serde_json::Map<String, Value> = (0..1000)
            .map(|number| {
                (
                    format!("{number} {long}"),
                    json!({"value": long, "unit": long, "type": long}),
                )
            })
            .collect();
        let Some(Message::Metrics(metrics)) = parse(&json!({"type": "axm:monitor", "data": many})) else {
            panic!("no metrics");
        };
        assert_eq!(metrics.len(), MOST);
        for metric in metrics {
            let texts = [metric.name.as_str(), metric.value.as_str().unwrap()];
            let more = [metric.unit.as_deref().unwrap(), metric.kind.as_deref().unwrap()];
            assert!(texts.iter().chain(&more).all(|text| text.len() <= LONGEST));
        }
        let stack = format!("{long}\n").repeat(1000);
        let thrown = json!({"type": "process:exception", "data": {"message": long, "stack": stack}});
        let Some(Message::Exception { message, stack }) = parse(&thrown) else {
            panic!("no exception");
        };
        assert!(message.len() + stack.iter().map(String::len).sum::<usize>() < 16 << 10);
        assert_eq!(cut("ääää", 6), "ä…");
    }
}
