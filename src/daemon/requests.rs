//! From the API's requests to the core's commands, and the few things that are done without it.

use std::sync::Arc;

use tokio::sync::oneshot;

use crate::api::operation::{ApplyRequest, OperationReply, ScaleRequest, SendRequest, SignalRequest, TargetRequest};
use crate::daemon::mail::Mail;
use crate::daemon::{Answer, Daemon, log_files, require, sinks};
use crate::keeper::protocol::ToKeeper;
use crate::model::env::EnvMap;
use crate::model::logspec::LogTarget;
use crate::model::names::RunId;
use crate::model::outcome::{ErrorBody, ErrorKind, InstanceResult, Outcome};
use crate::model::spec::AppSpec;
use crate::model::target::Target;
use crate::os::pidfd::{self, Scope};
use crate::os::{fds, tree};
use crate::supervise::{Command, Input};

/// What a request is answered with.
pub(crate) type Reply = Result<OperationReply, Box<ErrorBody>>;

/// The answer when the loop has ended, or has begun nothing new.
pub(crate) fn leaving() -> Box<ErrorBody> {
    Box::new(
        ErrorBody::new(ErrorKind::Unavailable, "clmgr is shutting down")
            .hint("try again when it is gone; the next command starts it"),
    )
}

/// Gives the core a command and waits for its answer.
pub(crate) async fn command(mail: &Mail, command: Command) -> Reply {
    let (sender, receiver) = oneshot::channel();
    mail.post(move |daemon| {
        if daemon.upgrades.leaving {
            // The next daemon is asked instead.
            return drop(sender);
        }
        let ticket = daemon.take_ticket();
        daemon.replies.insert(ticket, sender);
        daemon.input(Input::Command(ticket, command));
    });
    match receiver.await {
        Ok(Ok(results)) => Ok(OperationReply { results }),
        Ok(Err(refusal)) => Err(refusal),
        Err(_) => Err(leaving()),
    }
}

/// `apply`.
pub(crate) async fn apply(mail: &Mail, request: ApplyRequest) -> Reply {
    let mut apps = request.apps;
    let base = Arc::clone(&request.env_base);
    let base = mail.ask(move |daemon| daemon.shared(base)).await.ok_or_else(leaving)?;
    let mut seen = std::collections::BTreeSet::new();
    for spec in &mut apps {
        if !seen.insert(spec.name.clone()) {
            return Err(Box::new(
                ErrorBody::new(ErrorKind::BadRequest, format!("the app {} is there twice", spec.name))
                    .hint("give each app a name of its own"),
            ));
        }
        if spec.env_base.is_empty() {
            spec.env_base = Arc::clone(&base);
        }
        if let Err(error) = validate(spec) {
            return Err(Box::new(ErrorBody::new(
                ErrorKind::BadRequest,
                format!("the app {}: {error}", spec.name),
            )));
        }
    }
    let (folder, known) = mail.ask(|daemon| daemon.writers()).await.ok_or_else(leaving)?;
    log_files::refuse_shared(&folder, &apps, &known)?;
    let update_env = request.update_env;
    let asked = apps.clone();
    let prepared = mail
        .ask(move |daemon| {
            asked
                .into_iter()
                .map(|spec| daemon.effective(spec, update_env))
                .collect::<Vec<AppSpec>>()
        })
        .await;
    let prepared = prepared.ok_or_else(leaving)?;
    check(prepared.iter()).await?;
    let wish = Command::Apply {
        apps,
        update_env,
        no_rollback: request.no_rollback,
    };
    bound(mail, prepared, wish).await
}

