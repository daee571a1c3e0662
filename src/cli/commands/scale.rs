//! Changes the number of instances.

use std::str::FromStr;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::api::operation::{ScaleRequest, ScaleTo};
use crate::api::routes;
use crate::cli::connect::Daemon;
use crate::cli::context::Context;
use crate::cli::failure::Failure;
use crate::cli::{complete, report, targets};
use crate::model::spec::MAX_INSTANCES;
use crate::os::limits;

/// For the help text.
pub const EXAMPLES: &str = "Examples:
  clmgr scale api 4
  clmgr scale api +2
  clmgr scale api -2
  clmgr scale api max                    # one for each CPU";

/// `scale`.
#[derive(Clone, Debug, Args)]
pub struct ScaleArgs {
    /// A name, an id, a namespace, /regex/, all, or a file
    #[arg(value_name = "TARGET", add = ArgValueCompleter::new(complete::targets))]
    pub target: String,
    /// N, +K, -K or max
    #[arg(value_name = "N|+K|-K|max", allow_negative_numbers = true)]
    pub to: To,
}

/// A number of instances as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// As in the API.
    Number(ScaleTo),
    /// One for each CPU.
    Max,
}

impl FromStr for To {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let limit = i64::from(MAX_INSTANCES);
        if text == "max" {
            return Ok(Self::Max);
        }
        let number: i64 = text
            .parse()
            .map_err(|_| format!("{text:?} is no number of instances; write 4, +2, -2 or max"))?;
        if number.abs() > limit {
            return Err(format!("an app can have {limit} instances at most"));
        }
        let to = if text.starts_with(['+', '-']) {
            i32::try_from(number).map(ScaleTo::By)
        } else {
            u32::try_from(number).map(ScaleTo::Exactly)
        };
        to.map(Self::Number).map_err(|error| error.to_string())
    }
}

pub(crate) fn run(args: &ScaleArgs, context: &mut Context) -> Result<(), Failure> {
    let request = ScaleRequest {
        targets: targets::resolve(std::slice::from_ref(&args.target))?,
        to: match args.to {
            To::Number(to) => to,
            To::Max => ScaleTo::Exactly(limits::cpus()),
        },
    };
    let watched = request.targets.clone();
    let reply = Daemon::start()?.change_watched(routes::SCALE, request, &watched)?;
    report::done_with_table(context, &reply)
}

#[cfg(test)]
mod tests {
    use super::To;
    use crate::api::operation::ScaleTo;

    #[test]
    fn reads_every_form() {
        for (text, to) in [
            ("4", To::Number(ScaleTo::Exactly(4))),
            ("0", To::Number(ScaleTo::Exactly(0))),
            ("+2", To::Number(ScaleTo::By(2))),
            ("-2", To::Number(ScaleTo::By(-2))),
            ("max", To::Max),
        ] {
            assert_eq!(text.parse(), Ok(to));
        }
        for bad in ["", "many", "1000000", "-99999", "1.5", "--2", "99999999999999999999"] {
            assert!(bad.parse::<To>().is_err(), "{bad}");
        }
    }
}
