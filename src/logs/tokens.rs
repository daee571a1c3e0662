//! The tokens of moment.js, in which PM2's `log_date_format` is written: all of them, in English.
//!
//! Each becomes a code of strftime where there is one, and is computed here where there is none. `[text]` and `\x` are
//! literal; so is every letter that is no token, as in `YYYY-MM-DDTHH:mm`.

use std::fmt::Write;

use jiff::Zoned;
use jiff::fmt::strtime::BrokenDownTime;

/// What has no code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Own {
    /// `1st`, `2nd`…
    Ordinal(Number),
    /// Two letters of the weekday's name.
    Weekday,
    /// Week, and the year it belongs to, as counted in America: from Sunday, the first has 1 January.
    Week {
        width: usize,
    },
    WeekYear {
        digits: usize,
    },
    /// 1 to 24.
    Hour {
        width: usize,
    },
    /// Milliseconds since 1970.
    Millis,
}

/// What an ordinal is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Number {
    Year,
    Quarter,
    Month,
    Day,
    YearDay,
    Weekday,
    Week,
    IsoWeek,
}

/// A piece of a format.
#[derive(Debug)]
enum Piece {
    /// Codes and literal text, for strftime.
    Codes(String),
    Own(Own),
}

/// What a token stands for.
#[derive(Clone, Copy)]
enum Meaning {
    Codes(&'static str),
    Own(Own),
}

const fn codes(codes: &'static str) -> Meaning {
    Meaning::Codes(codes)
}

const fn ordinal(number: Number) -> Meaning {
    Meaning::Own(Own::Ordinal(number))
}

/// Longest first.
const TOKENS: &[(&str, Meaning)] = &[
    ("SSSSSSSSS", codes("%9f")),
    ("SSSSSSSS", codes("%8f")),
    ("SSSSSSS", codes("%7f")),
    ("YYYYYY", codes("+%06Y")),
    ("SSSSSS", codes("%6f")),
    ("YYYYY", codes("%05Y")),
    ("GGGGG", codes("%05G")),
    ("ggggg", Meaning::Own(Own::WeekYear { digits: 5 })),
    ("NNNNN", codes("AD")),
    ("Hmmss", codes("%-H%M%S")),
    ("hmmss", codes("%-I%M%S")),
    ("SSSSS", codes("%5f")),
    ("YYYY", codes("%Y")),
    ("yyyy", codes("%Y")),
    ("GGGG", codes("%G")),
    ("gggg", Meaning::Own(Own::WeekYear { digits: 4 })),
    ("NNNN", codes("Anno Domini")),
    ("MMMM", codes("%B")),
    ("DDDD", codes("%j")),
    ("DDDo", ordinal(Number::YearDay)),
    ("dddd", codes("%A")),
    ("SSSS", codes("%4f")),
    ("LLLL", codes("%A, %B %-d, %Y %-I:%M %p")),
    ("llll", codes("%a, %b %-d, %Y %-I:%M %p")),
    ("yyy", codes("%Y")),
    ("NNN", codes("AD")),
    ("MMM", codes("%b")),
    ("DDD", codes("%-j")),
    ("ddd", codes("%a")),
    ("Hmm", codes("%-H%M")),
    ("hmm", codes("%-I%M")),
    ("SSS", codes("%3f")),
    ("LTS", codes("%-I:%M:%S %p")),
    ("LLL", codes("%B %-d, %Y %-I:%M %p")),
    ("lll", codes("%b %-d, %Y %-I:%M %p")),
    ("YY", codes("%y")),
    ("yy", codes("%Y")),
    ("yo", ordinal(Number::Year)),
    ("GG", codes("%g")),
    ("gg", Meaning::Own(Own::WeekYear { digits: 2 })),
    ("NN", codes("AD")),
    ("Qo", ordinal(Number::Quarter)),
    ("Mo", ordinal(Number::Month)),
    ("MM", codes("%m")),
    ("Do", ordinal(Number::Day)),
    ("DD", codes("%d")),
    ("do", ordinal(Number::Weekday)),
    ("dd", Meaning::Own(Own::Weekday)),
    ("wo", ordinal(Number::Week)),
    ("ww", Meaning::Own(Own::Week { width: 2 })),
    ("Wo", ordinal(Number::IsoWeek)),
    ("WW", codes("%V")),
    ("HH", codes("%H")),
    ("hh", codes("%I")),
    ("kk", Meaning::Own(Own::Hour { width: 2 })),
    ("mm", codes("%M")),
    ("ss", codes("%S")),
    ("SS", codes("%2f")),
    ("zz", codes("%Z")),
    ("ZZ", codes("%z")),
    ("LT", codes("%-I:%M %p")),
    ("LL", codes("%B %-d, %Y")),
    ("ll", codes("%b %-d, %Y")),
    ("Y", codes("%Y")),
    ("y", codes("%Y")),
    ("N", codes("AD")),
    ("Q", codes("%q")),
    ("M", codes("%-m")),
    ("D", codes("%-d")),
    ("d", codes("%w")),
    ("e", codes("%w")),
    ("E", codes("%u")),
    ("w", Meaning::Own(Own::Week { width: 1 })),
    ("W", codes("%-V")),
    ("a", codes("%P")),
    ("A", codes("%p")),
    ("H", codes("%-H")),
    ("h", codes("%-I")),
    ("k", Meaning::Own(Own::Hour { width: 1 })),
    ("m", codes("%-M")),
    ("s", codes("%-S")),
    ("S", codes("%1f")),
    ("x", Meaning::Own(Own::Millis)),
    ("X", codes("%s")),
    ("z", codes("%Z")),
    ("Z", codes("%:z")),
    ("L", codes("%m/%d/%Y")),
    ("l", codes("%-m/%-d/%Y")),
];

/// A format, read once.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    pieces: Vec<Piece>,
}

