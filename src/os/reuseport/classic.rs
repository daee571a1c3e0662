//! Classic BPF: programs that need no privilege.

use std::io;
use std::os::fd::AsFd;

use super::{PROBES, Seat};

/// Where the IP header begins, for loads.
const NET: u32 = 0x100000_u32.wrapping_neg();
/// A random number, for loads.
const RANDOM: u32 = 0x1000_u32.wrapping_neg().wrapping_add(56);
/// Most instructions the kernel takes.
const LONGEST: usize = 4096;

const LOAD: u16 = 0x20;
const LOAD_NUMBER: u16 = 0x00;
const LOAD_BYTE: u16 = 0x30;
const LOAD_INDEXED: u16 = 0x40;
const LOAD_X_HEADER: u16 = 0xb1;
const RECALL: u16 = 0x60;
const RECALL_X: u16 = 0x61;
const STORE: u16 = 0x02;
const ADD: u16 = 0x04;
const MUL: u16 = 0x24;
const SHIFT: u16 = 0x74;
const AND: u16 = 0x54;
const MOD: u16 = 0x94;
const XOR: u16 = 0xa4;
const XOR_X: u16 = 0xac;
const TO_X: u16 = 0x07;
const JUMP: u16 = 0x05;
const IF_EQUAL: u16 = 0x15;
const IF_AT_LEAST: u16 = 0x35;
const IF_MORE_THAN_X: u16 = 0x2d;
const ANSWER: u16 = 0x16;

/// Multipliers that spread every bit over the upper ones (odd, with no pattern in their bits).
const SPREAD: [u32; 3] = [0x9e37_79b1, 0x85eb_ca6b, 0xc2b2_ae35];

/// A program.
pub(super) type Program = Vec<libc::sock_filter>;

const fn op(code: u16, k: u32) -> libc::sock_filter {
    branch(code, k, 0, 0)
}

const fn branch(code: u16, k: u32, jt: u8, jf: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt, jf, k }
}

/// Attaches a program to the group of a socket.
///
/// # Errors
/// It is too long, or the system refuses it.
pub(super) fn attach(member: &impl AsFd, program: &Program) -> io::Result<()> {
    let program: Program = probed().into_iter().chain(program.iter().copied()).collect();
    if program.len() > LONGEST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let described = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_ptr().cast_mut(),
    };
    super::set(member, libc::SO_ATTACH_REUSEPORT_CBPF, &described)
}

/// The beginning of every program: who connects from [`super::probe_source`] names the place.
fn probed() -> [libc::sock_filter; 9] {
    [
        op(LOAD_BYTE, NET),
        op(SHIFT, 4),
        branch(IF_EQUAL, 4, 0, 6),
        op(LOAD, NET.wrapping_add(12)),
        op(SHIFT, 16),
        branch(IF_EQUAL, PROBES, 0, 3),
        op(LOAD, NET.wrapping_add(12)),
        op(AND, 0xffff),
        op(ANSWER, 0),
    ]
}

/// By chance.
pub(super) fn random(seats: &[Seat]) -> Program {
    let mut program = vec![op(LOAD, RANDOM)];
    nth(&mut program, seats);
    program
}

/// By a hash of the client's address and both ports.
pub(super) fn flow(seats: &[Seat]) -> Program {
    let mut v6 = vec![op(LOAD, NET.wrapping_add(40)), op(STORE, 0)];
    for at in [20, 16, 12, 8] {
        fold(&mut v6, at);
    }
    let mut v4 = vec![op(LOAD_X_HEADER, NET), op(LOAD_INDEXED, NET), op(STORE, 0)];
    fold(&mut v4, 12);
    let mut program = by_version(v6, v4);
    mix(&mut program);
    nth(&mut program, seats);
    program
}

/// One or the other.
fn by_version(v6: Program, v4: Program) -> Program {
    let mut program = vec![op(LOAD_BYTE, NET), op(SHIFT, 4)];
    // Both are a few dozen instructions.
    program.push(branch(IF_EQUAL, 6, 0, u8::try_from(v6.len() + 1).unwrap_or(u8::MAX)));
    program.extend(v6);
    program.push(op(JUMP, u32::try_from(v4.len()).unwrap_or(u32::MAX)));
    program.extend(v4);
    program
}

