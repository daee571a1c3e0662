//! Output to the keeper's standard streams.

use super::*;

fn read_some(reader: &mut File, until: &str) -> String {
    let mut text = Vec::new();
    let mut chunk = [0; 4096];
    while !String::from_utf8_lossy(&text).contains(until) {
        let count = reader.read(&mut chunk).unwrap();
        assert!(count > 0, "the end came before {until}");
        text.extend_from_slice(&chunk[..count]);
    }
    String::from_utf8(text).unwrap()
}

#[test]
fn a_console_gets_whole_lines_beside_the_file() {
    let bench = Bench::new();
    let (out_reader, out_writer) = std::io::pipe().unwrap();
    let (err_reader, err_writer) = std::io::pipe().unwrap();
    let console = |writer: std::io::PipeWriter| crate::os::console::Console::new(OwnedFd::from(writer));
    bench.pump.console(Stream::Out, console(out_writer));
    bench.pump.console(Stream::Err, console(err_writer));
    let sink = |name: &str, prefix: &[u8], json| Sink {
        console: Some(crate::logs::sink::ConsoleSink {
            prefix: prefix.to_vec(),
            json,
        }),
        ..bench.sink(name)
    };
    let mut first = bench.attach(1, Stream::Out, sink("a", b"a:0 | ", false));
    let mut second = bench.attach(2, Stream::Out, sink("b", b"", true));
    let mut third = bench.attach(3, Stream::Err, sink("c", b"", false));
    first.write_all(b"half ").unwrap();
    second.write_all(b"\"quoted\"\n").unwrap();
    let mut out = File::from(OwnedFd::from(out_reader));
    let json = read_some(&mut out, "\n");
    assert!(
        json.starts_with('{') && json.contains("\\\"quoted\\\"") && json.ends_with("}\n"),
        "{json}"
    );
    first.write_all(b"a line\nlast").unwrap();
    assert_eq!(read_some(&mut out, "\n"), "a:0 | half a line\n");
    drop(first);
    assert_eq!(read_some(&mut out, "\n"), "a:0 | last\n");
    third.write_all(b"oops\n").unwrap();
    let mut err = File::from(OwnedFd::from(err_reader));
    assert_eq!(read_some(&mut err, "\n"), "oops\n");
    bench.pump.say(b"clmgr: hello\n".to_vec());
    assert_eq!(read_some(&mut err, "\n"), "clmgr: hello\n");
    let (sender, done) = channel();
    bench.pump.sync(Box::new(move || sender.send(()).unwrap()));
    done.recv_timeout(DEADLINE).unwrap();
    assert_eq!(fs::read_to_string(bench.path("a")).unwrap(), "half a line\nlast\n");
}

#[test]
fn a_stalled_console_slows_its_writers_down_and_loses_nothing() {
    let bench = Bench::new();
    let (reader, writer) = std::io::pipe().unwrap();
    bench
        .pump
        .console(Stream::Out, crate::os::console::Console::new(OwnedFd::from(writer)));
    let sink = |name: &str| Sink {
        console: Some(crate::logs::sink::ConsoleSink::default()),
        disabled: true,
        ..bench.sink(name)
    };
    const LINES: usize = 40_000;
    let writers: Vec<_> = (1..=2)
        .map(|run: u64| {
            let mut pipe = bench.attach(run, Stream::Out, sink("x"));
            std::thread::spawn(move || {
                for number in 0..LINES {
                    pipe.write_all(format!("{run} {number:08} {}\n", "x".repeat(50)).as_bytes())
                        .unwrap();
                }
            })
        })
        .collect();
    // Nobody reads: what the writers have written stays within the pipes and one chunk.
    let (sender, done) = channel();
    bench.pump.sync(Box::new(move || sender.send(()).unwrap()));
    done.recv_timeout(DEADLINE).unwrap();
    assert!(writers.iter().all(|writer| !writer.is_finished()));
    let mut next = [0; 2];
    let lines = std::io::BufRead::lines(std::io::BufReader::new(File::from(OwnedFd::from(reader))));
    for line in lines {
        let line = line.unwrap();
        let mut words = line.split(' ');
        let run: usize = words.next().unwrap().parse().unwrap();
        let number: usize = words.next().unwrap().parse().unwrap();
        assert_eq!((number, words.next().unwrap().len()), (next[run - 1], 50), "{line}");
        next[run - 1] += 1;
        if next == [LINES, LINES] {
            break;
        }
    }
    for writer in writers {
        writer.join().unwrap();
    }
}

#[test]
fn a_closed_console_harms_nobody() {
    let bench = Bench::new();
    let (reader, writer) = std::io::pipe().unwrap();
    bench
        .pump
        .console(Stream::Out, crate::os::console::Console::new(OwnedFd::from(writer)));
    drop(reader);
    let sink = Sink {
        console: Some(crate::logs::sink::ConsoleSink::default()),
        ..bench.sink("f")
    };
    let mut pipe = bench.attach(1, Stream::Out, sink);
    for _ in 0..1000 {
        pipe.write_all(&[b'y'; 999]).unwrap();
        pipe.write_all(b"\n").unwrap();
    }
    let notice = bench.notices.recv_timeout(DEADLINE).unwrap();
    assert!(matches!(notice, Notice::Console(text) if text.contains("log files")));
    drop(pipe);
    let (sender, done) = channel();
    bench.pump.drain(RunId(1));
    bench.pump.sync(Box::new(move || sender.send(()).unwrap()));
    done.recv_timeout(DEADLINE).unwrap();
    assert_eq!(fs::metadata(bench.path("f")).unwrap().len(), 1_000_000);
}
