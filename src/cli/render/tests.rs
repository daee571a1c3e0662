use super::{describe, event, results, sample, table};
use crate::api::operation::{InstanceResult, Outcome};
use crate::model::names::AppId;

/// Without styles and with times that do not depend on the zone of the machine.
fn plain(text: &str) -> String {
    let text = anstream::adapter::strip_str(text).to_string();
    regex::Regex::new(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d")
        .unwrap()
        .replace_all(&text, "DATE TIME")
        .into_owned()
}

#[test]
fn the_table_at_120_80_50_and_20_columns() {
    for width in [120, 80, 50, 20] {
        let text = table::render(&sample::status(), width, false);
        insta::assert_snapshot!(format!("table_{width}"), text);
        if width >= 50 {
            assert!(
                text.lines().all(|line| line.chars().count() <= width),
                "{width}:\n{text}"
            );
        }
    }
}

#[test]
fn colours_change_no_width() {
    let plainly = table::render(&sample::status(), 80, false);
    let coloured = table::render(&sample::status(), 80, true);
    assert_ne!(plainly, coloured);
    assert_eq!(
        plain(&coloured).split_whitespace().collect::<Vec<_>>(),
        plainly.split_whitespace().collect::<Vec<_>>()
    );
}

#[test]
fn no_apps_is_a_sentence() {
    assert!(table::render(&crate::api::status::StatusReply::default(), 80, false).starts_with("no apps"));
}

#[test]
fn the_page_of_an_app() {
    insta::assert_snapshot!("describe", plain(&describe::page(&sample::description(), 80, false)));
}

#[test]
fn an_event_cannot_play_with_the_terminal() {
    let text = plain(&event::line(&sample::event()));
    assert!(!text.contains('\u{1b}'));
    insta::assert_snapshot!("event", text);
}

fn result(app: u32, slot: u32, outcome: Outcome) -> InstanceResult {
    InstanceResult {
        id: AppId(app),
        app: format!("app-{app}").parse().unwrap(),
        slot: Some(slot),
        pid: None,
        outcome,
        state: None,
        message: (outcome == Outcome::Failed).then(|| "exit code 1 after 120ms".to_owned()),
        stderr: if outcome == Outcome::Failed {
            vec!["boom".into()]
        } else {
            Vec::new()
        },
        reply: None,
    }
}

#[test]
fn results_are_one_line_an_app() {
    let few = [
        result(1, 0, Outcome::Started),
        result(1, 1, Outcome::Started),
        result(2, 0, Outcome::Unchanged),
        result(2, 1, Outcome::Failed),
    ];
    insta::assert_snapshot!("results", plain(&results::lines(&few).join("\n")));
    assert_eq!(results::first_failed(&few).unwrap().as_str(), "app-2");
}

#[test]
fn many_results_are_summed_up() {
    let many: Vec<_> = (0..40)
        .map(|id| result(id, 0, if id < 15 { Outcome::Failed } else { Outcome::Started }))
        .collect();
    let lines = results::lines(&many);
    assert_eq!(plain(&lines[0]), "40 apps: 15 failed, 25 started");
    assert_eq!(lines.last().unwrap(), "… and 5 more failed");
    assert_eq!(lines.len(), 1 + 10 * 2 + 1);
}
