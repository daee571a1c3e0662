//! Asking one instance, again and again.

use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::daemon::Daemon;
use crate::daemon::health::record::{Change, Record};
use crate::daemon::health::{Finder, Report, Vital};
use crate::daemon::helper::{Ended, HelperPlan};
use crate::daemon::mail::Mail;
use crate::daemon::ready::network;
use crate::daemon::text::cause;
use crate::model::duration::Millis;
use crate::model::env::EnvMap;
use crate::model::exit::ExitStatus;
use crate::model::health::{Health, Probe};
use crate::model::names::RunId;
use crate::model::ostext::OsText;
use crate::model::time::Moment;
use crate::os::clock;

/// The first question comes within this long, however long the interval.
const FIRST_WITHIN: Duration = Duration::from_secs(1);

/// What is asked, with all placeholders filled.
#[derive(Debug)]
pub(super) enum Question {
    Http(String),
    Tcp(String),
    Unix(OsText),
    Exec {
        argv: Vec<OsText>,
        env: EnvMap,
        cwd: OsText,
    },
}

impl Daemon {
    /// The question for one run.
    pub(super) fn question(&self, run: RunId, health: &Health) -> Option<Question> {
        let (spec, handle) = (self.spec_of(run)?, self.handles.get(&run)?);
        let filled = |text: &str| {
            let text = text.replace("{slot}", &handle.slot.to_string());
            if !text.contains("{port}") {
                return text;
            }
            let env = self.run_environment(run, handle.slot, &spec);
            let port = env.get("PORT").map(|value| value.to_text().into_owned());
            text.replace("{port}", &port.unwrap_or_default())
        };
        Some(match &health.probe {
            Probe::Http(url) => Question::Http(filled(url)),
            Probe::Tcp(address) => Question::Tcp(filled(address)),
            Probe::Unix(path) => Question::Unix(match path.as_os_str().to_str() {
                Some(path) => filled(path).into(),
                None => path.clone(),
            }),
            Probe::Exec(argv) => {
                let mut env = self.run_environment(run, handle.slot, &spec);
                env.remove(crate::daemon::spawning::MARKER);
                env.insert("CLMGR_PID".into(), handle.pid.to_string().into());
                Question::Exec {
                    argv: argv.clone(),
                    env,
                    cwd: spec.cwd.clone(),
                }
            }
        })
    }
}

/// Asks until it is aborted. `ready`: when the instance became ready.
pub(super) async fn ask_on(
    finder: Finder,
    health: Health,
    ready: Moment,
    question: Question,
    report: watch::Sender<Report>,
) {
    let mut record = Record::new(&health, ready);
    let interval = health.interval.to_std();
    let mut at = Instant::now() + part_of(interval.min(FIRST_WITHIN), finder.run);
    loop {
        sleep_until(at).await;
        let answer = ask(&finder.mail, finder.run, &question, health.timeout).await;
        match record.answered(clock::monotonic(), answer) {
            Some(Change::Healthy) => finder.post(Vital::Probe, Ok(())),
            Some(Change::Unhealthy(why)) => finder.post(Vital::Probe, Err(why)),
            None => {}
        }
        report.send_replace(Report {
            state: record.state(),
            answered: Some(clock::wall()),
            failures: record.failures(),
            reason: record.reason().map(str::to_owned),
        });
        at = Instant::now() + interval;
    }
}

/// A share of a time that differs from run to run, so that many are not asked at once.
fn part_of(whole: Duration, run: RunId) -> Duration {
    // The golden ratio spreads numbers that follow each other as evenly as it can be done.
    let share = u32::try_from(run.0.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32).unwrap_or(0);
    whole.mul_f64(f64::from(share) / f64::from(u32::MAX))
}

/// One question; the reason says what was asked.
async fn ask(mail: &Mail, run: RunId, question: &Question, patience: Millis) -> Result<(), String> {
    let limit = patience.to_std();
    let late = || format!("no answer within {patience}");
    match question {
        Question::Http(url) => {
            let answer = tokio::time::timeout(limit, network::get(mail, run, url)).await;
            match answer.unwrap_or_else(|_| Err(late())) {
                Ok(status) if network::is_good(status) => Ok(()),
                Ok(status) => Err(format!("GET {url} answered {}", status.as_u16())),
                Err(why) => Err(format!("GET {url}: {why}")),
            }
        }
        Question::Tcp(address) => match tokio::time::timeout(limit, network::reach(mail, run, address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(format!("{address}: {}", cause(&error))),
            Err(_) => Err(format!("{address}: {}", late())),
        },
        Question::Unix(path) => match tokio::time::timeout(limit, UnixStream::connect(path.as_path())).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                Err(format!("{path}: its queue is full"))
            }
            Ok(Err(error)) => Err(format!("{path}: {}", cause(&error))),
            Err(_) => Err(format!("{path}: {}", late())),
        },
        Question::Exec { argv, env, cwd } => {
            let plan = HelperPlan {
                argv: argv.clone(),
                env: env.clone(),
                cwd: cwd.clone(),
                input: None,
            };
            let program = argv.first().map(ToString::to_string).unwrap_or_default();
            let ended = tokio::time::timeout(limit, helper(mail, plan)).await;
            match ended.unwrap_or_else(|_| Err(format!("{program} did not end within {patience}"))) {
                Ok(exit) if exit.is_success() => Ok(()),
                Ok(exit) => Err(match exit.status {
                    ExitStatus::Code(code) => format!("{program} ended with exit code {code}"),
                    ExitStatus::Signal(_) | ExitStatus::Unknown => format!("{program}: {exit}"),
                }),
                Err(why) => Err(why),
            }
        }
    }
}

