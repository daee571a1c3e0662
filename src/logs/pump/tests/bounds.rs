//! Rotated files of logs that nobody writes.

use super::*;
use crate::logs::rotate::rotated;
use crate::logs::tidy::Known;
use crate::model::logspec::MinFree;
use std::time::SystemTime;

const DAY: i64 = 86_400_000;
static NOW: AtomicI64 = AtomicI64::new(1_000_000_000_000);

/// Makes rotated file `number` of this log, last written so many days ago.
fn old(path: &Path, number: u32, gzip: bool, days: i64, size: usize) -> PathBuf {
    let name = rotated(path, number, gzip);
    fs::write(&name, vec![b'x'; size]).unwrap();
    let at = u64::try_from(1_000_000_000_000 - days * DAY).unwrap();
    let written = SystemTime::UNIX_EPOCH + Duration::from_millis(at);
    File::options()
        .append(true)
        .open(&name)
        .unwrap()
        .set_modified(written)
        .unwrap();
    name
}

fn know(bench: &Bench, app: &str, paths: &[&PathBuf], rotation: &Rotation) {
    let known = |path: &&PathBuf| Known {
        path: path.as_path().into(),
        rotation: Arc::new(rotation.clone()),
    };
    bench.pump.know(app.parse().unwrap(), paths.iter().map(known).collect());
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = std::time::Instant::now() + DEADLINE;
    while !is_so() {
        assert!(std::time::Instant::now() < end, "{what}");
        let _waited = nix::poll::poll(&mut [], 5u16);
    }
}

fn calm() -> Rotation {
    Rotation {
        total: None,
        min_free: MinFree::Off,
        ..Rotation::default()
    }
}

#[test]
fn old_files_of_silent_logs_go() {
    let bench = Bench::new();
    let path = bench.path("log");
    fs::write(&path, "current").unwrap();
    let gone = [old(&path, 3, true, 9, 10), old(&path, 4, false, 12, 10)];
    let kept = [old(&path, 1, false, 1, 10), old(&path, 2, true, 6, 10)];
    let rotation = Rotation {
        max_age: Some(Millis::from_secs(7 * 86_400)),
        ..calm()
    };
    know(&bench, "api", &[&path], &rotation);
    until("the old ones are gone", || gone.iter().all(|name| !name.exists()));
    assert!(kept.iter().all(|name| name.exists()) && path.exists());
}

#[test]
fn a_file_goes_when_its_time_comes_though_nothing_happens() {
    let (send, notices) = channel();
    let send = Mutex::new(send);
    let pump = Pump::start(
        || WallTime(NOW.load(Ordering::Relaxed)),
        Box::new(move |notice| send.lock().unwrap().send(notice).unwrap()),
        None,
    );
    let bench = Bench {
        journal: tempfile::tempdir().unwrap(),
        dir: tempfile::tempdir().unwrap(),
        pump: pump.unwrap(),
        notices,
    };
    let path = bench.path("log");
    let name = old(&path, 1, false, 1, 10);
    let first = old(&path, 2, false, 9, 10);
    let rotation = Rotation {
        max_age: Some(Millis(u64::try_from(DAY).unwrap() + 300)),
        ..calm()
    };
    know(&bench, "api", &[&path], &rotation);
    until("it was looked at", || !first.exists());
    assert!(name.exists());
    NOW.fetch_add(300, Ordering::Relaxed);
    until("its time came", || !name.exists());
}

#[test]
fn an_app_has_one_total_and_loses_its_oldest_files() {
    let bench = Bench::new();
    let (out, err) = (bench.path("out"), bench.path("err"));
    fs::write(&out, vec![b'x'; 500]).unwrap();
    let names = [
        old(&out, 1, false, 1, 100),
        old(&err, 1, true, 2, 100),
        old(&out, 2, true, 3, 100),
        old(&err, 2, true, 4, 100),
    ];
    let other = bench.path("other");
    let others = old(&other, 1, true, 9, 10_000);
    let rotation = Rotation {
        total: Some(Bytes(750)),
        ..calm()
    };
    know(&bench, "other", &[&other], &calm());
    know(&bench, "api", &[&out, &err], &rotation);
    until("the oldest are gone", || !names[2].exists() && !names[3].exists());
    assert!(names[0].exists() && names[1].exists() && others.exists());
    // While it is written: a rotation makes the bound known at once.
    let sink = Sink {
        rotate: Rotation {
            size: Some(Bytes(200)),
            compress: false,
            ..rotation
        },
        ..bench.sink("out")
    };
    let mut app = bench.attach(1, Stream::Out, sink);
    for number in 0..50 {
        writeln!(app, "{number:099}").unwrap();
    }
    bench.drain(1);
    let bytes = || {
        [&out, &err]
            .into_iter()
            .flat_map(|path| (1..20).filter_map(|n| existing(path, n)))
            .map(|(_, _, size)| size)
            .sum::<u64>()
            + fs::metadata(&out).unwrap().len()
    };
    until("it is within its bound", || bytes() <= 750);
    assert!(!names[1].exists() && bytes() > 400);
}

#[test]
fn the_oldest_files_of_all_apps_make_room() {
    let bench = Bench::new();
    let disk = bench.path("disk");
    fs::create_dir(&disk).unwrap();
    let flags = nix::mount::MsFlags::empty();
    if nix::mount::mount(Some("tmpfs"), &disk, Some("tmpfs"), flags, Some("size=1m")).is_err() {
        eprintln!("SKIPPED: mounting a small file system needs root");
        return;
    }
    let (one, two) = (disk.join("one"), disk.join("two"));
    const SIZE: usize = 100 << 10;
    fs::write(&one, "current").unwrap();
    let gone = [old(&two, 2, true, 9, SIZE), old(&one, 2, true, 8, SIZE)];
    let kept = [old(&two, 1, true, 3, SIZE), old(&one, 1, true, 4, SIZE)];
    let rotation = Rotation {
        min_free: MinFree::Bytes(Bytes(400 << 10)),
        ..calm()
    };
    know(&bench, "one", &[&one], &rotation);
    know(&bench, "two", &[&two], &rotation);
    bench.sync();
    fs::write(disk.join("ballast.1"), vec![0; 4 * SIZE]).unwrap();
    know(&bench, "one", &[&one], &rotation);
    until("there is room", || gone.iter().all(|name| !name.exists()));
    let notice = bench.notices.recv_timeout(DEADLINE).unwrap();
    let Notice::Removed(removal) = notice else {
        panic!("{notice:?}")
    };
    // Had a round come while the ballast was written, the second file would be told later.
    assert_eq!((removal.bytes, &removal.folder), (removal.files * SIZE as u64, &disk));
    assert_eq!(removal.apps.len() as u64, removal.files);
    assert!(kept.iter().all(|name| name.exists()) && disk.join("ballast.1").exists());
    nix::mount::umount(&disk).unwrap();
}
