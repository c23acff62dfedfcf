#![doc = include_str!("../README.md")]
// A real clock is what is measured here, and a thread of its own is a measured client.
#![allow(clippy::disallowed_methods)]
#![cfg_attr(
    not(feature = "rows"),
    allow(dead_code, reason = "what is measured, and not only checked")
)]

mod calls;
mod cpu;
mod error;
mod go;
mod in_context;
mod machine;
mod measure;
mod members;
mod noop;
#[cfg(feature = "rows")]
mod plot;
#[cfg(feature = "rows")]
mod reasons;
#[cfg(feature = "rows")]
mod render;
mod rows;
mod scripted;
mod section;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;

#[cfg(feature = "rows")]
use crate::measure::Effort;

#[derive(Parser)]
#[command(about = "What fleetward costs, side by side with its peers")]
struct Options {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    #[cfg(feature = "rows")]
    /// Measures rows; each section goes to a JSON file of its own.
    Run {
        /// Only these rows, by name.
        #[arg(long, value_delimiter = ',')]
        only: Vec<String>,
        /// Each thing once, briefly: does it still work?
        #[arg(long)]
        brief: bool,
        /// Where the sections go.
        #[arg(long, default_value = "target/bench/results")]
        results: PathBuf,
    },
    #[cfg(feature = "rows")]
    /// Writes the document and the plots from the sections that are there.
    Render {
        /// Where the sections are.
        #[arg(long, default_value = "target/bench/results")]
        results: PathBuf,
        /// Where `benchmarks.md` and `benchmarks/*.svg` go.
        #[arg(long, default_value = "docs")]
        docs: PathBuf,
        /// Why targets are missed.
        #[arg(long, default_value = "benches/reasons.md")]
        reasons: PathBuf,
    },
    /// Compares instructions and allocations of the paths that every call takes with a recorded
    /// baseline.
    Check {
        /// The baseline.
        #[arg(long, default_value = "benches/baseline.json")]
        baseline: PathBuf,
        /// Writes what is measured now as the new baseline.
        #[arg(long)]
        record: bool,
    },
    /// Walks one such path so many times: what `check` runs under valgrind.
    #[command(hide = true)]
    Walk { path: String, times: u64 },
    #[cfg(feature = "rows")]
    /// Lists the rows.
    List,
    #[cfg(feature = "rows")]
    /// An echo server for a row that needs one in another process.
    #[command(hide = true)]
    Serve,
    #[cfg(feature = "rows")]
    /// One client of the whole call under load: for a profiler.
    #[command(hide = true)]
    Call {
        /// A part of its name.
        client: String,
        /// For how long.
        #[arg(long, default_value_t = 5)]
        seconds: u64,
        /// How many calls at once.
        #[arg(long, default_value_t = 64)]
        in_flight: usize,
        /// The number of calls, however long they take: a count can be divided by it.
        #[arg(long)]
        calls: Option<usize>,
    },
    #[cfg(feature = "rows")]
    /// A client with so many endpoints, for the row that weighs them.
    #[command(hide = true)]
    Weigh {
        /// Whose.
        client: String,
        /// How many.
        endpoints: u32,
    },
}

fn main() -> ExitCode {
    match run(Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleetward-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<()> {
    match options.command {
        #[cfg(feature = "rows")]
        Command::Run { only, brief, results } => measure_rows(&only, brief, &results),
        #[cfg(feature = "rows")]
        Command::Render { results, docs, reasons } => render::write(&results, &docs, &reasons),
        #[cfg(feature = "rows")]
        Command::Serve => rows::whole_call::servers::serve(),
        #[cfg(feature = "rows")]
        Command::Call { client, seconds, in_flight, calls } => {
            rows::whole_call::one(&client, seconds, in_flight, calls)
        }
        #[cfg(feature = "rows")]
        Command::Weigh { client, endpoints } => rows::registry::memory::weigh(&client, endpoints),
        Command::Check { baseline, record } => {
            rows::instructions::against_baseline(&baseline, record)
        }
        Command::Walk { path, times } => rows::instructions::walk(&path, times),
        #[cfg(feature = "rows")]
        Command::List => {
            for row in rows::ALL {
                println!("{:12} {}", row.name, row.title);
            }
            Ok(())
        }
    }
}

#[cfg(feature = "rows")]
fn measure_rows(only: &[String], brief: bool, results: &std::path::Path) -> Result<()> {
    if let Some(unknown) = only.iter().find(|name| rows::ALL.iter().all(|row| row.name != **name)) {
        return Err(format!("there is no row {unknown:?}; see `list`").into());
    }
    let effort = if brief { Effort::brief() } else { Effort::full() };
    std::fs::create_dir_all(results)?;
    for row in rows::ALL {
        if !only.is_empty() && !only.iter().any(|name| name == row.name) {
            continue;
        }
        eprintln!("== {}", row.title);
        let mut section = (row.run)(&effort).map_err(|error| format!("{}: {error}", row.name))?;
        section.made_on = Some(machine::Machine::here());
        section.brief = brief;
        print!("{}", render::markdown(row.title, &section));
        std::fs::write(
            results.join(format!("{}.json", row.name)),
            serde_json::to_vec_pretty(&section)?,
        )?;
    }
    Ok(())
}
