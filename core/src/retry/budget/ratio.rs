//! Extra attempts as a share of the calls.

use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use super::RetryBudget;
use super::saved::{ATTEMPT, MAX_UNAGED, STAMP_MASK, STEPS, Saved, since};
use super::word::Word;

/// Allows extra attempts for a share of the calls, and a few a second besides: Finagle's
/// [`RetryBudget`][finagle].
///
/// Each call deposits `ratio` of an attempt, each second `floor` of them, and each extra attempt
/// takes a whole one. What is not used fades: after `ttl` 1/e of it is left. So a service that is
/// called too seldom to save up can still retry, and one that was well for a day cannot retry a
/// day's savings in its first bad minute. It starts with the [`reserve`](Self::reserve), which is
/// what the floor alone grows to: `floor * ttl`.
///
/// What is promised, whatever fails and whoever asks at the same time:
///
/// ```text
/// since it was made    extra attempts <= ratio * calls + floor * seconds + reserve
/// in any time span     extra attempts <= ratio * calls + floor * seconds + what was saved before
/// ```
///
/// and what was saved tends to `reserve + ratio * (calls within the last ttl)`. By default, 20 %,
/// 10 a second and 10 s, a service that is down receives 1.2 times its calls, and 10 a second, and
/// before that once the calls of two seconds and 100 more.
///
/// One atomic word; one call in 16 reads the clock, as does each failed attempt. Calls in between
/// count as spread evenly over the time since the clock was last read.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::retry::{RatioBudget, RetryBudget};
/// let budget = RatioBudget::default()
///     .with_ratio(0.1)
///     .with_floor_per_second(1)
///     .with_ttl(Duration::from_secs(5));
/// let at_once = (0..100).take_while(|_| budget.allows()).count();
/// assert_eq!(at_once, 5);
/// ```
///
/// [finagle]: https://twitter.github.io/finagle/guide/Clients.html#retries
pub struct RatioBudget {
    ratio: f64,
    floor: u32,
    ttl: Duration,
    created: Instant,
    word: Word,
}

impl Default for RatioBudget {
    fn default() -> Self {
        Self::from_settings(0.2, 10, Duration::from_secs(10))
    }
}

impl RatioBudget {
    /// Sets how much of an extra attempt a call deposits (default 0.2, between 0 and 10; no number
    /// is 0), cut to five decimals. As each of these setters, it starts with a full reserve.
    #[must_use]
    pub fn with_ratio(self, ratio: f64) -> Self {
        let ratio = if ratio.is_nan() { 0.0 } else { ratio.clamp(0.0, 10.0) };
        Self::from_settings(ratio, self.floor, self.ttl)
    }

    /// Sets how many extra attempts a second are allowed however few calls there are (default 10, at
    /// most 10,000). With 0 there is no reserve either.
    #[must_use]
    pub fn with_floor_per_second(self, floor: u32) -> Self {
        Self::from_settings(self.ratio, floor.min(10_000), self.ttl)
    }

    /// Sets after what time 1/e of what was not used is left (default 10 s, between 1 s and 60 s).
    #[must_use]
    pub fn with_ttl(self, ttl: Duration) -> Self {
        let ttl = ttl.clamp(Duration::from_secs(1), Duration::from_secs(60));
        Self::from_settings(self.ratio, self.floor, ttl)
    }

    fn from_settings(ratio: f64, floor: u32, ttl: Duration) -> Self {
        let reserve = f64::from(floor) * ttl.as_secs_f64();
        let full = Saved { balance: (reserve * ATTEMPT as f64) as u64, unaged: 0, stamp: 0 };
        Self { ratio, floor, ttl, created: Instant::now(), word: Word::new(full) }
    }

    /// What the floor alone grows to, and what there is at first.
    pub fn reserve(&self) -> f64 {
        f64::from(self.floor) * self.ttl.as_secs_f64()
    }

    /// How many extra attempts would be allowed now.
    pub fn balance(&self) -> f64 {
        let saved = self.word.get();
        self.aged(saved, self.stamp()).balance as f64 / ATTEMPT as f64
    }

    fn reserve_units(&self) -> f64 {
        self.reserve() * ATTEMPT as f64
    }

    /// What a call deposits.
    fn per_call(&self) -> u64 {
        // So that a share that is a bit less in binary keeps its last digit.
        (self.ratio * ATTEMPT as f64 + 1e-6) as u64
    }

