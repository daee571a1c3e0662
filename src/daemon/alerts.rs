//! `on_event`: commands of the user's that are run when something happens to an app.

use std::io::{Seek, Write};
use std::os::fd::OwnedFd;

use crate::daemon::Daemon;
use crate::daemon::helper::HelperPlan;
use crate::model::event::{Event, EventKind};
use crate::model::names::AppId;
use crate::os::{clock, fds};

/// How long an alert command may take.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

impl Daemon {
    /// Runs the command an app has for this kind of event, if it has one.
    pub(crate) fn alert(&mut self, id: AppId, event: &Event) {
        let Some(spec) = self.core.apps.get(&id).map(|app| std::sync::Arc::clone(app.spec())) else {
            return;
        };
        let Some(argv) = spec.on_event.get(&event.kind) else {
            return;
        };
        let mut env = crate::model::env::EnvMap::clone(&spec.env_base);
        env.extend(spec.env.clone());
        env.insert("CLMGR_EVENT".into(), event.kind.as_str().into());
        env.insert("CLMGR_APP".into(), spec.name.as_str().into());
        env.insert("CLMGR_NAMESPACE".into(), spec.namespace.as_str().into());
        env.insert(
            "CLMGR_SLOT".into(),
            event.slot.map_or_else(String::new, |slot| slot.to_string()).into(),
        );
        env.insert("CLMGR_MESSAGE".into(), event.message.clone().into());
        let plan = HelperPlan {
            argv: argv.clone(),
            env,
            cwd: spec.cwd.clone(),
            input: json(event),
        };
        let (helper, ended) = self.start_helper(plan);
        let (mail, kind, name) = (self.mail.clone(), event.kind, spec.name.clone());
        tokio::spawn(async move {
            let outcome = tokio::time::timeout(PATIENCE, ended).await;
            mail.post(move |daemon| {
                let why = match outcome {
                    Ok(Ok(Ok(exit))) if exit.is_success() => return,
                    Ok(Ok(Ok(exit))) => exit.to_string(),
                    Ok(Ok(Err(why))) => why,
                    Ok(Err(_)) => return,
                    Err(_) => {
                        daemon.end_helper(helper);
                        "it took longer than 60s and was ended".to_owned()
                    }
                };
                daemon.hub.announce(
                    clock::wall(),
                    EventKind::AlertFailed,
                    format!("the {kind} command of {name} failed: {why}"),
                );
            });
        });
    }
}

/// The event as a file to read from.
fn json(event: &Event) -> Option<OwnedFd> {
    let mut text = serde_json::to_vec(event).ok()?;
    text.push(b'\n');
    let mut file = std::fs::File::from(fds::memory("event").ok()?);
    file.write_all(&text).ok()?;
    file.rewind().ok()?;
    Some(file.into())
}
