//! `upgrade`: asks the other build what it is, gives the keeper the order, and leaves; and what is told of it later.
//!
//! ```text
//!  POST /v1/upgrade ─▶ <exe> handshake ─▶ fits? ─▶ keeper: Upgrade ─▶ Leave ─▶ answer "begun"
//!      nothing new is begun; what is written is written ─▶ Upgrade (with what was seen last) ─▶ end
//!  next daemon: Trial ─▶ compare ─▶ Proven ─▶ Upgraded ─▶ GET /v1/upgrade/outcome, and an event
//! ```

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use tokio::sync::oneshot;

use crate::api::upgrade::{UpgradeBegun, UpgradeRequest, UpgradeResult, UpgradeStatus};
use crate::daemon::Daemon;
use crate::daemon::handshake::{Handshake, Range};
use crate::daemon::helper::{Ended, HelperPlan};
use crate::daemon::mail::Mail;
use crate::daemon::{http, requests};
use crate::keeper::protocol::{ToKeeper, UpgradeOrder, UpgradeOutcome};
use crate::model::env::EnvMap;
use crate::model::event::EventKind;
use crate::model::names::RunId;
use crate::model::ostext::OsText;
use crate::model::outcome::{ErrorBody, ErrorKind};
use crate::model::version::version;
use crate::os::{clock, fds};
use crate::store::Schema;

/// How long the other build may take to say what it is.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest answer, in bytes; a pipe holds as much.
const MOST: usize = 64 << 10;

/// What a daemon knows about upgrades.
#[derive(Debug, Default)]
pub(crate) struct Upgrades {
    /// What the keeper speaks.
    pub(crate) keeper: Option<Range>,
    /// Its version.
    pub(crate) keeper_version: String,
    /// Of the state file.
    pub(crate) schema: Option<Schema>,
    /// One is being prepared or under way.
    pub(crate) busy: Option<u64>,
    /// The order that was given, or by which this daemon was started.
    pub(crate) order: Option<UpgradeOrder>,
    /// Who asked for it, until the keeper has answered.
    asked: Option<oneshot::Sender<Result<(), String>>>,
    /// How the last one ended.
    pub(crate) last: Option<UpgradeOutcome>,
    /// Another daemon takes over: nothing new is begun.
    pub(crate) leaving: bool,
}

impl Upgrades {
    /// Of a daemon that has just begun: what its keeper speaks and is, and the state file's schema.
    pub(crate) fn new(keeper: Option<(Range, String)>, schema: Schema) -> Self {
        let (keeper, keeper_version) = keeper.unzip();
        Self {
            keeper,
            keeper_version: keeper_version.unwrap_or_default(),
            schema: Some(schema),
            ..Self::default()
        }
    }
}

/// What the user can rely on when an upgrade does not begin.
const UNCHANGED: &str = "nothing was changed";

fn refused(kind: ErrorKind, message: impl Into<String>, hint: &str) -> Box<ErrorBody> {
    Box::new(ErrorBody::new(kind, message).hint(hint))
}

/// `upgrade`: answers when it cannot be, or when it has begun. It goes on if whoever asked goes away: what is prepared
/// would be under way for ever.
pub(crate) async fn upgrade(mail: &Mail, request: UpgradeRequest) -> Result<UpgradeBegun, Box<ErrorBody>> {
    let mail = mail.clone();
    let prepared = tokio::spawn(async move { prepare(&mail, request).await });
    prepared.await.unwrap_or_else(|_| Err(requests::leaving()))
}

async fn prepare(mail: &Mail, request: UpgradeRequest) -> Result<UpgradeBegun, Box<ErrorBody>> {
    check_file(request.exe.as_path())?;
    let asked = request.exe.clone();
    let prepared = mail.ask(move |daemon| daemon.ask_build(asked)).await;
    let Preparation {
        id,
        keeper,
        schema,
        said,
        ended,
    } = prepared.ok_or_else(requests::leaving)??;
    let result = async {
        let handshake: Handshake = hear(mail, &request.exe, said, ended).await?;
        if let Some(why) = handshake.obstacle(keeper, schema) {
            return Err(refused(ErrorKind::Failed, why, UNCHANGED));
        }
        let order = UpgradeOrder {
            id,
            exe: request.exe.as_bytes().to_vec(),
            from: version().to_owned(),
            to: handshake.clmgr.clone(),
            seen: None,
        };
        let (begun, answer) = mail
            .ask(move |daemon| daemon.order_upgrade(order))
            .await
            .ok_or_else(requests::leaving)?;
        match answer.await {
            Ok(Ok(())) => Ok(begun),
            Ok(Err(why)) => Err(refused(ErrorKind::Failed, why, UNCHANGED)),
            Err(_) => Err(requests::leaving()),
        }
    };
    let result = result.await;
    if result.is_err() {
        mail.post(|daemon| daemon.upgrades.busy = None);
    }
    result
}

