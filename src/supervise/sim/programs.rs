//! The programs of the fake world: what each does, by its name.

use super::specs::Rng;

/// What a program does, by its name.
#[derive(Clone, Debug)]
pub(super) struct Behaviour {
    pub(super) spawns: bool,
    /// The machine has nothing left to start it with.
    pub(super) starves: bool,
    pub(super) ready: Option<u64>,
    pub(super) exit: Option<(u64, i32)>,
    /// How long it takes to stop; none: not before SIGKILL.
    pub(super) stop: Option<u64>,
    pub(super) sweep: u64,
    pub(super) fat: bool,
}

/// What is left does not die of SIGKILL either, but much later.
pub(super) const STUCK: u64 = 60_000;

impl Behaviour {
    pub(super) fn of(program: &str, rng: &mut Rng) -> Self {
        let good = Self {
            spawns: true,
            starves: false,
            ready: Some(50),
            exit: None,
            stop: Some(20),
            sweep: 1,
            fat: false,
        };
        match program {
            "good" | "better" => good,
            "crash" => Self {
                ready: None,
                exit: Some((200, 1)),
                ..good
            },
            "ready-then-crash" => Self {
                exit: Some((1500, 1)),
                ..good
            },
            "once" => Self {
                exit: Some((3000, 0)),
                ..good
            },
            "once-3" => Self {
                exit: Some((300, 3)),
                ..good
            },
            "never-ready" => Self { ready: None, ..good },
            "no-spawn" => Self { spawns: false, ..good },
            "starved" => Self { starves: true, ..good },
            "deaf" | "undead" => Self { stop: None, ..good },
            "family" => Self { sweep: 30_000, ..good },
            "background" => Self {
                ready: None,
                exit: Some((200, 0)),
                sweep: 5000,
                ..good
            },
            "stuck-family" => Self { sweep: STUCK, ..good },
            "fat" => Self { fat: true, ..good },
            "wild" => Self {
                spawns: !rng.one_in(6),
                starves: rng.one_in(8),
                ready: (!rng.one_in(4)).then(|| rng.below(1500)),
                exit: (!rng.one_in(3)).then(|| {
                    let spread = rng.pick(&[300, 3000, 60_000]);
                    (rng.below(spread), rng.pick(&[0, 1, 1, 3]))
                }),
                stop: (!rng.one_in(4)).then(|| rng.below(3000)),
                sweep: rng.pick(&[0, 1, 5000]),
                fat: rng.one_in(4),
            },
            other => panic!("no such program: {other}"),
        }
    }
}