    fn stamp(&self) -> u64 {
        let ttls = self.created.elapsed().as_secs_f64() / self.ttl.as_secs_f64();
        (ttls * STEPS) as u64 & STAMP_MASK
    }

    /// Brings it up to the time `now`. Everything is rounded down, so that no rounding breaks the
    /// promise.
    fn aged(&self, saved: Saved, now: u64) -> Saved {
        let deposits = (u64::from(saved.unaged) * self.per_call()) as f64;
        let elapsed = since(saved.stamp, now);
        if elapsed == 0 {
            let balance = saved.balance.saturating_add(deposits as u64);
            return Saved { balance, unaged: 0, ..saved };
        }
        let ttls = elapsed as f64 / STEPS;
        let left = (-ttls).exp();
        // Of deposits that came in evenly over that time so much is left on average.
        let left_of_deposits = (1.0 - left) / ttls;
        let balance = saved.balance as f64 * left
            + deposits * left_of_deposits
            + self.reserve_units() * (1.0 - left);
        Saved { balance: balance as u64, unaged: 0, stamp: now }
    }
}

impl RetryBudget for RatioBudget {
    fn call(&self) {
        if self.ratio == 0.0 {
            return;
        }
        self.word.change(|mut saved| {
            if saved.unaged == MAX_UNAGED {
                saved = self.aged(saved, self.stamp());
            }
            saved.unaged += 1;
            Some(saved)
        });
    }

    fn allows(&self) -> bool {
        self.word.change(|saved| {
            let mut saved = self.aged(saved, self.stamp());
            saved.balance = saved.balance.checked_sub(ATTEMPT)?;
            Some(saved)
        })
    }
}

