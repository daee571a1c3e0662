//! The sockets of an app of which nothing runs.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::{Lane, is_per_slot};
use crate::daemon::Daemon;
use crate::model::names::AppId;
use crate::model::spec::AppSpec;

impl Daemon {
    /// Binds what the instances of an app will need, and gives every socket that it has.
    ///
    /// # Errors
    /// One cannot be bound; a sentence for people.
    pub(crate) fn hold_sockets(&mut self, app: AppId, spec: &AppSpec) -> Result<Vec<Arc<OwnedFd>>, String> {
        let highest = self.core.apps.get(&app).map_or(0, |app| app.desired.saturating_sub(1));
        for wanted in &spec.listen {
            let lane = if is_per_slot(spec, wanted) {
                self.listeners.lane_left(app, highest)
            } else {
                Lane::SHARED
            };
            self.socket_for(app, lane, wanted, false)
                .map_err(|error| self.trouble(&spec.name, wanted, &error).why)?;
        }
        self.follow_rotation(app);
        let groups = self
            .listeners
            .groups
            .get(&app)
            .into_iter()
            .flat_map(|groups| groups.values());
        let members = groups.flat_map(|group| group.members.values());
        Ok(members.map(|member| Arc::clone(&member.fd)).collect())
    }
}
