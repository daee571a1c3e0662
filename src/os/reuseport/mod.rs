//! Which socket of a group that shares one address gets the next connection.
//!
//! Sockets that listen on one address with `SO_REUSEPORT` are a group. The kernel keeps them in the order in which
//! they began to listen, and moves the last one into the place of one that leaves. Without a program it chooses by a
//! hash of both addresses and ports; a program names a place instead, and so can leave places out. One that is
//! attached replaces the one before it at once, and stays when its process ends.

mod classic;
mod extended;

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};

use crate::model::balance::Balance;
use crate::model::names::Slot;

/// The upper half of the addresses from which single places are connected to: 127.77.0.0/16, which only this machine
/// itself can send from.
const PROBES: u32 = 0x7f4d;

/// The address from which a connection reaches the socket in this place, whatever the program; if there is a program.
/// For IPv4 only.
#[must_use]
pub const fn probe_source(place: u32) -> Option<Ipv4Addr> {
    if place > 0xffff {
        return None;
    }
    Some(Ipv4Addr::from_bits((PROBES << 16) | place))
}

/// A socket that may be chosen: whose it is, and its place in the kernel's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seat {
    /// Its slot, by which clients are told apart.
    pub slot: Slot,
    /// Its place, from 0.
    pub place: u32,
}

/// What a group was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Live {
    /// How it is done.
    pub balance: Balance,
    /// Why that is not what was wanted.
    pub why: Option<String>,
}

/// Tells the group of `member` how to choose among `seats`, which are in the order of their places. `all`: they are
/// the whole group. `datagrams`: it is UDP, where every packet is chosen for anew.
///
/// Needs no privilege but for [`Balance::RoundRobin`], in whose place [`Balance::Even`] is done where eBPF is not
/// allowed.
///
/// # Errors
/// The group is as before: it is no group, or the system has no memory for the program.
pub fn select(member: impl AsFd, balance: Balance, seats: &[Seat], all: bool, datagrams: bool) -> io::Result<Live> {
    let member = member.as_fd();
    let live = |balance| Live { balance, why: None };
    match balance {
        Balance::Random | Balance::RoundRobin if datagrams => {
            // A socket of UDP that was closed is chosen until its last holder has closed it; a program names no such.
            even(&member, seats, false)?;
            let why = "the datagrams of one client belong together".to_owned();
            Ok(Live {
                balance: Balance::Even,
                why: Some(why),
            })
        }
        Balance::Shared | Balance::Even => even(&member, seats, all && !datagrams).map(|()| live(Balance::Even)),
        Balance::Random => classic::attach(&member, &classic::random(seats)).map(|()| live(Balance::Random)),
        Balance::Sticky => sticky(&member, seats).map(|()| live(Balance::Sticky)),
        Balance::RoundRobin => match extended::attach(&member, seats) {
            Ok(()) => Ok(live(Balance::RoundRobin)),
            Err(error) => {
                even(&member, seats, all)?;
                Ok(instead(&error))
            }
        },
    }
}

/// Leaves places out although all could be chosen: what joins the group later is not chosen before it is said so.
///
/// # Errors
/// As [`select`].
pub fn pin(member: impl AsFd, seats: &[Seat]) -> io::Result<()> {
    classic::attach(&member, &classic::flow(seats))
}

/// Takes the program away: the kernel chooses among all.
///
/// # Errors
/// The system is older than Linux 5.3.
pub fn release(member: impl AsFd) -> io::Result<()> {
    match set(&member, libc::SO_DETACH_REUSEPORT_BPF, &0_i32) {
        // There was none.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        result => result,
    }
}

/// The nearest thing to taking turns.
fn instead(error: &io::Error) -> Live {
    let allowed = !matches!(error.raw_os_error(), Some(libc::EPERM | libc::EACCES | libc::ENOSYS));
    let why = if allowed {
        format!("the eBPF program for it was refused: {error}")
    } else {
        "this user may not load eBPF programs (CAP_BPF)".to_owned()
    };
    Live {
        balance: Balance::Even,
        why: Some(why),
    }
}

fn even(member: &impl AsFd, seats: &[Seat], all: bool) -> io::Result<()> {
    if all && release(member).is_ok() {
        return Ok(());
    }
    classic::attach(member, &classic::flow(seats))
}

/// The better program is longer; there may be no room for it.
fn sticky(member: &impl AsFd, seats: &[Seat]) -> io::Result<()> {
    let best = classic::source(seats);
    classic::attach(member, &best).or_else(|_| classic::attach(member, &classic::source_modulo(seats)))
}

fn set<T>(socket: &impl AsFd, option: libc::c_int, value: &T) -> io::Result<()> {
    let length = libc::socklen_t::try_from(size_of::<T>()).map_err(io::Error::other)?;
    // SAFETY: the value is readable and as long as `length` says; the kernel copies it during the call, and what it
    // points to is alive as long as the caller's reference.
    let done = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            option,
            std::ptr::from_ref(value).cast(),
            length,
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

#[cfg(test)]
mod tests;
