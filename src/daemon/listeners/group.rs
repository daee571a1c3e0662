//! The sockets of one address: one for all slots, or one for each.
//!
//! ```text
//!   slot                     0    1    2    3        each has a queue of its own
//!   the kernel's order     [ 0    1    2    3 ]      the order of `listen`; programs name places in it
//!   2 leaves               [ 0    1    3 ]           the last one takes its place
//! ```
//!
//! Sockets are made in the order of their slots and closed from the top, so that place and slot are the same as long
//! as nothing is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use super::lane::Lane;
use crate::model::balance::Balance;
use crate::model::listen::{Address, ListenSpec};
use crate::model::names::RunId;
use crate::model::time::Moment;
use crate::os::reuseport::{self, Live, Seat};
use crate::os::{fds, socket};

/// One bound socket.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) fd: Arc<OwnedFd>,
    pub(super) inode: u64,
    /// Since when nobody needs it and nothing waits in it.
    pub(super) idle_since: Option<Moment>,
}

/// What the kernel was told.
#[derive(Debug)]
struct Told {
    balance: Balance,
    seats: Vec<Seat>,
    chosen: BTreeSet<Lane>,
    /// Of how many.
    count: usize,
    /// A program is needed even if all are chosen.
    probed: bool,
    /// `None`: it refused.
    live: Option<Live>,
}

/// All sockets of one address.
#[derive(Debug)]
pub(crate) struct Group {
    pub(super) spec: ListenSpec,
    pub(super) port: Option<u16>,
    pub(super) members: BTreeMap<Lane, Member>,
    /// The slots as the kernel has them; `None` where nobody can know any more.
    pub(super) order: Option<Vec<Lane>>,
    /// Made for workers of a Node cluster: those that have asked for it.
    pub(super) asked: Option<BTreeSet<RunId>>,
    told: Option<Told>,
}

impl Group {
    /// Without sockets.
    pub(super) fn new(spec: ListenSpec, dynamic: bool) -> Self {
        Self {
            spec,
            port: None,
            members: BTreeMap::new(),
            order: Some(Vec::new()),
            asked: dynamic.then(BTreeSet::new),
            told: None,
        }
    }

    /// Any of them.
    pub(super) fn any(&self) -> Option<&Arc<OwnedFd>> {
        self.members.values().next().map(|member| &member.fd)
    }

    /// Takes one in that the kernel has put behind the others.
    pub(super) fn enter(&mut self, lane: Lane, fd: Arc<OwnedFd>) {
        let member = Member {
            inode: fds::inode(&fd).unwrap_or(0),
            fd,
            idle_since: None,
        };
        self.members.insert(lane, member);
        if let Some(order) = &mut self.order {
            order.push(lane);
        }
    }

    /// Takes one out that has left the kernel's group; the slot whose place has changed by it.
    pub(super) fn leave(&mut self, lane: Lane) -> Option<Lane> {
        self.members.remove(&lane);
        let order = self.order.as_mut()?;
        let place = order.iter().position(|known| *known == lane)?;
        order.swap_remove(place);
        order.get(place).copied()
    }

    /// Where the kernel has a slot.
    pub(super) fn place(&self, lane: Lane) -> Option<u32> {
        let place = self.order.as_ref()?.iter().position(|known| *known == lane)?;
        u32::try_from(place).ok()
    }

    /// Several sockets between which the kernel chooses.
    pub(super) fn is_split(&self) -> bool {
        self.members.len() > 1
    }

    /// Connections wait in it, which can be counted.
    pub(super) const fn is_tcp(&self) -> bool {
        matches!(self.spec.address, Address::Tcp(_))
    }

    /// Connections that wait in a slot.
    pub(super) fn queued(&self, lane: Lane) -> Option<u32> {
        socket::queued(&self.members.get(&lane)?.fd)
    }

    /// Those of these that there are, in the kernel's order.
    fn seats(&self, lanes: &BTreeSet<Lane>) -> Option<Vec<Seat>> {
        let seats = (0..).zip(self.order.as_ref()?).filter(|(_, lane)| lanes.contains(lane));
        let seat = |(place, lane): (u32, &Lane)| Seat { slot: lane.slot, place };
        Some(seats.map(seat).collect())
    }

