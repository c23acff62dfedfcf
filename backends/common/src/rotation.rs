//! One deadline, several servers: which one is asked, for how long, and when the next one is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use fleetward_core::Error;

/// Calls one of several servers that stand for the same registry, and the others if it fails.
///
/// A backend with several endpoints keeps one of these and makes every call through
/// [`call`](Self::call). The rule:
///
/// - Calls go to the current server, for as long as it works.
/// - **A call fails only after every server was tried.** Each attempt gets an equal share of the
///   time that is left, so a server that hangs costs its share and no more.
/// - An attempt that fails, or uses up its share, makes the next server the current one, for all
///   callers. So does a call that is dropped after waiting for half a second: a caller with a
///   shorter deadline than ours must not meet a hung server again.
/// - An answer that every server would give ([`Failed::Here`]) ends the call.
/// - While no server can answer just now ([`Failed::Later`]: there is no leader, say), all are asked
///   again after a short pause, until the deadline.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::{Error, ErrorKind};
/// use fleetward_backend_common::rotation::{Failed, Rotation};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let servers = Rotation::new("endpoint", ["10.0.0.1:80".into(), "10.0.0.2:80".into()], 0);
/// let answer = servers.call(Duration::from_secs(5), |server| async move {
///     match server {
///         0 => Err(Failed::Elsewhere(Error::new(ErrorKind::Unavailable, "connection refused"))),
///         _ => Ok("an answer"),
///     }
/// });
/// assert_eq!(answer.await?, "an answer");
/// assert_eq!(servers.current(), 1);
/// # Ok::<(), Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Rotation {
    /// What a server is called in an error's context.
    role: &'static str,
    servers: Vec<String>,
    current: AtomicUsize,
}

/// Why an attempt failed, by what may help.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Failed {
    /// The server answered; another one would say the same.
    Here(Error),
    /// The server, or the way to it, is at fault: try another one.
    Elsewhere(Error),
    /// The registry cannot answer just now, whichever server is asked: try another one, and if all
    /// say so, try again.
    Later(Error),
}

impl Rotation {
    /// The servers by name, as errors show them in the context `role` ("endpoint", say), and the
    /// index of the one to begin with. Clients that start together should begin at different ones.
    pub fn new(
        role: &'static str,
        servers: impl IntoIterator<Item = String>,
        first: usize,
    ) -> Self {
        let servers: Vec<_> = servers.into_iter().collect();
        let current = AtomicUsize::new(first % servers.len().max(1));
        Self { role, servers, current }
    }

    /// The names of the servers.
    pub fn servers(&self) -> &[String] {
        &self.servers
    }

    /// The index of the server that the next call begins with.
    pub fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Makes the server after this one the current one, unless another one is already: many
    /// callers that fail on one server leave it once.
    pub fn leave(&self, server: usize) {
        let next = (server + 1) % self.servers.len().max(1);
        let _ = self.current.compare_exchange(server, next, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Runs `attempt`, which is given the index of a server, until one succeeds; see
    /// [`Rotation`] for the rule. It must be safe to run it on a second server while the first may
    /// still carry it out.
    ///
    /// # Errors
    /// That of the last server tried, with its name; the context `before` has what the others
    /// said. [`Unavailable`](fleetward_core::ErrorKind::Unavailable) if there is no server.
    pub async fn call<T, F>(
        &self,
        limit: Duration,
        mut attempt: impl FnMut(usize) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failed>>,
    {
        let deadline = Instant::now() + limit;
        let mut tried = Tried::none(self.servers.len());
        let mut before: Vec<String> = Vec::new();
        let mut later = false;
        while let Some(server) = tried.next(self.current()) {
            let share = deadline.saturating_duration_since(Instant::now()) / tried.left;
            let impatient = Impatient { rotation: self, server, since: Instant::now() };
            let outcome = timeout(share, attempt(server)).await;
            std::mem::forget(impatient);
            let error = match outcome {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Failed::Here(error))) => return Err(self.named(error, server)),
                Ok(Err(Failed::Elsewhere(error))) => error,
                Ok(Err(Failed::Later(error))) => {
                    later = true;
                    error
                }
                Err(_) => Error::timeout("the server did not answer in time")
                    .with_context("after", format_args!("{share:?}")),
            };
            self.leave(server);
            tried.add(server);
            if tried.left > 0 {
                before.push(format!("{}: {}", self.servers[server], error.message()));
                continue;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if !later || left <= PAUSE {
                let error = self.named(error, server);
                return Err(match before.is_empty() {
                    true => error,
                    false => error.with_context("before", before.join("; ")),
                });
            }
            sleep(PAUSE.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
            (tried, later) = (Tried::none(self.servers.len()), false);
            before.clear();
        }
        Err(Error::new(fleetward_core::ErrorKind::Unavailable, "there is no server to ask"))
    }

    fn named(&self, error: Error, server: usize) -> Error {
        error.with_context(self.role, &self.servers[server])
    }
}

/// Which servers a call has asked in this round.
struct Tried {
    servers: Vec<bool>,
    left: u32,
}

impl Tried {
    fn none(servers: usize) -> Self {
        Self { servers: vec![false; servers], left: u32::try_from(servers).unwrap_or(u32::MAX) }
    }

    /// The first one from `current` on that was not asked.
    fn next(&self, current: usize) -> Option<usize> {
        let count = self.servers.len();
        (current..current + count).map(|at| at % count).find(|at| !self.servers[*at])
    }

    fn add(&mut self, server: usize) {
        self.servers[server] = true;
        self.left -= 1;
    }
}

/// Drops with the call while an attempt is under way.
struct Impatient<'a> {
    rotation: &'a Rotation,
    server: usize,
    since: Instant,
}

impl Drop for Impatient<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= SUSPICIOUS {
            self.rotation.leave(self.server);
        }
    }
}

