//! What is shown of the sockets.

use super::{Listeners, balance};
use crate::api::status::{ListenerStatus, QueueStatus};
use crate::model::listen::ListenSpec;
use crate::supervise::app::App;

impl Listeners {
    /// Of an app: those of the spec in force, and those that are still held. `queues`: with what waits in them.
    pub(crate) fn status(&self, app: &App, queues: bool) -> Vec<ListenerStatus> {
        let mut list: Vec<&ListenSpec> = app.spec().listen.iter().collect();
        for group in self.groups.get(&app.id).into_iter().flatten().map(|(_, group)| group) {
            if !list.iter().any(|known| known.key() == group.spec.key()) {
                list.push(&group.spec);
            }
        }
        list.into_iter().map(|spec| self.status_of(app, spec, queues)).collect()
    }

    fn status_of(&self, app: &App, spec: &ListenSpec, queues: bool) -> ListenerStatus {
        let group = self.get(app.id, &spec.key());
        let split = group.filter(|group| group.is_split());
        let live = split.and_then(|group| group.live());
        let slots: Vec<QueueStatus> = split
            .into_iter()
            .flat_map(|group| {
                group.members.keys().map(|lane| QueueStatus {
                    slot: lane.slot,
                    queued: queues.then(|| group.queued(*lane)).flatten(),
                    in_rotation: !group.is_out(*lane),
                })
            })
            .collect();
        let waiting = |group: &super::Group| {
            let all = group.members.keys().map(|lane| group.queued(*lane));
            all.reduce(|one, other| Some(one? + other?)).flatten()
        };
        ListenerStatus {
            address: spec.address.to_string(),
            port: self.port(app.id, spec),
            name: spec.name.clone(),
            bound: group.is_some(),
            queued: group.filter(|_| queues).and_then(waiting),
            balance: live.map(|live| live.balance),
            wanted_balance: live.filter(|live| live.why.is_some()).map(|_| balance(app.spec())),
            balance_reason: live.and_then(|live| live.why.clone()),
            slots,
        }
    }
}
