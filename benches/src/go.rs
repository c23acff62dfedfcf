//! The Go program of `benches/go`, which measures Go's balancers when it is asked to.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::measure::Contender;

/// Where `scripts/bench` says that it is.
const PROGRAM: &str = "FLEETWARD_GO_PEERS";

/// Why there are no figures of it.
pub(crate) const MISSING: &str =
    "Go's peers: FLEETWARD_GO_PEERS names no program (scripts/bench builds it where it finds Go)";

/// The program, running. It waits for lines between two measurements, and ends with this.
#[derive(Clone)]
pub(crate) struct Go {
    process: Rc<RefCell<Process>>,
    /// The first thing that went wrong while something was measured.
    failed: Rc<RefCell<Option<Error>>>,
}

struct Process {
    child: Child,
    asked: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// One of its balancers.
pub(crate) struct GoPeer {
    /// For the reader.
    pub(crate) name: &'static str,
    /// For the program.
    pub(crate) id: &'static str,
    /// The name of ours that does the same.
    pub(crate) beside: &'static str,
    /// With more endpoints it takes a minute and more to come up: grpc-go makes its picker anew for each
    /// connection that becomes ready.
    pub(crate) max: usize,
    /// More goroutines at once crash it.
    pub(crate) max_threads: usize,
}

/// All that pick.
pub(crate) const PICKS: [GoPeer; 6] = [
    peer("go-kit RoundRobin", "gokit_round_robin", "round_robin", usize::MAX),
    // Its generator is shared without a lock: two goroutines make it panic.
    GoPeer { max_threads: 1, ..peer("go-kit Random", "gokit_random", "random", usize::MAX) },
    peer("grpc-go round_robin", "grpc_round_robin", "round_robin", 1_000),
    peer("grpc-go least_request", "grpc_least_request", "least_request", 1_000),
    peer("grpc-go weighted, zipf", "grpc_weighted_zipf", "weighted_round_robin, zipf", 1_000),
    peer(
        "grpc-go weighted, one heavy",
        "grpc_weighted_1_heavy",
        "weighted_round_robin, one heavy",
        1_000,
    ),
];

const fn peer(name: &'static str, id: &'static str, beside: &'static str, max: usize) -> GoPeer {
    GoPeer { name, id, beside, max, max_threads: usize::MAX }
}

impl Go {
    /// Nothing where it was not built.
    pub(crate) fn start() -> Result<Option<Self>> {
        let Some(program) = std::env::var_os(PROGRAM).filter(|name| Path::new(name).exists())
        else {
            return Ok(None);
        };
        let pipes = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = pipes?;
        let (asked, answers) = (child.stdin.take(), child.stdout.take());
        let (asked, answers) = asked.zip(answers).ok_or("no pipes to the Go program")?;
        let process = Process { child, asked, answers: BufReader::new(answers) };
        Ok(Some(Self { process: Rc::new(RefCell::new(process)), failed: Rc::default() }))
    }

    /// A line for a line.
    fn ask(&self, line: std::fmt::Arguments<'_>) -> Result<String> {
        let mut process = self.process.borrow_mut();
        writeln!(process.asked, "{line}")?;
        let mut answer = String::new();
        if process.answers.read_line(&mut answer)? == 0 {
            return Err("the Go program ended".into());
        }
        Ok(answer.trim().to_owned())
    }

    /// Of Go and of the libraries.
    pub(crate) fn versions(&self) -> Result<String> {
        self.ask(format_args!("versions"))
    }

    /// Has one instance of so many added or removed. Nanoseconds until a pick knows it, nanoseconds of CPU,
    /// and bytes allocated.
    pub(crate) fn change(&self, id: &str, size: u32, change: &str) -> Result<[u64; 3]> {
        let answer = self.ask(format_args!("change {id} {size} {change}"))?;
        let numbers =
            answer.split(' ').map(str::parse).collect::<std::result::Result<Vec<_>, _>>()?;
        numbers.try_into().map_err(|_| "the Go program says something else".into())
    }

    /// Has it done so many times on so many threads; how long that took, and its allocations.
    pub(crate) fn run(
        &self,
        id: &str,
        size: usize,
        threads: usize,
        times: u64,
    ) -> Result<(Duration, u64)> {
        let answer = self.ask(format_args!("pick {id} {size} {threads} {times}"))?;
        let (nanos, allocations) = answer.split_once(' ').ok_or("not two numbers")?;
        Ok((Duration::from_nanos(nanos.parse()?), allocations.parse()?))
    }

    /// The process' own clock counts.
    pub(crate) fn contender(
        &self,
        name: &str,
        id: &'static str,
        size: usize,
        threads: usize,
    ) -> Contender<'static> {
        let go = self.clone();
        Contender::elsewhere(name, threads as u64, move |times| {
            match go.run(id, size, threads, times) {
                Ok((elapsed, _)) => elapsed,
                Err(error) => {
                    go.failed.borrow_mut().get_or_insert(error);
                    // Any time: `check` refuses it.
                    Duration::from_secs(1)
                }
            }
        })
    }

    /// Whether everything since the last time was measured.
    pub(crate) fn check(&self) -> Result<()> {
        self.failed.borrow_mut().take().map_or(Ok(()), Err)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It ends with its input anyway; a mistake in it must not leave it behind.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
