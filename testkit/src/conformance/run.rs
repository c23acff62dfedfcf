//! Running cases: one, as a test of its own, or all, with a report.

use std::fmt;

use futures::{StreamExt, stream};

use super::cases::dispatch;
use super::{Bed, CASES, Case, Form, Subject};

/// Runs one case on a new subject, or says on stderr why it is skipped. `None` for a subject skips
/// it too: a server's program is missing, which was said.
///
/// # Panics
/// If the case fails.
pub async fn run<S: Subject>(case: Case, form: Form, subject: impl AsyncFnOnce() -> Option<S>) {
    let Some(subject) = subject().await else { return };
    match case.skipped(&subject.capabilities()) {
        Some(why) => eprintln!("SKIPPED {case} ({form:?}): {why}"),
        None => dispatch(case, &Bed::new(subject, form).await).await,
    }
}

/// Runs all cases, some at the same time, each on a new subject, and says how they went. `None` if
/// there is no subject.
///
/// The subjects may share a server if each has a namespace of its own, and none may stop it:
/// without [`Capability::Restart`](super::Capability::Restart).
///
/// ```
/// # use fleetward_testkit::conformance::{Capabilities, Subject};
/// # use fleetward_memory::MemoryRegistry;
/// use fleetward_testkit::conformance;
/// # struct Memory(MemoryRegistry);
/// # impl Subject for Memory {
/// #     type Backend = MemoryRegistry;
/// #     fn capabilities(&self) -> Capabilities { Capabilities::new() }
/// #     async fn open(&self) -> MemoryRegistry { self.0.clone() }
/// # }
/// async fn my_backend() -> Option<impl Subject> {
///     // …
/// #   Some(Memory(MemoryRegistry::new()))
/// }
///
/// # async fn test() {
/// let report = conformance::run_all(my_backend).await.expect("my backend is there");
/// println!("{report}");
/// report.assert_passed();
/// # }
/// ```
pub async fn run_all<S: Subject>(subject: impl AsyncFn() -> Option<S>) -> Option<Report> {
    let all = CASES.iter().flat_map(|case| case.forms().iter().map(|form| (*case, *form)));
    let running = stream::iter(all).map(async |(case, form)| {
        let subject = subject().await?;
        Some((case, form, outcome(case, form, subject).await))
    });
    let outcomes: Option<Vec<_>> =
        running.buffered(AT_ONCE).collect::<Vec<_>>().await.into_iter().collect();
    Some(Report { outcomes: outcomes? })
}

async fn outcome<S: Subject>(case: Case, form: Form, subject: S) -> Outcome {
    if let Some(why) = case.skipped(&subject.capabilities()) {
        return Outcome::Skipped(why);
    }
    // In a task, whose panic is an error here.
    let task = tokio::spawn(async move {
        dispatch(case, &Bed::new(subject, form).await).await;
    });
    match task.await {
        Ok(()) => Outcome::Passed,
        Err(error) => Outcome::Failed(message(error)),
    }
}

fn message(error: tokio::task::JoinError) -> String {
    let Ok(panic) = error.try_into_panic() else { return "cancelled".to_owned() };
    match panic.downcast::<String>() {
        Ok(text) => *text,
        Err(panic) => panic.downcast_ref::<&str>().copied().unwrap_or("a panic").to_owned(),
    }
}

/// How a case went.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It passed.
    Passed,
    /// It was not run, for this reason.
    Skipped(String),
    /// It failed, with this message.
    Failed(String),
}

/// How all cases went. Its `Display` is a line a case.
#[derive(Clone, Debug)]
pub struct Report {
    outcomes: Vec<(Case, Form, Outcome)>,
}

impl Report {
    /// The outcomes, in the order of [`CASES`].
    pub fn outcomes(&self) -> &[(Case, Form, Outcome)] {
        &self.outcomes
    }

    /// Panics unless every case passed or was skipped.
    ///
    /// # Panics
    /// With the whole report.
    pub fn assert_passed(&self) {
        let failed =
            self.outcomes.iter().any(|(.., outcome)| matches!(outcome, Outcome::Failed(_)));
        assert!(!failed, "not every case passed:\n{self}");
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (case, form, outcome) in &self.outcomes {
            match outcome {
                Outcome::Passed => writeln!(f, "passed  {case} ({form:?})")?,
                Outcome::Skipped(why) => writeln!(f, "SKIPPED {case} ({form:?}): {why}")?,
                Outcome::Failed(why) => writeln!(f, "FAILED  {case} ({form:?}): {why}")?,
            }
        }
        Ok(())
    }
}

/// They wait for a time to live more than they compute.
const AT_ONCE: usize = 8;
