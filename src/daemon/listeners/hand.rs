//! What an app learns of its sockets: numbers, variables, placeholders.

use crate::daemon::Daemon;
use crate::model::env::EnvMap;
use crate::model::listen::{counted, next_number, only_tcp};
use crate::model::names::AppId;
use crate::model::ostext::OsText;
use crate::model::placeholder;
use crate::model::spec::{AppSpec, Ready};

/// The number after the app's sockets and the descriptors that it may have stored, which the IPC channel gets. It is
/// the same however many are stored: a survivor's channel is found by it.
pub(crate) fn channel_number(spec: &AppSpec) -> i32 {
    let next = next_number(&spec.listen) + i32::try_from(spec.fd_store).unwrap_or(0);
    if spec.ready == Ready::Fd(next) { next + 1 } else { next }
}

impl Daemon {
    fn app_named(&self, spec: &AppSpec) -> Option<AppId> {
        self.core.named(&spec.name).map(|app| app.id)
    }

    /// A text with its placeholders filled; as it is where it names a socket that there is not, which `config` has
    /// refused.
    fn filled(&self, app: AppId, spec: &AppSpec, text: &OsText) -> OsText {
        let known = |entry: &crate::model::listen::ListenSpec| self.listeners.port(app, entry);
        let filled = text
            .as_os_str()
            .to_str()
            .filter(|text| text.contains('{'))
            .and_then(|text| placeholder::fill(text, &spec.listen, &known).ok());
        filled.map_or_else(|| text.clone(), OsText::from)
    }

    /// Program and arguments of a process.
    pub(crate) fn arguments(&self, spec: &AppSpec) -> Vec<OsText> {
        match self.app_named(spec).filter(|_| !spec.listen.is_empty()) {
            Some(app) => spec.argv.iter().map(|word| self.filled(app, spec, word)).collect(),
            None => spec.argv.clone(),
        }
    }

    /// Adds what the sockets change of an environment: placeholders in the app's own variables, and `PORT`.
    pub(crate) fn socket_variables(&self, spec: &AppSpec, env: &mut EnvMap) {
        let Some(app) = self.app_named(spec).filter(|_| !spec.listen.is_empty()) else {
            return;
        };
        for name in spec.env.keys() {
            if let Some(value) = env.get_mut(name) {
                *value = self.filled(app, spec, value);
            }
        }
        let own = spec.env.contains_key("PORT") || spec.increment_var.as_deref() == Some("PORT");
        let port = only_tcp(&spec.listen).and_then(|entry| self.listeners.port(app, entry));
        if let (Some(port), false) = (port, own) {
            env.insert("PORT".into(), port.to_string().into());
        }
    }

    /// Adds how many sockets a process inherits, and their names.
    pub(crate) fn socket_numbers(spec: &AppSpec, env: &mut EnvMap) {
        let names: Vec<&str> = counted(&spec.listen).map(|entry| entry.name.as_str()).collect();
        if names.is_empty() {
            return;
        }
        env.insert("LISTEN_FDS".into(), names.len().to_string().into());
        env.insert("LISTEN_FDNAMES".into(), names.join(":").into());
    }
}
