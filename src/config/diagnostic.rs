//! Problems with a place, and how they are shown.

use std::cell::RefCell;
use std::fmt;
use std::ops::Range;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};

/// Most problems rendered; the rest are counted.
const MAX_SHOWN: usize = 50;

/// Most problems kept: a large file of nonsense must not take long.
const MAX_KEPT: usize = 1000;

/// Bytes of the text.
pub(super) type Span = Range<usize>;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// The text is refused.
    Error,
    /// The text is accepted; this is probably not meant.
    Warning,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// Where, in bytes of the text. `None`: nowhere in particular.
    pub span: Option<Range<usize>>,
    /// The key it is about, with its tables (`rollout.order`); empty when it is about no key.
    pub key: String,
    /// What is wrong, in one line.
    pub message: String,
    /// A few words under the marked place; may be empty.
    pub label: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Other places that matter, each with a few words.
    pub related: Vec<(Range<usize>, String)>,
    /// It is about a key that this version does not have: the ones it has are listed below all problems.
    pub lists_keys: bool,
    /// It is about something that is not there, which may be a consequence of a syntax error.
    pub(super) absence: bool,
}

impl Diagnostic {
    pub(super) fn error(span: Span, key: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            span: Some(span),
            key: key.to_owned(),
            message: message.into(),
            label: String::new(),
            hint: None,
            related: Vec::new(),
            lists_keys: false,
            absence: false,
        }
    }

    pub(super) fn warning(span: Span, key: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(span, key, message)
        }
    }

    pub(super) fn nowhere(message: impl Into<String>) -> Self {
        Self {
            span: None,
            ..Self::error(0..0, "", message)
        }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// A hint, if there is one.
    pub(super) fn hints(mut self, hint: Option<String>) -> Self {
        self.hint = hint.or(self.hint);
        self
    }

    pub(super) fn see(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    pub(super) fn absence(mut self) -> Self {
        self.absence = true;
        self
    }

    pub(super) fn list_keys(mut self) -> Self {
        self.lists_keys = true;
        self
    }
}

/// Where the readers put what they find. A value, so that nobody has to pass `&mut` around.
#[derive(Debug, Default)]
pub(super) struct Sink {
    list: RefCell<Vec<Diagnostic>>,
}

impl Sink {
    pub(super) fn push(&self, diagnostic: Diagnostic) {
        let mut list = self.list.borrow_mut();
        // A problem in [defaults] is found once for every app.
        if list.len() < MAX_KEPT && !list.contains(&diagnostic) {
            list.push(diagnostic);
        }
    }

    /// Nothing more is kept: searching for suggestions is a waste.
    pub(super) fn is_full(&self) -> bool {
        self.list.borrow().len() >= MAX_KEPT
    }

    pub(super) fn into_list(self) -> Vec<Diagnostic> {
        self.list.into_inner()
    }
}

/// All problems of one text, together with the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostics {
    name: String,
    text: String,
    list: Vec<Diagnostic>,
    footer: Option<String>,
}

impl Diagnostics {
    pub(super) fn new(name: String, text: &str, mut list: Vec<Diagnostic>) -> Self {
        list.sort_by_key(|d| d.span.as_ref().map_or((usize::MAX, 0), |span| (span.start, span.end)));
        let footer = list
            .iter()
            .any(|d| d.lists_keys)
            .then(|| format!("keys this version supports: {}", crate::config::schema::supported()));
        Self {
            name,
            text: text.to_owned(),
            list,
            footer,
        }
    }

    /// The problems, in the order of the text.
    pub fn iter(&self) -> std::slice::Iter<'_, Diagnostic> {
        self.list.iter()
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// None.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Line and column (in characters) of a byte, both counted from 1.
    #[must_use]
    pub fn position(&self, byte: usize) -> (usize, usize) {
        position(&self.text, byte)
    }

    /// For people: each problem with its line shown, several lines long, without a newline at the end.
    /// With `colour`, ANSI escapes.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut parts: Vec<String> = self
            .list
            .iter()
            .take(MAX_SHOWN)
            .map(|d| renderer.render(&[self.group(d)]))
            .collect();
        if self.list.len() > MAX_SHOWN {
            parts.push(format!("… and {} more", self.list.len() - MAX_SHOWN));
        }
        if let Some(footer) = &self.footer {
            parts.push(format!("note: {footer}"));
        }
        parts.join("\n\n")
    }

    fn group<'d>(&'d self, d: &'d Diagnostic) -> Group<'d> {
        let level = match d.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut group = Group::with_title(level.primary_title(d.message.as_str()));
        if let Some(span) = &d.span {
            let mark = |kind: AnnotationKind, span: &Span, label: &'d str| {
                let annotation = kind.span(clamp(&self.text, span));
                if label.is_empty() {
                    annotation
                } else {
                    annotation.label(label)
                }
            };
            let snippet = Snippet::source(self.text.as_str())
                .path(self.name.as_str())
                .annotation(mark(AnnotationKind::Primary, span, &d.label))
                .annotations(
                    d.related
                        .iter()
                        .map(|(span, label)| mark(AnnotationKind::Context, span, label)),
                );
            group = group.element(snippet);
        } else if !d.message.contains(&self.name) {
            group = group.element(Origin::path(self.name.as_str()));
        }
        match &d.hint {
            Some(hint) => group.element(Level::HELP.message(hint.as_str())),
            None => group,
        }
    }

    /// For programs: `[{line, column, end, message, hint, key, severity}]`, where `end` is
    /// `{line, column}` just behind the marked place. Positions are `null` for a problem without a place.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let one = |d: &Diagnostic| {
            let span = d.span.as_ref().map(|span| clamp(&self.text, span));
            let start = span.as_ref().map(|span| self.position(span.start));
            let end = span.as_ref().map(|span| self.position(span.end));
            serde_json::json!({
                "line": start.map(|p| p.0),
                "column": start.map(|p| p.1),
                "end": end.map(|(line, column)| serde_json::json!({ "line": line, "column": column })),
                "message": d.message,
                "hint": d.hint,
                "key": (!d.key.is_empty()).then_some(&d.key),
                "severity": match d.severity { Severity::Error => "error", Severity::Warning => "warning" },
            })
        };
        self.list.iter().map(one).collect()
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// Line and column of a byte, counted from 1.
pub(super) fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = &text[..floor(text, byte)];
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
    (line, column)
}

fn floor(text: &str, byte: usize) -> usize {
    let mut at = byte.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// A span the renderer can show: inside the text, on character boundaries, within one line.
fn clamp(text: &str, span: &Span) -> Span {
    let start = floor(text, span.start);
    let end = floor(text, span.end.max(start));
    let line_end = text[start..end].find('\n').map_or(end, |n| start + n);
    start..line_end
}

/// The candidate that somebody who wrote `word` most likely meant.
pub(crate) fn closest<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    if word.len() > 200 {
        return None;
    }
    let score = |c: &str| {
        let (word, c) = (word.to_lowercase(), c.to_lowercase());
        strsim::jaro_winkler(&word, &c).max(if strsim::damerau_levenshtein(&word, &c) <= 1 {
            0.9
        } else {
            0.0
        })
    };
    candidates
        .into_iter()
        .map(|c| (score(c), c))
        .filter(|(score, _)| *score >= 0.82)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, c)| c)
}

/// `did you mean "x"?`, if there is something close.
pub(super) fn did_you_mean<'c>(word: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<String> {
    closest(word, candidates).map(|found| format!("did you mean `{found}`?"))
}
