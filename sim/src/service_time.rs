//! How long a server works on a call.

use std::f64::consts::TAU;

use fastrand::Rng;

/// A distribution of the work in a call, in milliseconds on a machine of speed 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ServiceTime {
    /// Always the same.
    Constant(f64),
    /// Between two values, each as likely.
    Uniform(f64, f64),
    /// Exponential with this mean.
    Exponential(f64),
    /// Log-normal: its median, and the factor between the median and the 84th percentile. What
    /// measured latencies of services mostly look like.
    LogNormal {
        /// Half of the calls take longer.
        median: f64,
        /// One standard deviation, as a factor.
        spread: f64,
    },
    /// Normal with a standard deviation as large as the mean, and never below zero: the work of
    /// Prequal's experiments. The value is the mean before negative draws are set to zero.
    HalfIdle(f64),
}

impl ServiceTime {
    /// Draws the work of one call, in seconds.
    ///
    /// Takes the same number of draws whatever the distribution, so that a server that changes does
    /// not shift what the later calls of the run get.
    pub fn draw(self, rng: &mut Rng) -> f64 {
        let (u, v) = (rng.f64(), rng.f64());
        let millis = match self {
            Self::Constant(value) => value,
            Self::Uniform(low, high) => low + u * (high - low),
            Self::Exponential(mean) => -mean * (1.0 - u).ln(),
            Self::LogNormal { median, spread } => median * (normal(u, v) * spread.ln()).exp(),
            Self::HalfIdle(mean) => (mean + mean * normal(u, v)).max(0.0),
        };
        millis / 1000.0
    }

    /// The mean, in milliseconds.
    pub fn mean(self) -> f64 {
        match self {
            Self::Constant(mean) | Self::Exponential(mean) => mean,
            Self::Uniform(low, high) => f64::midpoint(low, high),
            Self::LogNormal { median, spread } => median * (spread.ln().powi(2) / 2.0).exp(),
            // E[max(0, N(m, m))] = m (Phi(1) + phi(1)).
            Self::HalfIdle(mean) => mean * 1.083_315_470_587_668,
        }
    }
}

/// Box and Muller's way from two uniform draws to a normal one.
fn normal(u: f64, v: f64) -> f64 {
    (-2.0 * (1.0 - u).ln()).sqrt() * (TAU * v).cos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_distribution_has_the_mean_that_it_says() {
        let all = [
            ServiceTime::Constant(7.0),
            ServiceTime::Uniform(10.0, 30.0),
            ServiceTime::Exponential(20.0),
            ServiceTime::LogNormal { median: 10.0, spread: 2.0 },
            ServiceTime::HalfIdle(50.0),
        ];
        for distribution in all {
            let mut rng = Rng::with_seed(1);
            let n = 200_000;
            let sum: f64 = (0..n).map(|_| distribution.draw(&mut rng)).sum();
            let mean = sum / f64::from(n) * 1000.0;
            let off = (mean / distribution.mean() - 1.0).abs();
            assert!(off < 0.01, "{distribution:?}: {mean}");
        }
    }
}
