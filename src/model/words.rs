//! Last words: the newest lines that fit.

/// Most bytes of an app's last words in an event, an answer or a state. A crash record has all.
pub const BRIEF: usize = 16 << 10;

/// The newest of these lines that have at most so many bytes together. If the newest alone has more, its end.
#[must_use]
pub fn newest(lines: &[String], most: usize) -> Vec<String> {
    let mut left = most;
    let fits = |line: &&String| {
        let fits = line.len() <= left;
        left = left.saturating_sub(line.len());
        fits
    };
    let count = lines.iter().rev().take_while(fits).count();
    if let (0, Some(line)) = (count, lines.last()) {
        let mut from = line.len() - most;
        while !line.is_char_boundary(from) {
            from += 1;
        }
        return vec![line[from..].to_owned()];
    }
    lines[lines.len() - count..].to_vec()
}

#[cfg(test)]
mod tests {
    use super::newest;

    #[test]
    fn takes_whole_lines_from_the_end() {
        let lines = ["one", "two", "three"].map(str::to_owned);
        assert_eq!(newest(&lines, 100), lines);
        assert_eq!(newest(&lines, 8), ["two", "three"]);
        assert_eq!(newest(&lines, 7), ["three"]);
        assert_eq!(newest(&lines, 3), ["ree"]);
        assert_eq!(newest(&["äöü".to_owned()], 3), ["ü"]);
        assert!(newest(&[], 3).is_empty());
    }

    #[test]
    fn what_follows_a_line_that_does_not_fit_is_not_taken() {
        let lines = ["a", "long line", "b"].map(str::to_owned);
        assert_eq!(newest(&lines, 5), ["b"]);
    }
}
