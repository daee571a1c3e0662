//! Lists of processes.

use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, RawDir, open, openat};

use super::stat::unsigned;

/// The children of a process, those of each of its threads.
#[must_use]
pub fn children(pid: i32) -> Vec<i32> {
    let mut list = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(tasks) = open(format!("/proc/{pid}/task"), flags, Mode::empty()) {
        each_child(&tasks, &mut |child| list.push(child));
    }
    list
}

/// Every process there is.
#[must_use]
pub fn all_pids() -> Vec<i32> {
    let mut list = Vec::new();
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(proc) = open("/proc", flags, Mode::empty()) {
        each_number(&proc, &mut |pid, _| list.push(pid));
    }
    list
}

/// Calls `found` for the children of every thread in an open `/proc/PID/task`, without allocating. The
/// folder may be read again later.
pub fn each_child(tasks: impl AsFd, found: &mut dyn FnMut(i32)) {
    let tasks = tasks.as_fd();
    let mut path = [0_u8; 32];
    each_number(tasks, &mut |_, name| {
        let suffix = b"/children\0";
        let length = name.len() + suffix.len();
        let Some(room) = path.get_mut(..length) else { return };
        room[..name.len()].copy_from_slice(name);
        room[name.len()..].copy_from_slice(suffix);
        let Ok(path) = std::ffi::CStr::from_bytes_with_nul(room) else {
            return;
        };
        if let Ok(file) = openat(tasks, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) {
            read_pids(&file, found);
        }
    });
}

/// Calls `found` for the pids in an open `children` file, from its beginning.
pub(crate) fn read_pids(file: impl AsFd, found: &mut dyn FnMut(i32)) {
    let mut buffer = [0_u8; 4096];
    let mut offset = 0;
    let mut pid = 0_i32;
    while let Ok(length @ 1..) = rustix::io::pread(&file, &mut buffer, offset) {
        for byte in buffer.iter().take(length) {
            if byte.is_ascii_digit() {
                pid = pid.saturating_mul(10).saturating_add(i32::from(byte - b'0'));
            } else if pid > 0 {
                found(pid);
                pid = 0;
            }
        }
        offset += length as u64;
    }
    if pid > 0 {
        found(pid);
    }
}

fn each_number(folder: impl AsFd, found: &mut dyn FnMut(i32, &[u8])) {
    if rustix::fs::seek(&folder, rustix::fs::SeekFrom::Start(0)).is_err() {
        return;
    }
    let mut buffer = [MaybeUninit::<u8>::uninit(); 2048];
    let mut entries = RawDir::new(folder, &mut buffer);
    while let Some(Ok(entry)) = entries.next() {
        let name = entry.file_name().to_bytes();
        if let Some(number) = unsigned(name).and_then(|number| i32::try_from(number).ok()) {
            found(number, name);
        }
    }
}
