//! gRPC's retry throttling.

use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};

use super::RetryBudget;
use crate::Error;

/// Stops retries and hedges while too many attempts fail: gRPC's retry throttling ([gRFC A6]).
///
/// There are tokens, `max_tokens` at first. Each failed attempt takes one, down to 0; each success
/// gives `token_ratio` back, up to the maximum. Extra attempts are allowed while there are more than
/// half of them. So with 10 tokens and a ratio of 0.1 the fifth failure in a row is not tried again,
/// and from 0 it takes 51 successes until one is.
///
/// In the long run retries go on while fewer than `token_ratio` failures come with each success. It
/// bounds no share: while few fail, each failure may be retried. Where load must never grow by more
/// than a share, take a [`RatioBudget`](super::RatioBudget).
///
/// One atomic word, in thousandths of a token as gRPC counts them; no clock.
///
/// ```
/// use fleetward_core::retry::{RetryBudget, Throttle};
/// let throttle = Throttle::new(10, 0.1)?;
/// for _ in 0..4 {
///     throttle.failed();
///     assert!(throttle.allows());
/// }
/// throttle.failed();
/// assert!(!throttle.allows());
/// # Ok::<(), fleetward_core::Error>(())
/// ```
///
/// [gRFC A6]: https://github.com/grpc/proposal/blob/master/A6-client-retries.md#throttling-retry-attempts-and-hedged-rpcs
pub struct Throttle {
    max: u32,
    per_success: u32,
    tokens: AtomicU32,
}

/// What a token and a failure weigh.
const TOKEN: u32 = 1000;

impl Throttle {
    /// The most tokens there can be (gRFC A6).
    pub const MAX_TOKENS: u32 = 1000;

    /// Starts with `max_tokens`; a success gives `token_ratio` of a token back. Decimals beyond the
    /// third are cut off, as gRPC does.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) unless `max_tokens` is between 1 and
    /// [`MAX_TOKENS`](Self::MAX_TOKENS), and `token_ratio` between 0.001 and `MAX_TOKENS`.
    pub fn new(max_tokens: u32, token_ratio: f64) -> Result<Self, Error> {
        if !(1..=Self::MAX_TOKENS).contains(&max_tokens) {
            return Err(Error::invalid_input("a throttle has 1 to 1000 tokens"));
        }
        // So that 1.001, which is a bit less in binary, keeps its last digit.
        let thousandths = (token_ratio * f64::from(TOKEN) + 1e-6).floor();
        if !(1.0..=f64::from(Self::MAX_TOKENS * TOKEN)).contains(&thousandths) {
            return Err(Error::invalid_input("a throttle's ratio lies between 0.001 and 1000"));
        }
        let max = max_tokens * TOKEN;
        Ok(Self { max, per_success: thousandths as u32, tokens: AtomicU32::new(max) })
    }

    /// How many tokens there are now.
    pub fn tokens(&self) -> f64 {
        f64::from(self.tokens.load(Ordering::Relaxed)) / f64::from(TOKEN)
    }

    /// Does not write what is there already: while all is well the line stays shared between cores.
    fn change(&self, to: impl Fn(u32) -> u32) {
        let changed = |tokens| Some(to(tokens)).filter(|next| *next != tokens);
        // An error means that there was nothing to change.
        let _ = self.tokens.fetch_update(Ordering::Relaxed, Ordering::Relaxed, changed);
    }
}

/// The example of gRFC A6: 10 tokens, a ratio of 0.1.
impl Default for Throttle {
    fn default() -> Self {
        let max = 10 * TOKEN;
        Self { max, per_success: TOKEN / 10, tokens: AtomicU32::new(max) }
    }
}

impl RetryBudget for Throttle {
    fn succeeded(&self) {
        self.change(|tokens| tokens.saturating_add(self.per_success).min(self.max));
    }

    fn failed(&self) {
        self.change(|tokens| tokens.saturating_sub(TOKEN));
    }

    fn allows(&self) -> bool {
        self.tokens.load(Ordering::Relaxed) > self.max / 2
    }
}

impl fmt::Debug for Throttle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Throttle")
            .field("tokens", &self.tokens())
            .field("max", &(self.max / TOKEN))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(max: u32, ratio: f64) -> Throttle {
        Throttle::new(max, ratio).unwrap()
    }

    #[test]
    fn the_fifth_failure_in_a_row_is_throttled_and_51_successes_from_zero_end_it() {
        for throttle in [throttle(10, 0.1), Throttle::default()] {
            let allowed: Vec<_> = (0..5)
                .map(|_| {
                    throttle.failed();
                    throttle.allows()
                })
                .collect();
            assert_eq!(allowed, [true, true, true, true, false]);
            (0..20).for_each(|_| throttle.failed());
            assert_eq!(throttle.tokens(), 0.0);
            (0..50).for_each(|_| throttle.succeeded());
            assert!(!throttle.allows(), "5.0 is not above 5");
            throttle.succeeded();
            assert!(throttle.allows(), "5.1 is");
            assert_eq!(throttle.tokens(), 5.1);
            (0..1000).for_each(|_| throttle.succeeded());
            assert_eq!(throttle.tokens(), 10.0, "never above the maximum");
        }
    }

    #[test]
    fn an_odd_maximum_has_a_half() {
        let throttle = throttle(5, 1.0);
        throttle.failed();
        throttle.failed();
        assert!(throttle.allows(), "3 is above 2.5");
        throttle.failed();
        assert!(!throttle.allows(), "2 is not");
        let single = self::throttle(1, 0.5);
        single.failed();
        single.succeeded();
        assert!(!single.allows(), "0.5 is not above 0.5");
    }

    #[test]
    fn three_decimals_count_and_no_more() {
        for (ratio, thousandths) in
            [(0.5466, 546), (0.001, 1), (1.001, 1001), (0.0579, 57), (0.3, 300), (0.7, 700)]
        {
            assert_eq!(throttle(10, ratio).per_success, thousandths, "{ratio}");
        }
        for thousandths in 1..=10_000 {
            let ratio = f64::from(thousandths) / 1000.0;
            assert_eq!(throttle(10, ratio).per_success, thousandths, "{ratio}");
        }
    }

    #[test]
    fn nonsense_is_an_error() {
        for (max, ratio) in [
            (0, 0.1),
            (1001, 0.1),
            (u32::MAX, 0.1),
            (10, 0.0),
            (10, 0.0009),
            (10, -1.0),
            (10, f64::NAN),
            (10, f64::INFINITY),
            (10, 1000.1),
        ] {
            assert!(Throttle::new(max, ratio).is_err(), "{max} {ratio}");
        }
    }

    #[test]
    fn threads_lose_and_invent_no_token() {
        // Far from both ends, so that the sum of all changes is what must be there.
        let throttle = throttle(1000, 0.003);
        (0..500).for_each(|_| throttle.failed());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for i in 0..30_000 {
                        throttle.succeeded();
                        if i % 400 == 0 {
                            throttle.failed();
                        }
                    }
                });
            }
        });
        let expected = 500_000 + 4 * (30_000 * 3 - 75 * 1000);
        assert_eq!(throttle.tokens.load(Ordering::Relaxed), expected);
    }
}
