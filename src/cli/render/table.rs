//! The status table: one row an instance, fewer columns where the terminal is narrow.

use comfy_table::{Attribute, Cell, CellAlignment, Color, Table};

use crate::api::status::{AppStatus, InstanceStatus, StatusReply};
use crate::cli::render::human::{percent, uptime};
use crate::cli::render::paint;
use crate::model::size::Bytes;
use crate::model::state::State;

/// What a column shows, in the order of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Id,
    Name,
    Namespace,
    State,
    Pid,
    Uptime,
    Restarts,
    Cpu,
    Memory,
}

const ALL: [Column; 9] = [
    Column::Id,
    Column::Name,
    Column::Namespace,
    Column::State,
    Column::Pid,
    Column::Uptime,
    Column::Restarts,
    Column::Cpu,
    Column::Memory,
];

/// Which columns go first when the terminal is narrow. Name and state always stay.
const EXPENDABLE: [Column; 7] = [
    Column::Namespace,
    Column::Id,
    Column::Restarts,
    Column::Cpu,
    Column::Memory,
    Column::Pid,
    Column::Uptime,
];

/// Blanks between two columns.
const GAP: usize = 2;

type Row = Vec<(Column, String, Option<State>)>;

/// The table for a terminal of `width` columns.
#[must_use]
pub fn render(status: &StatusReply, width: usize, coloured: bool) -> String {
    if status.apps.is_empty() {
        return "no apps; clmgr start FILE or clmgr start PROGRAM adds one".to_owned();
    }
    let rows: Vec<Row> = status.apps.iter().flat_map(rows_of).collect();
    let columns = fitting(&rows, width, has_namespaces(status));
    let mut table = Table::new();
    table.load_style(comfy_table::presets::NOTHING);
    if coloured {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(columns.iter().map(|column| {
        Cell::new(title(*column))
            .add_attribute(Attribute::Bold)
            .set_alignment(alignment(*column))
    }));
    for row in &rows {
        table.add_row(row.iter().filter(|(column, ..)| columns.contains(column)).map(cell));
    }
    let last = columns.len().saturating_sub(1);
    for (at, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, if at == last { 0 } else { 2 }));
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}

fn has_namespaces(status: &StatusReply) -> bool {
    status.apps.iter().any(|app| app.namespace.as_str() != "default")
}

/// The columns that fit.
fn fitting(rows: &[Row], width: usize, namespaces: bool) -> Vec<Column> {
    let mut columns: Vec<Column> = ALL.to_vec();
    if !namespaces {
        columns.retain(|column| *column != Column::Namespace);
    }
    let wide = |column: Column| {
        let cells = rows.iter().flatten().filter(|(of, ..)| *of == column);
        cells
            .map(|(_, text, _)| text.chars().count())
            .max()
            .unwrap_or(0)
            .max(title(column).len())
            + GAP
    };
    for expendable in EXPENDABLE {
        if columns.iter().map(|column| wide(*column)).sum::<usize>() <= width + GAP {
            break;
        }
        columns.retain(|column| *column != expendable);
    }
    columns
}

fn rows_of(app: &AppStatus) -> Vec<Row> {
    if app.instances.is_empty() {
        return vec![row(app, None)];
    }
    app.instances.iter().map(|instance| row(app, Some(instance))).collect()
}

fn row(app: &AppStatus, instance: Option<&InstanceStatus>) -> Row {
    let state = instance.map_or(app.state, |instance| instance.state);
    let text = |column: Column| match column {
        Column::Id => app.id.to_string(),
        Column::Name => name(app, instance),
        Column::Namespace => app.namespace.to_string(),
        Column::State => state_text(state, instance),
        Column::Pid => dash(instance.and_then(|instance| instance.pid)),
        Column::Uptime => dash(instance.and_then(|instance| instance.uptime_ms).map(uptime)),
        Column::Restarts => dash(instance.map(|instance| instance.restarts)),
        Column::Cpu => percent(instance.and_then(|instance| instance.cpu_percent)),
        Column::Memory => dash(instance.and_then(|instance| instance.memory_bytes).map(Bytes)),
    };
    ALL.iter()
        .map(|column| (*column, text(*column), (*column == Column::State).then_some(state)))
        .collect()
}

/// As it can be typed: `api`, or `api:2` where there are several.
fn name(app: &AppStatus, instance: Option<&InstanceStatus>) -> String {
    match instance {
        Some(instance) if app.instances.len() > 1 || instance.slot > 0 => format!("{}:{}", app.name, instance.slot),
        Some(_) | None => app.name.to_string(),
    }
}

fn state_text(state: State, instance: Option<&InstanceStatus>) -> String {
    match instance.and_then(|instance| instance.next_start_ms) {
        Some(wait) => format!("{state}, retry {}", uptime(wait.saturating_add(999))),
        None => state.to_string(),
    }
}

fn dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn cell((column, text, state): &(Column, String, Option<State>)) -> Cell {
    let cell = Cell::new(text).set_alignment(alignment(*column));
    match state.map(paint::state) {
        Some(colour) => cell.fg(terminal_colour(colour)),
        None => cell,
    }
}

const fn alignment(column: Column) -> CellAlignment {
    match column {
        Column::Id | Column::Pid | Column::Restarts | Column::Cpu | Column::Memory => CellAlignment::Right,
        Column::Name | Column::Namespace | Column::State | Column::Uptime => CellAlignment::Left,
    }
}

const fn title(column: Column) -> &'static str {
    match column {
        Column::Id => "id",
        Column::Name => "name",
        Column::Namespace => "namespace",
        Column::State => "state",
        Column::Pid => "pid",
        Column::Uptime => "uptime",
        Column::Restarts => "restarts",
        Column::Cpu => "cpu",
        Column::Memory => "memory",
    }
}

/// The table's own name for a colour.
const fn terminal_colour(colour: anstyle::AnsiColor) -> Color {
    use anstyle::AnsiColor as A;
    match colour {
        A::Green | A::BrightGreen => Color::DarkGreen,
        A::Red | A::BrightRed => Color::DarkRed,
        A::Yellow | A::BrightYellow => Color::DarkYellow,
        A::Cyan | A::BrightCyan => Color::DarkCyan,
        A::Blue | A::BrightBlue => Color::DarkBlue,
        A::Magenta | A::BrightMagenta => Color::DarkMagenta,
        A::Black | A::BrightBlack => Color::DarkGrey,
        A::White | A::BrightWhite => Color::Grey,
    }
}
