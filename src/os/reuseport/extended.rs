//! Extended BPF: a program with a counter, which needs `CAP_BPF` where the system does not allow it to everybody.
//!
//! ```text
//!   counter = the map's only entry          r0 = lookup(map, 0)
//!   number = counter++ mod the seats        r0 = fetch_add(r0, 1) % n
//!   place = number + its stretch's offset   if r0 >= end: next; r0 += offset
//! ```

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

use super::classic::runs;
use super::{PROBES, Seat};

const MAP_CREATE: libc::c_int = 0;
const PROG_LOAD: libc::c_int = 5;
const MAP_TYPE_ARRAY: u32 = 2;
const PROG_TYPE_SOCKET_FILTER: u32 = 1;
/// Where the IP header begins, for loads.
const NET: i32 = -0x10_0000;
/// The helper `bpf_map_lookup_elem`.
const LOOKUP: i32 = 1;
/// As `BPF_MAXINSNS`: what a kernel takes from those without privileges for sure.
const LONGEST: usize = 4096;

/// `struct bpf_insn`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Instruction {
    code: u8,
    /// Destination in the lower four bits, source in the upper ones.
    registers: u8,
    offset: i16,
    immediate: i32,
}

const fn op(code: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction {
        code,
        registers: destination | (source << 4),
        offset,
        immediate,
    }
}

/// The start of `union bpf_attr` for `BPF_MAP_CREATE`.
#[repr(C)]
struct MapAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
}

/// The start of `union bpf_attr` for `BPF_PROG_LOAD`.
#[repr(C)]
struct ProgAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// Lets the sockets take turns. The group keeps program and counter.
///
/// # Errors
/// `EPERM` where it is not allowed.
pub(super) fn attach(member: &impl AsFd, seats: &[Seat]) -> io::Result<()> {
    let map = bpf(
        MAP_CREATE,
        &MapAttr {
            map_type: MAP_TYPE_ARRAY,
            key_size: 4,
            value_size: 8,
            max_entries: 1,
            map_flags: 0,
        },
    )?;
    let instructions = program(seats, map.as_raw_fd());
    if instructions.len() > LONGEST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let licence = c"MIT OR Apache-2.0";
    let program = bpf(
        PROG_LOAD,
        &ProgAttr {
            prog_type: PROG_TYPE_SOCKET_FILTER,
            insn_cnt: u32::try_from(instructions.len()).map_err(io::Error::other)?,
            insns: instructions.as_ptr().addr() as u64,
            license: licence.as_ptr().addr() as u64,
            log_level: 0,
            log_size: 0,
            log_buf: 0,
            kern_version: 0,
            prog_flags: 0,
        },
    )?;
    super::set(member, libc::SO_ATTACH_REUSEPORT_EBPF, &program.as_raw_fd())
}

fn bpf<T>(command: libc::c_int, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attributes are readable, as long as is said, and begin as the kernel's union does for this command;
    // what they point to lives in the caller until the call has returned, and the kernel copies it.
    let made = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    match i32::try_from(made) {
        // SAFETY: the kernel has just opened it for us; nobody else owns it.
        Ok(number) if number >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
        Ok(_) | Err(_) => Err(io::Error::last_os_error()),
    }
}

fn program(seats: &[Seat], map: i32) -> Vec<Instruction> {
    let count = i32::try_from(seats.len()).unwrap_or(i32::MAX).max(1);
    let mut list = vec![
        // Who connects from `probe_source` names the place.
        op(0xbf, 6, 1, 0, 0),
        op(0x30, 0, 0, 0, NET),
        op(0x77, 0, 0, 0, 4),
        op(0x55, 0, 0, 6, 4),
        op(0x20, 0, 0, 0, NET + 12),
        op(0xbf, 1, 0, 0, 0),
        op(0x77, 1, 0, 0, 16),
        op(0x55, 1, 0, 2, PROBES.cast_signed()),
        op(0x57, 0, 0, 0, 0xffff),
        op(0x95, 0, 0, 0, 0),
        // The key 0 on the stack; its address in r2.
        op(0x62, 10, 0, -4, 0),
        op(0xbf, 2, 10, 0, 0),
        op(0x07, 2, 0, 0, -4),
        // The map in r1.
        op(0x18, 1, 1, 0, map),
        op(0, 0, 0, 0, 0),
        op(0x85, 0, 0, 0, LOOKUP),
        // There is no such entry: cannot be, but must be asked.
        op(0x55, 0, 0, 1, 0),
        op(0x95, 0, 0, 0, 0),
        // r0 = fetch_add(r0, 1) % count
        op(0xb7, 1, 0, 0, 1),
        op(0xdb, 0, 1, 0, 1),
        op(0xbf, 0, 1, 0, 0),
        op(0x97, 0, 0, 0, count),
    ];
    let stretches = runs(seats);
    for (at, stretch) in stretches.iter().enumerate() {
        if at + 1 < stretches.len() {
            list.push(op(0x35, 0, 0, 2, i32::try_from(stretch.end).unwrap_or(i32::MAX)));
        }
        list.push(op(0x07, 0, 0, 0, stretch.offset.cast_signed()));
        list.push(op(0x95, 0, 0, 0, 0));
    }
    if stretches.is_empty() {
        list.push(op(0x95, 0, 0, 0, 0));
    }
    list
}
