//! How long to wait before trying again.

use std::time::Duration;

use tokio::time::Instant;

use crate::Error;

/// Exponential backoff with full jitter, for loops that never give up.
///
/// Defaults: 100 ms, growing by 1.6 up to 10 s, starting over after 30 s without a failure. Full
/// jitter (each wait is drawn between almost nothing and the current step) spreads a recovery
/// best: see "Exponential Backoff And Jitter", AWS Architecture Blog, 2015. Other spreads are
/// [`Jitter`]'s.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::backoff::{Backoff, Jitter};
/// let backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2))?;
/// // As gRPC waits between the attempts of a call.
/// let grpc = backoff.with_multiplier(2.0)?.with_jitter(Jitter::Fraction(0.2))?;
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    multiplier: f64,
    jitter: Jitter,
    reset_after: Duration,
}

/// How waits spread around their steps, so that clients that failed together do not come back
/// together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Jitter {
    /// Each wait lies anywhere between almost nothing and its step: half the step on average.
    #[default]
    Full,
    /// Each wait lies within this fraction of its step on either side, so it may be longer than the
    /// longest step. 0.2 is gRPC's: `min(initial * multiplier^(n - 1), max) * random(0.8, 1.2)`
    /// before retry `n` ([gRFC A6]). 0 is no jitter.
    ///
    /// [gRFC A6]: https://github.com/grpc/proposal/blob/master/A6-client-retries.md#exponential-backoff
    Fraction(f64),
}

impl Default for Backoff {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(100),
            max: Duration::from_secs(10),
            multiplier: 1.6,
            jitter: Jitter::Full,
            reset_after: Duration::from_secs(30),
        }
    }
}

impl Backoff {
    /// The longest wait there is.
    pub const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

    /// Grows from `initial` to `max`.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if `initial` is zero or above `max`, or
    /// `max` above [`LONGEST`](Self::LONGEST).
    pub fn new(initial: Duration, max: Duration) -> Result<Self, Error> {
        if initial.is_zero() || initial > max || max > Self::LONGEST {
            return Err(Error::invalid_input("a backoff needs 0 < initial <= max <= 1 day"));
        }
        Ok(Self { initial, max, ..Self::default() })
    }

    /// Sets the growth from one wait to the next.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is below 1 or no number.
    pub fn with_multiplier(mut self, multiplier: f64) -> Result<Self, Error> {
        if !(1.0..=100.0).contains(&multiplier) {
            return Err(Error::invalid_input("a backoff's multiplier lies between 1 and 100"));
        }
        self.multiplier = multiplier;
        Ok(self)
    }

    /// Sets how the waits spread (default [`Jitter::Full`]).
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if a fraction is not between 0 and 1.
    pub fn with_jitter(mut self, jitter: Jitter) -> Result<Self, Error> {
        if let Jitter::Fraction(fraction) = jitter
            && !(0.0..=1.0).contains(&fraction)
        {
            return Err(Error::invalid_input("a backoff's jitter lies between 0 and 1"));
        }
        self.jitter = jitter;
        Ok(self)
    }

    /// Sets the time without a failure after which the waits start over.
    #[must_use]
    pub fn with_reset_after(mut self, reset_after: Duration) -> Self {
        self.reset_after = reset_after;
        self
    }

    /// The longest step before jitter.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The step of wait number `failures` (from 0), before jitter.
    pub fn step(&self, failures: u32) -> Duration {
        let exponent = i32::try_from(failures).unwrap_or(i32::MAX);
        let grown = self.initial.as_secs_f64() * self.multiplier.powi(exponent);
        Duration::try_from_secs_f64(grown).unwrap_or(self.max).min(self.max)
    }

    /// A wait drawn for `failures` (from 0). Never below a tenth of the initial step, so that no
    /// draw makes a loop spin.
    pub fn jittered(&self, failures: u32, rng: &mut fastrand::Rng) -> Duration {
        let (floor, step) = (self.initial / 10, self.step(failures));
        match self.jitter {
            Jitter::Full => floor + (step - floor).mul_f64(rng.f64()),
            Jitter::Fraction(fraction) => {
                step.mul_f64(1.0 + fraction * (2.0 * rng.f64() - 1.0)).max(floor)
            }
        }
    }
}

