//! What the paths cost when somebody last looked.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::Result;
use crate::machine::rustc;

/// How much more a path may cost. Another version of a dependency may change a few instructions;
/// what deserves a look is more.
const MARGIN: f64 = 0.10;

/// And never less than so many instructions.
const SLACK: f64 = 3.0;

/// What one walk of a path costs.
pub(super) struct Cost {
    pub(super) path: String,
    pub(super) instructions: f64,
    pub(super) allocations: f64,
}

/// The recorded costs. They are those of one compiler.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Baseline {
    rustc: String,
    target: String,
    paths: BTreeMap<String, Recorded>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Recorded {
    instructions: f64,
    allocations: f64,
}

impl Baseline {
    pub(super) fn of(costs: Vec<Cost>) -> Self {
        let paths = costs.into_iter().map(|cost| {
            let instructions = (cost.instructions * 10.0).round() / 10.0;
            (cost.path, Recorded { instructions, allocations: cost.allocations })
        });
        Self { rustc: rustc(), target: std::env::consts::ARCH.to_owned(), paths: paths.collect() }
    }

    pub(super) fn read(file: &Path) -> Result<Self> {
        let text = std::fs::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    pub(super) fn write(&self, file: &Path) -> Result<()> {
        std::fs::write(file, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(())
    }

    /// Then nothing can be said.
    pub(super) fn is_another_compiler_s(&self) -> Option<String> {
        let same = self.rustc == rustc() && self.target == std::env::consts::ARCH;
        (!same).then(|| format!("the baseline is that of {} on {}", self.rustc, self.target))
    }

    /// What has grown, or is not in the baseline.
    pub(super) fn compare(&self, costs: &[Cost]) -> Vec<String> {
        let mut grown = Vec::new();
        for Cost { path, instructions, allocations } in costs {
            let Some(known) = self.paths.get(path) else {
                grown.push(format!("{path}: not in the baseline"));
                continue;
            };
            let most = (known.instructions * (1.0 + MARGIN)).max(known.instructions + SLACK);
            if *instructions > most {
                let known = known.instructions;
                grown.push(format!(
                    "{path}: {instructions:.1} instructions, {known} in the baseline"
                ));
            }
            if *allocations > known.allocations + 0.01 {
                let known = known.allocations;
                grown
                    .push(format!("{path}: {allocations:.2} allocations, {known} in the baseline"));
            }
        }
        grown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cost(instructions: f64, allocations: f64) -> Cost {
        Cost { path: "p".to_owned(), instructions, allocations }
    }

    #[test]
    fn what_grows_by_more_than_the_margin_is_named() {
        let baseline = Baseline::of(vec![cost(100.0, 1.0)]);
        assert_eq!(baseline.compare(&[cost(109.0, 1.0)]), [""; 0]);
        assert_eq!(baseline.compare(&[cost(60.0, 0.0)]), [""; 0]);
        assert!(baseline.compare(&[cost(111.0, 1.0)])[0].contains("111.0 instructions"));
        assert!(baseline.compare(&[cost(100.0, 2.0)])[0].contains("2.00 allocations"));
    }

    #[test]
    fn a_path_that_nobody_recorded_is_named() {
        let baseline = Baseline::of(Vec::new());
        assert!(baseline.compare(&[cost(1.0, 0.0)])[0].contains("not in the baseline"));
    }
}
