//! What the keeper calls the sockets: enough to know them again without anything else.
//!
//! ```text
//!   listen/7/0.0.0.0:3000            app 7, for all slots, or slot 0
//!   listen/7/0.0.0.0:3000#2          slot 2, second in the kernel's order, too
//!   listen/7/0.0.0.0:3000#2b@4       slot 2's second lane, fifth in the kernel's order
//!   listen/7/0.0.0.0:3000#2@1        slot 2, first in the kernel's order; `@-` where that is not known
//!   cluster/7/511/[::]:3000#2        asked for by a Node worker, with this backlog
//! ```

use super::group::Group;
use super::lane::Lane;
use crate::model::listen::ListenSpec;
use crate::model::names::AppId;

/// How the names of sockets begin that are in an app's spec.
pub(crate) const LISTEN: &str = "listen/";
/// How the others begin.
pub(crate) const CLUSTER: &str = "cluster/";

/// A name, taken apart as far as that is possible without the specs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name<'n> {
    pub(super) app: AppId,
    /// Of a socket that is in no spec.
    pub(super) backlog: Option<u32>,
    /// The key, and what may be its end or the slot.
    pub(super) rest: &'n str,
}

/// How an app's record names what is in no spec, among its ports.
pub(super) fn record(spec: &ListenSpec) -> String {
    format!("{CLUSTER}{}/{}", spec.backlog, spec.key())
}

/// The other way round.
pub(super) fn recorded(text: &str) -> Option<ListenSpec> {
    let (backlog, key) = text.strip_prefix(CLUSTER)?.split_once('/')?;
    rebuilt(backlog.parse().ok()?, key)
}

/// What a worker has asked for.
pub(super) fn rebuilt(backlog: u32, key: &str) -> Option<ListenSpec> {
    let (address, v6_only) = match key.strip_suffix(",v6only") {
        Some(address) => (address, true),
        None => (key, false),
    };
    let mut spec = ListenSpec::new(address.parse().ok()?);
    spec.backlog = backlog;
    spec.v6_only |= v6_only;
    Some(spec)
}

/// What the keeper calls the socket of a slot.
pub(super) fn stored(app: AppId, group: &Group, lane: Lane) -> String {
    let key = group.spec.key();
    let base = if group.asked.is_some() {
        format!("{CLUSTER}{}/{}/{key}", app.0, group.spec.backlog)
    } else {
        format!("{LISTEN}{}/{key}", app.0)
    };
    match group.place(lane) {
        Some(0) if lane == Lane::first(0) => base,
        Some(place) if lane == Lane::first(place) => format!("{base}#{lane}"),
        Some(place) => format!("{base}#{lane}@{place}"),
        None => format!("{base}#{lane}@-"),
    }
}

/// Takes a name apart.
pub(super) fn parse(name: &str) -> Option<Name<'_>> {
    let (backlog, rest) = match name.strip_prefix(LISTEN) {
        Some(rest) => (None, rest.split_once('/')?),
        None => {
            let (app, rest) = name.strip_prefix(CLUSTER)?.split_once('/')?;
            let (backlog, rest) = rest.split_once('/')?;
            (Some(backlog.parse().ok()?), (app, rest))
        }
    };
    Some(Name {
        app: AppId(rest.0.parse().ok()?),
        backlog,
        rest: rest.1,
    })
}

/// Key, lane and place.
pub(super) fn split(rest: &str) -> (&str, Lane, Option<u32>) {
    let whole = (rest, Lane::first(0), Some(0));
    let Some((key, end)) = rest.rsplit_once('#') else {
        return whole;
    };
    let (lane, place) = end.split_once('@').unwrap_or((end, end));
    lane.parse().map_or(whole, |lane| (key, lane, place.parse().ok()))
}

#[cfg(test)]
mod tests {
    use super::{parse, rebuilt, record, recorded, split, stored};
    use crate::daemon::listeners::group::Group;
    use crate::daemon::listeners::lane::Lane;
    use crate::model::listen::ListenSpec;
    use crate::model::names::AppId;
    use crate::os::fds;
    use std::sync::Arc;

    #[test]
    fn names_are_read_as_they_were_written() {
        let spec = ListenSpec::new("[::]:3000".parse().unwrap());
        for dynamic in [false, true] {
            let mut group = Group::new(spec.clone(), dynamic);
            for slot in 0..3 {
                group.enter(Lane::first(slot), Arc::new(fds::null().unwrap()));
            }
            let read = |group: &Group, slot| {
                let name = stored(AppId(7), group, Lane::first(slot));
                let parsed = parse(&name).unwrap();
                assert_eq!((parsed.app, parsed.backlog), (AppId(7), dynamic.then_some(511)));
                let (key, lane, place) = split(parsed.rest);
                assert_eq!((key, lane.second), ("[::]:3000", false));
                (lane.slot, place)
            };
            assert_eq!((read(&group, 0), read(&group, 2)), ((0, Some(0)), (2, Some(2))));
            group.leave(Lane::first(0));
            assert_eq!((read(&group, 1), read(&group, 2)), ((1, Some(1)), (2, Some(0))));
            group.order = None;
            assert_eq!(read(&group, 2), (2, None));
        }
    }

    #[test]
    fn what_no_spec_has_is_rebuilt() {
        for text in ["[::]:0", "0.0.0.0:80", "unix:/run/a#1", "unix:@x"] {
            let mut spec = ListenSpec::new(text.parse().unwrap());
            spec.backlog = 7;
            assert_eq!(recorded(&record(&spec)).as_ref(), Some(&spec));
        }
        assert!(rebuilt(1, "[::]:80,v6only").unwrap().v6_only);
        assert_eq!(recorded("127.0.0.1:0"), None);
        assert_eq!(parse("listen/x/y"), None);
        assert_eq!(parse("run/1/stdin"), None);
    }
}