impl Tokens {
    /// Of moment's tokens.
    pub(super) fn read(format: &str) -> Self {
        let mut tokens = Self::default();
        let mut rest = format;
        while let Some(first) = rest.chars().next() {
            let token = || TOKENS.iter().find(|(token, _)| rest.starts_with(token));
            if let Some((literal, after)) = bracketed(rest) {
                tokens.literal(literal);
                rest = after;
            } else if let Some(after) = rest.strip_prefix('\\').filter(|after| !after.is_empty()) {
                let token = TOKENS.iter().find(|(token, _)| after.starts_with(token));
                let length = token.map_or_else(|| after.chars().next().map_or(0, char::len_utf8), |(t, _)| t.len());
                let (literal, after) = after.split_at(length);
                tokens.literal(literal);
                rest = after;
            } else if let Some((token, meaning)) = token() {
                match meaning {
                    Meaning::Codes(codes) => tokens.codes(codes),
                    Meaning::Own(own) => tokens.pieces.push(Piece::Own(*own)),
                }
                rest = &rest[token.len()..];
            } else {
                let (literal, after) = rest.split_at(first.len_utf8());
                tokens.literal(literal);
                rest = after;
            }
        }
        tokens
    }

    /// Of strftime's codes.
    pub(super) fn of_codes(codes: &str) -> Self {
        Self {
            pieces: vec![Piece::Codes(codes.to_owned())],
        }
    }

    fn codes(&mut self, new: &str) {
        match self.pieces.last_mut() {
            Some(Piece::Codes(codes)) => codes.push_str(new),
            Some(Piece::Own(_)) | None => self.pieces.push(Piece::Codes(new.to_owned())),
        }
    }

    fn literal(&mut self, text: &str) {
        self.codes(&text.replace('%', "%%"));
    }

    /// As codes of strftime; what has none is a NUL, which no text matches.
    pub(super) fn to_codes(&self) -> String {
        let code = |piece: &Piece| match piece {
            Piece::Codes(codes) => codes.clone(),
            Piece::Own(_) => "\0".to_owned(),
        };
        self.pieces.iter().map(code).collect()
    }

    /// The text for this moment; none if a code is wrong.
    pub(super) fn text(&self, now: &Zoned) -> Option<String> {
        let mut text = String::new();
        let broken = BrokenDownTime::from(now);
        for piece in &self.pieces {
            match piece {
                Piece::Codes(codes) => text.push_str(&broken.to_string(codes).ok()?),
                Piece::Own(own) => own.write(now, &mut text),
            }
        }
        Some(text)
    }
}

