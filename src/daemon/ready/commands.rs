//! Readiness by a command that exits 0.

use std::time::Duration;

use crate::daemon::helper::HelperPlan;
use crate::daemon::mail::Mail;
use crate::daemon::ready::Pace;
use crate::model::names::RunId;
use crate::supervise::Input;

/// How long one attempt may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Until the command exits 0.
pub(super) async fn succeeds(mail: Mail, run: RunId, plan: impl Fn() -> HelperPlan) {
    let mut pace = Pace::new();
    loop {
        let plan = plan();
        let Some((helper, ended)) = mail.ask(|daemon| daemon.start_helper(plan)).await else {
            return;
        };
        match tokio::time::timeout(PATIENCE, ended).await {
            Ok(Ok(Ok(exit))) if exit.is_success() => return mail.input(Input::Ready(run)),
            Ok(_) => {}
            Err(_) => mail.post(move |daemon| daemon.end_helper(helper)),
        }
        pace.wait().await;
    }
}
