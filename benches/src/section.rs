//! What a row found: tables, plots and targets, as they are kept between runs.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// What a row found.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Section {
    /// A few sentences before the tables: what is measured, and how. Markdown.
    pub(crate) intro: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
    pub(crate) bars: Vec<Bars>,
    pub(crate) targets: Vec<Target>,
    /// What the document says first.
    pub(crate) beside: Vec<Beside>,
    /// Of what was measured, where the lock file does not say it: "etcd 3.5.16".
    pub(crate) versions: Vec<String>,
    /// What could not run on this machine, and why.
    pub(crate) skipped: Vec<String>,
    /// Filled in by the program.
    pub(crate) made_on: Option<Machine>,
    /// Filled in by the program: figures of a brief run are no figures.
    pub(crate) brief: bool,
}

/// A table: cells are Markdown.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Table {
    pub(crate) caption: String,
    /// Only the caption is seen until a reader opens it.
    pub(crate) folded: bool,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<S: Into<String>>(caption: &str, head: impl IntoIterator<Item = S>) -> Self {
        let head = head.into_iter().map(Into::into).collect();
        Self { caption: caption.to_owned(), folded: false, head, rows: Vec::new() }
    }

    pub(crate) fn folded(self) -> Self {
        Self { folded: true, ..self }
    }

    pub(crate) fn push<S: Into<String>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(cells.into_iter().map(Into::into).collect());
    }
}

/// A picture, drawn as `<name>.svg`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Plot {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    pub(crate) lines: Vec<Line>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Axis {
    pub(crate) label: String,
    pub(crate) logarithmic: bool,
}

impl Axis {
    pub(crate) fn linear(label: &str) -> Self {
        Self { label: label.to_owned(), logarithmic: false }
    }

    pub(crate) fn logarithmic(label: &str) -> Self {
        Self { label: label.to_owned(), logarithmic: true }
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Line {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A picture of one figure each, the first one at the top, drawn as `<name>.svg`.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Bars {
    pub(crate) name: String,
    pub(crate) title: String,
    pub(crate) bars: Vec<Bar>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) figure: f64,
    /// Drawn in another colour than ours.
    pub(crate) is_peer: bool,
}

/// Ours and one of others, measured in the same run: a line of the summary.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Beside {
    pub(crate) what: String,
    pub(crate) ours: String,
    pub(crate) peer: String,
    pub(crate) of_ours: f64,
    pub(crate) of_peer: f64,
    pub(crate) unit: String,
    /// How many times ours a peer's is.
    pub(crate) ratio: f64,
}

impl Beside {
    pub(crate) fn new(
        what: &str,
        (ours, of_ours): (&str, f64),
        (peer, of_peer): (&str, f64),
        unit: &str,
    ) -> Self {
        let [what, ours, peer, unit] = [what, ours, peer, unit].map(str::to_owned);
        Self { what, ours, peer, of_ours, of_peer, unit, ratio: of_peer / of_ours }
    }
}

/// A goal, and whether it was reached in this run.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) what: String,
    /// As text, for a reader: "<= 20 ns".
    pub(crate) goal: String,
    pub(crate) measured: String,
    pub(crate) met: bool,
}

impl Target {
    /// At most `goal`.
    pub(crate) fn at_most(what: &str, goal: f64, measured: f64, unit: &str) -> Self {
        Self {
            what: what.to_owned(),
            goal: format!("<= {goal} {unit}"),
            measured: format!("{measured:.2} {unit}"),
            met: measured <= goal,
        }
    }

    /// At least `goal`.
    pub(crate) fn at_least(what: &str, goal: f64, measured: f64, unit: &str) -> Self {
        Self {
            what: what.to_owned(),
            goal: format!(">= {goal} {unit}"),
            measured: format!("{measured:.2} {unit}"),
            met: measured >= goal,
        }
    }
}
