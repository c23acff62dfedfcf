//! Tasks of ours that run code of others, and what is left when that code panics.
//!
//! A view, a factory, a registry's client, a health check and the `Drop` of a user's type all run in tasks of
//! ours. A panic in one of them must not end the task while what it said last goes on standing.
//! So it is caught in two places: at the border, where one piece of foreign code is called and its failure has a
//! meaning (`shield`), and around the whole task, for what is left ([`supervise`]).

use super::shield::{panicked, shielded, shielded_future};
use crate::backoff::{Backoff, BackoffState};
use crate::{Error, telemetry};

/// A task that starts over when it panics; run it by [`supervise`].
pub trait Supervised: Send {
    /// What [`run`](Self::run) ends with.
    type Output: Send;

    /// What the task is, for messages: `"the endpointer"`.
    const NAME: &'static str;

    /// The service that it works for.
    fn service(&self) -> &str;

    /// Works until it is done, from its inputs as they are now. Called again after a panic.
    fn run(&mut self) -> impl Future<Output = Self::Output> + Send;

    /// [`run`](Self::run) has panicked: marks what was published as stale, for `error`, and mends what may be
    /// half done.
    fn panicked(&mut self, error: Error);
}

/// Runs the task, and again after each panic, until it ends by itself.
///
/// Between two runs it waits: 100 ms growing to 10 s, with jitter. Each panic is counted; the first one of a row is
/// an event. Dropping the future ends the task, at whatever await it is.
pub async fn supervise<T: Supervised>(task: &mut T) -> T::Output {
    let mut backoff = BackoffState::new(Backoff::default(), fastrand::Rng::new());
    loop {
        if let Some(output) = shielded_future(task.run()).await {
            return output;
        }
        let delay = backoff.next_delay();
        let error = panicked(T::NAME).with_context("service", task.service());
        // It drops what is the user's, so this may panic as well.
        shielded(|| task.panicked(error));
        telemetry::task_panicked(task.service(), T::NAME, backoff.failures() == 1);
        tokio::time::sleep(delay).await;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;

    struct Panics {
        left: u32,
        mended: u32,
    }

    impl Supervised for Panics {
        type Output = u32;
        const NAME: &'static str = "the test's task";

        fn service(&self) -> &str {
            "s"
        }

        async fn run(&mut self) -> u32 {
            assert!(self.left == 0, "on purpose");
            self.mended
        }

        fn panicked(&mut self, error: Error) {
            assert!(error.to_string().contains("the test's task panicked"), "{error}");
            self.left -= 1;
            self.mended += 1;
            panic!("here as well, on purpose");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_panics_starts_over_with_pauses_that_grow() {
        let start = Instant::now();
        let mut task = Panics { left: 100, mended: 0 };
        assert_eq!(supervise(&mut task).await, 100);
        let took = start.elapsed();
        assert!(took > Duration::from_secs(100) && took < Duration::from_secs(1000), "{took:?}");
    }
}
