//! Quantiles of recent latencies, without a lock.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

/// Buckets for each doubling: a quantile is exact to about 6 %.
const PER_OCTAVE: u32 = 8;
const OCTAVES: u32 = 40;
const BUCKETS: usize = (PER_OCTAVE * OCTAVES) as usize;

/// After so many samples all counts are halved: what is older weighs less and less.
const HALVE_AT: u64 = 10_000;

/// Fewer than so many say nothing.
const MIN_SAMPLES: u64 = 100;

/// A histogram with logarithmic buckets from a nanosecond to about 18 minutes.
#[derive(Debug)]
pub(super) struct Latencies {
    buckets: Box<[AtomicU32; BUCKETS]>,
    samples: AtomicU64,
    /// The last answer to a question, and after how many samples it was given: a sum over all buckets
    /// is too slow for each call.
    cached: AtomicU64,
    cached_at: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self {
            buckets: Box::new([const { AtomicU32::new(0) }; BUCKETS]),
            samples: AtomicU64::new(0),
            cached: AtomicU64::new(0),
            cached_at: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    pub(super) fn record(&self, latency: Duration) {
        let nanos = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.buckets[bucket(nanos)].fetch_add(1, Ordering::Relaxed);
        let samples = self.samples.fetch_add(1, Ordering::Relaxed) + 1;
        if samples.is_multiple_of(HALVE_AT) {
            for (at, bucket) in (samples / HALVE_AT..).zip(self.buckets.iter()) {
                // Rounded up and down by turns: a single sample would stay for ever, or not be seen.
                let up = (at % 2) as u32;
                let half = |count: u32| Some(count - count.saturating_add(up) / 2);
                let _ = bucket.fetch_update(Ordering::Relaxed, Ordering::Relaxed, half);
            }
        }
    }

    /// The latency below which that share of the samples lies; `None` while they are too few. It may
    /// be as old as the last 1 % of the samples. One question is asked at a time: another share is
    /// answered by the next one.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let samples = self.samples.load(Ordering::Relaxed);
        if samples < MIN_SAMPLES {
            return None;
        }
        let fresh_for = (samples.min(HALVE_AT) / 100).max(1);
        if samples - self.cached_at.load(Ordering::Relaxed).min(samples) >= fresh_for {
            self.cached_at.store(samples, Ordering::Relaxed);
            self.cached.store(self.compute(share), Ordering::Relaxed);
        }
        // 0 is no answer: the thread that computes the first one has not got it yet.
        let nanos = self.cached.load(Ordering::Relaxed);
        (nanos > 0).then(|| Duration::from_nanos(nanos))
    }

    fn compute(&self, share: f64) -> u64 {
        let counts: Vec<u32> = self.buckets.iter().map(|b| b.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
        let wanted = (total as f64 * share).ceil() as u64;
        let mut below = 0;
        for (at, &count) in counts.iter().enumerate() {
            below += u64::from(count);
            if below >= wanted {
                return upper_bound(at);
            }
        }
        upper_bound(BUCKETS - 1)
    }
}

/// Three bits after the leading one tell the buckets of an octave apart.
fn bucket(nanos: u64) -> usize {
    let nanos = nanos.max(1);
    let octave = nanos.ilog2();
    let within =
        if octave >= 3 { (nanos >> (octave - 3)) & 7 } else { (nanos << (3 - octave)) & 7 };
    ((octave * PER_OCTAVE) as usize + within as usize).min(BUCKETS - 1)
}

fn upper_bound(bucket: usize) -> u64 {
    let (octave, within) = (bucket as u32 / PER_OCTAVE, bucket as u64 % u64::from(PER_OCTAVE));
    (((9 + within) << octave) >> 3).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_within_a_bucket_of_the_true_one() {
        for share in [0.5, 0.9, 0.95, 0.99] {
            let latencies = Latencies::default();
            for i in 1..=10_000u64 {
                // In an order that is not that of their size.
                latencies.record(Duration::from_micros(i * 7919 % 10_000 + 1));
            }
            let truth = 10_000.0 * share;
            let quantile = latencies.quantile(share).unwrap().as_secs_f64() * 1e6;
            assert!((quantile / truth - 1.0).abs() < 0.13, "{share}: {quantile} for {truth}");
        }
    }

    #[test]
    fn it_follows_a_change_and_needs_samples_to_say_anything() {
        let latencies = Latencies::default();
        (0..99).for_each(|_| latencies.record(Duration::from_millis(10)));
        assert_eq!(latencies.quantile(0.95), None);
        (0..20_000).for_each(|_| latencies.record(Duration::from_millis(10)));
        let before = latencies.quantile(0.95).unwrap();
        assert!((9..12).contains(&before.as_millis()), "{before:?}");
        (0..30_000).for_each(|_| latencies.record(Duration::from_millis(80)));
        let after = latencies.quantile(0.95).unwrap();
        assert!((72..92).contains(&after.as_millis()), "{after:?}");
    }

    #[test]
    fn every_duration_has_a_bucket_below_its_upper_bound() {
        for nanos in (0..63).flat_map(|bit| [1u64 << bit, (1 << bit) + 1, (1 << bit) * 3 / 2]) {
            let at = bucket(nanos);
            assert!(at < BUCKETS);
            assert!(at == BUCKETS - 1 || nanos <= upper_bound(at), "{nanos}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn a_bad_spell_is_forgotten_to_the_last_sample() {
        let latencies = Latencies::default();
        for i in 0..10_000u32 {
            let slow = Duration::from_secs_f64(2f64.powf(f64::from(i % 80) / 8.0));
            latencies.record(if i < 9_000 { Duration::from_millis(10) } else { slow });
        }
        assert!(latencies.quantile(0.999).unwrap() > Duration::from_secs(1));
        (0..100_000).for_each(|_| latencies.record(Duration::from_millis(10)));
        assert!(latencies.quantile(0.999).unwrap() < Duration::from_millis(12));
    }

    #[test]
    fn the_first_answer_that_another_thread_still_computes_is_not_taken_for_zero() {
        let latencies = Latencies::default();
        (0..100).for_each(|_| latencies.record(Duration::from_millis(10)));
        latencies.cached_at.store(100, Ordering::Relaxed);
        assert_eq!(latencies.quantile(0.9), None);
    }
}
