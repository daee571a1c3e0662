//! What the environment asks for.

use anyhow::Context as _;

/// How much of everything.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Where all random numbers come from.
    pub(crate) seed: u64,
    /// How often the daemon is killed.
    pub(crate) daemons: u32,
    /// How often the keeper is killed.
    pub(crate) keepers: u32,
    /// How often both are killed at once.
    pub(crate) both: u32,
    /// How often daemon and keeper are replaced by another build.
    pub(crate) upgrades: u32,
    /// Lines a second that each writer writes on average.
    pub(crate) rate: u64,
}

impl Settings {
    /// `CLMGR_FAULTS=long` for 1000 deaths of the daemon, 50 of the keeper, 50 of both and 50 upgrades;
    /// `CLMGR_FAULTS_KILLS`, `CLMGR_FAULTS_KEEPERS`, `CLMGR_FAULTS_BOTH`, `CLMGR_FAULTS_UPGRADES` and
    /// `CLMGR_FAULTS_SEED` set one number each.
    pub(crate) fn read() -> anyhow::Result<Self> {
        let long = match std::env::var("CLMGR_FAULTS").as_deref() {
            Ok("long") => true,
            Ok("short") | Err(_) => false,
            Ok(other) => anyhow::bail!("CLMGR_FAULTS is \"long\" or \"short\", not {other:?}"),
        };
        let (daemons, keepers, both, upgrades, rate) = if long {
            (1000, 50, 50, 50, 2000)
        } else {
            (100, 5, 5, 5, 10_000)
        };
        let seed = std::collections::hash_map::RandomState::new();
        let seed = std::hash::BuildHasher::hash_one(&seed, 0) % 1_000_000;
        Ok(Self {
            seed: number("CLMGR_FAULTS_SEED")?.unwrap_or(seed),
            daemons: number("CLMGR_FAULTS_KILLS")?.unwrap_or(daemons),
            keepers: number("CLMGR_FAULTS_KEEPERS")?.unwrap_or(keepers),
            both: number("CLMGR_FAULTS_BOTH")?.unwrap_or(both),
            upgrades: number("CLMGR_FAULTS_UPGRADES")?.unwrap_or(upgrades),
            rate,
        })
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
