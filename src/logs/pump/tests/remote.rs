//! Lines on their way to journald and syslog: sockets of the test's own.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, IoSliceMut};
use std::os::unix::net::{UnixDatagram, UnixListener};

use super::*;
use crate::logs::target::{Sockets, Wanted};
use crate::model::logspec::Facility;

fn bench() -> Bench {
    let bench = Bench::new();
    bench.pump.targets(Sockets {
        journald: bench.path("journald"),
        syslog: bench.path("syslog"),
    });
    bench
}

fn sink(bench: &Bench, journald: bool, syslog: bool) -> Sink {
    Sink {
        disabled: true,
        targets: Wanted {
            journald,
            syslog: syslog.then_some(Facility(17)),
        },
        ..bench.sink("file")
    }
}

fn bind(path: &Path) -> UnixDatagram {
    let _old = fs::remove_file(path);
    let socket = UnixDatagram::bind(path).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket
}

/// The fields of the next entry, also if it comes in memory; whether it did.
fn entry(socket: &UnixDatagram) -> (BTreeMap<String, Vec<u8>>, bool) {
    let mut bytes = vec![0; 300 << 10];
    let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = rustix::net::RecvAncillaryBuffer::new(&mut space);
    let flags = rustix::net::RecvFlags::CMSG_CLOEXEC;
    let count = rustix::net::recvmsg(socket, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags).unwrap();
    bytes.truncate(count.bytes);
    let mut sealed = false;
    for message in control.drain() {
        if let rustix::net::RecvAncillaryMessage::ScmRights(fds) = message {
            for fd in fds {
                let seals = rustix::fs::fcntl_get_seals(&fd).unwrap();
                assert!(seals.contains(rustix::fs::SealFlags::WRITE | rustix::fs::SealFlags::GROW));
                let mut file = File::from(fd);
                std::io::Seek::rewind(&mut file).unwrap();
                file.read_to_end(&mut bytes).unwrap();
                sealed = true;
            }
        }
    }
    (fields(&bytes), sealed)
}

fn fields(mut rest: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    while !rest.is_empty() {
        let end = rest.iter().position(|byte| *byte == b'\n').unwrap();
        let line = std::str::from_utf8(&rest[..end]).unwrap();
        rest = &rest[end + 1..];
        if let Some((name, value)) = line.split_once('=') {
            found.insert(name.to_owned(), value.as_bytes().to_vec());
        } else {
            let length = usize::try_from(u64::from_le_bytes(rest[..8].try_into().unwrap())).unwrap();
            found.insert(line.to_owned(), rest[8..8 + length].to_vec());
            assert_eq!(rest[8 + length], b'\n');
            rest = &rest[8 + length + 1..];
        }
    }
    found
}

fn message(socket: &UnixDatagram) -> String {
    String::from_utf8(entry(socket).0.remove("MESSAGE").unwrap()).unwrap()
}

#[test]
fn journald_gets_whole_lines_with_their_fields() {
    let bench = bench();
    let socket = bind(&bench.path("journald"));
    let mut out = bench.attach(1, Stream::Out, sink(&bench, true, false));
    let mut err = bench.attach(1, Stream::Err, sink(&bench, true, false));
    out.write_all(b"half ").unwrap();
    err.write_all(b"a\0b\xff\r\n").unwrap();
    let (found, _) = entry(&socket);
    let text = |name: &str| String::from_utf8_lossy(&found[name]).into_owned();
    assert_eq!(found["MESSAGE"], b"a\0b\xff\r");
    assert_eq!(
        (text("PRIORITY"), text("SYSLOG_IDENTIFIER")),
        ("3".into(), "api".into())
    );
    assert_eq!((text("SYSLOG_PID"), text("CLMGR_APP")), ("7".into(), "api".into()));
    assert_eq!(
        (text("CLMGR_INSTANCE"), text("CLMGR_STREAM")),
        ("0".into(), "err".into())
    );
    assert_eq!(text("CLMGR_NAMESPACE"), "default");
    out.write_all(b"a line\n\n{\"level\":\"debug\"}\nlast").unwrap();
    let (found, _) = entry(&socket);
    assert_eq!(
        (&found["MESSAGE"][..], &found["PRIORITY"][..]),
        (&b"half a line"[..], &b"6"[..])
    );
    assert_eq!(message(&socket), "");
    assert_eq!(entry(&socket).0["PRIORITY"], b"7");
    drop(out);
    assert_eq!(message(&socket), "last");
    let long = "x".repeat(900_000);
    err.write_all(format!("{long}\n").as_bytes()).unwrap();
    let (found, sealed) = entry(&socket);
    assert!(sealed && found["MESSAGE"] == long.as_bytes());
    assert_eq!(bench.read("file"), b"", "no file was asked for");
}

