//! What a row found: tables, plots and targets, as they are kept between runs.

use serde::{Deserialize, Serialize};

use crate::machine::Machine;

/// What a row found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Section {
    /// A few sentences before the tables: what is measured, and how. Markdown.
    pub(crate) intro: String,
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
    pub(crate) targets: Vec<Target>,
    /// What could not run on this machine, and why.
    pub(crate) skipped: Vec<String>,
    /// Filled in by the program.
    pub(crate) made_on: Option<Machine>,
    /// Filled in by the program: figures of a brief run are no figures.
    pub(crate) brief: bool,
}

/// A table: cells are Markdown, columns after the first are aligned to the right.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) caption: String,
    pub(crate) head: Vec<String>,
    pub(crate) rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<S: Into<String>>(caption: &str, head: impl IntoIterator<Item = S>) -> Self {
        let head = head.into_iter().map(Into::into).collect();
        Self { caption: caption.to_owned(), head, rows: Vec::new() }
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
    #[allow(dead_code, reason = "not every set of rows draws one")]
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
