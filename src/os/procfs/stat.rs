//! `/proc/PID/stat`.

/// The fields that this program uses, in the kernel's units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `D`, `T`, `Z` and so on, as ASCII.
    pub state: u8,
    /// Parent.
    pub ppid: i32,
    /// Process group.
    pub pgrp: i32,
    /// Session.
    pub session: i32,
    /// CPU time in user mode, in clock ticks.
    pub utime: u64,
    /// CPU time in the kernel, in clock ticks.
    pub stime: u64,
    /// CPU time in user mode of children that were collected, in clock ticks.
    pub cutime: u64,
    /// CPU time in the kernel of children that were collected, in clock ticks.
    pub cstime: u64,
    /// Number of threads.
    pub threads: u32,
    /// Clock ticks since boot when it began.
    pub start_ticks: u64,
    /// Resident pages.
    pub rss_pages: u64,
    /// Wait status of a dead process, if we may see it.
    pub exit_code: Option<i32>,
}

impl Stat {
    /// It executes no more: dead, waiting to be collected.
    #[must_use]
    pub const fn is_dead(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }
}

/// Reads one line of `/proc/PID/stat`. The name in parentheses may contain anything, parentheses and
/// line ends included, so fields are counted from its last closing one.
#[must_use]
pub fn parse_stat(line: &[u8]) -> Option<Stat> {
    let after = memchr::memrchr(b')', line)? + 2;
    let mut stat = Stat::default();
    let mut seen = false;
    for (at, field) in line.get(after..)?.split(|byte| byte.is_ascii_whitespace()).enumerate() {
        // Field numbers as in proc(5); the state is number 3.
        match at + 3 {
            3 => stat.state = *field.first()?,
            4 => stat.ppid = signed(field)?,
            5 => stat.pgrp = signed(field)?,
            6 => stat.session = signed(field)?,
            14 => stat.utime = unsigned(field)?,
            15 => stat.stime = unsigned(field)?,
            16 => stat.cutime = unsigned(field)?,
            17 => stat.cstime = unsigned(field)?,
            20 => stat.threads = u32::try_from(unsigned(field)?).ok()?,
            22 => stat.start_ticks = unsigned(field)?,
            24 => {
                stat.rss_pages = unsigned(field)?;
                seen = true;
            }
            52 => stat.exit_code = signed(field),
            _ => {}
        }
    }
    seen.then_some(stat)
}

pub(super) fn unsigned(field: &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for byte in field {
        let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
        value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
    }
    (!field.is_empty()).then_some(value)
}

pub(super) fn signed(field: &[u8]) -> Option<i32> {
    match field.strip_prefix(b"-") {
        Some(digits) => i32::try_from(unsigned(digits)?).ok().map(|value| -value),
        None => i32::try_from(unsigned(field)?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::parse_stat;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    const REST: &str = "S 7 -1 9 0 -1 4194560 1 2 3 4 140 15 16 17 20 0 3 0 2200 10000000 24 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 256\n";

    #[test]
    fn names_may_contain_anything() {
        for name in ["sleep", "a) S 1 2 (", ") R 9 9 9", "x\n y"] {
            let stat = parse_stat(format!("12 ({name}) {REST}").as_bytes()).unwrap();
            assert_eq!(
                (stat.state, stat.ppid, stat.pgrp, stat.session),
                (b'S', 7, -1, 9),
                "{name}"
            );
            assert_eq!((stat.utime, stat.stime, stat.threads), (140, 15, 3));
            assert_eq!(
                (stat.start_ticks, stat.rss_pages, stat.exit_code),
                (2200, 24, Some(256))
            );
        }
    }

    proptest! {
        #[test]
        fn rubbish_is_refused_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_stat(&bytes);
        }

        #[test]
        fn a_cut_line_is_no_other_process(cut in 0_usize..70) {
            let line = format!("12 (x) {REST}");
            let whole = parse_stat(line.as_bytes()).unwrap();
            if let Some(stat) = parse_stat(&line.as_bytes()[..cut]) {
                prop_assert_eq!(stat.start_ticks, whole.start_ticks);
                prop_assert!(cut > 60);
            }
        }
    }
}
