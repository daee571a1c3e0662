//! What a datagram on `NOTIFY_SOCKET` says (`sd_notify(3)`). Pure.

use crate::model::duration::Millis;
use crate::supervise::said::cleaned;

/// What a descriptor is called whose sender gave it no name, or none that can be handed on.
const UNNAMED: &str = "stored";
/// Longest time that is asked for in earnest: a year.
const LONGEST: u64 = 365 * 24 * 3_600_000;
/// Highest number that the kernel uses for an error.
const MAX_ERRNO: i32 = 4095;

/// What the sender is doing. Where a message names several, the last one counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    /// `READY=1`: it is ready, or has reloaded.
    Ready,
    /// `RELOADING=1`. When it began, `MONOTONIC_USEC`, is not needed: messages arrive in order.
    Reloading,
    /// `STOPPING=1`.
    Stopping,
}

/// `FDSTORE=1` or `FDSTOREREMOVE=1`, which comes first if both are there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Store {
    /// Keep the descriptors that came along.
    Add {
        /// `FDNAME`.
        name: String,
        /// Close them when their other end is gone; not with `FDPOLL=0`.
        poll: bool,
    },
    /// Close those of this name.
    Remove {
        /// `FDNAME`.
        name: String,
    },
}

/// A sign of life, or the opposite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Watchdog {
    /// `WATCHDOG=1`.
    Alive,
    /// `WATCHDOG=trigger`.
    Trigger,
}

/// One message. What is not known, and what makes no sense, is left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    /// `BARRIER=1`: everything before it has been handled. Nothing else in such a message counts.
    pub barrier: bool,
    pub doing: Option<Doing>,
    /// `STATUS`, cleaned; empty to take the last one back.
    pub status: Option<String>,
    /// `ERRNO` or `BUSERROR`, in words.
    pub trouble: Option<String>,
    /// `MAINPID`.
    pub main_pid: Option<i32>,
    pub watchdog: Option<Watchdog>,
    /// `WATCHDOG_USEC`.
    pub watchdog_interval: Option<Millis>,
    /// `EXTEND_TIMEOUT_USEC`.
    pub extend: Option<Millis>,
    pub store: Option<Store>,
}

/// Reads a message. Any bytes are one.
pub(crate) fn parse(bytes: &[u8]) -> Message {
    let mut message = Message::default();
    let (mut add, mut remove, mut poll, mut name) = (false, false, true, None);
    for line in bytes.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let Some((key, value)) = line.trim_end_matches('\0').split_once('=') else {
            continue;
        };
        match (key, value) {
            ("BARRIER", "1") => {
                return Message {
                    barrier: true,
                    ..Message::default()
                };
            }
            ("READY", "1") => message.doing = Some(Doing::Ready),
            ("RELOADING", "1") => message.doing = Some(Doing::Reloading),
            ("STOPPING", "1") => message.doing = Some(Doing::Stopping),
            ("STATUS", text) => message.status = Some(cleaned(text)),
            ("ERRNO", number) => message.trouble = errno(number).or(message.trouble),
            ("BUSERROR", text) if !text.is_empty() => message.trouble = Some(format!("bus error {}", cleaned(text))),
            ("MAINPID", pid) => message.main_pid = pid.parse().ok().filter(|pid| *pid > 1).or(message.main_pid),
            ("WATCHDOG", "1") => message.watchdog = Some(Watchdog::Alive),
            ("WATCHDOG", "trigger") => message.watchdog = Some(Watchdog::Trigger),
            ("WATCHDOG_USEC", time) => message.watchdog_interval = micros(time).or(message.watchdog_interval),
            ("EXTEND_TIMEOUT_USEC", time) => message.extend = micros(time).or(message.extend),
            ("FDSTORE", "1") => add = true,
            ("FDSTOREREMOVE", "1") => remove = true,
            ("FDPOLL", "0") => poll = false,
            ("FDNAME", text) => name = is_name(text).then(|| text.to_owned()),
            // Other assignments, those that begin with `X_` among them, are for others.
            _ => {}
        }
    }
    message.store = match (remove, add, name) {
        // Without a name it is not said which.
        (true, _, name) => name.map(|name| Store::Remove { name }),
        (false, true, name) => Some(Store::Add {
            name: name.unwrap_or_else(|| UNNAMED.to_owned()),
            poll,
        }),
        (false, false, _) => None,
    };
    message
}

/// What `LISTEN_FDNAMES` can hold.
fn is_name(text: &str) -> bool {
    (1..=255).contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b':')
}