/// What a spec must hold whoever sends it; `config` has better words for users' files.
fn validate(spec: &AppSpec) -> Result<(), String> {
    if spec.argv.first().is_none_or(crate::model::ostext::OsText::is_empty) {
        return Err("there is nothing to run: argv is empty".into());
    }
    if !spec.cwd.as_path().is_absolute() {
        return Err(format!("cwd is not absolute: {}", spec.cwd));
    }
    if spec.instances == 0 || spec.instances > crate::model::spec::MAX_INSTANCES {
        return Err(format!(
            "{} instances are not possible; 1 to {} are",
            spec.instances,
            crate::model::spec::MAX_INSTANCES
        ));
    }
    if spec
        .env
        .keys()
        .chain(spec.env_base.keys())
        .any(|name| !crate::model::env::is_name(name))
    {
        return Err("a variable's name is empty or contains '='".into());
    }
    let nul = |text: &crate::model::ostext::OsText| text.as_bytes().contains(&0);
    if spec.argv.iter().any(nul) || nul(&spec.cwd) || spec.env.values().chain(spec.env_base.values()).any(nul) {
        return Err("an argument, the folder or a variable contains a NUL byte".into());
    }
    crate::daemon::listeners::validate(spec)?;
    if spec.logs.goes_to(LogTarget::Stdout) && crate::daemon::runtime::asked().is_none() {
        return Err("`log_to = \"stdout\"` works under `clmgr runtime`, whose standard output it is: use \"files\", or \"journald\" on a machine with systemd".into());
    }
    if let crate::model::spec::Ready::Log(pattern) = &spec.ready
        && let Err(error) = regex::bytes::Regex::new(pattern)
    {
        return Err(format!("the readiness pattern is no regular expression: {error}"));
    }
    Ok(())
}

/// Checks the `require` of apps that are about to be started, and refuses before anything has happened.
async fn check(specs: impl Iterator<Item = &AppSpec>) -> Result<(), Box<ErrorBody>> {
    for spec in specs.filter(|spec| !spec.require.is_empty()) {
        if let Err(missing) = require::check(spec).await {
            let error = ErrorBody::new(ErrorKind::Failed, format!("{} was not started: {missing}", spec.name))
                .hint("set it, then run the same command with --update-env");
            return Err(Box::new(error));
        }
    }
    Ok(())
}

/// Gives the core a command that starts these, once the addresses they listen on are theirs.
async fn bound(mail: &Mail, specs: Vec<AppSpec>, wish: Command) -> Reply {
    if specs.iter().all(|spec| spec.listen.is_empty()) {
        return command(mail, wish).await;
    }
    // Answered, or nothing was being closed.
    let closed = mail.ask(Daemon::when_closed).await.ok_or_else(leaving)?;
    drop(closed.await);
    let reserved = mail.ask(move |daemon| daemon.reserve(&specs)).await;
    let reserved = reserved.ok_or_else(leaving)??;
    let reply = command(mail, wish).await;
    mail.post(move |daemon| daemon.unreserve(reserved));
    reply
}

/// `scale`.
pub(crate) async fn scale(mail: &Mail, request: ScaleRequest) -> Reply {
    let ScaleRequest { targets, to } = request;
    let asked = targets.clone();
    let found = mail.ask(move |daemon| {
        let found = daemon.core.resolve(&asked)?;
        let apps = found.into_iter().filter_map(|(id, _)| daemon.core.apps.get(&id));
        // Numbers that are not possible are refused with the rest.
        let grown = apps.filter_map(|app| Some((Arc::clone(app.spec()), u32::try_from(to.of(app.desired)).ok()?)));
        Ok::<_, Box<ErrorBody>>((grown.collect::<Vec<_>>(), daemon.writers()))
    });
    let (mut grown, (folder, known)) = found.await.ok_or_else(leaving)??;
    grown.retain(|(_, count)| *count <= crate::model::spec::MAX_INSTANCES);
    log_files::refuse_scaled(&folder, &grown, &known)?;
    command(mail, Command::Scale { targets, to }).await
}