/// A helper that ends with whoever waits for it.
struct Waited {
    mail: Mail,
    helper: Option<RunId>,
}

impl Drop for Waited {
    fn drop(&mut self) {
        if let Some(helper) = self.helper.take() {
            self.mail.post(move |daemon| daemon.end_helper(helper));
        }
    }
}

/// Runs a command to its end.
async fn helper(mail: &Mail, plan: HelperPlan) -> Ended {
    let gone = || Err("the manager is leaving".to_owned());
    let (sender, started) = oneshot::channel();
    mail.post(move |daemon| {
        let (helper, ended) = daemon.start_helper(plan);
        if sender.send((helper, ended)).is_err() {
            daemon.end_helper(helper);
        }
    });
    let Ok((helper, ended)) = started.await else {
        return gone();
    };
    let mut waited = Waited {
        mail: mail.clone(),
        helper: Some(helper),
    };
    let how = ended.await;
    waited.helper = None;
    how.unwrap_or_else(|_| gone())
}

#[cfg(test)]
mod tests {
    use super::{Question, ask, part_of};
    use crate::daemon::mail::Mail;
    use crate::model::duration::Millis;
    use crate::model::names::RunId;
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::time::Duration;

    fn asked(question: &Question, patience: u64) -> Result<(), String> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (mail, letters) = Mail::new();
        // Nobody knows of sockets of its own.
        drop(letters);
        runtime.block_on(ask(&mail, RunId(1), question, Millis(patience)))
    }

    /// Answers one connection with these bytes and closes it.
    fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 512];
            let _length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
        });
        address
    }

    #[test]
    fn http_is_judged_by_the_status() {
        for (answer, why) in [
            ("HTTP/1.1 204 No Content\r\n\r\n", None),
            ("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", None),
            ("HTTP/1.0 200 OK\r\n\r\nbody without length", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nnot all of it", None),
            (
                "HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n",
                Some("/health answered 500"),
            ),
            ("HTTP/1.1 404 Not Found\r\n\r\n", Some("/health answered 404")),
            ("", Some("connection closed before message completed")),
            ("SSH-2.0-x\r\n", Some("invalid HTTP version parsed")),
        ] {
            let url = format!("http://{}/health", server(answer));
            match (asked(&Question::Http(url), 60_000), why) {
                (Ok(()), None) => {}
                (Err(said), Some(why)) => assert!(said.starts_with("GET http://") && said.ends_with(why), "{said}"),
                (said, _) => panic!("{answer:?}: {said:?}"),
            }
        }
    }

    #[test]
    fn what_does_not_answer_is_said_precisely() {
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let url = format!("http://{address}/");
        let said = asked(&Question::Http(url.clone()), 50).unwrap_err();
        assert_eq!(said, format!("GET {url}: no answer within 50ms"));
        // A connection is all that is asked for here, and the kernel gives it.
        assert_eq!(asked(&Question::Tcp(address.to_string()), 60_000), Ok(()));
        drop(silent);
        let said = asked(&Question::Http(url.clone()), 60_000).unwrap_err();
        assert_eq!(said, format!("GET {url}: connection refused"));
        let said = asked(&Question::Tcp(address.to_string()), 60_000).unwrap_err();
        assert_eq!(said, format!("{address}: connection refused"));
        let said = asked(&Question::Unix("/nowhere/s".into()), 60_000).unwrap_err();
        assert_eq!(said, "/nowhere/s: no such file or directory");
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(asked(&Question::Unix(path.clone().into()), 60_000), Ok(()));
        drop(listener);
        let said = asked(&Question::Unix(path.clone().into()), 60_000).unwrap_err();
        assert_eq!(said, format!("{}: connection refused", path.display()));
    }

    #[test]
    fn runs_that_follow_each_other_are_asked_far_from_each_other() {
        let whole = Duration::from_secs(1);
        let mut all: Vec<Duration> = (0..100).map(|run| part_of(whole, RunId(run))).collect();
        all.sort_unstable();
        assert!(all.iter().all(|part| *part <= whole));
        let widest = all.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
        assert!(widest < whole / 30, "{widest:?}");
    }
}
