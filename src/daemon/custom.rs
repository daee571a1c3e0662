//! What apps tell about themselves over their IPC channel: metrics and actions are kept as long as the process lives,
//! errors and events are recorded, answers go to whoever asked (`daemon::trigger`).

use std::collections::VecDeque;

use serde_json::Value;
use tokio::sync::oneshot;

use crate::api::status::InstanceMetrics;
use crate::daemon::Daemon;
use crate::model::custom::{Action, Metric};
use crate::model::duration::Millis;
use crate::model::event::EventKind;
use crate::model::names::RunId;
use crate::model::time::Moment;
use crate::node::pmx::{MOST, Message};
use crate::os::clock;
use crate::supervise::EventDraft;
use crate::supervise::app::App;

/// So many errors and events of one process are recorded within [`PERIOD`].
const EVENTS: u32 = 10;
/// See [`EVENTS`].
const PERIOD: Millis = Millis::from_secs(60);

/// Of one process.
#[derive(Debug, Default)]
pub(crate) struct Custom {
    pub metrics: Vec<Metric>,
    pub actions: Vec<Action>,
    /// Who waits for which action's answer, in the order of asking.
    pub asked: VecDeque<(String, oneshot::Sender<Value>)>,
    budget: Budget,
    /// It told its actions to a daemon before this one, and does not tell them again: whatever it is asked for may be
    /// one of them.
    pub adopted: bool,
}

/// What may still be recorded: an app that fails in a loop must not push everything else out of the record.
#[derive(Debug, Default)]
struct Budget {
    since: Option<Moment>,
    spent: u32,
    missed: u32,
}

impl Budget {
    /// Whether one more may be recorded; if so, how many before it were not.
    fn take(&mut self, now: Moment) -> Option<u32> {
        if self.since.is_none_or(|since| now.since(since) >= PERIOD) {
            self.since = Some(now);
            self.spent = 0;
        }
        if self.spent >= EVENTS {
            self.missed = self.missed.saturating_add(1);
            return None;
        }
        self.spent += 1;
        Some(std::mem::take(&mut self.missed))
    }
}

impl Custom {
    /// Nothing is known yet.
    pub(crate) fn new(adopted: bool) -> Self {
        Self {
            adopted,
            ..Self::default()
        }
    }

    fn put_metrics(&mut self, metrics: Vec<Metric>) {
        for metric in metrics {
            let room = self.metrics.len() < MOST;
            match self.metrics.iter_mut().find(|known| known.name == metric.name) {
                Some(known) => *known = metric,
                None if room => self.metrics.push(metric),
                None => {}
            }
        }
    }

    fn put_action(&mut self, action: Action) {
        let room = self.actions.len() < MOST;
        match self.actions.iter_mut().find(|known| known.name == action.name) {
            Some(known) => *known = action,
            None if room => self.actions.push(action),
            None => {}
        }
    }

    fn answered(&mut self, action: &str, answer: Value) {
        // Those who asked and have gone away are passed over.
        self.asked.retain(|(_, sender)| !sender.is_closed());
        let first = self.asked.iter().position(|(asked, _)| asked == action);
        if let Some((_, sender)) = first.and_then(|at| self.asked.remove(at)) {
            let _gone = sender.send(answer);
        }
    }
}

impl Daemon {
    /// Takes in what an app says about itself.
    pub(crate) fn custom_message(&mut self, run: RunId, message: Message) {
        let Some(handle) = self.handles.get_mut(&run) else {
            return;
        };
        let custom = &mut handle.custom;
        let (kind, text, stack) = match message {
            Message::Metrics(metrics) => return custom.put_metrics(metrics),
            Message::Action(action) => return custom.put_action(action),
            Message::Reply { action, answer } => return custom.answered(&action, answer),
            Message::Exception { message, stack } => (EventKind::AppException, message, stack),
            Message::Event(text) => (EventKind::AppEvent, text, Vec::new()),
        };
        let Some(missed) = custom.budget.take(clock::monotonic()) else {
            return;
        };
        let message = match missed {
            0 => text,
            missed => format!("{text} (and {missed} more before it were not recorded)"),
        };
        let (slot, pid) = (handle.slot, handle.pid);
        let Some(app) = self.core.apps.get(&handle.app) else {
            return;
        };
        let draft = EventDraft {
            kind,
            id: app.id,
            app: app.name().clone(),
            namespace: app.spec().namespace.clone(),
            slot: Some(slot),
            pid: Some(pid),
            message,
            exit: None,
            stderr: stack,
        };
        let id = draft.id;
        let event = self.hub.note(clock::wall(), draft);
        self.publish(id, &event);
    }

    /// The metrics of an app's instances, and the actions that any of them does.
    pub(crate) fn custom_of(&self, app: &App) -> (Vec<InstanceMetrics>, Vec<Action>) {
        let (mut metrics, mut actions) = (Vec::new(), Vec::<Action>::new());
        for slot in app.visible_slots() {
            let handle = app.current(slot).and_then(|run| self.handles.get(&run.id));
            let Some(custom) = handle.map(|handle| &handle.custom) else {
                continue;
            };
            if !custom.metrics.is_empty() {
                metrics.push(InstanceMetrics {
                    slot,
                    metrics: custom.metrics.clone(),
                });
            }
            for action in &custom.actions {
                if !actions.iter().any(|known| known.name == action.name) {
                    actions.push(action.clone());
                }
            }
        }
        (metrics, actions)
    }
}

#[cfg(test)]
mod tests {
    use super::{Budget, Custom, EVENTS, PERIOD};
    use crate::model::custom::Metric;
    use crate::model::time::Moment;
    use crate::node::pmx::MOST;
    use serde_json::{Value, json};
    use tokio::sync::oneshot;

    #[test]
    fn a_loop_of_errors_is_recorded_in_part_and_counted() {
        let mut budget = Budget::default();
        let now = Moment(1);
        for _ in 0..EVENTS {
            assert_eq!(budget.take(now), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(budget.take(now), None);
        }
        assert_eq!(budget.take(now.after(PERIOD)), Some(7));
        assert_eq!(budget.take(now.after(PERIOD)), Some(0));
    }

    #[test]
    fn metrics_are_replaced_by_name_and_limited_in_number() {
        let metric = |name: String, value: i64| Metric {
            name,
            value: json!(value),
            unit: None,
            kind: None,
        };
        let mut custom = Custom::default();
        custom.put_metrics((0..1000).map(|n| metric(n.to_string(), n)).collect());
        custom.put_metrics(vec![metric("3".into(), -3)]);
        assert_eq!(custom.metrics.len(), MOST);
        assert_eq!(custom.metrics[3].value, json!(-3));
    }

    #[test]
    fn answers_go_to_who_asked_first_and_still_waits() {
        let mut custom = Custom::default();
        let mut ask = |action: &str| {
            let (sender, receiver) = oneshot::channel::<Value>();
            custom.asked.push_back((action.to_owned(), sender));
            receiver
        };
        let (gone, mut other, mut first, mut second) = (ask("a"), ask("b"), ask("a"), ask("a"));
        drop(gone);
        custom.answered("a", json!(1));
        custom.answered("nobody", json!(2));
        assert_eq!(first.try_recv(), Ok(json!(1)));
        assert!(second.try_recv().is_err() && other.try_recv().is_err());
    }
}
