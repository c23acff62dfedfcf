//! Tables, in Markdown.

use std::fmt;

use crate::score::median;
use crate::{Bound, Goal, Results, Scenario};

/// A scenario's table, its goals and its pictures.
#[derive(Debug)]
pub struct Report<'a> {
    /// What was run.
    pub scenario: &'a Scenario,
    /// What came of it.
    pub results: &'a Results,
    /// The names of the pictures' files.
    pub pictures: &'a [String],
}

impl Report<'_> {
    /// Whether every goal is met.
    pub fn meets_its_goals(&self) -> bool {
        self.scenario.goals.iter().all(|goal| self.goal(goal).is_some_and(|(met, _)| met))
    }

    /// Whether a goal is met, and the sentence about it; nothing if the scenario has no such contender
    /// or column.
    fn goal(&self, goal: &Goal) -> Option<(bool, String)> {
        let columns = self.scenario.columns;
        let at = columns.iter().position(|column| column.title == goal.column)?;
        let row = self.results.rows.iter().find(|row| row.contender == goal.contender)?;
        let figures = row.figures.get(at)?;
        let reached = median(&mut figures.clone());
        let met = goal.bound.holds(reached);
        let how_many = figures.iter().filter(|&&figure| goal.bound.holds(figure)).count();
        let bound = match goal.bound {
            Bound::AtLeast(bound) => format!("at least {bound}"),
            Bound::AtMost(bound) => format!("at most {bound}"),
        };
        let digits = columns[at].digits;
        Some((
            met,
            format!(
                "- {}: `{}`, {} {bound}: the median is {reached:.digits$}, and {how_many} of {} seeds keep it.",
                if met { "**Met**" } else { "**Missed**" },
                goal.contender,
                goal.column,
                figures.len(),
            ),
        ))
    }
}

impl fmt::Display for Report<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Scenario { title, about, columns, goals, .. } = self.scenario;
        writeln!(f, "## {title}\n\n{about}\n")?;
        write!(f, "| balancer |")?;
        for column in *columns {
            write!(f, " {} |", column.title)?;
        }
        writeln!(f, "\n|---|{}", "---:|".repeat(columns.len()))?;
        for row in &self.results.rows {
            write!(f, "| `{}` |", row.contender)?;
            for (column, figures) in columns.iter().zip(&row.figures) {
                let digits = column.digits;
                let middle = format!("{:.digits$}", median(&mut figures.clone()));
                let [least, most] = [figures.first(), figures.last()]
                    .map(|figure| format!("{:.digits$}", figure.copied().unwrap_or_default()));
                if least == most {
                    write!(f, " {middle} |")?;
                } else {
                    write!(f, " {middle} ({least} – {most}) |")?;
                }
            }
            writeln!(f)?;
        }
        if !goals.is_empty() {
            writeln!(f)?;
        }
        for goal in *goals {
            match self.goal(goal) {
                Some((_, sentence)) => writeln!(f, "{sentence}")?,
                None => writeln!(f, "- No such figure: {goal:?}")?,
            }
        }
        for picture in self.pictures {
            writeln!(f, "\n![{title}]({picture})")?;
        }
        Ok(())
    }
}