/// Microseconds, rounded up.
fn micros(text: &str) -> Option<Millis> {
    let micros: u64 = text.parse().ok()?;
    Some(Millis(micros.div_ceil(1_000).min(LONGEST)))
}

fn errno(text: &str) -> Option<String> {
    let number: i32 = text.parse().ok().filter(|number| (1..=MAX_ERRNO).contains(number))?;
    let cause = crate::os::spawn::describe(number);
    Some(format!("error {number}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::{Doing, Message, Store, Watchdog, parse};
    use crate::model::duration::Millis;
    use proptest::prelude::{any, prop_assert, proptest};

    #[test]
    fn reads_what_is_known_and_nothing_else() {
        let all = parse(
            b"READY=1\nSTATUS=2 of 3 \x07\nERRNO=2\nMAINPID=77\nWATCHDOG=trigger\nWATCHDOG_USEC=1500\n\
              EXTEND_TIMEOUT_USEC=2000001\nFDSTORE=1\nFDNAME=a b/c\nX_MINE=1\nnonsense\n=\nMONOTONIC_USEC=1",
        );
        let expected = Message {
            barrier: false,
            doing: Some(Doing::Ready),
            status: Some("2 of 3".into()),
            trouble: all.trouble.clone(),
            main_pid: Some(77),
            watchdog: Some(Watchdog::Trigger),
            watchdog_interval: Some(Millis(2)),
            extend: Some(Millis(2001)),
            store: Some(Store::Add {
                name: "a b/c".into(),
                poll: true,
            }),
        };
        assert_eq!(all, expected);
        let trouble = all.trouble.unwrap();
        assert!(trouble.starts_with("error 2: ") && trouble.len() > 9, "{trouble}");
        for rubbish in [
            "READY=0",
            "READY",
            "ready=1",
            "MAINPID=1",
            "MAINPID=-4",
            "MAINPID=99999999999",
            "ERRNO=0",
            "ERRNO=70000",
            "WATCHDOG=2",
            "WATCHDOG_USEC=-1",
            "FDSTOREREMOVE=1",
            "FDNAME=x",
            "",
        ] {
            assert_eq!(parse(rubbish.as_bytes()), Message::default(), "{rubbish}");
        }
    }

    #[test]
    fn the_last_word_counts() {
        let doing = |text: &str| parse(text.as_bytes()).doing;
        assert_eq!(doing("RELOADING=1\nMONOTONIC_USEC=7"), Some(Doing::Reloading));
        assert_eq!(doing("RELOADING=1\nREADY=1"), Some(Doing::Ready));
        assert_eq!(doing("READY=1\nSTOPPING=1\n"), Some(Doing::Stopping));
        // Some clients terminate what they send as C does.
        assert_eq!(doing("READY=1\0"), Some(Doing::Ready));
    }

    #[test]
    fn descriptors_are_added_and_removed_by_name() {
        let store = |text: &str| parse(text.as_bytes()).store;
        assert_eq!(
            store("FDPOLL=0\nFDNAME=db\nFDSTORE=1"),
            Some(Store::Add {
                name: "db".into(),
                poll: false
            })
        );
        assert_eq!(
            store("FDSTORE=1\nFDSTOREREMOVE=1\nFDNAME=db"),
            Some(Store::Remove { name: "db".into() })
        );
        assert_eq!(store("FDSTOREREMOVE=1\nFDNAME=a:b"), None);
        let unnamed = Store::Add {
            name: "stored".into(),
            poll: true,
        };
        assert_eq!(store("FDSTORE=1\nFDNAME=a:b"), Some(unnamed.clone()));
        assert_eq!(store(&format!("FDSTORE=1\nFDNAME={}", "x".repeat(256))), Some(unnamed));
    }

    #[test]
    fn a_barrier_is_only_that() {
        let message = parse(b"READY=1\nBARRIER=1\nSTATUS=x");
        assert_eq!(
            message,
            Message {
                barrier: true,
                ..Message::default()
            }
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..400), key in "[A-Z_]{0,12}") {
            let mut text = format!("{key}=").into_bytes();
            text.extend(bytes);
            let message = parse(&text);
            prop_assert!(message.status.is_none_or(|status| status.len() <= 1024));
            prop_assert!(message.main_pid.is_none_or(|pid| pid > 1));
        }

        #[test]
        fn no_number_is_too_large(number in any::<u64>()) {
            let message = parse(format!("EXTEND_TIMEOUT_USEC={number}\nWATCHDOG_USEC={number}").as_bytes());
            prop_assert!(message.extend.is_some() && message.watchdog_interval.is_some());
        }
    }
}