    /// Has the kernel choose among these lanes. `probed`: single ones are connected to, too; see [`Self::place`].
    pub(super) fn choose(&mut self, balance: Balance, lanes: &BTreeSet<Lane>, probed: bool) {
        let Some(first) = self.any().filter(|_| self.is_split()).cloned() else {
            self.told = None;
            return;
        };
        let seats = self.seats(lanes);
        let wanted = seats.as_deref().unwrap_or_default();
        if seats.is_some() && wanted.is_empty() {
            return;
        }
        let count = self.members.len();
        let same = |told: &Told| {
            told.balance == balance && told.count == count && told.probed == probed && told.seats == wanted
        };
        if self.told.as_ref().is_some_and(same) {
            return;
        }
        let result = match &seats {
            Some(seats) => {
                let datagrams = matches!(self.spec.address, Address::Udp(_));
                let all = seats.len() == count && !probed;
                reuseport::select(&first, balance, seats, all, datagrams)
            }
            None => reuseport::release(&first).map(|()| Live {
                balance: Balance::Even,
                why: Some("the order of the sockets was lost when keeper and daemon were killed at once".to_owned()),
            }),
        };
        let address = &self.spec.address;
        let live = result
            .inspect_err(|error| tracing::warn!("{address}: connections cannot be spread as wanted: {error}"))
            .ok();
        if let Some(why) = live.as_ref().and_then(|live| live.why.as_ref()) {
            tracing::info!("{address}: {balance} is not possible: {why}");
        }
        self.told = Some(Told {
            balance,
            seats: wanted.to_vec(),
            chosen: lanes.clone(),
            count,
            probed,
            live,
        });
    }

    /// Before others join: they are not chosen before that is said.
    pub(super) fn pin(&mut self) {
        let Some(first) = self.any() else { return };
        let seats = match &self.told {
            // A program names its places anyway.
            Some(told) if told.seats.len() < told.count || told.balance != Balance::Even => return,
            Some(told) => told.seats.clone(),
            None => self.seats(&self.members.keys().copied().collect()).unwrap_or_default(),
        };
        // A socket that was alone has no group yet. What it gives to the others until they have one waits for them.
        let _alone = reuseport::pin(first, &seats);
        self.told = None;
    }

    /// How connections are spread, if there is something to spread them over.
    pub(super) fn live(&self) -> Option<&Live> {
        self.told.as_ref()?.live.as_ref()
    }

    /// The kernel gives a slot nothing new, and somebody else something.
    pub(super) fn is_out(&self, lane: Lane) -> bool {
        let out = |told: &Told| told.live.is_some() && !told.chosen.contains(&lane);
        self.order.is_some() && self.told.as_ref().is_some_and(out)
    }

    /// After some were lost: the kernel's order of the others, from the places that they had.
    pub(super) fn reorder(&mut self, places: &BTreeMap<Lane, Option<u32>>) {
        let by_place: Option<BTreeMap<u32, Lane>> =
            places.iter().map(|(lane, place)| Some(((*place)?, *lane))).collect();
        self.order = by_place
            .filter(|by_place| by_place.len() == self.members.len())
            .and_then(|by_place| order(&by_place));
    }
}

/// The order in which the kernel has sockets that had these places, when those of the other places are gone.
///
/// Each that left was replaced by the last one of then. With one place missing that is the highest one of now, however
/// many above it are gone; with more it depends on which left first, and nobody knows.
fn order(by_place: &BTreeMap<u32, Lane>) -> Option<Vec<Lane>> {
    let mut lanes: Vec<Lane> = by_place.values().copied().collect();
    let missing = (0..).zip(by_place.keys()).find(|(expected, place)| expected != *place);
    let Some((hole, _)) = missing else { return Some(lanes) };
    let highest = by_place.keys().next_back().copied()?;
    if u32::try_from(lanes.len()) != Ok(highest) {
        return None;
    }
    let last = lanes.pop()?;
    lanes.insert(hole as usize, last);
    Some(lanes)
}

#[cfg(test)]
mod tests {
    use super::{Group, order};
    use crate::daemon::listeners::lane::Lane;
    use crate::model::listen::ListenSpec;
    use crate::model::names::Slot;
    use crate::os::socket;
    use std::collections::BTreeMap;
    use std::sync::Arc;

