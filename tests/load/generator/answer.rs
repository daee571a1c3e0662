//! Reading an answer: nothing in it is taken on trust.

/// What has been read so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// More has to come.
    Partial,
    /// All of it, and it is right.
    Whole(Answer),
    /// The server says that it failed; its pid, if it told.
    ServerError(u16, Option<i32>),
    /// Anything else: another status, a wrong length, somebody else's answer.
    Wrong(String),
}

/// An answer that is right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Who gave it.
    pub(crate) pid: i32,
    /// The connection ends with it.
    pub(crate) close: bool,
}

/// Reads an answer that must be `200`, with a length, and the body `ID PID\n`.
pub(crate) fn read(bytes: &[u8], id: &str) -> Reading {
    let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Reading::Partial;
    };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else {
        return Reading::Wrong("a head that is no text".to_owned());
    };
    let mut lines = head.split("\r\n");
    let status = lines.next().unwrap_or_default();
    let code = status.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3));
    let Some(code) = code.and_then(|code| code.parse::<u16>().ok()) else {
        return Reading::Wrong(format!("the status line {status:?}"));
    };
    let (mut length, mut close) = (None, false);
    for line in lines {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        if name.eq_ignore_ascii_case("content-length") {
            length = value.trim().parse::<usize>().ok();
        } else if name.eq_ignore_ascii_case("connection") {
            close = value.trim().eq_ignore_ascii_case("close");
        }
    }
    let body = &bytes[end + 4..];
    if length.is_some_and(|length| body.len() < length) {
        return Reading::Partial;
    }
    let text = String::from_utf8_lossy(body);
    if code >= 500 {
        let pid = text.trim_end().rsplit(' ').next().and_then(|pid| pid.parse().ok());
        return Reading::ServerError(code, pid);
    }
    let Some(length) = length else {
        return Reading::Wrong(format!("status {code} without a length"));
    };
    let pid = text
        .strip_suffix('\n')
        .and_then(|text| text.strip_prefix(id)?.strip_prefix(' ')?.parse::<i32>().ok());
    match pid {
        Some(pid) if code == 200 && body.len() == length => Reading::Whole(Answer { pid, close }),
        _ => Reading::Wrong(format!("status {code}, length {length}, asked for {id}, got {text:?}")),
    }
}

/// The reader is checked before it judges anything.
pub(crate) fn check() -> bool {
    let good = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\nconnection: Close\r\n\r\n1-2 77\n";
    let whole = Reading::Whole(Answer { pid: 77, close: true });
    let partial = (0..good.len()).all(|end| read(&good[..end], "1-2") == Reading::Partial);
    let wrong = |bytes: &[u8]| matches!(read(bytes, "1-2"), Reading::Wrong(_));
    partial
        && read(good, "1-2") == whole
        && matches!(read(good, "1-3"), Reading::Wrong(_))
        && wrong(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n1-2 77\n")
        && wrong(b"HTTP/1.1 404 No\r\nContent-Length: 7\r\n\r\n1-2 77\n")
        && wrong(b"HTTP/1.1 200 OK\r\n\r\n1-2 77\n")
        && read(b"HTTP/1.1 503 No\r\n\r\n", "1-2") == Reading::ServerError(503, None)
        && read(b"HTTP/1.1 500 No\r\nContent-Length: 7\r\n\r\n1-2 77\n", "1-2") == Reading::ServerError(500, Some(77))
}
