//! Disks that are full and targets that never work.

use super::*;

#[test]
fn a_full_disk_loses_whole_lines_and_says_how_many() {
    // One is spliced, one is read.
    fill_a_disk(Stream::Out);
    fill_a_disk(Stream::Err);
}

fn fill_a_disk(stream: Stream) {
    let bench = Bench::new();
    let disk = bench.path("disk");
    fs::create_dir(&disk).unwrap();
    let flags = nix::mount::MsFlags::empty();
    if nix::mount::mount(Some("tmpfs"), &disk, Some("tmpfs"), flags, Some("size=64k")).is_err() {
        eprintln!("not root: nothing to fill");
        return;
    }
    let mut app = bench.attach(1, stream, bench.sink("disk/log"));
    let line = |n: usize| format!("{n:06}\n");
    let text: String = (0..20_000).map(line).collect();
    app.write_all(text.as_bytes()).unwrap();
    let (_, notices) = bench.drain(1);
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
