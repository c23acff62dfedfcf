//! Instructions and allocations of the paths that every call takes, and whether they have grown.
//!
//! Counted by valgrind's callgrind, so they do not depend on what else the machine does. Two counts
//! of one path, with few and with many walks, are subtracted: what happens once is in both. That needs no
//! harness and no runner beside valgrind itself.

mod baseline;
mod paths;

use std::path::Path as FilePath;
use std::process::Command;

use self::baseline::{Baseline, Cost};
use self::paths::{Path, names};
use super::Row;
use crate::error::Result;
use crate::measure::{Effort, short};
use crate::section::{Section, Table};

pub(crate) const ROW: Row =
    Row { name: "instructions", title: "Instructions and allocations", run };

fn run(effort: &Effort) -> Result<Section> {
    let Some(valgrind) = valgrind() else {
        return Ok(Section { skipped: vec![NO_VALGRIND.to_owned()], ..Section::default() });
    };
    let names: Vec<String> =
        if effort.brief { names().take(1).collect() } else { names().collect() };
    let mut table = Table::new("", ["", "instructions", "allocations"]);
    for cost in costs(&names)? {
        table.push([cost.path, short(cost.instructions), format!("{:.2}", cost.allocations)]);
    }
    let intro = format!("{INTRO} Counted by {valgrind}.");
    Ok(Section { intro, tables: vec![table], ..Section::default() })
}

const INTRO: &str = "\
Instructions of one pick from 1000 endpoints, or of one pick or call through `Balanced` with 20: they depend on the compiler and not on the machine's load. \
`./scripts/test` compares them with `benches/baseline.json`.";

const NO_VALGRIND: &str = "instructions: there is no valgrind";

/// Compares with the baseline, or writes a new one.
pub(crate) fn against_baseline(file: &FilePath, record: bool) -> Result<()> {
    if valgrind().is_none() {
        eprintln!("skipped: {NO_VALGRIND}");
        return Ok(());
    }
    if record {
        return Baseline::of(costs(&names().collect::<Vec<_>>())?).write(file);
    }
    let baseline = Baseline::read(file)?;
    if let Some(why) = baseline.is_another_compiler_s() {
        eprintln!("skipped: instructions: {why}");
        return Ok(());
    }
    let known: Vec<String> = names().collect();
    let grown = baseline.compare(&costs(&known)?);
    if grown.is_empty() {
        eprintln!("{} paths, none costs more than before", known.len());
        return Ok(());
    }
    Err(grown.join("\n  ").into())
}

/// Walks a path: what valgrind runs.
pub(crate) fn walk(path: &str, times: u64) -> Result<()> {
    Path::new(path)?.walk(times);
    Ok(())
}

/// Two at a time.
fn costs(names: &[String]) -> Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for pair in names.chunks(2) {
        let some = std::thread::scope(|scope| {
            let counts: Vec<_> = pair.iter().map(|name| scope.spawn(|| cost(name))).collect();
            counts.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        for cost in some {
            costs.push(cost.map_err(|_| "a count panicked")??);
        }
    }
    Ok(costs)
}

fn cost(path: &str) -> Result<Cost> {
    let (few, many) = (1_000, 31_000);
    let extra = collected(path, many)?.saturating_sub(collected(path, few)?);
    let instructions = extra as f64 / (many - few) as f64;
    Ok(Cost { path: path.to_owned(), instructions, allocations: Path::new(path)?.allocations() })
}

/// The instructions of a process that walks a path so many times.
fn collected(path: &str, times: u64) -> Result<u64> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe()?)
        .args(["walk", path, &times.to_string()])
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("valgrind: {said}").into());
    }
    let line = said.lines().find_map(|line| line.split_once("Collected : "));
    Ok(line.ok_or("valgrind says no count")?.1.trim().parse()?)
}

fn valgrind() -> Option<String> {
    let output = Command::new("valgrind").arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
