//! Random numbers without a lock.

use std::sync::atomic::{AtomicU64, Ordering};

/// Draws from a generator of the thread's own, or, with a seed, the same sequence each time.
#[derive(Debug, Default)]
pub(crate) struct Draws {
    seeded: Option<AtomicU64>,
}

impl Draws {
    pub(crate) fn with_seed(seed: u64) -> Self {
        Self { seeded: Some(AtomicU64::new(seed)) }
    }

    /// A whole number below `n`, which is not zero.
    pub(crate) fn below(&self, n: usize) -> usize {
        match &self.seeded {
            None => fastrand::usize(..n),
            Some(counter) => generator(counter).usize(..n),
        }
    }

    /// 64 random bits.
    pub(crate) fn bits(&self) -> u64 {
        match &self.seeded {
            None => fastrand::u64(..),
            Some(counter) => generator(counter).u64(..),
        }
    }

    /// A number from 0 up to, but not including, 1.
    pub(crate) fn unit(&self) -> f64 {
        match &self.seeded {
            None => fastrand::f64(),
            Some(counter) => generator(counter).f64(),
        }
    }
}

/// A counter that seeds a generator for one draw: repeatable without a lock.
fn generator(counter: &AtomicU64) -> fastrand::Rng {
    let seed = counter.fetch_add(1, Ordering::Relaxed);
    // Seeds that differ in one bit give first draws that have much in common; spread them.
    fastrand::Rng::with_seed(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}