/// The text of `[text]`, which has no `[`, up to the last `]`; and what follows.
fn bracketed(format: &str) -> Option<(&str, &str)> {
    let inside = format.strip_prefix('[')?;
    let end = inside.find('[').unwrap_or(inside.len());
    let close = inside.get(..end)?.rfind(']')?;
    Some((&inside[..close], &inside[close + 1..]))
}

impl Own {
    fn write(self, now: &Zoned, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = match self {
            Self::Ordinal(number) => {
                let number = number.of(now);
                write!(out, "{number}{}", suffix(number))
            }
            Self::Weekday => {
                let name = now.strftime("%a").to_string();
                write!(out, "{}", name.get(..2).unwrap_or_default())
            }
            Self::Week { width } => write!(out, "{:0width$}", week(now).1),
            Self::WeekYear { digits: 2 } => write!(out, "{:02}", week(now).0.rem_euclid(100)),
            Self::WeekYear { digits } => write!(out, "{:0digits$}", week(now).0),
            Self::Hour { width } => {
                let hour = if now.hour() == 0 { 24 } else { now.hour() };
                write!(out, "{hour:0width$}")
            }
            Self::Millis => write!(out, "{}", now.timestamp().as_millisecond()),
        };
    }
}

impl Number {
    fn of(self, now: &Zoned) -> i64 {
        match self {
            Self::Year => now.year().into(),
            Self::Quarter => (i64::from(now.month()) + 2) / 3,
            Self::Month => now.month().into(),
            Self::Day => now.day().into(),
            Self::YearDay => now.day_of_year().into(),
            Self::Weekday => now.weekday().to_sunday_zero_offset().into(),
            Self::Week => week(now).1,
            Self::IsoWeek => now.date().iso_week_date().week().into(),
        }
    }
}

/// The year and the number of the week that begins on Sunday; the first has 1 January.
fn week(now: &Zoned) -> (i64, i64) {
    let weekday = i64::from(now.weekday().to_sunday_zero_offset());
    let day = i64::from(now.day_of_year());
    let saturday = day + 6 - weekday;
    if saturday > i64::from(now.days_in_year()) {
        return (i64::from(now.year()) + 1, 1);
    }
    (now.year().into(), (saturday + 6) / 7)
}

const fn suffix(number: i64) -> &'static str {
    match (number % 10, number % 100 / 10) {
        (_, 1) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        (_, _) => "th",
    }
}

#[cfg(test)]
mod tests {
    use super::{TOKENS, Tokens};
    use jiff::Zoned;
    use jiff::tz::TimeZone;

    fn at(text: &str) -> Zoned {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        text.parse::<jiff::Timestamp>().unwrap().to_zoned(zone)
    }

