//! Who answered what, as a small table.

use std::collections::BTreeMap;
use std::fmt;

#[derive(Debug)]
pub(crate) struct Tally {
    columns: Vec<&'static str>,
    answers: BTreeMap<String, Vec<u32>>,
    failed: u32,
}

impl Tally {
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), answers: BTreeMap::new(), failed: 0 }
    }

    pub(crate) fn answer(&mut self, from: &str, column: usize) {
        let counts = self.answers.entry(from.to_owned());
        let counts = counts.or_insert_with(|| vec![0; self.columns.len()]);
        counts[column] += 1;
    }

    pub(crate) fn failure(&mut self) {
        self.failed += 1;
    }

    pub(crate) fn calls(&self) -> u32 {
        self.answers.values().flatten().sum::<u32>() + self.failed
    }

    pub(crate) fn failed(&self) -> u32 {
        self.failed
    }

    /// How many different servers answered.
    pub(crate) fn answered(&self) -> usize {
        self.answers.len()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<24}", "answered by")?;
        for column in &self.columns {
            write!(f, "{column:>14}")?;
        }
        writeln!(f)?;
        for (server, counts) in &self.answers {
            write!(f, "{server:<24}")?;
            for count in counts {
                write!(f, "{count:>14}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
