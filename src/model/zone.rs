//! Names of time zones.

/// Where machines keep their time zones, one file each.
pub const FOLDERS: [&str; 3] = ["/usr/share/zoneinfo", "/etc/zoneinfo", "/usr/share/lib/zoneinfo"];

/// Whether this is UTC, which needs no file.
#[must_use]
pub fn is_utc(name: &str) -> bool {
    ["UTC", "Etc/UTC", "Z"].iter().any(|utc| name.eq_ignore_ascii_case(utc))
}

/// Whether this can be a zone's name, and leads to no file elsewhere.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let part = |part: &str| {
        let letter = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'+');
        !part.is_empty() && part.bytes().all(letter)
    };
    name.len() <= 64 && name.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::{is_name, is_utc};

    #[test]
    fn names_lead_nowhere_else() {
        for good in [
            "UTC",
            "Europe/Berlin",
            "America/Argentina/Buenos_Aires",
            "Etc/GMT+3",
            "EST5EDT",
        ] {
            assert!(is_name(good), "{good}");
        }
        for bad in [
            "",
            "/etc/passwd",
            "../../etc/passwd",
            "Europe/",
            "a b",
            "Europe//Berlin",
            ".",
        ] {
            assert!(!is_name(bad), "{bad}");
        }
        assert!(is_utc("utc") && !is_utc("Europe/London"));
    }
}