#[test]
fn syslog_gets_messages_of_rfc_5424() {
    let bench = bench();
    let socket = bind(&bench.path("syslog"));
    let mut err = bench.attach(1, Stream::Err, sink(&bench, false, true));
    err.write_all(b"oops \0\n{\"level\":\"info\"}\n").unwrap();
    let mut bytes = vec![0; 1 << 20];
    let mut next = || {
        let count = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    };
    let text = next();
    let words: Vec<&str> = text.splitn(8, ' ').collect();
    assert_eq!((words[0], words[1]), ("<139>1", "2001-09-09T01:46:40.000Z"), "{text}");
    assert_eq!((words[3], words[4], words[5]), ("api", "7", "-"), "{text}");
    let data = "[clmgr@32473 app=\"api\" namespace=\"default\" instance=\"0\" stream=\"err\"] oops #000";
    assert_eq!(format!("{} {}", words[6], words[7]), data);
    assert!(next().starts_with("<142>1 "));
    err.write_all(format!("{}\n", "ü".repeat(300_000)).as_bytes()).unwrap();
    let text = next();
    assert!(
        text.contains("üüü [clmgr: ") && text.ends_with(" bytes cut]"),
        "{}",
        text.len()
    );
}

#[test]
fn a_syslog_that_is_a_stream_gets_lines() {
    let bench = bench();
    let listener = UnixListener::bind(bench.path("syslog")).unwrap();
    let mut out = bench.attach(1, Stream::Out, sink(&bench, false, true));
    let writer = std::thread::spawn(move || {
        for number in 0..5000 {
            out.write_all(format!("{number}\n").as_bytes()).unwrap();
            // Within what a queue takes while nobody reads.
            if number % 50 == 0 {
                std::thread::yield_now();
            }
        }
        out
    });
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let (mut next, mut lost) = (0, 0);
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        assert!(line.starts_with("<14") && line.contains("stream=\"out\"] "), "{line}");
        let text = line.split_once("] ").unwrap().1;
        if let Ok(number) = text.parse::<u64>() {
            assert_eq!(number, next + lost);
            next = number + 1;
            lost = 0;
        } else {
            lost += marker(text).0;
        }
        if next + lost == 5000 {
            break;
        }
    }
    let _out = writer.join().unwrap();
}

/// Lines and bytes of a marker.
fn marker(text: &str) -> (u64, u64) {
    let words: Vec<&str> = text
        .strip_prefix("[clmgr: ")
        .unwrap_or_else(|| panic!("{text}"))
        .split(' ')
        .collect();
    assert!(text.contains(" were lost between 2001-09-09T"), "{text}");
    (
        words[0].parse().unwrap(),
        words[2].trim_start_matches('(').parse().unwrap(),
    )
}

#[test]
fn a_target_that_is_down_for_a_while_loses_nothing() {
    let bench = bench();
    let mut out = bench.attach(1, Stream::Out, sink(&bench, true, false));
    out.write_all(b"0\n1\n").unwrap();
    bench.drain(1);
    let socket = bind(&bench.path("journald"));
    out.write_all(b"2\n").unwrap();
    for number in 0..3 {
        assert_eq!(message(&socket), number.to_string());
    }
    // Restarted, with a new socket.
    drop(socket);
    out.write_all(b"3\n").unwrap();
    bench.drain(1);
    let socket = bind(&bench.path("journald"));
    out.write_all(b"4\n").unwrap();
    assert_eq!((message(&socket), message(&socket)), ("3".into(), "4".into()));
    // The file of the queue is empty again.
    out.write_all(b"5\n").unwrap();
    assert_eq!(message(&socket), "5");
    let queue = bench.journal.path().join("to-journald");
    assert_eq!(fs::metadata(queue).unwrap().len(), 16);
    assert!(bench.notices.try_recv().is_err());
}

