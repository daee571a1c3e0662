//! `trigger`: asks instances to do an action that they announced, and waits for their answers.

use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::api::trigger::TriggerRequest;
use crate::daemon::Daemon;
use crate::daemon::mail::Mail;
use crate::daemon::requests::{Reply, finish, leaving};
use crate::model::custom::Action;
use crate::model::duration::Millis;
use crate::model::names::RunId;
use crate::model::outcome::{ErrorBody, ErrorKind, InstanceResult, Outcome};
use crate::node::{channel, pmx};

/// Most bytes of an action's parameters: what the channel takes in one piece.
const MOST: usize = 64 << 10;

/// One instance that was asked.
struct Asked {
    line: InstanceResult,
    answer: Result<oneshot::Receiver<Value>, String>,
}

/// Asks, and waits.
pub(crate) async fn trigger(mail: &Mail, request: TriggerRequest) -> Reply {
    let patience = Millis(request.timeout_ms);
    let asked = mail.ask(move |daemon| daemon.ask_action(&request)).await;
    let asked = asked.ok_or_else(leaving)??;
    let until = Instant::now() + patience.to_std();
    let mut results = Vec::new();
    for Asked { mut line, answer } in asked {
        let answer = match answer {
            Ok(receiver) => match timeout_at(until, receiver).await {
                Ok(Ok(answer)) => Ok(answer),
                Ok(Err(_)) => Err("it ended before it answered".to_owned()),
                Err(_) => Err(format!("it did not answer within {patience}")),
            },
            Err(why) => Err(why),
        };
        match answer {
            Ok(answer) => line.reply = Some(answer),
            Err(why) => {
                line.outcome = Outcome::Failed;
                line.message = Some(why);
            }
        }
        results.push(line);
    }
    finish(results)
}

impl Daemon {
    fn ask_action(&mut self, request: &TriggerRequest) -> Result<Vec<Asked>, Box<ErrorBody>> {
        let runs = self.living(&request.targets)?;
        let message = pmx::request(&request.action, request.params.as_ref());
        let text = channel::line(&message);
        if request.action.is_empty() || text.len() > MOST {
            return Err(Box::new(ErrorBody::new(
                ErrorKind::BadRequest,
                format!("an action has a name, and at most {MOST} bytes of parameters"),
            )));
        }
        let known: Vec<&Action> = self.announced(&runs).collect();
        let does = |run: RunId| {
            let custom = self.handles.get(&run).map(|handle| &handle.custom);
            custom.is_some_and(|custom| {
                custom.adopted || custom.actions.iter().any(|action| action.name == request.action)
            })
        };
        if !runs.iter().any(|(run, _)| does(*run)) {
            return Err(Box::new(self.unknown_action(request, &runs, &known)));
        }
        let unable: Vec<RunId> = runs.iter().map(|(run, _)| *run).filter(|run| !does(*run)).collect();
        let mut asked = Vec::new();
        for (run, line) in runs {
            let answer = if unable.contains(&run) {
                Err(format!("it has announced no action {:?}", request.action))
            } else {
                self.ask_one(run, &request.action, &text)
            };
            asked.push(Asked { line, answer });
        }
        Ok(asked)
    }

    fn ask_one(&mut self, run: RunId, action: &str, text: &[u8]) -> Result<oneshot::Receiver<Value>, String> {
        let handle = self.handles.get_mut(&run).ok_or("it has just ended")?;
        let wire = handle.wire.as_ref().ok_or("it has no IPC channel")?;
        if !wire.say(text.to_vec(), None) {
            return Err("it does not read its messages".to_owned());
        }
        let (sender, receiver) = oneshot::channel();
        handle.custom.asked.push_back((action.to_owned(), sender));
        Ok(receiver)
    }

    fn announced<'d>(&'d self, runs: &'d [(RunId, InstanceResult)]) -> impl Iterator<Item = &'d Action> {
        let mut seen = std::collections::BTreeSet::new();
        runs.iter()
            .filter_map(|(run, _)| self.handles.get(run))
            .flat_map(|handle| &handle.custom.actions)
            .filter(move |action| seen.insert(&action.name))
    }

    fn unknown_action(
        &self,
        request: &TriggerRequest,
        runs: &[(RunId, InstanceResult)],
        known: &[&Action],
    ) -> ErrorBody {
        let app = runs.first().map_or_else(String::new, |(_, line)| line.app.to_string());
        let message = format!("{app} has announced no action {:?}", request.action);
        let error = ErrorBody::new(ErrorKind::Failed, message);
        let has_channel = |(run, _): &(RunId, InstanceResult)| {
            let handle = self.handles.get(run);
            handle.is_some_and(|handle| handle.channel.is_some())
        };
        if !runs.iter().any(has_channel) {
            return error.hint("give it an IPC channel, over which actions are announced: `ipc = true`");
        }
        if known.is_empty() {
            return error.hint("it has announced none at all; @pm2/io's `io.action(name, handler)` announces one");
        }
        let names: Vec<&str> = known.iter().map(|action| action.name.as_str()).collect();
        error.hint(format!("it does these: {}", names.join(", ")))
    }
}
