//! An app's record: out as text, in again by the next daemon.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::spec::AppSpec;
use crate::supervise::app::App;
use crate::supervise::run::Generation;

/// The version of the record. A daemon that does not know it starts the app's bookkeeping anew and takes the
/// living processes over by their labels.
pub const VERSION: u32 = 1;

#[derive(Serialize)]
struct RecordOut<'a> {
    version: u32,
    app: &'a App,
    others: BTreeMap<Generation, &'a AppSpec>,
}

#[derive(Deserialize)]
struct RecordIn {
    version: u32,
    app: App,
    others: BTreeMap<Generation, Arc<AppSpec>>,
}

impl App {
    /// The record, without the spec in force, which is stored with the app itself.
    ///
    /// # Errors
    /// When a value cannot be written as JSON; no value of these types is such.
    pub fn export(&self) -> Result<String, serde_json::Error> {
        let others = self
            .specs
            .iter()
            .filter(|(generation, _)| **generation != self.generation)
            .map(|(generation, spec)| (*generation, &**spec))
            .collect();
        serde_json::to_string(&RecordOut {
            version: VERSION,
            app: self,
            others,
        })
    }

    /// The app as it was exported. `spec` is the one in force.
    #[must_use]
    pub fn import(record: &str, spec: Arc<AppSpec>) -> Option<Self> {
        let record: RecordIn = serde_json::from_str(record).ok()?;
        if record.version != VERSION {
            return None;
        }
        let mut app = record.app;
        app.specs = record.others;
        app.specs.insert(app.generation, spec);
        Some(app)
    }
}