#[test]
fn what_a_slow_target_loses_is_counted_and_marked() {
    let bench = bench();
    let socket = bind(&bench.path("journald"));
    let other = bind(&bench.path("syslog"));
    let mut out = bench.attach(1, Stream::Out, sink(&bench, true, false));
    let mut err = bench.attach(1, Stream::Err, sink(&bench, true, false));
    let mut beside = bench.attach(2, Stream::Out, sink(&bench, false, true));
    // Nobody reads, and nobody waits for that.
    let mut bytes = [0; 2];
    for number in 0..20_000 {
        let line = format!("{number}\n");
        out.write_all(line.as_bytes()).unwrap();
        bytes[0] += line.len() as u64;
    }
    err.write_all(b"0\n").unwrap();
    let (_, notices) = bench.drain(1);
    beside.write_all(b"beside\n").unwrap();
    let mut syslog = [0; 1000];
    let count = other.recv(&mut syslog).unwrap();
    assert!(syslog[..count].ends_with(b"beside"));
    let (mut next, mut lost) = ([0, 0], [(0, 0); 2]);
    while next[0] + lost[0].0 < 20_000 || next[1] + lost[1].0 < 1 {
        let (mut found, _) = entry(&socket);
        let stream = usize::from(found["CLMGR_STREAM"] == b"err");
        let text = String::from_utf8(found.remove("MESSAGE").unwrap()).unwrap();
        match text.parse::<u64>() {
            Ok(number) => {
                assert_eq!(number, next[stream], "a line is missing before the marker");
                next[stream] += 1;
                bytes[0] -= if stream == 0 { text.len() as u64 + 1 } else { 0 };
            }
            Err(_) => {
                assert!(text.contains("it reads too slowly"), "{text}");
                lost[stream] = marker(&text);
            }
        }
    }
    assert!(lost[0].0 > 10_000, "{lost:?}");
    assert_eq!(lost[0].1, bytes[0], "bytes");
    assert_eq!(lost[1], (1, 2));
    out.write_all(b"after\n").unwrap();
    assert_eq!(message(&socket), "after");
    let notice = || bench.notices.recv_timeout(DEADLINE).unwrap();
    let (began, ended) = match (notices.as_slice(), notice()) {
        ([Notice::Lost(began)], Notice::Resumed(ended)) => (began.clone(), ended),
        other => panic!("{other:?}"),
    };
    assert_eq!((began.path, ended.lines), (bench.path("journald"), lost[0].0 + 1));
    assert_eq!(ended.bytes, lost[0].1 + 2);
    assert!(bench.notices.try_recv().is_err(), "one notice for one outage");
    let stats = bench.pump.stats();
    assert_eq!((stats.outages, stats.lost_lines), (0, ended.lines));
}

#[test]
fn a_file_beside_a_dead_target_is_complete() {
    let bench = bench();
    let both = Sink {
        disabled: false,
        format: stamped(),
        ..sink(&bench, true, true)
    };
    let mut out = bench.attach(1, Stream::Out, both);
    let expected: String = (0..20_000).map(|number| format!("T {number}\n")).collect();
    for number in 0..20_000 {
        out.write_all(format!("{number}\n").as_bytes()).unwrap();
    }
    bench.pump.drain(RunId(1));
    // One outage for each target, then the end.
    let mut lost = 0;
    while let Notice::Lost(_) = bench.notices.recv_timeout(DEADLINE).unwrap() {
        lost += 1;
    }
    assert_eq!(lost, 2);
    assert_eq!(history(&bench.path("file")), expected.as_bytes());
}