/// What can be told without running it.
fn check_file(exe: &Path) -> Result<(), Box<ErrorBody>> {
    let bad = |what: &str| {
        Err(refused(
            ErrorKind::BadRequest,
            format!("{} {what}", exe.display()),
            UNCHANGED,
        ))
    };
    if !exe.is_absolute() {
        return bad("is no absolute path");
    }
    match std::fs::metadata(exe) {
        Err(error) => bad(&format!("cannot be used: {}", crate::daemon::text::cause(&error))),
        Ok(file) if !file.is_file() => bad("is no file"),
        Ok(file) if file.permissions().mode() & 0o111 == 0 => bad("is not executable"),
        Ok(_) => Ok(()),
    }
}

/// What is needed to judge an answer, and the answer on its way.
#[derive(Debug)]
struct Preparation {
    id: u64,
    keeper: Range,
    schema: Schema,
    said: OwnedFd,
    ended: (RunId, oneshot::Receiver<Ended>),
}

/// Waits for what the other build says of itself.
async fn hear(
    mail: &Mail,
    exe: &OsText,
    said: OwnedFd,
    (run, ended): (RunId, oneshot::Receiver<Ended>),
) -> Result<Handshake, Box<ErrorBody>> {
    let no = |why: String| refused(ErrorKind::Failed, why, UNCHANGED);
    match tokio::time::timeout(PATIENCE, ended).await {
        Err(_) => {
            mail.post(move |daemon| daemon.end_helper(run));
            return Err(no(format!(
                "`{exe} handshake` did not say within {} s which clmgr it is",
                PATIENCE.as_secs()
            )));
        }
        Ok(Ok(Ok(exit))) if exit.is_success() => {}
        Ok(Ok(Ok(exit))) => {
            return Err(no(format!(
                "{exe} is no clmgr that can take over: `{exe} handshake` ended with {exit}"
            )));
        }
        Ok(Ok(Err(why))) => return Err(no(format!("{exe} cannot be run: {why}"))),
        Ok(Err(_)) => return Err(requests::leaving()),
    }
    let bytes = fds::read_now(&said, MOST).unwrap_or_default();
    serde_json::from_slice(&bytes).map_err(|_| {
        no(format!(
            "{exe} is no clmgr that can take over: `{exe} handshake` does not say what it understands"
        ))
    })
}