/// Takes a word of the IP header into the hash that is in memory 0, and has it in the accumulator, too.
fn fold(program: &mut Program, at: u32) {
    program.extend([
        op(RECALL, 0),
        op(MUL, SPREAD[0]),
        op(STORE, 0),
        op(LOAD, NET.wrapping_add(at)),
    ]);
    program.extend([op(RECALL_X, 0), op(XOR_X, 0), op(STORE, 0)]);
}

/// The client: an IPv4 address, or the 64 bits of an IPv6 one that say whose network it is.
fn client() -> Program {
    let mut v6 = vec![op(LOAD, NET.wrapping_add(8)), op(STORE, 0)];
    fold(&mut v6, 12);
    let mut program = by_version(v6, vec![op(LOAD, NET.wrapping_add(12))]);
    mix(&mut program);
    program
}

/// Every bit of the accumulator has a say in every other.
fn mix(program: &mut Program) {
    program.extend([op(TO_X, 0), op(SHIFT, 16), op(XOR_X, 0), op(MUL, SPREAD[1])]);
    program.extend([op(TO_X, 0), op(SHIFT, 13), op(XOR_X, 0), op(MUL, SPREAD[2])]);
    program.extend([op(TO_X, 0), op(SHIFT, 16), op(XOR_X, 0)]);
}

/// The same arithmetic, for the numbers of slots.
fn mixed(number: u32) -> u32 {
    let mut a = number.wrapping_add(1).wrapping_mul(SPREAD[0]);
    a = (a ^ (a >> 16)).wrapping_mul(SPREAD[1]);
    a = (a ^ (a >> 13)).wrapping_mul(SPREAD[2]);
    a ^ (a >> 16)
}

/// By the client's address: every slot draws a number from it, and the highest has the client. A slot that comes or
/// goes moves only the clients that it gets or had.
pub(super) fn source(seats: &[Seat]) -> Program {
    let mut program = client();
    program.push(op(STORE, 0));
    for (at, seat) in seats.iter().enumerate() {
        program.extend([op(RECALL, 0), op(XOR, mixed(seat.slot)), op(MUL, SPREAD[0])]);
        program.extend([op(TO_X, 0), op(SHIFT, 15), op(XOR_X, 0), op(MUL, SPREAD[1])]);
        if at > 0 {
            program.extend([op(RECALL_X, 1), branch(IF_MORE_THAN_X, 0, 0, 3)]);
        }
        program.extend([op(STORE, 1), op(LOAD_NUMBER, seat.place), op(STORE, 2)]);
    }
    program.extend([op(RECALL, 2), op(ANSWER, 0)]);
    program
}

/// By the client's address, for more slots than the other has room for: a slot that comes or goes moves most clients.
pub(super) fn source_modulo(seats: &[Seat]) -> Program {
    let mut program = client();
    nth(&mut program, seats);
    program
}

/// The end of a program: the seat whose number among all is the accumulator's remainder.
fn nth(program: &mut Program, seats: &[Seat]) {
    program.push(op(MOD, u32::try_from(seats.len()).unwrap_or(u32::MAX).max(1)));
    let runs = runs(seats);
    for (at, run) in runs.iter().enumerate() {
        if at + 1 < runs.len() {
            program.push(branch(IF_AT_LEAST, run.end, 2, 0));
        }
        program.extend([op(ADD, run.offset), op(ANSWER, 0)]);
    }
    if runs.is_empty() {
        program.push(op(ANSWER, 0));
    }
}

/// Seats beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    /// The first number that is behind them.
    pub(super) end: u32,
    /// From a seat's number to its place.
    pub(super) offset: u32,
}

/// Seats in order, in as few stretches as possible.
pub(super) fn runs(seats: &[Seat]) -> Vec<Stretch> {
    let mut runs: Vec<Stretch> = Vec::new();
    for (number, seat) in (0..).zip(seats) {
        let offset = seat.place.wrapping_sub(number);
        match runs.last_mut() {
            Some(last) if last.offset == offset => last.end = number + 1,
            Some(_) | None => runs.push(Stretch {
                end: number + 1,
                offset,
            }),
        }
    }
    runs
}
