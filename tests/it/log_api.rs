//! Logs over the control socket, as any HTTP client reads them.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::harness::{PATIENCE, World};
use crate::logs::whole;

/// An app that says what it is told.
struct App {
    pipe: File,
}

impl App {
    fn start(world: &World, name: &str, more: &[&str]) -> Self {
        let path = world.path().join(format!("{name}.fifo"));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        let script = format!("cat {}", path.display());
        world
            .run(&[&["start", script.as_str(), "--name", name], more].concat())
            .ok();
        // Reading and writing: neither side waits for the other.
        let pipe = File::options().read(true).write(true).open(path).unwrap();
        Self { pipe }
    }

    fn say(&mut self, text: &str) {
        writeln!(self.pipe, "{text}").unwrap();
    }
}

/// A response that is being read.
struct Stream {
    status: u16,
    content_type: String,
    chunks: BufReader<UnixStream>,
    rest: Vec<u8>,
}

impl Stream {
    fn get(world: &World, path: &str, headers: &str) -> Self {
        let mut socket = UnixStream::connect(world.home().join("clmgr.sock")).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(
            socket,
            "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}\r\n"
        )
        .unwrap();
        let mut stream = Self {
            status: 0,
            content_type: String::new(),
            chunks: BufReader::new(socket),
            rest: Vec::new(),
        };
        let first = stream.header();
        stream.status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let mut length = None;
        loop {
            let line = stream.header();
            if line.is_empty() {
                break;
            }
            let (name, value) = line.split_once(": ").unwrap();
            match name {
                "content-type" => stream.content_type = value.to_owned(),
                "content-length" => length = Some(value.parse().unwrap()),
                _ => {}
            }
        }
        if let Some(length) = length {
            stream.rest = vec![0; length];
            stream.chunks.read_exact(&mut stream.rest).unwrap();
        }
        stream
    }

    fn header(&mut self) -> String {
        let mut line = String::new();
        self.chunks.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next line of the body; none at its end.
    fn line(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=at).collect();
                return Some(String::from_utf8(line).unwrap().trim_end().to_owned());
            }
            let size = self.header();
            let size = usize::from_str_radix(&size, 16).unwrap_or(0);
            if size == 0 {
                return None;
            }
            let mut chunk = vec![0; size + 2];
            self.chunks.read_exact(&mut chunk).unwrap();
            self.rest.extend(&chunk[..size]);
        }
    }

    fn object(&mut self) -> Option<Value> {
        self.line().map(|line| serde_json::from_str(&line).unwrap())
    }

    fn message(&mut self) -> String {
        self.object().unwrap()["message"].as_str().unwrap().to_owned()
    }

    fn messages(mut self) -> Vec<String> {
        assert_eq!((self.status, self.content_type.as_str()), (200, "application/x-ndjson"));
        let lines = std::iter::from_fn(|| self.object());
        lines.map(|line| line["message"].as_str().unwrap().to_owned()).collect()
    }
}

fn get(world: &World, query: &str) -> Stream {
    Stream::get(world, &format!("/v1/logs?{query}"), "")
}

/// What it has said is in its file.
fn written(world: &World, name: &str, text: &str) {
    let path = world.home().join(format!("logs/{name}-0-out.log"));
    world.until("the line is in the file", || whole(&path).contains(text));
}

#[test]
fn the_past_is_filtered_and_ends() {
    let world = World::new();
    let (mut a, mut b) = (App::start(&world, "a", &[]), App::start(&world, "b", &["--time"]));
    for n in 0..5 {
        a.say(&format!("a{n} [error] it is {n}"));
        b.say(&format!("b{n} fine"));
        written(&world, "a", &format!("a{n}"));
        written(&world, "b", &format!("b{n}"));
    }
    let mut one = get(&world, "target=b&lines=1");
    let line = one.object().unwrap();
    assert_eq!(one.object(), None);
    assert_eq!(line["app"], "b");
    assert_eq!(line["namespace"], "default");
    assert_eq!(
        (&line["instance"], &line["stream"]),
        (&Value::from(0), &Value::from("out"))
    );
    assert_eq!(
        (&line["message"], &line["level"]),
        (&Value::from("b4 fine"), &Value::Null)
    );
    assert!(line["time"].as_str().unwrap().ends_with('Z'), "{line}");
    assert_eq!(get(&world, "").messages().len(), 10);
    assert_eq!(get(&world, "grep=%5Ea%5B12%5D").messages().len(), 2);
    assert_eq!(
        get(&world, "grep=%5Ea%5B12%5D&invert=true&target=a").messages().len(),
        3
    );
    assert_eq!(
        get(&world, "level=error&lines=2").messages(),
        ["a3 [error] it is 3", "a4 [error] it is 4"]
    );
    assert_eq!(get(&world, "stream=err").messages().len(), 0);
    assert_eq!(get(&world, "instance=1").messages().len(), 0);
    assert_eq!(get(&world, "since=1h").messages().len(), 10);
    assert_eq!(get(&world, "since=1h&until=30m").messages().len(), 0);
    let mut events = Stream::get(&world, "/v1/logs?target=a&lines=1", "accept: text/event-stream\r\n");
    assert_eq!(events.content_type, "text/event-stream");
    let text: Vec<String> = std::iter::from_fn(|| events.line()).collect();
    let data = text.iter().find_map(|line| line.strip_prefix("data: ")).unwrap();
    let line: Value = serde_json::from_str(data).unwrap();
    assert_eq!(line["message"], "a4 [error] it is 4");
    assert!(text.contains(&"event: end".to_owned()), "{text:?}");
}

