//! How much of a log one service may fill.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Bounds the lines about one service, for neither a registry nor a fleet may choose the volume of a log. Metrics
/// count everything.
#[derive(Debug, Default)]
pub(crate) struct Quota(Mutex<Window>);

#[derive(Debug, Default)]
struct Window {
    began: Option<Instant>,
    wanted: u32,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Admission {
    pub(crate) is_admitted: bool,
    /// Whether it is the first one that is not.
    pub(crate) is_first_left_out: bool,
    /// How many were left out of the window before; told once.
    pub(crate) left_out_before: u32,
}

impl Quota {
    /// The number of lines in each window.
    pub(crate) const LINES: u32 = 100;
    pub(crate) const WINDOW: Duration = Duration::from_secs(10);

    pub(crate) fn ask(&self) -> Admission {
        let now = Instant::now();
        let mut window = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_over = |began| now.saturating_duration_since(began) >= Self::WINDOW;
        let mut left_out_before = 0;
        if window.began.is_none_or(is_over) {
            left_out_before = window.wanted.saturating_sub(Self::LINES);
            *window = Window { began: Some(now), wanted: 0 };
        }
        window.wanted = window.wanted.saturating_add(1);
        Admission {
            is_admitted: window.wanted <= Self::LINES,
            is_first_left_out: window.wanted == Self::LINES + 1,
            left_out_before,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_window_has_its_lines_and_the_next_one_says_how_many_were_left_out() {
        let quota = Quota::default();
        let asked: Vec<_> = (0..1000).map(|_| quota.ask()).collect();
        assert_eq!(asked.iter().filter(|line| line.is_admitted).count(), 100);
        assert_eq!(asked.iter().filter(|line| line.is_first_left_out).count(), 1);
        tokio::time::advance(Quota::WINDOW).await;
        let next = quota.ask();
        assert_eq!((next.is_admitted, next.left_out_before), (true, 900));
        assert_eq!(quota.ask().left_out_before, 0);
    }
}
