//! An app that writes numbered lines, and what its logs must look like.

use std::path::Path;

use crate::harness::World;

/// Writes numbered lines to both streams, in pieces that end anywhere, until the file `enough` is there. `at-<who>`
/// says how far a burst will come before it begins, `done-<who>` how many lines there were.
const WRITER: &str = "import os, time
who = os.environ['WHO'] + os.environ['CLMGR_SLOT']
pace = float(os.environ.get('PACE', '0.02'))
n = 0
def say(name):
    with open(name + '.tmp-' + who, 'w') as f:
        f.write(str(n))
    os.rename(name + '.tmp-' + who, name + '-' + who)
while not os.path.exists('enough'):
    n += 40
    say('at')
    for fd, stream in ((1, 'o'), (2, 'e')):
        text = b''.join(b'%s%s:%d:%s:end\\n' % (who.encode(), stream.encode(), k, b'x' * (k % 397)) for k in range(n - 40, n))
        cut = n * 7 % len(text)
        for piece in (text[:cut], text[cut:]):
            while piece:
                piece = piece[os.write(fd, piece):]
    time.sleep(pace)
say('done')
time.sleep(1000)
";

/// Puts the program there, as `w.py`. It is told its name by `WHO`.
pub fn install(world: &World) {
    world.file("w.py", WRITER);
}

/// A number that an instance has noted; 0 before the first.
pub fn noted(world: &World, what: &str, who: &str) -> u64 {
    world.text(&format!("{what}-{who}")).parse().unwrap_or_default()
}

/// Waits until an instance has written more than now, and all of that is read from its pipe or waits there.
#[track_caller]
pub fn goes_on(world: &World, who: &str) {
    let before = noted(world, "at", who);
    world.until("it goes on writing", || noted(world, "at", who) > before + 80);
}

/// Ends the writing of these instances.
#[track_caller]
pub fn end(world: &World, all: &[&str]) {
    world.file("enough", "");
    world.until("all writers are done", || {
        all.iter().all(|who| world.path().join(format!("done-{who}")).exists())
    });
}

/// Each line of these writers (`<who>o`, `<who>e`) is there once, whole and in order; of the first ones those up to
/// `emptied` may be missing.
#[track_caller]
pub fn check(world: &World, name: &str, text: &str, writers: &[&str], emptied: u64) {
    assert!(text.is_empty() || text.ends_with('\n'), "{name}: ends in a line");
    let mut next = vec![None; writers.len()];
    for line in text.lines() {
        let parts: Vec<&str> = line.splitn(3, ':').collect();
        let at = writers.iter().position(|writer| *writer == parts[0]);
        let at = at.unwrap_or_else(|| panic!("{name}: nobody's: {line:?}"));
        let number: u64 = parts[1].parse().unwrap_or_else(|_| panic!("{name}: {line:?}"));
        let rest = format!("{}:end", "x".repeat(usize::try_from(number % 397).unwrap()));
        assert_eq!(parts.get(2), Some(&rest.as_str()), "{name}: not whole: {line:?}");
        match next[at] {
            Some(next) => assert_eq!(number, next, "{name}: {}", parts[0]),
            None => assert!(
                number <= emptied,
                "{name}: {} begins at {number}, not {emptied}",
                parts[0]
            ),
        }
        next[at] = Some(number + 1);
    }
    for (who, next) in writers.iter().zip(next) {
        let count = noted(world, "done", &who[..who.len() - 1]);
        assert!(count > 0, "{who} is not done");
        assert!(
            next == Some(count) || next.is_none() && count <= emptied,
            "{name}: the last line of {who}: {next:?} of {count}"
        );
    }
}

/// The text of a log of the world.
pub fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