/// `start`, `restart`, `reload`: as `make` says, after the requirements were checked.
pub(crate) async fn start(mail: &Mail, request: TargetRequest, make: fn(TargetRequest) -> Command) -> Reply {
    let targets = request.targets.clone();
    let env = request.update_env.clone();
    let specs = mail
        .ask(move |daemon| {
            let found = daemon.core.resolve(&targets)?;
            Ok::<_, Box<ErrorBody>>(
                found
                    .into_iter()
                    .filter_map(|(id, _)| daemon.core.apps.get(&id))
                    .map(|app| {
                        let mut spec = AppSpec::clone(app.spec());
                        if let Some(env) = &env {
                            spec.env_base = Arc::clone(env);
                        }
                        spec
                    })
                    .collect::<Vec<AppSpec>>(),
            )
        })
        .await
        .ok_or_else(leaving)??;
    check(specs.iter()).await?;
    bound(mail, specs, make(request)).await
}

impl Daemon {
    pub(crate) fn take_ticket(&mut self) -> crate::supervise::Ticket {
        let ticket = self.next_ticket;
        self.next_ticket += 1;
        ticket
    }

    /// A command of our own; `then` runs when it is answered.
    pub(crate) fn command(&mut self, command: Command, then: impl FnOnce(&mut Self) + Send + 'static) {
        let ticket = self.take_ticket();
        let (sender, receiver) = oneshot::channel::<Answer>();
        self.replies.insert(ticket, sender);
        let mail = self.mail.clone();
        tokio::spawn(async move {
            // Answered or not, there is nothing more to wait for.
            drop(receiver.await);
            mail.post(then);
        });
        self.input(Input::Command(ticket, command));
    }

    /// Ends the loop; everything has been stopped.
    pub(crate) fn leave(&mut self) {
        self.leaving = true;
    }

    /// Tells the keeper to leave with us. All apps are stopped; what is left are helpers, such as alert commands.
    pub(crate) async fn leave_keeper(&mut self) {
        let helpers: Vec<RunId> = self.helpers.keys().copied().collect();
        for run in helpers {
            self.end_helper(run);
        }
        self.runtime_outcome();
        self.keeper_send(&ToKeeper::Exit { force: true }, Vec::new());
        for _ in 0..100 {
            match self.keeper.get_mut().flush() {
                Ok(false) => {
                    if let Ok(mut guard) = self.keeper.writable().await {
                        guard.clear_ready();
                    }
                }
                Ok(true) | Err(_) => return,
            }
        }
    }

    /// An inherited environment: the one that some app has already, if it is equal, so that hundreds of apps
    /// started one by one share it.
    fn shared(&self, env: Arc<EnvMap>) -> Arc<EnvMap> {
        let known = self
            .core
            .apps
            .values()
            .map(|app| &app.spec().env_base)
            .find(|known| **known == env);
        known.map_or(env, Arc::clone)
    }

    /// A spec as it will be in force: a known app keeps its inherited environment unless asked otherwise.
    fn effective(&self, mut spec: AppSpec, update_env: bool) -> AppSpec {
        if let (Some(app), false) = (self.core.named(&spec.name), update_env) {
            spec.env_base = Arc::clone(&app.spec().env_base);
        }
        spec
    }

    /// The living runs that targets mean, with a result line for each.
    pub(crate) fn living(&self, targets: &[Target]) -> Result<Vec<(RunId, InstanceResult)>, Box<ErrorBody>> {
        let mut found = Vec::new();
        for (id, slots) in self.core.resolve(targets)? {
            let Some(app) = self.core.apps.get(&id) else { continue };
            for slot in slots {
                if let Some(run) = app.current(slot).filter(|run| run.pid.is_some() && run.exit.is_none()) {
                    found.push((run.id, app.line(Some(slot), Outcome::Done)));
                }
            }
        }
        if found.is_empty() {
            let names = targets.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Err(Box::new(
                ErrorBody::new(ErrorKind::Failed, format!("nothing of {names} is running"))
                    .hint("clmgr status shows what is"),
            ));
        }
        Ok(found)
    }

