//! Closing what an app needs no more, without losing what may still arrive there.

use std::time::Duration;

use super::lane::Lane;
use super::{Listeners, names, needed, remove_file};
use crate::daemon::Daemon;
use crate::keeper::protocol::ToKeeper;
use crate::model::duration::Millis;
use crate::model::names::{AppId, Slot};
use crate::os::{clock, socket};
use crate::supervise::app::App;

/// How long a socket stays that nobody needs: connections whose handshake was under way when it left the rotation
/// still arrive.
const LINGER: Millis = Millis(1_000);

impl Listeners {
    /// Sockets of slots from `slots` on, and lanes whose runs are gone while one is on the slot's other lane; the
    /// highest first.
    fn idle(&self, app: &App, key: &str, slots: Slot) -> Vec<Lane> {
        let Some(group) = self.get(app.id, key) else {
            return Vec::new();
        };
        let has_run = |lane: Lane| {
            app.runs
                .keys()
                .any(|run| self.place_of(app, key, group, *run) == Some(lane))
        };
        let is_left = |lane: Lane| !has_run(lane) && has_run(lane.other());
        let idle = |lane: &Lane| lane.slot >= slots || is_left(*lane);
        group.members.keys().rev().copied().filter(idle).collect()
    }
}

impl Daemon {
    /// Closes what an app needs no more.
    pub(crate) fn tend_listeners(&mut self, app: AppId) {
        let Some(groups) = self.listeners.groups.get(&app) else {
            return;
        };
        let known = self.core.apps.get(&app);
        let needed = known.map(needed).unwrap_or_default();
        let runs = known.and_then(|app| app.runs.values().map(|run| run.slot + 1).max());
        let wanted = known.filter(|app| app.wanted_slots().next().is_some());
        let cluster = wanted.map(|app| app.desired).max(runs);
        let size = |(key, group): (&String, &super::Group)| {
            let slots = match group.asked {
                Some(_) => cluster,
                None => needed.get(key).copied(),
            };
            (key.clone(), slots)
        };
        let sizes: Vec<(String, Option<Slot>)> = groups.iter().map(size).collect();
        for (key, slots) in sizes {
            match slots {
                None => self.close_group(app, &key),
                Some(slots) => self.close_idle(app, &key, slots.max(1)),
            }
        }
        self.follow_rotation(app);
    }

    fn close_group(&mut self, app: AppId, key: &str) {
        let Some(groups) = self.listeners.groups.get_mut(&app) else {
            return;
        };
        let Some(group) = groups.remove(key) else { return };
        if groups.is_empty() {
            self.listeners.groups.remove(&app);
        }
        remove_file(&group.spec.address);
        if let (Some(record), Some(_)) = (self.core.apps.get_mut(&app), &group.asked) {
            record.ports.remove(&names::record(&group.spec));
        }
        self.end_rescues(app, key);
        self.note_order(app, key);
        for lane in group.members.keys() {
            let name = names::stored(app, &group, *lane);
            self.keeper_send(&ToKeeper::Drop { name }, Vec::new());
        }
        self.listeners.closing = true;
    }

    /// Closes the sockets that have been of no use for long enough.
    fn close_idle(&mut self, app: AppId, key: &str, slots: Slot) {
        let now = clock::monotonic();
        let Some(record) = self.core.apps.get(&app) else { return };
        let idle = self.listeners.idle(record, key, slots);
        let Some(group) = self.listeners.group_mut(app, key) else {
            return;
        };
        for (lane, member) in &mut group.members {
            if !idle.contains(lane) {
                member.idle_since = None;
            }
        }
        for lane in idle {
            let Some(group) = self.listeners.group_mut(app, key) else {
                return;
            };
            let waits = group.queued(lane).is_some_and(|queued| queued > 0);
            let Some(member) = group.members.get_mut(&lane) else {
                continue;
            };
            if waits {
                member.idle_since = None;
                self.tend_later(app);
                continue;
            }
            let since = *member.idle_since.get_or_insert(now);
            if now < since.after(LINGER) {
                self.tend_later(app);
            } else {
                self.close_lane(app, key, lane);
            }
        }
    }

    fn tend_later(&mut self, app: AppId) {
        if !self.listeners.lingering.insert(app) {
            return;
        }
        let mail = self.mail.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LINGER.to_std() + Duration::from_millis(10)).await;
            mail.post(move |daemon| {
                daemon.listeners.lingering.remove(&app);
                daemon.tend_listeners(app);
            });
        });
    }

    fn close_lane(&mut self, app: AppId, key: &str, lane: Lane) {
        let Some(group) = self.listeners.group_mut(app, key) else {
            return;
        };
        let Some(member) = group.members.get(&lane) else { return };
        // Whoever has a copy: it leaves the kernel's group now, and not when the last copy is gone.
        socket::unlisten(&member.fd);
        let mut old = vec![names::stored(app, group, lane)];
        let last = group.order.as_ref().and_then(|order| order.last().copied());
        old.extend(
            last.filter(|last| *last != lane)
                .map(|last| names::stored(app, group, last)),
        );
        let moved = group.leave(lane);
        self.listeners.closing = true;
        for name in old {
            self.keeper_send(&ToKeeper::Drop { name }, Vec::new());
        }
        if let Some(moved) = moved {
            self.store_socket(app, key, moved);
        }
        self.note_order(app, key);
    }
}