#[test]
fn nonsense_is_refused_by_the_name_of_its_parameter() {
    let world = World::new();
    let _a = App::start(&world, "a", &[]);
    for (query, status, text) in [
        ("grep=(", 400, "grep: "),
        ("since=long+ago", 400, "since: "),
        ("lines=-1", 400, "lines=-1"),
        ("level=loud", 400, "level: "),
        ("target=ghost", 404, "target: "),
    ] {
        let mut stream = get(&world, query);
        let mut body = String::from_utf8(std::mem::take(&mut stream.rest)).unwrap();
        while let Some(line) = if body.is_empty() { stream.line() } else { None } {
            body.push_str(&line);
        }
        assert_eq!(stream.status, status, "{query}: {body}");
        assert!(body.contains(text), "{query}: {body}");
    }
}

#[test]
fn following_goes_on_through_rotation_and_finds_new_apps() {
    let world = World::new();
    let file = world.file(
        "ecosystem.toml",
        "[[apps]]\nname = 'a'\nscript = '/bin/cat'\nargs = ['a.fifo']\nlog_rotate = { size = '1k', keep = 100 }\n",
    );
    let path = world.path().join("a.fifo");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    world.run(&["start", file.to_str().unwrap()]).ok();
    let mut a = App {
        pipe: File::options().read(true).write(true).open(path).unwrap(),
    };
    a.say("first");
    written(&world, "a", "first");
    let mut stream = get(&world, "follow=true");
    assert_eq!(stream.message(), "first");
    for n in 0..300 {
        a.say(&format!("line {n:060}"));
    }
    for n in 0..300 {
        assert_eq!(stream.message(), format!("line {n:060}"));
    }
    let mut b = App::start(&world, "b", &[]);
    b.say("hello");
    let line = stream.object().unwrap();
    assert_eq!(
        (&line["app"], &line["message"]),
        (&Value::from("b"), &Value::from("hello"))
    );
}

#[test]
fn clients_that_stall_cost_nothing_and_too_many_are_refused() {
    let world = World::new();
    let mut a = App::start(&world, "a", &[]);
    a.say("ready");
    written(&world, "a", "ready");
    let mut stalled: Vec<Stream> = (0..32).map(|_| get(&world, "follow=true")).collect();
    let refused = get(&world, "follow=true");
    assert_eq!(refused.status, 503);
    // Far more than sockets and blocks hold.
    let line = "x".repeat(1000);
    for _ in 0..20_000 {
        a.say(&line);
    }
    a.say("the end");
    // The app is not held up by those who do not read, and neither is anybody else.
    written(&world, "a", "the end");
    assert_eq!(world.states("a"), ["online"]);
    let mut one = stalled.pop().unwrap();
    assert_eq!(one.message(), "ready");
    for _ in 0..20_000 {
        assert_eq!(one.message(), line);
    }
    assert_eq!(one.message(), "the end");
    let (daemon, _) = world.manager();
    let readers = || {
        let tasks = std::fs::read_dir(format!("/proc/{daemon}/task")).unwrap();
        tasks
            .filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok())
            .filter(|name| name.trim() == "logs-read")
            .count()
    };
    assert!(readers() > 0);
    drop((stalled, one));
    world.until("their threads end", || readers() == 0);
    assert_eq!(get(&world, "lines=1").messages(), ["the end"]);
}

