//! What goes over the channel: whose `cmd` begins with `NODE_` is Node's own (or the preload's), the rest is the
//! app's.

use serde_json::{Value, json};

use crate::node::channel;
use crate::node::query::Query;

/// The `cmd` of the cluster protocol.
const CLUSTER: &str = "NODE_CLUSTER";
/// The `cmd` of the preload's messages: Node keeps them from the app's listeners, as all that begin so.
const OWN: &str = "NODE_CLMGR";

/// A message of an app.
#[derive(Clone, Debug, PartialEq)]
pub enum FromApp {
    /// A worker's channel is open.
    Online,
    /// It wants a socket; `seq` names the question in the answer.
    QueryServer {
        /// Goes back as `ack`.
        seq: Value,
        /// Which.
        query: Query,
    },
    /// One of its servers listens.
    Listening {
        /// The port, or the path of a Unix socket.
        place: String,
    },
    /// It has closed the server with this key.
    Close {
        /// As we have given it.
        key: String,
    },
    /// It is about to disconnect by itself, and waits for the answer.
    ExitedAfterDisconnect {
        /// Goes back as `ack`.
        seq: Value,
    },
    /// The answer to a connection that it was handed.
    Answer {
        /// The `seq` of the question.
        ack: u64,
        /// It serves the connection.
        accepted: bool,
    },
    /// A descriptor has arrived: lines that were held back may follow.
    HandleAck,
    /// A descriptor was lost on the way: it is to be sent again.
    HandleNack,
    /// It sends a descriptor, which nobody here has a use for, but Node waits until it is said to have arrived.
    Handle {
        /// What came with it.
        message: Box<FromApp>,
    },
    /// The preload: so many requests were answered, and that is enough.
    Recycle {
        /// How many.
        requests: u64,
    },
    /// Node's own, of no meaning here.
    Internal,
    /// The app's own.
    App(Value),
}

/// Reads one line; `None` for what is no JSON.
#[must_use]
pub fn read(line: &[u8]) -> Option<FromApp> {
    channel::value(line).map(sort)
}

fn sort(value: Value) -> FromApp {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    match text("cmd") {
        Some("NODE_HANDLE_ACK") => FromApp::HandleAck,
        Some("NODE_HANDLE_NACK") => FromApp::HandleNack,
        Some("NODE_HANDLE") => FromApp::Handle {
            // One level: a handle does not hold another.
            message: Box::new(match value.get("msg") {
                Some(inner) if inner.get("cmd").is_none() => FromApp::App(inner.clone()),
                Some(_) | None => FromApp::Internal,
            }),
        },
        Some(CLUSTER) => cluster(&value),
        Some(OWN) => match (text("act"), value.get("requests").and_then(Value::as_u64)) {
            (Some("recycle"), Some(requests)) => FromApp::Recycle { requests },
            (_, _) => FromApp::Internal,
        },
        Some(other) if other.starts_with("NODE_") => FromApp::Internal,
        Some(_) | None => FromApp::App(value),
    }
}

fn cluster(value: &Value) -> FromApp {
    if let Some(ack) = value.get("ack").and_then(Value::as_u64) {
        let accepted = value.get("accepted").and_then(Value::as_bool).unwrap_or(false);
        return FromApp::Answer { ack, accepted };
    }
    let seq = || value.get("seq").cloned().unwrap_or(Value::Null);
    match value.get("act").and_then(Value::as_str) {
        Some("online") => FromApp::Online,
        Some("queryServer") => FromApp::QueryServer {
            seq: seq(),
            query: Query::read(value),
        },
        Some("listening") => FromApp::Listening { place: place(value) },
        Some("close") => FromApp::Close {
            key: value.get("key").and_then(Value::as_str).unwrap_or_default().to_owned(),
        },
        Some("exitedAfterDisconnect") => FromApp::ExitedAfterDisconnect { seq: seq() },
        Some(_) | None => FromApp::Internal,
    }
}

fn place(value: &Value) -> String {
    match value.get("port").and_then(Value::as_i64) {
        Some(port) if port >= 0 => port.to_string(),
        Some(_) | None => value
            .get("address")
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned(),
    }
}

/// Says that a descriptor has arrived.
#[must_use]
pub fn handle_ack() -> Vec<u8> {
    channel::line(&json!({"cmd": "NODE_HANDLE_ACK"}))
}

/// The answer to a question that needs no more.
#[must_use]
pub fn acknowledge(seq: &Value) -> Vec<u8> {
    channel::line(&json!({"cmd": CLUSTER, "ack": seq}))
}

/// Tells a worker to close its servers, finish its connections, and end.
#[must_use]
pub fn disconnect() -> Vec<u8> {
    channel::line(&json!({"cmd": CLUSTER, "act": "disconnect", "seq": 0}))
}