impl fmt::Debug for RatioBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RatioBudget")
            .field("ratio", &self.ratio)
            .field("floor_per_second", &self.floor)
            .field("ttl", &self.ttl)
            .field("balance", &self.balance())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::saved::BALANCE_BITS;
    use super::*;

    fn bare() -> RatioBudget {
        RatioBudget::default().with_floor_per_second(0)
    }

    /// How many are allowed at once.
    fn drain(budget: &RatioBudget) -> usize {
        std::iter::repeat_with(|| budget.allows()).take_while(|allowed| *allowed).count()
    }

    async fn advance(seconds: f64) {
        tokio::time::advance(Duration::from_secs_f64(seconds)).await;
    }

    #[tokio::test(start_paused = true)]
    async fn it_starts_with_the_reserve_and_each_call_adds_its_ratio() {
        let budget = RatioBudget::default();
        assert_eq!((budget.reserve(), drain(&budget)), (100.0, 100));
        (0..1000).for_each(|_| budget.call());
        assert_eq!(drain(&budget), 200);
        budget.failed();
        budget.succeeded();
        assert!(!budget.allows());
    }

    #[tokio::test(start_paused = true)]
    async fn the_floor_comes_in_with_time_up_to_the_reserve() {
        let budget = RatioBudget::default();
        drain(&budget);
        let mut in_ten_seconds = 0;
        for _ in 0..100 {
            advance(0.1).await;
            in_ten_seconds += drain(&budget);
        }
        assert!((98..=100).contains(&in_ten_seconds), "10/s used as it comes: {in_ten_seconds}");
        advance(10.0).await;
        let saved = budget.balance();
        let expected = 100.0 * (1.0 - (-1f64).exp());
        assert!((saved - expected).abs() < 1.0, "{saved} after one ttl, not {expected}");
        advance(1000.0).await;
        let saved = budget.balance();
        assert!(saved > 99.9 && saved <= 100.0, "{saved} for ever");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_used_fades_with_the_ttl() {
        let budget = bare();
        (0..5000).for_each(|_| budget.call());
        for ttls in [0, 1, 2, 3] {
            let expected = 1000.0 * (-f64::from(ttls)).exp();
            let saved = budget.balance();
            // The last 15 calls or so count as made evenly until now.
            assert!((saved - expected).abs() < 3.0, "{saved} after {ttls} ttl, not {expected}");
            advance(10.0).await;
        }
        advance(100.0).await;
        assert!(!budget.allows());
    }

    #[tokio::test(start_paused = true)]
    async fn steady_calls_save_up_the_share_of_one_ttl() {
        for per_second in [1.0 / 12.0, 5.0, 100.0, 1000.0] {
            let budget = bare();
            for _ in 0..(60.0 * per_second) as u32 + 100 {
                advance(1.0 / per_second).await;
                budget.call();
            }
            let expected = 0.2 * 10.0 * per_second;
            let saved = budget.balance();
            let close = (saved - expected).abs() < f64::max(0.02 * expected, 0.2);
            assert!(close, "{saved}, not {expected}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_sends_no_more_than_its_share() {
        for (per_second, seconds) in [(1, 60), (100, 60), (5000, 20)] {
            let budget = RatioBudget::default();
            let (calls, mut attempts) = (per_second * seconds, 0);
            for _ in 0..calls {
                budget.call();
                attempts += 1;
                for _retry in 0..2 {
                    budget.failed();
                    attempts += u32::from(budget.allows());
                }
                advance(1.0 / f64::from(per_second)).await;
            }
            let most = 1.2 * f64::from(calls) + 10.0 * f64::from(seconds) + 100.0;
            let wanted = 3.0 * f64::from(calls);
            assert!(f64::from(attempts) <= most, "{attempts} of {most}");
            let least = (most * 0.98).min(wanted);
            assert!(f64::from(attempts) >= least, "{attempts}: what is promised is there as well");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_promise_holds_at_every_moment_of_any_history() {
        let mut rng = fastrand::Rng::with_seed(36);
        for _ in 0..200 {
            let ratio = f64::from(rng.u32(0..=2000)) / 1000.0;
            let floor = rng.u32(0..50);
            let ttl = Duration::from_secs_f64(rng.f64() * 70.0);
            let budget =
                RatioBudget::default().with_ratio(ratio).with_floor_per_second(floor).with_ttl(ttl);
            let (started, mut calls, mut extra) = (Instant::now(), 0, 0);
            for _ in 0..1000 {
                match rng.u32(0..100) {
                    0..50 => calls += (0..rng.u32(0..40)).map(|_| budget.call()).count(),
                    50..90 => extra += (0..rng.u32(0..40)).filter(|_| budget.allows()).count(),
                    90..99 => advance(rng.f64() * 0.5).await,
                    _ => advance(rng.f64() * 100.0).await,
                }
                let seconds = started.elapsed().as_secs_f64();
                let most = ratio * calls as f64 + f64::from(floor) * seconds + budget.reserve();
                assert!(extra as f64 <= most + 1e-6, "{extra} of {most} by {budget:?}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn threads_lose_and_invent_nothing() {
        let budget = bare();
        let runtime = tokio::runtime::Handle::current();
        let extra: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| {
                        // In here the clock is the paused one, so nothing fades.
                        let _paused = runtime.enter();
                        let calls = (0..20_000).map(|_| budget.call());
                        calls.map(|()| (0..2).filter(|_| budget.allows()).count()).sum::<usize>()
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(extra + drain(&budget), 4 * 20_000 / 5);
    }

    #[tokio::test(start_paused = true)]
    async fn readings_out_of_order_and_a_clock_that_wraps_do_no_harm() {
        let budget = RatioBudget::default();
        assert_eq!(since(5, 3), 0, "clocks of two cores");
        assert_eq!(since(STAMP_MASK, 2), 3, "it wrapped around");
        drain(&budget);
        // Whatever the stamp reads by then, a floor's worth comes back within a ttl or two.
        for days in 1..20 {
            advance(f64::from(days) * 40_013.0).await;
            drain(&budget);
            advance(20.0).await;
            let back = drain(&budget);
            assert!((50..=100).contains(&back), "{back} after {days}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_largest_settings_fit_and_a_full_word_stays_full() {
        let budget = RatioBudget::default()
            .with_ttl(Duration::MAX)
            .with_floor_per_second(u32::MAX)
            .with_ratio(f64::INFINITY);
        assert_eq!(budget.reserve(), 600_000.0);
        assert!((budget.balance() - 600_000.0).abs() < 0.01);
        (0..20_000).for_each(|_| budget.call());
        let full = budget.word.get();
        assert_eq!(full.balance, (1 << BALANCE_BITS) - 1);
        assert_eq!(Saved::unpack(full.pack()), full);
        assert!(budget.allows());
    }

    #[tokio::test(start_paused = true)]
    async fn nonsense_is_clamped() {
        for ratio in [f64::NAN, -1.0, f64::NEG_INFINITY, 0.0] {
            let budget = bare().with_ratio(ratio);
            (0..1000).for_each(|_| budget.call());
            assert!(!budget.allows(), "{ratio}");
        }
        assert_eq!(bare().with_ttl(Duration::ZERO).ttl, Duration::from_secs(1));
    }
}