/// One event: its id and the message of its line; none when it is the end.
fn event(stream: &mut Stream) -> Option<(String, String)> {
    let (mut id, mut message) = (String::new(), None);
    loop {
        let line = stream.line()?;
        if line == "event: end" {
            return None;
        } else if let Some(text) = line.strip_prefix("id: ") {
            text.clone_into(&mut id);
        } else if let Some(text) = line.strip_prefix("data: ") {
            let line: Value = serde_json::from_str(text).unwrap();
            message = Some(line["message"].as_str().unwrap().to_owned());
        } else if let Some(message) = message.take().filter(|_| line.is_empty()) {
            return Some((id, message));
        }
    }
}

/// Reads a few events at a time, each time with a new connection, until the end or until there are so many.
fn in_pieces(world: &World, query: &str, most: usize, mut meanwhile: impl FnMut()) -> Vec<String> {
    let mut found = Vec::new();
    let mut last = String::new();
    'connections: for size in (1..40).cycle() {
        let mut headers = "accept: text/event-stream\r\n".to_owned();
        if !last.is_empty() {
            headers.push_str(&format!("last-event-id: {last}\r\n"));
        }
        let mut stream = Stream::get(world, &format!("/v1/logs?{query}"), &headers);
        assert_eq!(stream.status, 200);
        meanwhile();
        for _ in 0..size {
            let Some((id, message)) = event(&mut stream) else {
                break 'connections;
            };
            last = id;
            found.push(message);
            if found.len() == most {
                break 'connections;
            }
        }
    }
    found
}

#[test]
fn a_client_that_comes_back_misses_nothing_and_gets_nothing_twice() {
    let world = World::new();
    let names = ["a", "b", "c"];
    let config: String = names
        .iter()
        .map(|name| {
            let stamp = if *name == "b" { "time = true\n" } else { "" };
            format!("[[apps]]\nname = '{name}'\nscript = '/bin/cat'\nargs = ['{name}.fifo']\n{stamp}log_rotate = {{ size = '1k', keep = 1000 }}\n")
        })
        .collect();
    let file = world.file("ecosystem.toml", &config);
    let mut apps = names.map(|name| {
        let path = world.path().join(format!("{name}.fifo"));
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
        App {
            pipe: File::options().read(true).write(true).open(path).unwrap(),
        }
    });
    world.run(&["start", file.to_str().unwrap()]).ok();
    let say = |apps: &mut [App; 3], n: usize| {
        for (app, name) in apps.iter_mut().zip(names) {
            app.say(&format!("{name} {n:050}"));
        }
    };
    (0..50).for_each(|n| say(&mut apps, n));
    for name in names {
        written(&world, name, &format!("{name} {:050}", 49));
    }
    let check = |found: &[String], count: usize| {
        assert_eq!(found.len(), 3 * count);
        for name in names {
            let of: Vec<&String> = found.iter().filter(|line| line.starts_with(name)).collect();
            let expected: Vec<String> = (0..count).map(|n| format!("{name} {n:050}")).collect();
            assert_eq!(of, expected.iter().collect::<Vec<_>>(), "{name}");
        }
    };
    check(&in_pieces(&world, "since=1h", usize::MAX, || ()), 50);
    let mut n = 50;
    let found = in_pieces(&world, "since=1h&follow=true", 3 * 400, || {
        for _ in 0..40 {
            if n < 400 {
                say(&mut apps, n);
                n += 1;
            }
        }
    });
    check(&found, 400);
    let wrong = Stream::get(
        &world,
        "/v1/logs",
        "accept: text/event-stream\r\nlast-event-id: mine\r\n",
    );
    assert_eq!(wrong.status, 400);
}

/// Clock ticks that a process has used.
fn used(pid: i64) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    [11, 12].iter().map(|at| fields[*at].parse::<u64>().unwrap()).sum()
}

#[test]
fn a_hundred_instances_are_followed_at_once() {
    let world = World::new();
    let file = world.file(
        "ecosystem.toml",
        "[[apps]]\nname = 'tick'\ncmd = ['sh', '-c', 'while :; do echo tick; sleep 1; done']\ninstances = 100\n",
    );
    world.run(&["start", file.to_str().unwrap()]).ok();
    let mut stream = get(&world, "follow=true&lines=0");
    let (daemon, _) = world.manager();
    let before = used(daemon);
    let mut heard = [0; 100];
    while heard.iter().any(|count| *count < 3) {
        let line = stream.object().unwrap();
        heard[usize::try_from(line["instance"].as_u64().unwrap()).unwrap()] += 1;
    }
    eprintln!(
        "{} lines of 100 instances followed: {} ticks of the daemon",
        heard.iter().sum::<u32>(),
        used(daemon) - before
    );
}
