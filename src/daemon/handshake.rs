//! `clmgr handshake`: what a build says of itself before it is trusted with anything, and whether that is enough.

use serde::{Deserialize, Serialize};

use crate::keeper::protocol;
use crate::model::version::version;
use crate::store::{self, Schema};

/// What one build understands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handshake {
    /// Its version.
    pub(crate) clmgr: String,
    /// Versions of the protocol between keeper and daemon.
    pub(crate) protocol: Range,
    /// Schemas of the state file: the newest it knows, and the oldest that a program must know which is to read what
    /// this build has written.
    pub(crate) schema: Range,
}

/// From the oldest to the newest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Range {
    pub(crate) min: i64,
    pub(crate) current: i64,
}

impl Handshake {
    /// Of this build.
    pub(crate) fn own() -> Self {
        Self {
            clmgr: version().to_owned(),
            protocol: Range {
                min: i64::from(protocol::MIN_VERSION),
                current: i64::from(protocol::VERSION),
            },
            schema: Range {
                min: store::oldest_reader(),
                current: store::newest(),
            },
        }
    }

    /// Why a build that says this cannot take over from this one, whose keeper speaks `keeper` and whose state file
    /// is `file`.
    pub(crate) fn obstacle(&self, keeper: Range, file: Schema) -> Option<String> {
        let (name, ours) = (&self.clmgr, Self::own());
        let (own, protocol) = (&ours.clmgr, self.protocol);
        if protocol.current < keeper.min.max(2) || keeper.current < protocol.min {
            return Some(format!(
                "clmgr {name} speaks keeper protocols {} to {}, the running keeper {} to {}, and an upgrade needs 2",
                protocol.min, protocol.current, keeper.min, keeper.current
            ));
        }
        if self.schema.current < file.oldest_reader {
            return Some(format!(
                "the state file has schema {} and can be read by programs that know schema {}; clmgr {name} knows \
                 schemas up to {}",
                file.number, file.oldest_reader, self.schema.current
            ));
        }
        if self.schema.current > file.number && self.schema.min > ours.schema.current {
            return Some(format!(
                "clmgr {name} changes the state file to schema {}, and there would be no way back: clmgr {own} knows \
                 schemas up to {}; take a version in between first",
                self.schema.current, ours.schema.current
            ));
        }
        None
    }
}

/// What `clmgr handshake` prints.
#[must_use]
pub fn handshake() -> String {
    serde_json::to_string(&Handshake::own()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{Handshake, Range, handshake};
    use crate::store::Schema;

    const KEEPER: Range = Range { min: 1, current: 2 };
    const FILE: Schema = Schema {
        number: 1,
        oldest_reader: 1,
    };

    fn other(protocol: (i64, i64), schema: (i64, i64)) -> Handshake {
        let range = |(min, current)| Range { min, current };
        Handshake {
            clmgr: "7.7.7".into(),
            protocol: range(protocol),
            schema: range(schema),
        }
    }

    #[test]
    fn this_build_can_take_over_from_itself() {
        let own: Handshake = serde_json::from_str(&handshake()).unwrap();
        assert_eq!(own.obstacle(KEEPER, FILE), None);
    }

    #[test]
    fn what_does_not_fit_is_named_with_both_sides() {
        let says = |other: Handshake, file| other.obstacle(KEEPER, file).unwrap_or_default();
        assert!(says(other((3, 4), (1, 1)), FILE).contains("protocols 3 to 4, the running keeper 1 to 2"));
        assert!(says(other((1, 1), (1, 1)), FILE).contains("protocols 1 to 1"));
        let newer = Schema {
            number: 3,
            oldest_reader: 2,
        };
        assert!(says(other((1, 2), (1, 1)), newer).contains("knows schemas up to 1"));
        assert_eq!(says(other((1, 2), (1, 2)), newer), "");
        let next = crate::store::newest() + 1;
        assert_eq!(says(other((1, 2), (next - 1, next)), FILE), "");
        assert!(says(other((1, 2), (next, next + 1)), FILE).contains("no way back"));
        assert_eq!(says(other((2, 9), (1, 1)), FILE), "");
    }
}
