//! Ends at a random moment in a way it announces first.

use clmgr::model::duration::Millis;
use clmgr::os::signals::Signals;
use clmgr::os::{pidfd, poll};

use crate::ledger::{Pen, Record};
use crate::random::Random;

/// Signals that end a process which does nothing about them, without a core file.
const ENDS: [i32; 5] = [1, 2, 9, 10, 14];

/// Lives long enough to be stable by its spec, but not much longer.
pub(crate) fn play(pen: &mut Pen, seed: u64) -> anyhow::Result<u8> {
    let mut random = Random::new(seed ^ u64::from(std::process::id()).wrapping_mul(0x9e37_79b9));
    let signals = Signals::block(&[15])?;
    pen.write(Record::Born)?;
    if poll::readable(&signals, Millis(200 + random.below(4000)))? {
        // Told to stop before it has announced anything.
        return Ok(0);
    }
    // From here on SIGTERM is not heard any more: what is announced is what happens.
    if random.below(3) > 0 {
        let code = u8::try_from(random.below(200))?;
        pen.write(Record::Code(i32::from(code)))?;
        return Ok(code);
    }
    let signal = random.pick(&ENDS);
    pen.write(Record::Signal(signal))?;
    pidfd::signal(
        pidfd::open(i32::try_from(std::process::id())?)?,
        signal,
        pidfd::Scope::Process,
    )?;
    loop {
        poll::pause(Millis(1000));
    }
}
