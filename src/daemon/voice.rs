//! What a runtime says itself: events as lines on standard error, after `clmgr: ` or as JSON.

use crate::logs::pump::Pump;
use crate::model::event::{Event, EventKind};

/// Says on standard error what happens.
#[derive(Debug)]
pub(crate) struct Voice {
    pump: Pump,
    json: bool,
}

impl Voice {
    /// Through the pump, so that nobody waits for whoever reads it.
    pub(crate) const fn new(pump: Pump, json: bool) -> Self {
        Self { pump, json }
    }

    /// One line of our own.
    pub(crate) fn say(&self, text: &str) {
        let line = if self.json {
            let time = crate::os::clock::wall().to_string();
            serde_json::json!({ "time": time, "stream": "clmgr", "message": text }).to_string()
        } else {
            format!("clmgr: {text}")
        };
        self.pump.say(format!("{line}\n").into_bytes());
    }

    /// One line, and the last words of a process where they explain it.
    pub(crate) fn tell(&self, event: &Event) {
        use EventKind as Kind;
        let everyday = matches!(
            event.kind,
            Kind::AppAdded
                | Kind::AppChanged
                | Kind::AppDeleted
                | Kind::Started
                | Kind::Stopping
                | Kind::Adopted
                | Kind::DaemonStarted
        );
        if !everyday {
            self.pump.say(self.lines(event));
        }
    }

    fn lines(&self, event: &Event) -> Vec<u8> {
        if self.json {
            let mut line = serde_json::json!({
                "time": event.at.to_string(), "app": event.app, "instance": event.slot, "stream": "clmgr",
                "kind": event.kind, "message": event.message,
            })
            .to_string();
            line.push('\n');
            return line.into_bytes();
        }
        let who = match (&event.app, event.slot) {
            (Some(app), Some(slot)) => format!("{app}:{slot}: "),
            (Some(app), None) => format!("{app}: "),
            (None, _) => String::new(),
        };
        let what = match (event.kind.as_str(), event.message.as_str()) {
            (kind, message) if message.is_empty() || message == kind => kind.to_owned(),
            (kind, message) => format!("{kind}: {message}"),
        };
        let mut text = format!("clmgr: {who}{what}\n");
        if event.kind == EventKind::CircuitOpen {
            for line in &event.stderr {
                text.push_str("clmgr: ");
                text.push_str(&who);
                text.push_str("stderr: ");
                text.push_str(line);
                text.push('\n');
            }
        }
        text.into_bytes()
    }
}
