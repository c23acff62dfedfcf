//! The one deadline of a call: for all its attempts, and the response up to its end.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// When a call must have ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    /// The deadline of a call that begins now. `None` if it lies beyond the clock's range.
    pub fn after(timeout: Duration) -> Option<Self> {
        Some(Self { at: Instant::now().checked_add(timeout)?, timeout })
    }

    /// This one, or so long from now if it has passed.
    #[must_use]
    pub fn or_in(self, grace: Duration) -> Self {
        let now = Instant::now();
        let at = if self.at <= now { now.checked_add(grace).unwrap_or(self.at) } else { self.at };
        Self { at, ..self }
    }

    /// When it passes.
    #[inline]
    pub fn at(&self) -> Instant {
        self.at
    }

    /// How long the call was given, for messages.
    #[inline]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// How long it is away; zero once it has passed.
    #[inline]
    pub fn left(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// Whether it has passed.
    #[inline]
    pub fn has_passed(&self) -> bool {
        self.left().is_zero()
    }
}

/// A deadline as a response's body keeps it. Its timer is made when the body first makes its reader wait: most bodies
/// are there at once.
#[derive(Debug)]
pub struct DeadlineTimer {
    deadline: Deadline,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl DeadlineTimer {
    /// A timer that is not made yet.
    pub fn new(deadline: Deadline) -> Self {
        Self { deadline, sleep: None }
    }

    /// The deadline.
    #[inline]
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// Ready once the deadline has passed.
    pub fn poll_passed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let at = self.deadline.at;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(at)));
        sleep.as_mut().poll(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_counts_down_and_may_be_put_off_once_it_has_passed() {
        let deadline = Deadline::after(Duration::from_secs(2)).unwrap();
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(deadline.left(), Duration::from_millis(1500));
        assert_eq!(deadline.or_in(Duration::from_secs(9)), deadline, "it has not passed");
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(deadline.has_passed());
        let later = deadline.or_in(Duration::from_secs(1));
        assert_eq!((later.left(), later.timeout()), (Duration::from_secs(1), deadline.timeout()));
        assert_eq!(Deadline::after(Duration::MAX), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_timer_wakes_its_reader() {
        let deadline = Deadline::after(Duration::from_secs(2)).unwrap();
        let mut timer = DeadlineTimer::new(deadline);
        let began = Instant::now();
        std::future::poll_fn(|cx| timer.poll_passed(cx)).await;
        assert_eq!(began.elapsed(), Duration::from_secs(2));
    }
}