    fn group(slots: &[Slot]) -> Group {
        let spec = ListenSpec::new("127.0.0.1:0".parse().unwrap());
        let mut group = Group::new(spec.clone(), false);
        for slot in slots {
            let fd = match group.any() {
                None => socket::listen(&spec, 0).unwrap(),
                Some(first) => socket::join(&spec, first).unwrap(),
            };
            group.enter(Lane::first(*slot), Arc::new(fd));
        }
        group
    }

    #[test]
    fn the_last_takes_the_place_of_one_that_leaves() {
        let mut group = group(&[0, 1, 2, 3]);
        let [zero, one, two, three] = [0, 1, 2, 3].map(Lane::first);
        assert_eq!(group.leave(three), None);
        assert_eq!(group.leave(zero), Some(two));
        assert_eq!(group.order, Some(vec![two, one]));
        assert_eq!(
            (group.place(two), group.place(one), group.place(zero)),
            (Some(0), Some(1), None)
        );
    }

    #[test]
    fn the_order_is_known_unless_too_much_is_gone() {
        let after = |left: &[u32]| -> Option<Vec<Slot>> {
            let order = order(&left.iter().map(|place| (*place, Lane::first(*place))).collect())?;
            Some(order.into_iter().map(|lane| lane.slot).collect())
        };
        assert_eq!(after(&[]), Some(vec![]));
        assert_eq!(after(&[0, 1, 2]), Some(vec![0, 1, 2]));
        assert_eq!(after(&[0, 2, 3]), Some(vec![0, 3, 2]));
        assert_eq!(after(&[1]), Some(vec![1]));
        assert_eq!(after(&[1, 2, 3]), Some(vec![3, 1, 2]));
        assert_eq!(after(&[0, 3]), None);
        assert_eq!(after(&[2, 3]), None);
    }

    /// What the kernel does, for the one case that has a rule of its own.
    #[test]
    fn the_kernel_orders_as_is_thought() {
        use crate::model::balance::Balance;
        for gone in [&[1][..], &[1, 4], &[4, 1], &[0]] {
            let mut group = group(&[0, 1, 2, 3, 4]);
            for slot in gone {
                socket::unlisten(&group.members.remove(&Lane::first(*slot)).unwrap().fd);
            }
            let places = group.members.keys().map(|lane| (*lane, Some(lane.slot))).collect();
            group.reorder(&places);
            for lane in group.members.keys().copied().collect::<Vec<_>>() {
                group.choose(Balance::Even, &[lane].into(), false);
                let port = socket::port(group.any().unwrap()).unwrap();
                let _open = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
                assert_eq!(group.queued(lane), Some(1), "{lane} without {gone:?}");
                while let Ok(Some(_)) = socket::accept(&group.members[&lane].fd) {}
            }
        }
    }

    #[test]
    fn what_is_not_known_is_left_to_the_kernel() {
        use crate::model::balance::Balance;
        let mut group = group(&[0, 1, 2]);
        group.reorder(&BTreeMap::from(
            [(0, Some(0)), (1, None), (2, Some(2))].map(|(slot, place)| (Lane::first(slot), place)),
        ));
        assert_eq!(group.order, None);
        group.choose(Balance::Random, &[1].map(Lane::first).into(), false);
        assert_eq!(group.live().map(|live| live.balance), Some(Balance::Even));
        assert!(!group.is_out(Lane::first(0)));
    }

    #[test]
    fn a_slot_is_out_when_others_are_not() {
        use crate::model::balance::Balance;
        let mut group = group(&[0, 1]);
        assert!(!group.is_out(Lane::first(1)));
        group.choose(Balance::Sticky, &[0].map(Lane::first).into(), false);
        assert!(group.is_out(Lane::first(1)) && !group.is_out(Lane::first(0)));
        group.choose(Balance::Sticky, &[].map(Lane::first).into(), false);
        assert!(group.is_out(Lane::first(1)), "nobody to go to: as it was");
        group.choose(Balance::Sticky, &[0, 1].map(Lane::first).into(), false);
        assert!(!group.is_out(Lane::first(1)));
    }
}
