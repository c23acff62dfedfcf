//! An experiment: who competes, at what, and what is measured.

use crate::{Call, Contender, Nanos, Plan, Trace};

/// An experiment with its measures and goals.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Its name on the command line and in file names.
    pub name: &'static str,
    /// Its heading.
    pub title: &'static str,
    /// What happens in it, in Markdown.
    pub about: &'static str,
    /// Who competes.
    pub contenders: &'static [Contender],
    /// What befalls them. The same for all of them, for the same seed.
    pub plan: fn(seed: u64) -> Plan,
    /// What is measured.
    pub columns: &'static [Column],
    /// Measures it: a figure a column.
    pub score: fn(&Trace) -> Vec<f64>,
    /// What is to be reached.
    pub goals: &'static [Goal],
    /// Whether the latency over the quantiles is drawn.
    pub curve: bool,
    /// What is drawn over time.
    pub series: Option<Series>,
}

/// A column of a scenario's table.
#[derive(Clone, Copy, Debug)]
pub struct Column {
    /// Its heading.
    pub title: &'static str,
    /// Digits after the point.
    pub digits: usize,
}

impl Column {
    /// A column.
    pub const fn new(title: &'static str, digits: usize) -> Self {
        Self { title, digits }
    }
}

/// What a contender is to reach, as the median over the seeds.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    /// The contender's title.
    pub contender: &'static str,
    /// The column's title.
    pub column: &'static str,
    /// The bound.
    pub bound: Bound,
}

/// A bound on a figure.
#[derive(Clone, Copy, Debug)]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
}

impl Bound {
    /// Whether a figure keeps it.
    pub fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
        }
    }
}

/// A figure over time.
#[derive(Clone, Copy, Debug)]
pub struct Series {
    /// What it is, with its unit.
    pub label: &'static str,
    /// How much time one point stands for.
    pub bin: Nanos,
    /// For how long.
    pub span: Nanos,
    /// What it is of the calls that began in that time.
    pub figure: fn(&[Call]) -> f64,
    /// Whether its axis is logarithmic.
    pub logarithmic: bool,
}
