//! `health`, `watchdog`, `hang_timeout`, `max_age`.

use super::{World, app, messages};
use crate::model::duration::Millis;
use crate::model::health::{Health, MaxAge, Probe};

fn health(rest: &str) -> Health {
    app(&format!("[[apps]]\nscript = 'server.js'\n{rest}")).health.unwrap()
}

#[test]
fn every_question_is_read() {
    let plain = health("health = { tcp = '127.0.0.1:80' }");
    assert_eq!(
        plain,
        Health {
            probe: Probe::Tcp("127.0.0.1:80".into()),
            interval: Millis(10_000),
            timeout: Millis(2000),
            retries: 3,
            start_period: Millis::ZERO,
        }
    );
    let full = health(
        "env = { PORT = 1 }\nhealth = { http = 'http://127.0.0.1:{port}/${NAME:-ok}?{slot}', interval = 500, timeout = '1s', retries = 1, start_period = '1m' }",
    );
    assert_eq!(full.probe, Probe::Http("http://127.0.0.1:{port}/ok?{slot}".into()));
    assert_eq!(
        (full.interval, full.timeout, full.retries, full.start_period),
        (Millis(500), Millis(1000), 1, Millis(60_000))
    );
    let unix = |path: &str| health(&format!("health = {{ unix = '{path}' }}")).probe;
    assert_eq!(unix("run/{slot}.sock"), Probe::Unix("/srv/app/run/{slot}.sock".into()));
    assert_eq!(unix("unix:/run/a.sock"), Probe::Unix("/run/a.sock".into()));
    let exec = health("health = { exec = 'check --deep \"a b\"' }").probe;
    assert_eq!(exec, Probe::Exec(vec!["check".into(), "--deep".into(), "a b".into()]));
}

#[test]
fn the_other_limits_are_read() {
    let spec = app(
        "[[apps]]\nscript = 'server.js'\nlisten = 'unix:a.sock'\nwatchdog = '100ms'\nhang_timeout = '1s'\nmax_age = '1d'",
    );
    assert_eq!(
        (spec.watchdog, spec.hang_timeout),
        (Some(Millis(100)), Some(Millis(1000)))
    );
    let age = |after, jitter| Some(MaxAge { after, jitter });
    assert_eq!(spec.max_age, age(Millis(86_400_000), 0.1));
    let table = "[[apps]]\nscript = 'server.js'\nmax_age = { after = '1h', jitter = 0 }";
    assert_eq!(app(table).max_age, age(Millis(3_600_000), 0.0));
    let none = app("[[apps]]\nscript = 'server.js'");
    assert!(none.health.is_none() && none.watchdog.is_none() && none.hang_timeout.is_none() && none.max_age.is_none());
}

#[test]
fn nonsense_is_refused_with_the_way_out() {
    let text = "[defaults]\nscript = 'server.js'\n\
        [[apps]]\nname='a'\nhealth = {}\nwatchdog = 30\nhang_timeout = '10s'\n\
        [[apps]]\nname='b'\nhealth = { http = '/health', tcp = ':80' }\nwatchdog = true\nlisten = 'udp:0.0.0.0:53'\nhang_timeout = 5\n\
        [[apps]]\nname='c'\nhealth = { http = 'https://x/', interval = '1ms', retries = 0 }\nmax_age = {}\n\
        [[apps]]\nname='d'\nhealth = { tcp = '127.0.0.1:{port}', timeout = 0 }\nmax_age = '1s'\n\
        [[apps]]\nname='e'\nhealth = { unix = '@name' }\nmax_age = { after = '1h', jitter = 2, x = 1 }\n\
        [[apps]]\nname='f'\nhealth = { exec = '' }\nmax_age = 0\n\
        [[apps]]\nname='g'\nhealth = 'http://127.0.0.1/'\nlisten = 'udp:0.0.0.0:54'\nhang_timeout = '2s'\n\
        [[apps]]\nname='i'\nlisten = '0.0.0.0:80'\nhealth = { tcp = '127.0.0.1:{port}' }\n\
        [[apps]]\nname='j'\nlisten = 'unix:j.sock'\ninstances = 2\nhealth = { unix = 'j.sock' }\n\
        [[apps]]\nname='h'\nhealth = { htpp = 'http://127.0.0.1/' }\n";
    insta::assert_snapshot!(World::new().toml(text).unwrap_err().render(false));
}

#[test]
fn one_address_for_several_instances_is_warned_of() {
    let warnings = |rest: &str| {
        let text = format!("[[apps]]\nscript = 'server.js'\nlisten = '0.0.0.0:3000'\n{rest}");
        World::new().toml(&text).unwrap().warnings.render(false)
    };
    let shared = "health = { http = 'http://127.0.0.1:{port}/' }";
    insta::assert_snapshot!(warnings(&format!("instances = 2\n{shared}")));
    for fine in [
        shared,
        "instances = 2\nhealth = { exec = 'check' }",
        "instances = 2\nhealth = { unix = '{slot}.sock' }",
        "instances = 2\nenv = { PORT = 4000 }\nincrement_var = 'PORT'\nhealth = { tcp = '127.0.0.1:{port}' }",
    ] {
        assert_eq!(warnings(fine), "", "{fine}");
    }
}

#[test]
fn it_is_one_mistake_where_there_is_one() {
    let text = "[[apps]]\nscript = 'server.js'\nhealth = { http = 'nothing' }";
    assert_eq!(messages(text), ["\"nothing\" is not an http URL"]);
}
