//! Disks that are full and targets that never work.

use super::*;

#[test]
fn a_full_disk_loses_whole_lines_and_says_how_many() {
    // One is spliced, one is read.
    fill_a_disk(Stream::Out, Overflow::Drop);
    fill_a_disk(Stream::Err, Overflow::Drop);
}

#[test]
fn a_disk_that_stays_full_holds_nobody_up_for_good() {
    fill_a_disk(Stream::Out, Overflow::Block);
}

/// A file system of this many KiB; none without root.
fn small_disk(bench: &Bench, kib: u32) -> Option<PathBuf> {
    let disk = bench.path("disk");
    fs::create_dir(&disk).unwrap();
    let (flags, size) = (nix::mount::MsFlags::empty(), format!("size={kib}k"));
    if nix::mount::mount(Some("tmpfs"), &disk, Some("tmpfs"), flags, Some(size.as_str())).is_err() {
        eprintln!("SKIPPED: mounting a small file system needs root");
        return None;
    }
    Some(disk)
}

#[test]
fn lines_wait_for_room_and_are_all_there() {
    const LINES: usize = 3000;
    for (name, format, shared, log_file) in [
        ("raw", LogFormat::Raw, false, false),
        ("stamped", stamped(), false, false),
        ("json", LogFormat::Json, false, true),
        ("merged", LogFormat::Raw, true, true),
    ] {
        let bench = Bench::new();
        let Some(disk) = small_disk(&bench, 2048) else { return };
        let ballast = disk.join("ballast");
        fs::write(&ballast, vec![0; 2000 << 10]).unwrap();
        let path = |stream: Stream| match (shared, log_file) {
            (true, _) => disk.join("log"),
            // This one has room, the other has not.
            (false, true) => bench.path(stream.as_str()),
            (false, false) => disk.join(stream.as_str()),
        };
        let writers = [Stream::Out, Stream::Err].map(|stream| {
            let sink = Sink {
                path: path(stream),
                log_file: log_file.then(|| disk.join("both")),
                shared,
                format: format.clone(),
                rotate: Rotation {
                    size: None,
                    ..Rotation::default()
                },
                ..bench.sink("x")
            };
            let mut app = bench.attach(1, stream, sink);
            std::thread::spawn(move || {
                for number in 0..LINES {
                    let line = format!("{} {number} {}\n", stream.as_str(), "x".repeat(40));
                    app.write_all(line.as_bytes()).unwrap();
                }
            })
        });
        // Both wait for room, their pipes are full; one has ended with half a line.
        let mut last = bench.attach(2, Stream::Out, bench.sink("disk/last"));
        last.write_all("whole\n".repeat(10_000).as_bytes()).unwrap();
        last.write_all(b"half").unwrap();
        drop(last);
        assert_eq!(bench.drain(2).1, [], "nothing is lost yet");
        bench.pump.detach(RunId(2));
        bench.sync();
        fs::remove_file(&ballast).unwrap();
        for thread in writers {
            thread.join().unwrap();
        }
        assert_eq!(bench.drain(1).1, [], "{name}: nothing is lost");
        for stream in [Stream::Out, Stream::Err] {
            let both = log_file.then(|| disk.join("both"));
            for path in [Some(path(stream)), both].into_iter().flatten() {
                let text = fs::read_to_string(path).unwrap();
                let numbers: Vec<usize> = text
                    .lines()
                    .filter_map(|line| line.split_once(&format!("{} ", stream.as_str())))
                    .filter_map(|(_, rest)| rest.split(' ').next()?.parse().ok())
                    .collect();
                assert!(numbers.iter().copied().eq(0..LINES), "{name}: {numbers:?}");
            }
        }
        let end = std::time::Instant::now() + DEADLINE;
        while bench.pump.stats().streams > 0 {
            assert!(std::time::Instant::now() < end, "the ended stream is written");
            let _waited = nix::poll::poll(&mut [], 5u16);
        }
        let text = fs::read_to_string(disk.join("last")).unwrap();
        assert_eq!(
            (text.lines().count(), text.ends_with("whole\nhalf")),
            (10_001, true),
            "{name}"
        );
        bench.pump.detach(RunId(1));
        bench.sync();
        nix::mount::umount(&disk).unwrap();
    }
}

fn fill_a_disk(stream: Stream, overflow: Overflow) {
    let bench = Bench::new();
    let Some(disk) = small_disk(&bench, 64) else { return };
    let sink = Sink {
        overflow,
        ..bench.sink("disk/log")
    };
    let mut app = bench.attach(1, stream, sink);
    let line = |n: usize| format!("{n:06}\n");
    let text: String = (0..20_000).map(line).collect();
    app.write_all(text.as_bytes()).unwrap();
    let notices = if overflow == Overflow::Block {
        // As soon as it has waited long enough.
        vec![bench.notices.recv_timeout(DEADLINE).unwrap()]
    } else {
        bench.drain(1).1
    };
    bench.drain(1);
    let kept = bench.read("disk/log");
    assert!(matches!(&notices[..], [Notice::Lost(loss)] if loss.error == "No space left on device"));
    assert_eq!(kept.len() % 7, 0, "no half line");
    assert!(kept.len() >= 48 << 10);
    bench.pump.flush(vec![bench.path("disk/log")]);
    let resumed = bench.notices.recv_timeout(DEADLINE).unwrap();
    let Notice::Resumed(loss) = resumed else {
        panic!("{resumed:?}")
    };
    assert_eq!(usize::try_from(loss.bytes).unwrap(), text.len() - kept.len());
    assert_eq!(usize::try_from(loss.lines).unwrap(), 20_000 - kept.len() / 7);
    app.write_all(b"again\n").unwrap();
    bench.drain(1);
    let expected = format!(
        "[clmgr: {} lines ({} bytes) lost: No space left on device]\nagain\n",
        loss.lines, loss.bytes
    );
    assert_eq!(String::from_utf8(bench.read("disk/log")).unwrap(), expected);
    let stats = bench.pump.stats();
    assert_eq!((stats.outages, stats.lost_lines), (0, loss.lines));
    bench.pump.detach(RunId(1));
    bench.sync();
    nix::mount::umount(&disk).unwrap();
}

#[test]
fn a_target_that_never_works_blocks_nobody() {
    let bench = Bench::new();
    let full = Sink {
        path: "/dev/full".into(),
        ..bench.sink("x")
    };
    let mut app = bench.attach(1, Stream::Out, full);
    fs::write(bench.path("file"), "").unwrap();
    let mut other = bench.attach(1, Stream::Err, bench.sink("file/below/log"));
    for file in [&mut app, &mut other] {
        file.write_all(&vec![b'x'; 4 << 20]).unwrap();
    }
    let (_, notices) = bench.drain(1);
    assert_eq!(notices.len(), 2, "once per outage: {notices:?}");
    assert!(notices.iter().all(|notice| matches!(notice, Notice::Lost(_))));
}
