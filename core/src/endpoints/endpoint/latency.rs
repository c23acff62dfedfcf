//! The peak-sensitive moving average of an endpoint's latency.

use std::time::Duration;

use crate::sync::{AtomicU64, Ordering};

/// An exponentially weighted moving average that jumps up at once and comes down with time (Peak
/// EWMA, as in Twitter's Finagle): a slow answer is believed immediately, a quick one by and by.
///
/// One word, so that the pair it holds is read and written whole without a lock: the average in
/// seconds as an `f32` above, the time of the last sample below. All bits zero is "no history". A negative
/// average stands in for one: it was no good answer's, and the first sample takes its place.
///
/// Picks read it, and no pick takes a lock. To write it takes as long as under a lock (some 10 ns).
#[derive(Debug, Default)]
pub(super) struct PeakEwma(AtomicU64);

/// The resolution of the time of the last sample. As `u32` it wraps around after six days; an
/// endpoint without a sample for half of that shows its last average once more, for three days,
/// and is right again with the first new sample.
const TICKS_PER_SECOND: f32 = 8192.0;

/// Some times the precision of an `f32`.
const LEAST_WEIGHT: f32 = 1e-6;

impl PeakEwma {
    /// Takes a sample: `rtt` seconds, measured `at` after the origin; `tau` is the time in seconds
    /// after which an old sample counts 1/e.
    pub(super) fn observe(&self, rtt: f32, at: Duration, tau: f32) {
        let at = ticks(at);
        // Never zero: that would read as "no history".
        let rtt = rtt.max(1e-9);
        self.update(|known| match known {
            Some((cost, _)) if rtt < cost => Self::averaged(known, rtt, at, tau),
            _ => Some((rtt, at)),
        });
    }

    /// Takes note of an answer that was not good: it took `least` seconds, and good ones take `usual`
    /// elsewhere, if that is known.
    ///
    /// It says nothing of how long a good one takes, so it never lowers the average, and never lets it
    /// look lower than good answers were: fading stops at what was measured or at what is usual, whichever is
    /// less. Where nothing was measured, what is usual stands in.
    pub(super) fn no_sample(&self, least: f32, usual: Option<f32>, at: Duration, tau: f32) {
        let at = ticks(at);
        let least = least.max(1e-9);
        self.update(|known| {
            let (cost, stamp) = known.unwrap_or((0.0, at));
            let faded = cost.abs() * decay(since(stamp, at), tau);
            let measured = if cost > 0.0 { cost } else { f32::INFINITY };
            let floor = least.max(usual.map_or(0.0, |usual| measured.min(usual)));
            // The sign stays: what stood in for an average still does.
            let sign = if cost > 0.0 { 1.0 } else { -1.0 };
            (floor > faded).then_some((floor * sign, at))
        });
    }

    /// Takes a sample that does not jump up either: it weighs only as much as the time since the last
    /// sample.
    pub(super) fn average(&self, rtt: f32, at: Duration, tau: f32) {
        let at = ticks(at);
        let rtt = rtt.max(1e-9);
        self.update(|known| Self::averaged(known, rtt, at, tau));
    }

    fn averaged(known: Option<(f32, u32)>, rtt: f32, at: u32, tau: f32) -> Option<(f32, u32)> {
        let Some((cost, stamp)) = known.filter(|(cost, _)| *cost > 0.0) else {
            return Some((rtt, at));
        };
        let elapsed = since(stamp, at);
        // Too close to the last one it weighs nothing, as far as an `f32` can tell; then the time
        // goes to the next one.
        (elapsed as f32 > LEAST_WEIGHT * tau * TICKS_PER_SECOND).then(|| {
            let old = decay(elapsed, tau);
            (cost * old + rtt * (1.0 - old), at)
        })
    }

    fn update(&self, next: impl Fn(Option<(f32, u32)>) -> Option<(f32, u32)>) {
        let next = |bits: u64| {
            let known = (bits != 0).then(|| unpack(bits));
            next(known).map(|(cost, stamp)| pack(cost, stamp))
        };
        // An error means that there was nothing to change.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
    }

    /// The average as it has decayed until `at`, in seconds. Reading changes nothing.
    #[inline]
    pub(super) fn estimate(&self, at: Duration, tau: f32) -> Option<f32> {
        let bits = self.0.load(Ordering::Relaxed);
        if bits == 0 {
            return None;
        }
        let (cost, stamp) = unpack(bits);
        Some(cost.abs() * decay(since(stamp, ticks(at)), tau))
    }

    /// Whether there is a sample, or something that stands in for one.
    #[inline]
    pub(super) fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// The average as of the last sample, in seconds.
    pub(super) fn level(&self) -> Option<f32> {
        let bits = self.0.load(Ordering::Relaxed);
        (bits != 0).then(|| unpack(bits).0.abs())
    }

    /// Forgets everything.
    pub(super) fn reset(&self) {
        self.0.store(0, Ordering::Relaxed);
    }
}

#[inline]
fn decay(elapsed: u32, tau: f32) -> f32 {
    (-(elapsed as f32) / (tau * TICKS_PER_SECOND)).exp()
}

/// From one stamp to a later one. Threads that finish calls at the same time may record them in
/// the other order: then nothing has passed.
#[inline]
fn since(stamp: u32, at: u32) -> u32 {
    let elapsed = at.wrapping_sub(stamp);
    if elapsed > u32::MAX / 2 { 0 } else { elapsed }
}

#[inline]
fn ticks(at: Duration) -> u32 {
    // 8192 ticks a second: 13 bits of the fraction. Cut off on purpose: it wraps around.
    let fraction = (u64::from(at.subsec_nanos()) << 13) / 1_000_000_000;
    ((at.as_secs() << 13) | fraction) as u32
}

