//! Shows on a terminal what is going on while a command works. It only looks: over a connection of its own, and what it
//! cannot see it does not show.

use std::io::IsTerminal;

use crate::api::routes;
use crate::api::status::{AppStatus, StatusReply};
use crate::cli::connect::home;
use crate::cli::render::progress::{Before, lines};
use crate::cli::ui::{Colour, Ui};
use crate::client::Client;
use crate::model::duration::Millis;
use crate::model::target::Target;

/// More than this are not named one by one.
const MOST: usize = 50;
/// One look takes no longer than this.
const PATIENCE: Millis = Millis(1000);

/// The apps a command is about.
#[derive(Debug)]
pub(crate) struct Progress {
    query: Vec<(&'static str, String)>,
    client: Option<Client>,
    before: Option<Before>,
    ui: Ui,
}

impl Progress {
    /// Looks at these; nothing where nobody watches.
    pub(crate) fn of(targets: &[Target]) -> Option<Self> {
        let watched = std::io::stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|term| term != "dumb");
        if !watched {
            return None;
        }
        let named = targets.iter().map(|target| ("target", target.to_string()));
        let mut progress = Self {
            // Of so many, all that there are.
            query: if targets.len() > MOST {
                Vec::new()
            } else {
                named.collect()
            },
            client: None,
            before: None,
            ui: Ui::stdio(Colour::Auto),
        };
        // Before the command changes anything.
        progress.before = Some(progress.look().map_or_else(Before::default, |apps| Before::of(&apps)));
        Some(progress)
    }

    /// Looks again; true if there is something to see.
    pub(crate) fn beat(&mut self) -> bool {
        let before = self.before.take().unwrap_or_default();
        let now = self.look().map_or_else(Vec::new, |apps| lines(&before, &apps));
        self.before = Some(before);
        self.ui.progress(&now);
        !now.is_empty()
    }

    /// The work is over, or left to the daemon.
    pub(crate) fn end(&mut self) {
        self.ui.progress(&[]);
    }

    fn look(&mut self) -> Option<Vec<AppStatus>> {
        if self.client.is_none() {
            let mut client = Client::connect(&home().ok()?.socket()).ok()?;
            client.set_deadline(Some(PATIENCE.to_std()));
            self.client = Some(client);
        }
        let reply = self
            .client
            .as_mut()?
            .call::<(), StatusReply>(routes::STATUS, &self.query, None);
        match reply {
            Ok(reply) => Some(reply.apps),
            Err(_) => {
                self.client = None;
                None
            }
        }
    }
}