/// A [`Backoff`] in use by one loop.
#[derive(Clone, Debug)]
pub struct BackoffState {
    backoff: Backoff,
    rng: fastrand::Rng,
    failures: u32,
    /// When the last wait ended: healthy since then, if nothing failed.
    resumed: Option<Instant>,
}

impl BackoffState {
    /// Starts with no failure seen.
    pub fn new(backoff: Backoff, rng: fastrand::Rng) -> Self {
        Self { backoff, rng, failures: 0, resumed: None }
    }

    /// Counts a failure and says how long to wait before the next try.
    pub fn next_delay(&mut self) -> Duration {
        let now = Instant::now();
        let healthy = self.resumed.map(|at| now.saturating_duration_since(at));
        if healthy.is_some_and(|healthy| healthy >= self.backoff.reset_after) {
            self.failures = 0;
        }
        let delay = self.backoff.jittered(self.failures, &mut self.rng);
        self.failures = self.failures.saturating_add(1);
        self.resumed = Some(now + delay);
        delay
    }

    /// Starts over: the thing works.
    pub fn reset(&mut self) {
        self.failures = 0;
        self.resumed = None;
    }

    /// How many failures have been counted since the last reset.
    pub fn failures(&self) -> u32 {
        self.failures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn grows_to_the_cap_with_full_jitter_and_starts_over_when_healthy() {
        let mut state = BackoffState::new(Backoff::default(), fastrand::Rng::with_seed(7));
        let delays: Vec<_> = (0..200).map(|_| state.next_delay()).collect();
        let cap = Duration::from_secs(10);
        assert!(delays.iter().all(|d| *d >= Duration::from_millis(10) && *d <= cap));
        let late = &delays[50..];
        let mean = late.iter().sum::<Duration>() / late.len() as u32;
        assert!((4..6).contains(&mean.as_secs()), "uniform below the cap, got {mean:?}");
        tokio::time::advance(Duration::from_secs(41)).await;
        assert!(state.next_delay() <= Duration::from_millis(100), "healthy for 30 s starts over");
    }

    #[test]
    fn a_fraction_spreads_evenly_on_both_sides_of_the_step() {
        let backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5)).unwrap();
        let grpc = backoff.with_multiplier(2.0).unwrap().with_jitter(Jitter::Fraction(0.2));
        let grpc = grpc.unwrap();
        let mut rng = fastrand::Rng::with_seed(6);
        for (failures, step) in [(0, 1.0), (1, 2.0), (2, 4.0), (3, 5.0), (u32::MAX, 5.0)] {
            let waits = (0..2000).map(|_| grpc.jittered(failures, &mut rng).as_secs_f64() / step);
            let waits: Vec<f64> = waits.collect();
            let (least, most) = waits.iter().fold((9f64, 0f64), |(a, b), w| (a.min(*w), b.max(*w)));
            let mean = waits.iter().sum::<f64>() / waits.len() as f64;
            assert!(
                (0.8..0.801).contains(&least) && (1.199..1.2).contains(&most),
                "{least} {most}"
            );
            assert!((0.99..1.01).contains(&mean), "{mean}");
        }
        let none = grpc.clone().with_jitter(Jitter::Fraction(0.0)).unwrap();
        assert_eq!(none.jittered(1, &mut rng), Duration::from_secs(2));
        let all = grpc.with_jitter(Jitter::Fraction(1.0)).unwrap();
        let shortest = (0..2000).map(|_| all.jittered(0, &mut rng)).min();
        assert_eq!(shortest, Some(Duration::from_millis(100)), "no draw makes a loop spin");
    }

    #[test]
    fn bad_settings_are_errors() {
        for fraction in [-0.1, 1.1, f64::NAN, f64::INFINITY] {
            assert!(Backoff::default().with_jitter(Jitter::Fraction(fraction)).is_err());
        }
        assert!(Backoff::new(Duration::ZERO, Duration::from_secs(1)).is_err());
        assert!(Backoff::new(Duration::from_secs(2), Duration::from_secs(1)).is_err());
        assert!(Backoff::new(Duration::from_secs(1), Duration::MAX).is_err());
        assert!(Backoff::default().with_multiplier(f64::NAN).is_err());
        assert_eq!(Backoff::default().step(u32::MAX), Duration::from_secs(10));
    }
}