/// The answer with a socket, which goes with it.
#[must_use]
pub fn socket_reply(seq: &Value, query: &Query, key: &str) -> Vec<u8> {
    let message = json!({"cmd": CLUSTER, "errno": 0, "key": key, "ack": seq, "data": query.data, "seq": 0});
    handle(query.is_datagram(), &message)
}

/// The answer that there is none; `errno` as the system has it, above zero.
#[must_use]
pub fn error_reply(seq: &Value, query: &Query, key: &str, errno: i32) -> Vec<u8> {
    channel::line(&json!({"cmd": CLUSTER, "errno": -errno, "key": key, "ack": seq, "data": query.data, "seq": 0}))
}

/// Hands over a connection, which goes with it, to the server with this key. The answer has `seq` as its `ack`.
#[must_use]
pub fn new_connection(key: &str, seq: u64) -> Vec<u8> {
    handle(
        false,
        &json!({"cmd": CLUSTER, "act": "newconn", "key": key, "seq": seq}),
    )
}

fn handle(datagram: bool, message: &Value) -> Vec<u8> {
    let kind = if datagram { "dgram.Native" } else { "net.Native" };
    channel::line(&json!({"cmd": "NODE_HANDLE", "type": kind, "msg": message}))
}

#[cfg(test)]
mod tests {
    use super::{FromApp, acknowledge, disconnect, error_reply, new_connection, read, socket_reply};
    use crate::node::query::Query;
    use serde_json::{Value, json};

    fn of(value: &Value) -> FromApp {
        read(value.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn messages_are_told_apart() {
        let cluster =
            |act: &str| json!({"cmd": "NODE_CLUSTER", "act": act, "seq": 4, "key": "k", "port": 80, "address": "::"});
        assert_eq!(of(&cluster("online")), FromApp::Online);
        assert_eq!(of(&cluster("listening")), FromApp::Listening { place: "80".into() });
        assert_eq!(of(&cluster("close")), FromApp::Close { key: "k".into() });
        assert_eq!(
            of(&cluster("exitedAfterDisconnect")),
            FromApp::ExitedAfterDisconnect { seq: json!(4) }
        );
        assert!(matches!(of(&cluster("queryServer")), FromApp::QueryServer { seq, .. } if seq == json!(4)));
        assert_eq!(of(&cluster("later")), FromApp::Internal);
        assert_eq!(
            of(&json!({"cmd": "NODE_CLUSTER", "ack": 7, "accepted": true, "seq": 9})),
            FromApp::Answer { ack: 7, accepted: true }
        );
        assert_eq!(of(&json!({"cmd": "NODE_HANDLE_ACK"})), FromApp::HandleAck);
        assert_eq!(of(&json!({"cmd": "NODE_HANDLE_NACK"})), FromApp::HandleNack);
        assert_eq!(of(&json!({"cmd": "NODE_DEBUG"})), FromApp::Internal);
        assert_eq!(
            of(&json!({"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": {"mine": 1}})),
            FromApp::Handle {
                message: Box::new(FromApp::App(json!({"mine": 1})))
            }
        );
        assert_eq!(
            of(&json!({"cmd": "NODE_CLMGR", "act": "recycle", "requests": 12})),
            FromApp::Recycle { requests: 12 }
        );
        for own in [
            json!("ready"),
            json!({"type": "axm:monitor"}),
            json!({"cmd": "mine"}),
            json!(null),
            json!([1]),
        ] {
            assert_eq!(of(&own), FromApp::App(own));
        }
        assert_eq!(read(b"{"), None);
    }

    #[test]
    fn answers_have_the_form_that_node_expects() {
        let said = |line: Vec<u8>| serde_json::from_slice::<Value>(&line).unwrap();
        let query = Query::read(&json!({"port": 80, "addressType": 4, "data": {"a": 1}}));
        let reply = said(socket_reply(&json!(3), &query, "k"));
        assert_eq!(
            (&reply["cmd"], &reply["type"]),
            (&json!("NODE_HANDLE"), &json!("net.Native"))
        );
        assert_eq!(
            (
                &reply["msg"]["ack"],
                &reply["msg"]["errno"],
                &reply["msg"]["key"],
                &reply["msg"]["data"]["a"]
            ),
            (&json!(3), &json!(0), &json!("k"), &json!(1))
        );
        let query = Query::read(&json!({"port": 53, "addressType": "udp6"}));
        assert_eq!(
            said(socket_reply(&json!(3), &query, "k"))["type"],
            json!("dgram.Native")
        );
        let reply = said(error_reply(&json!(3), &query, "k", 98));
        assert_eq!(
            (&reply["errno"], &reply["ack"], &reply["cmd"]),
            (&json!(-98), &json!(3), &json!("NODE_CLUSTER"))
        );
        assert_eq!(said(acknowledge(&json!(5)))["ack"], json!(5));
        assert_eq!(said(disconnect())["act"], json!("disconnect"));
        assert_eq!(
            said(new_connection("k", 8))["msg"],
            json!({"cmd": "NODE_CLUSTER", "act": "newconn", "key": "k", "seq": 8})
        );
    }
}