fn pack(cost: f32, stamp: u32) -> u64 {
    (u64::from(cost.to_bits()) << 32) | u64::from(stamp)
}

#[inline]
fn unpack(bits: u64) -> (f32, u32) {
    (f32::from_bits((bits >> 32) as u32), bits as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAU: f32 = 10.0;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn it_follows_the_formula() {
        let ewma = PeakEwma::default();
        assert_eq!(ewma.estimate(at(1.0), TAU), None);
        ewma.observe(0.1, at(1.0), TAU);
        assert_eq!(ewma.estimate(at(1.0), TAU), Some(0.1));
        // A peak is believed at once.
        ewma.observe(2.0, at(2.0), TAU);
        assert_eq!(ewma.estimate(at(2.0), TAU), Some(2.0));
        // Without samples it fades: after tau to 1/e.
        let faded = ewma.estimate(at(12.0), TAU).unwrap();
        assert!((faded - 2.0 * (-1.0f32).exp()).abs() < 1e-4, "{faded}");
        // A quick answer pulls it down by its weight.
        ewma.observe(0.1, at(7.0), TAU);
        let old = (-0.5f32).exp();
        let mixed = ewma.estimate(at(7.0), TAU).unwrap();
        assert!((mixed - (2.0 * old + 0.1 * (1.0 - old))).abs() < 1e-3, "{mixed}");
        ewma.reset();
        assert_eq!(ewma.estimate(at(7.0), TAU), None);
    }

    #[test]
    fn an_averaged_sample_weighs_as_much_as_the_time_since_the_last_one() {
        let ewma = PeakEwma::default();
        ewma.average(5.0, at(1.0), TAU);
        assert_eq!(ewma.estimate(at(1.0), TAU), Some(5.0));
        ewma.reset();
        ewma.observe(0.1, at(1.0), TAU);
        ewma.average(5.0, at(1.0), TAU);
        assert_eq!(ewma.estimate(at(1.0), TAU), Some(0.1));
        ewma.average(5.0, at(2.0), TAU);
        let old = (-0.1f32).exp();
        let mixed = ewma.estimate(at(2.0), TAU).unwrap();
        assert!((mixed - (0.1 * old + 5.0 * (1.0 - old))).abs() < 1e-3, "{mixed}");
    }

    #[test]
    fn an_answer_that_is_not_good_only_raises_it() {
        let ewma = PeakEwma::default();
        ewma.observe(0.1, at(0.0), TAU);
        let quick = |seconds, usual| {
            ewma.no_sample(0.001, usual, at(seconds), TAU);
            ewma.estimate(at(seconds), TAU).unwrap()
        };
        assert_eq!(quick(0.0, None), 0.1);
        // It has faded to a tenth of a tenth, and shows what it measured again, at most what is usual.
        assert_eq!(quick(46.0, Some(0.03)), 0.03);
        assert_eq!(quick(46.0, Some(7.0)), 0.03);
        ewma.no_sample(2.0, Some(0.03), at(46.0), TAU);
        assert_eq!(ewma.estimate(at(46.0), TAU), Some(2.0));
    }

    #[test]
    fn what_is_usual_stands_in_until_the_first_sample() {
        let ewma = PeakEwma::default();
        ewma.no_sample(0.001, Some(0.5), at(0.0), TAU);
        assert_eq!(ewma.estimate(at(0.0), TAU), Some(0.5));
        ewma.no_sample(0.001, Some(0.7), at(1.0), TAU);
        assert_eq!(ewma.estimate(at(1.0), TAU), Some(0.7));
        // A lower one as well, and at once.
        ewma.observe(0.1, at(1.0), TAU);
        assert_eq!(ewma.estimate(at(1.0), TAU), Some(0.1));
        let failing = PeakEwma::default();
        failing.no_sample(0.001, None, at(0.0), TAU);
        failing.average(5.0, at(0.0), TAU);
        assert_eq!(failing.estimate(at(0.0), TAU), Some(5.0));
    }

    #[test]
    fn samples_out_of_order_and_beyond_the_clock_s_range_do_no_harm() {
        let ewma = PeakEwma::default();
        ewma.observe(1.0, at(100.0), TAU);
        ewma.observe(0.5, at(99.0), TAU);
        assert_eq!(ewma.estimate(at(99.5), TAU), Some(1.0));
        let week = 7.0 * 86_400.0;
        ewma.observe(0.25, at(week), TAU);
        let estimate = ewma.estimate(at(week), TAU).unwrap();
        assert!((estimate - 0.25).abs() < 1e-3, "{estimate}");
        // Many samples within one tick neither pile up nor vanish: a peak counts.
        ewma.observe(3.0, at(week), TAU);
        assert_eq!(ewma.estimate(at(week), TAU), Some(3.0));
    }

    #[test]
    fn however_slow_the_decay_and_frequent_the_samples_a_peak_comes_down() {
        let (ewma, day) = (PeakEwma::default(), 86_400.0);
        ewma.observe(1.0, at(0.0), day);
        for sample in 1..=100_000 {
            ewma.observe(0.0, at(0.0002 * f64::from(sample)), day);
        }
        // 20 s are a 4320th of a day.
        let estimate = ewma.estimate(at(20.0), day).unwrap();
        assert!((0.99970..0.99980).contains(&estimate), "{estimate}");
    }

    #[test]
    fn a_sample_of_nothing_is_still_history() {
        let ewma = PeakEwma::default();
        ewma.observe(0.0, at(0.0), TAU);
        assert!(ewma.estimate(at(0.0), TAU).is_some());
    }
}
