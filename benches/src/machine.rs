//! Where and when figures were made.

use std::process::Command;

use serde::{Deserialize, Serialize};

/// Where and when figures were made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) date: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) system: String,
    pub(crate) rustc: String,
    pub(crate) commit: String,
    /// Load average over a minute as the row ended, the row itself included.
    pub(crate) load: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        Self {
            date: said_by("date", &["-u", "+%Y-%m-%d"]),
            processor: processor(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            system: said_by("uname", &["-srm"]),
            rustc: rustc(),
            commit: said_by("git", &["describe", "--always", "--dirty", "--abbrev=10"]),
            load: first_word("/proc/loadavg"),
        }
    }
}

/// The compiler that is used here.
pub(crate) fn rustc() -> String {
    said_by("rustc", &["--version"])
}

/// The versions of crates in the lock file, as "name version".
pub(crate) fn versions(crates: &[&str]) -> Vec<String> {
    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    let value = |line: &str| line.split('"').nth(1).map(str::to_owned);
    let mut found = Vec::new();
    let mut lines = lock.lines();
    while let Some(line) = lines.next() {
        if !line.starts_with("name = ") {
            continue;
        }
        let (Some(name), Some(version)) = (value(line), lines.next().and_then(value)) else {
            continue;
        };
        if crates.contains(&name.as_str()) {
            found.push(format!("{name} {version}"));
        }
    }
    found
}

fn processor() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find(|line| line.starts_with("model name"));
    model.and_then(|line| line.split_once(": ")).map_or_else(unknown, |(_, name)| name.to_owned())
}

fn first_word(path: &str) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().map_or_else(unknown, str::to_owned)
}

fn said_by(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().ok().filter(|o| o.status.success());
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    text.filter(|text| !text.is_empty()).unwrap_or_else(unknown)
}

fn unknown() -> String {
    "unknown".to_owned()
}
