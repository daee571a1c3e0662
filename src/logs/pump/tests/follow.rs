//! A follower that is slower than the pump rotates and compresses.

use super::*;

/// Lines that are in a file of this test, about.
const SIZE: u64 = 700;

#[test]
fn a_slow_follower_gets_every_line_through_rotation_and_gzip() {
    let bench = Bench::new();
    let path = bench.path("log");
    let sink = Sink {
        rotate: Rotation {
            size: Some(Bytes(SIZE)),
            keep: 10_000,
            compress: true,
            ..Rotation::default()
        },
        ..bench.sink("log")
    };
    let mut follower = Follower::new(vec![(path.clone(), From::Beginning)]).unwrap();
    let mut app = bench.attach(1, Stream::Out, sink);
    let mut found = Vec::new();
    for round in 0..20 {
        for number in round * 100..(round + 1) * 100 {
            writeln!(app, "line {number}").unwrap();
        }
        // Everything is in files, several of them; the follower looks once.
        bench.drain(1);
        if round % 3 == 0 {
            found.extend(follower.next(Some(Duration::ZERO)).unwrap());
        }
    }
    assert!(existing(&path, 20).is_some(), "it is rotated");
    while found.len() < 2000 {
        found.extend(follower.next(Some(DEADLINE)).unwrap());
    }
    for (number, line) in found.iter().enumerate() {
        assert!(!line.notice);
        assert_eq!(String::from_utf8_lossy(&line.bytes), format!("line {number}"));
    }
}
