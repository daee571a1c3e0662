//! The death of the daemon, and cores that were written to text and read back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::world::{Row, World};
use crate::model::names::AppId;
use crate::supervise::app::App;
use crate::supervise::{Change, Core, Input, Output};

impl World {
    /// From here on a core that was written to text and read back decides everything a second time. Reading it back
    /// decides nothing: it only asks again for what is under way, and its state is the same.
    pub(super) fn cast_shadow(&mut self) {
        // A void check is asked for again by the shadow at once, by the other one when its answer comes.
        if self.committing.is_some() || self.core.apps.values().any(|app| app.recheck) {
            return;
        }
        let mut shadow = Core::new(self.core.next_app, self.core.cx.peek_run());
        for app in self.core.apps.values() {
            let copy = App::import(&app.export().unwrap(), Arc::clone(app.spec())).unwrap();
            shadow.insert(copy);
        }
        shadow.resume(self.now);
        while let Some(output) = shadow.poll_output() {
            assert!(is_repetition(&output), "new after export and import: {output:?}");
        }
        let copies: Vec<String> = shadow.apps.values().map(|app| app.export().unwrap()).collect();
        assert_eq!(copies, self.exports(), "the same state after export and import");
        self.restarts += 1;
        self.shadow = Some(shadow);
    }

    /// The records of all apps as they are now.
    pub(super) fn records(&self) -> BTreeMap<AppId, String> {
        let apps = self.core.apps.iter();
        apps.map(|(id, app)| (*id, app.export().unwrap())).collect()
    }

    /// The daemon dies, at once, and the next one takes over.
    pub(super) fn daemon_dies(&mut self) {
        let records = self.records();
        self.daemon_dies_with(&records);
    }

    /// The same, when these are the records that were written last.
    pub(super) fn daemon_dies_with(&mut self, records: &BTreeMap<AppId, String>) {
        self.trace.push(format!("{:>12} == the daemon dies", self.now.0 / 1000));
        self.restarts += 1;
        let landed = self.rng.one_in(2);
        if let Some(changes) = self.committing.take().filter(|_| landed) {
            write(&mut self.disk, changes);
        }
        // What only the daemon would have said is lost; what the keeper knows is not. Half of the spawns that
        // are under way never reached it.
        let mut kept = BTreeMap::new();
        for (key, input) in std::mem::take(&mut self.queue) {
            match &input {
                Input::Spawned(run, _) | Input::SpawnFailed(run, _) | Input::SpawnStarved(run, _) => {
                    if self.rng.one_in(2) {
                        self.procs.remove(run);
                        self.spawns.retain(|(_, known, _)| known != run);
                    } else {
                        kept.insert(key, input);
                    }
                }
                Input::Exited(..) | Input::Memory(..) => {
                    kept.insert(key, input);
                }
                Input::Committed(_)
                | Input::Checked(..)
                | Input::LeftBehind(_)
                | Input::Healthy(_)
                | Input::Unhealthy(..)
                | Input::Recycle(..)
                | Input::Extend(..)
                | Input::Reloading(_)
                | Input::Demand(_)
                | Input::Idle(_)
                | Input::Ready(_)
                | Input::Swept(_)
                | Input::PreStopped(_)
                | Input::Inspected(..)
                | Input::Command(..)
                | Input::Tick => {}
            }
        }
        self.queue = kept;
        self.probed.clear();
        self.monitored.clear();
        self.asked.retain(|ticket| self.replies.contains_key(ticket));
        self.core = Core::new(
            self.next_app(),
            self.spawns
                .iter()
                .map(|s| s.1.0 + 1)
                .max()
                .unwrap_or(0)
                .max(self.released.last().map_or(0, |r| r.0 + 1)),
        );
        let disk = &self.disk;
        self.procs.retain(|_, proc| disk.contains_key(&proc.app));
        for (id, row) in &self.disk {
            let app = records.get(id).map_or_else(
                || App::new(*id, Arc::clone(&row.spec), row.desired, row.wanted),
                |record| App::import(record, Arc::clone(&row.spec)).expect("a record of this version"),
            );
            let mut app = app;
            app.set_wanted(row.desired, row.wanted, row.held.iter().copied());
            self.core.insert(app);
        }
        self.core.inherit(self.now);
        self.core.resume(self.now);
        self.resuming = true;
        self.died = true;
        self.perform_all();
        self.resuming = false;
        self.check();
    }

    pub(super) fn next_app(&self) -> u32 {
        self.disk
            .keys()
            .map(|id| id.0 + 1)
            .max()
            .unwrap_or(0)
            .max(self.core.apps.keys().map(|id| id.0 + 1).max().unwrap_or(0))
    }
}

/// Asks for something that was asked for before.
const fn is_repetition(output: &Output) -> bool {
    match output {
        Output::Check(..)
        | Output::Spawn { .. }
        | Output::Probe(_)
        | Output::Monitor(_)
        | Output::PreStop(_)
        | Output::Stop(_)
        | Output::Kill(_)
        | Output::Sweep(..)
        | Output::Inspect(_) => true,
        Output::Commit(_)
        | Output::EndProbe(_)
        | Output::EndMonitor(_)
        | Output::Release(_)
        | Output::Event(_)
        | Output::Crash(_)
        | Output::Reply(..) => false,
    }
}

pub(super) fn write(disk: &mut BTreeMap<AppId, Row>, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put {
                id,
                spec,
                desired,
                wanted,
                held,
            } => {
                disk.insert(
                    id,
                    Row {
                        spec,
                        desired,
                        wanted,
                        held,
                    },
                );
            }
            Change::Want {
                id,
                desired,
                wanted,
                held,
            } => {
                let row = disk.get_mut(&id).expect("known");
                (row.desired, row.wanted, row.held) = (desired, wanted, held);
            }
            Change::Delete(id) => {
                disk.remove(&id);
            }
        }
    }
}