    /// `signal`.
    pub(crate) fn signal(&mut self, request: &SignalRequest) -> Reply {
        if !(1..=64).contains(&request.signal) {
            return Err(Box::new(ErrorBody::new(
                ErrorKind::BadRequest,
                format!("{} is no signal", request.signal),
            )));
        }
        let mut results = Vec::new();
        for (run, mut line) in self.living(&request.targets)? {
            let Some(handle) = self.handles.get(&run) else { continue };
            let treekill = self.spec_of(run).is_none_or(|spec| spec.stop.treekill);
            let scope = if treekill { handle.scope() } else { Scope::Process };
            if treekill && request.signal == 9 {
                for member in tree::descendants(handle.pid) {
                    let _gone = pidfd::signal(&member.fd, 9, Scope::Process);
                }
            }
            if let Err(error) = pidfd::signal(&handle.pidfd, request.signal, scope) {
                line.outcome = Outcome::Failed;
                line.message = Some(crate::daemon::text::cause(&error));
            }
            results.push(line);
        }
        finish(results)
    }

    /// `send`.
    pub(crate) fn send_text(&mut self, request: &SendRequest) -> Reply {
        let mut text = request.text.clone();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        let mut results = Vec::new();
        for (run, mut line) in self.living(&request.targets)? {
            let stdin = self.handles.get(&run).and_then(|handle| handle.stdin.as_ref());
            let written = match stdin {
                Some(fd) => fds::write_now(fd, text.as_bytes()).map_err(|error| crate::daemon::text::cause(&error)),
                None if self
                    .spec_of(run)
                    .is_some_and(|spec| spec.listen.iter().any(|entry| entry.stdin)) =>
                {
                    Err(
                        "its standard input is a socket (`stdin = true` in `listen`): connect to that instead"
                            .to_owned(),
                    )
                }
                None => Err("its standard input is not held any more".to_owned()),
            };
            match written {
                Ok(count) if count == text.len() => {}
                Ok(count) => {
                    line.outcome = Outcome::Failed;
                    line.message = Some(format!(
                        "it does not read its standard input: only {count} of {} bytes fitted",
                        text.len()
                    ));
                }
                Err(why) => {
                    line.outcome = Outcome::Failed;
                    line.message = Some(why);
                }
            }
            results.push(line);
        }
        finish(results)
    }

    /// The files of `flush` and `reopen`.
    pub(crate) fn log_files(
        &mut self,
        targets: &[Target],
    ) -> Result<(Vec<std::path::PathBuf>, Vec<InstanceResult>), Box<ErrorBody>> {
        let mut files = Vec::new();
        let mut results = Vec::new();
        for (id, slots) in self.core.resolve(targets)? {
            let Some(app) = self.core.apps.get(&id) else { continue };
            if app.spec().logs.merge || (0..app.desired).all(|slot| slots.contains(&slot)) {
                files.extend(sinks::files(&self.home.logs, app));
                results.push(app.line(None, Outcome::Done));
            } else {
                // Those of the other instances are not meant.
                files.extend(sinks::files_in(&self.home.logs, app, &slots));
                results.extend(slots.into_iter().map(|slot| app.line(Some(slot), Outcome::Done)));
            }
        }
        Ok((files, results))
    }
}

/// The answer: it worked for all, or why not for the first that failed.
pub(crate) fn finish(results: Vec<InstanceResult>) -> Reply {
    let failed = results.iter().find(|line| line.outcome == Outcome::Failed);
    match failed {
        None => Ok(OperationReply { results }),
        Some(line) => {
            let slot = line.slot.map_or_else(String::new, |slot| format!(":{slot}"));
            let message = format!("{}{slot}: {}", line.app, line.message.as_deref().unwrap_or("failed"));
            Err(Box::new(ErrorBody {
                kind: ErrorKind::Failed,
                message,
                hints: Vec::new(),
                results,
            }))
        }
    }
}