    /// Every token, as moment.js 2.30 writes it for Saturday, 3 January 2026, 15:04:05.678 in Berlin.
    const EXPECTED: &[(&str, &str)] = &[
        ("SSSSSSSSS", "678000000"),
        ("SSSSSSSS", "67800000"),
        ("SSSSSSS", "6780000"),
        ("YYYYYY", "+002026"),
        ("SSSSSS", "678000"),
        ("YYYYY", "02026"),
        ("GGGGG", "02026"),
        ("ggggg", "02026"),
        ("NNNNN", "AD"),
        ("Hmmss", "150405"),
        ("hmmss", "30405"),
        ("SSSSS", "67800"),
        ("YYYY", "2026"),
        ("yyyy", "2026"),
        ("GGGG", "2026"),
        ("gggg", "2026"),
        ("NNNN", "Anno Domini"),
        ("MMMM", "January"),
        ("DDDD", "003"),
        ("DDDo", "3rd"),
        ("dddd", "Saturday"),
        ("SSSS", "6780"),
        ("LLLL", "Saturday, January 3, 2026 3:04 PM"),
        ("llll", "Sat, Jan 3, 2026 3:04 PM"),
        ("yyy", "2026"),
        ("NNN", "AD"),
        ("MMM", "Jan"),
        ("DDD", "3"),
        ("ddd", "Sat"),
        ("Hmm", "1504"),
        ("hmm", "304"),
        ("SSS", "678"),
        ("LTS", "3:04:05 PM"),
        ("LLL", "January 3, 2026 3:04 PM"),
        ("lll", "Jan 3, 2026 3:04 PM"),
        ("YY", "26"),
        ("yy", "2026"),
        ("yo", "2026th"),
        ("GG", "26"),
        ("gg", "26"),
        ("NN", "AD"),
        ("Qo", "1st"),
        ("Mo", "1st"),
        ("MM", "01"),
        ("Do", "3rd"),
        ("DD", "03"),
        ("do", "6th"),
        ("dd", "Sa"),
        ("wo", "1st"),
        ("ww", "01"),
        ("Wo", "1st"),
        ("WW", "01"),
        ("HH", "15"),
        ("hh", "03"),
        ("kk", "15"),
        ("mm", "04"),
        ("ss", "05"),
        ("SS", "67"),
        ("zz", "CET"),
        ("ZZ", "+0100"),
        ("LT", "3:04 PM"),
        ("LL", "January 3, 2026"),
        ("ll", "Jan 3, 2026"),
        ("Y", "2026"),
        ("y", "2026"),
        ("N", "AD"),
        ("Q", "1"),
        ("M", "1"),
        ("D", "3"),
        ("d", "6"),
        ("e", "6"),
        ("E", "6"),
        ("w", "1"),
        ("W", "1"),
        ("a", "pm"),
        ("A", "PM"),
        ("H", "15"),
        ("h", "3"),
        ("k", "15"),
        ("m", "4"),
        ("s", "5"),
        ("S", "6"),
        ("x", "1767449045678"),
        ("X", "1767449045"),
        ("z", "CET"),
        ("Z", "+01:00"),
        ("L", "01/03/2026"),
        ("l", "1/3/2026"),
    ];

    #[test]
    fn every_token_is_known() {
        let now = at("2026-01-03T14:04:05.678Z");
        for ((token, _), (name, expected)) in TOKENS.iter().zip(EXPECTED) {
            assert_eq!(token, name);
            assert_eq!(Tokens::read(token).text(&now).as_deref(), Some(*expected), "{token}");
        }
        assert_eq!(TOKENS.len(), EXPECTED.len());
        assert!(TOKENS.windows(2).all(|pair| pair[0].0.len() >= pair[1].0.len()));
    }

    #[test]
    fn text_is_literal_where_it_says_so_and_where_it_is_no_token() {
        let now = at("2026-07-09T22:00:00Z");
        let text = |format: &str| Tokens::read(format).text(&now).unwrap();
        assert_eq!(text("YYYY-MM-DD HH:mm:ss.SSS Z"), "2026-07-10 00:00:00.000 +02:00");
        assert_eq!(text("YYYY-MM-DDTHH:mm"), "2026-07-10T00:00");
        assert_eq!(text("[at] HH [o'clock] [ H ]"), "at 00 o'clock  H ");
        assert_eq!(text("[a]b] [on"), "a]b [on");
        assert_eq!(text("\\YYYY \\T \\\\ M\\"), "YYYY T \\ 7\\");
        assert_eq!(text("ü — HHmm kk"), "ü — 0000 24");
    }

    #[test]
    fn weeks_and_ordinals_at_the_edges_of_years() {
        for (day, expected) in [
            ("2025-12-27T12:00:00Z", "2025 52 52nd 2025-W52 27th"),
            ("2025-12-28T12:00:00Z", "2026 01 1st 2025-W52 28th"),
            ("2026-01-04T12:00:00Z", "2026 02 2nd 2026-W01 4th"),
            ("2027-01-01T12:00:00Z", "2027 01 1st 2026-W53 1st"),
            ("2024-12-31T12:00:00Z", "2025 01 1st 2025-W01 31st"),
            ("2026-03-11T12:00:00Z", "2026 11 11th 2026-W11 11th"),
        ] {
            let text = Tokens::read("gggg ww wo GGGG-[W]WW Do").text(&at(day)).unwrap();
            assert_eq!(text, expected, "{day}");
        }
    }
}