/// A wait that is cut off sooner says nothing about the server.
const SUSPICIOUS: Duration = Duration::from_millis(500);

/// The longest pause before all servers are asked again.
const PAUSE: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use std::future::ready;

    use super::*;
    use fleetward_core::ErrorKind;

    const LIMIT: Duration = Duration::from_secs(6);

    fn three() -> Rotation {
        Rotation::new("endpoint", ["a", "b", "c"].map(String::from), 0)
    }

    fn refused() -> Failed {
        Failed::Elsewhere(Error::new(ErrorKind::Unavailable, "connection refused"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_hung_server_costs_its_share_and_is_left() {
        let rotation = three();
        let begun = Instant::now();
        let ask = |server| async move {
            match server {
                2 => Ok(server),
                _ => std::future::pending().await,
            }
        };
        assert_eq!(rotation.call(LIMIT, ask).await.unwrap(), 2);
        assert_eq!(begun.elapsed(), LIMIT * 2 / 3);
        let again = Instant::now();
        assert_eq!(rotation.call(LIMIT, ask).await.unwrap(), 2);
        assert_eq!((rotation.current(), again.elapsed()), (2, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_quick_failures_leave_is_shared_by_the_others() {
        let begun = Instant::now();
        let ask = |server| async move {
            match server {
                0 => Err(refused()),
                1 => std::future::pending().await,
                _ => Ok(server),
            }
        };
        assert_eq!(three().call(LIMIT, ask).await.unwrap(), 2);
        assert_eq!(begun.elapsed(), LIMIT / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn it_fails_after_every_server_within_the_deadline_and_says_what_each_said() {
        let begun = Instant::now();
        let mut asked = Vec::new();
        let ask = |server| {
            asked.push(server);
            async move {
                match server {
                    1 => std::future::pending().await,
                    _ => Err::<(), _>(refused()),
                }
            }
        };
        let error = three().call(LIMIT, ask).await.unwrap_err();
        assert_eq!(begun.elapsed(), LIMIT / 2);
        assert_eq!(asked, [0, 1, 2]);
        assert_eq!(error.context("endpoint"), Some("c"));
        let before = "a: connection refused; b: the server did not answer in time";
        assert_eq!(error.context("before"), Some(before));
    }

    #[tokio::test(start_paused = true)]
    async fn all_hung_is_one_deadline() {
        let begun = Instant::now();
        let ask = |_| std::future::pending::<Result<(), Failed>>();
        assert!(three().call(LIMIT, ask).await.unwrap_err().is_timeout());
        assert_eq!(begun.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_all_would_give_ends_it() {
        let rotation = three();
        let mut asked = 0;
        let denied = |_| {
            asked += 1;
            ready(Err::<(), _>(Failed::Here(Error::new(ErrorKind::PermissionDenied, "no"))))
        };
        let error = rotation.call(LIMIT, denied).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.context("endpoint")),
            (ErrorKind::PermissionDenied, Some("a"))
        );
        assert_eq!((asked, rotation.current()), (1, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_leader_it_goes_round_until_there_is_one_or_the_deadline() {
        let begun = Instant::now();
        let no_leader = || Failed::Later(Error::new(ErrorKind::Unavailable, "no leader"));
        let mut asked = 0;
        let ask = |server| {
            asked += 1;
            ready(match (server, begun.elapsed()) {
                (0, _) => Err(refused()),
                (_, elapsed) if elapsed < Duration::from_secs(2) => Err(no_leader()),
                _ => Ok(()),
            })
        };
        three().call(LIMIT, ask).await.unwrap();
        assert!(begun.elapsed() <= Duration::from_millis(2200), "{:?}", begun.elapsed());
        assert!((20..90).contains(&asked), "{asked} in two seconds");
        let begun = Instant::now();
        let never = |_| ready(Err::<(), _>(no_leader()));
        assert!(three().call(LIMIT, never).await.is_err());
        assert!(begun.elapsed() <= LIMIT && begun.elapsed() >= LIMIT / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn an_impatient_caller_leaves_a_hung_server_but_not_a_slow_one() {
        let rotation = three();
        let hung = || rotation.call(LIMIT, |_| std::future::pending::<Result<(), _>>());
        assert!(timeout(Duration::from_millis(100), hung()).await.is_err());
        assert_eq!(rotation.current(), 0);
        assert!(timeout(Duration::from_secs(1), hung()).await.is_err());
        assert_eq!(rotation.current(), 1);
    }

    #[test]
    fn a_failure_seen_by_many_rotates_once() {
        let rotation = three();
        (0..10).for_each(|_| rotation.leave(0));
        assert_eq!(rotation.current(), 1);
        rotation.leave(0);
        assert_eq!(rotation.current(), 1);
    }

    #[tokio::test]
    async fn no_server_is_an_error_and_no_panic() {
        let none = Rotation::new("endpoint", [], 7);
        assert!(none.call(LIMIT, |_| ready(Ok(()))).await.is_err());
        none.leave(0);
    }
}