impl Daemon {
    fn ask_build(&mut self, exe: OsText) -> Result<Preparation, Box<ErrorBody>> {
        if self.upgrades.busy.is_some() || self.upgrades.leaving {
            return Err(refused(
                ErrorKind::Conflict,
                "another upgrade is under way",
                "wait for its end; clmgr ping says which version runs",
            ));
        }
        if self.runtime.is_some() {
            return Err(refused(
                ErrorKind::Failed,
                "this clmgr is the runtime of a container, whose command line and output belong to it",
                "start a container of a new image",
            ));
        }
        if self.detaching {
            return Err(requests::leaving());
        }
        let (Some(keeper), Some(schema)) = (self.upgrades.keeper, self.upgrades.schema) else {
            return Err(refused(
                ErrorKind::Internal,
                "the keeper has not said which protocol it speaks",
                UNCHANGED,
            ));
        };
        if keeper.current < 2 {
            let message = format!(
                "the running keeper, clmgr {}, speaks protocol {}, which knows no upgrade",
                self.upgrades.keeper_version, keeper.current
            );
            return Err(refused(
                ErrorKind::Failed,
                message,
                "clmgr kill && clmgr resurrect starts everything anew with this version",
            ));
        }
        let io =
            |error: std::io::Error| refused(ErrorKind::Internal, format!("no pipe can be made: {error}"), UNCHANGED);
        let (said, theirs) = fds::pipe().map_err(io)?;
        let plan = HelperPlan {
            argv: vec![exe, "handshake".into()],
            env: std::env::vars_os()
                .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into())))
                .collect::<EnvMap>(),
            cwd: "/".into(),
            input: None,
        };
        let id = u64::try_from(clock::wall().0).unwrap_or(0);
        self.upgrades.busy = Some(id);
        Ok(Preparation {
            id,
            keeper,
            schema,
            said,
            ended: self.start_helper_with(plan, vec![(1, theirs)]),
        })
    }

    fn order_upgrade(&mut self, order: UpgradeOrder) -> (UpgradeBegun, oneshot::Receiver<Result<(), String>>) {
        let (sender, receiver) = oneshot::channel();
        self.upgrades.asked = Some(sender);
        let begun = UpgradeBegun {
            id: order.id,
            from: order.from.clone(),
            to: order.to.clone(),
            daemon_pid: i32::try_from(std::process::id()).unwrap_or(0),
            keeper_pid: self.keeper_pid,
        };
        self.keeper_send(&ToKeeper::Upgrade(order.clone()), Vec::new());
        self.upgrades.order = Some(order);
        (begun, receiver)
    }

    /// The keeper asks this daemon to make room for another.
    pub(crate) fn leave_for_another(&mut self, id: u64) {
        if let Some(asked) = self.upgrades.asked.take() {
            // Whoever asked may have gone away.
            let _gone = asked.send(Ok(()));
        }
        tracing::info!(id, "another daemon takes over");
        self.upgrades.leaving = true;
        http::begin_replacement();
        self.persist();
        let mail = self.mail.clone();
        // Commits that are under way come first, so what is seen then is what is written.
        self.store.write(Box::new(move |_| {
            mail.post(|daemon| {
                if let Some(order) = daemon.upgrades.order.clone() {
                    let seen = Some(daemon.seen());
                    daemon.keeper_send(&ToKeeper::Upgrade(UpgradeOrder { seen, ..order }), Vec::new());
                }
                daemon.leave();
            });
        }));
    }

    /// How an upgrade ended.
    pub(crate) fn upgrade_ended(&mut self, outcome: UpgradeOutcome) {
        if let (Some(asked), Some(why)) = (self.upgrades.asked.take(), &outcome.failed) {
            // Whoever asked may have gone away.
            let _gone = asked.send(Err(why.clone()));
        }
        if outcome.failed.is_none() {
            self.upgrades.keeper_version.clone_from(&outcome.keeper);
        }
        if outcome.fresh && outcome.failed.is_none() {
            // The keeper is of this build now.
            self.upgrades.keeper = Some(Handshake::own().protocol);
        }
        if outcome.fresh {
            let (kind, message) = match &outcome.failed {
                None => (
                    EventKind::Upgraded,
                    format!(
                        "clmgr {} took over from {}: daemon {} → {}, {} processes untouched",
                        outcome.to, outcome.from, outcome.daemon_before, outcome.daemon_after, outcome.processes
                    ),
                ),
                Some(why) => (
                    EventKind::UpgradeFailed,
                    format!(
                        "clmgr {} goes on; {} could not take over: {why}",
                        outcome.from, outcome.to
                    ),
                ),
            };
            tracing::info!("{message}");
            self.hub.announce(clock::wall(), kind, message);
        }
        self.upgrades.busy = None;
        self.upgrades.order = None;
        self.upgrades.last = Some(outcome);
    }

    /// The keeper died while it was to be replaced. This daemon has started another of its own build.
    pub(crate) fn upgraded_by_force(&mut self) {
        if let Some(order) = self.upgrades.order.clone().filter(|_| !self.upgrades.leaving) {
            self.upgrade_ended(UpgradeOutcome {
                id: order.id,
                exe: order.exe,
                from: order.from,
                to: order.to,
                daemon_after: i32::try_from(std::process::id()).unwrap_or(0),
                keeper: version().to_owned(),
                processes: u32::try_from(self.handles.len()).unwrap_or(u32::MAX),
                fresh: true,
                ..UpgradeOutcome::default()
            });
        }
    }

    /// `GET /v1/upgrade/outcome`.
    pub(crate) fn upgrade_status(&self) -> UpgradeStatus {
        let keeper_pid = self.keeper_pid;
        UpgradeStatus {
            under_way: self.upgrades.busy,
            last: self.upgrades.last.clone().map(|last| UpgradeResult {
                id: last.id,
                exe: std::ffi::OsStr::from_bytes(&last.exe).to_owned().into(),
                from: last.from,
                to: last.to,
                ok: last.failed.is_none(),
                reason: last.failed,
                daemon_before: last.daemon_before,
                daemon_after: last.daemon_after,
                keeper_pid,
                keeper_version: last.keeper,
                processes: last.processes,
                gap_ms: last.gap_ms,
            }),
        }
    }
}
