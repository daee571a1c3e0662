//! What the environment asks for.

use anyhow::Context as _;

/// How much of everything.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The long form.
    pub(crate) long: bool,
    /// Where all random numbers come from.
    pub(crate) seed: u64,
    /// Reloads of each server.
    pub(crate) reloads: u32,
    /// How often each kind of broken generation is tried.
    pub(crate) broken: u32,
    /// How often each other thing happens.
    pub(crate) incidents: u32,
    /// Requests a second of one load, at most.
    pub(crate) rate: f64,
    /// Only rows that contain this.
    pub(crate) only: Option<String>,
}

impl Settings {
    /// `CLMGR_LOAD=long` for 200 reloads, 10 times each broken generation and 20 times everything else;
    /// `CLMGR_LOAD_RELOADS`, `CLMGR_LOAD_BROKEN`, `CLMGR_LOAD_INCIDENTS`, `CLMGR_LOAD_RATE` and `CLMGR_LOAD_SEED` set
    /// one number each, and `CLMGR_LOAD_ONLY` leaves out what does not contain it.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let long = match std::env::var("CLMGR_LOAD").as_deref() {
            Ok("long") => true,
            Ok("short") | Err(_) => false,
            Ok(other) => anyhow::bail!("CLMGR_LOAD is \"long\" or \"short\", not {other:?}"),
        };
        let (reloads, broken, incidents, rate) = if long { (200, 10, 20, 1000) } else { (20, 1, 2, 300) };
        let seed = std::collections::hash_map::RandomState::new();
        let seed = std::hash::BuildHasher::hash_one(&seed, 0) % 1_000_000;
        Ok(Self {
            long,
            seed: number("CLMGR_LOAD_SEED")?.unwrap_or(seed),
            reloads: number("CLMGR_LOAD_RELOADS")?.unwrap_or(reloads),
            broken: number("CLMGR_LOAD_BROKEN")?.unwrap_or(broken),
            incidents: number("CLMGR_LOAD_INCIDENTS")?.unwrap_or(incidents),
            rate: f64::from(number::<u32>("CLMGR_LOAD_RATE")?.unwrap_or(rate)),
            only: std::env::var("CLMGR_LOAD_ONLY").ok(),
        })
    }

    /// This part is wanted.
    pub(crate) fn wants(&self, what: &str) -> bool {
        self.only.as_ref().is_none_or(|only| what.contains(only.as_str()))
    }
}

fn number<T>(name: &str) -> anyhow::Result<Option<T>>
where
    T: std::str::FromStr<Err = std::num::ParseIntError>,
{
    let Ok(text) = std::env::var(name) else { return Ok(None) };
    let parsed = text.parse().with_context(|| format!("{name} is {text:?}"))?;
    Ok(Some(parsed))
}
