//! Figures from a trace.

use crate::{Answer, Call, Nanos, SECOND};

/// Part of a whole in per cent; nothing of nothing is 0.
pub(crate) fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 }
}

/// The share of calls, in per cent, that are so.
pub(crate) fn share(calls: &[Call], is_so: impl Fn(&Call) -> bool) -> f64 {
    percent(calls.iter().filter(|call| is_so(call)).count(), calls.len())
}

/// The share of calls that a server got, in per cent.
pub(crate) fn share_of(calls: &[Call], server: u32) -> f64 {
    share(calls, |call| call.server == server)
}

/// The share of calls that did not end with an answer, in per cent.
pub(crate) fn errors(calls: &[Call]) -> f64 {
    share(calls, |call| call.answer != Answer::Good)
}

/// How many times the mean the busiest of `servers` servers got.
pub(crate) fn unevenness(calls: &[Call], servers: usize) -> f64 {
    let mut counts = vec![0u32; servers];
    for call in calls {
        if let Some(count) = counts.get_mut(call.server as usize) {
            *count += 1;
        }
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    f64::from(most) * servers as f64 / (calls.len().max(1)) as f64
}

/// The same, as the median over windows: what an average over the whole time hides.
pub(crate) fn unevenness_by_window(calls: &[Call], servers: usize, window: Nanos) -> f64 {
    let mut all: Vec<f64> = calls
        .chunk_by(|a, b| a.start / window == b.start / window)
        .map(|calls| unevenness(calls, servers))
        .collect();
    median(&mut all)
}

/// Seconds from `from` until a server has had at least `share` per cent of the calls for three
/// seconds on end; the time until `to` if that does not happen.
pub(crate) fn seconds_until(
    calls: &[Call],
    server: u32,
    share: f64,
    from: Nanos,
    to: Nanos,
) -> f64 {
    let seconds = (from / SECOND)..(to / SECOND);
    let enough = |second: u64| {
        let within = |time: u64| calls.partition_point(|call| call.start < time * SECOND);
        share_of(&calls[within(second)..within(second + 3)], server) >= share
    };
    let back = seconds.clone().find(|&second| enough(second)).unwrap_or(seconds.end);
    (back - seconds.start) as f64
}

/// The middle one, or the mean of the two in the middle; 0 of none.
pub(crate) fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    match (values.len(), values.len() / 2) {
        (0, _) => 0.0,
        (n, middle) if n % 2 == 1 => values[middle],
        (_, middle) => f64::midpoint(values[middle - 1], values[middle]),
    }
}

/// Exact latencies, sorted: there are few enough to keep them all.
///
/// Calls that failed are left out, for how soon a server refuses is not how soon it serves. Those
/// that were given up or never ended count with the time that the client waited.
#[derive(Debug)]
pub(crate) struct Latencies(Vec<Nanos>);

impl Latencies {
    pub(crate) fn of(calls: &[Call]) -> Self {
        let served = |call: &&Call| !matches!(call.answer, Answer::Failed | Answer::Refused);
        let served = calls.iter().filter(served);
        let mut sorted: Vec<_> = served.map(|call| call.took).collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// The latency in milliseconds that this part of the calls stays within: the nearest rank.
    pub(crate) fn quantile(&self, q: f64) -> f64 {
        // The product of two rounded numbers may lie a hair above a whole rank.
        let rank = (q * self.0.len() as f64 - 1e-9).ceil() as usize;
        let at = rank.saturating_sub(1).min(self.0.len().saturating_sub(1));
        self.0.get(at).map_or(0.0, |&nanos| nanos as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MILLISECOND;

    fn call(start: Nanos, took: Nanos, server: u32, answer: Answer) -> Call {
        Call { start, took, client: 0, server, in_line: 1, answer }
    }

    #[test]
    fn quantiles_are_exact_and_leave_failures_out() {
        let mut calls: Vec<_> =
            (1..=1000).map(|i| call(0, i * MILLISECOND, 0, Answer::Good)).collect();
        calls.push(call(0, 1, 0, Answer::Failed));
        let latencies = Latencies::of(&calls);
        let at = [0.0, 0.5, 0.9, 0.99, 0.999, 1.0].map(|q| latencies.quantile(q));
        assert_eq!(at, [1.0, 500.0, 900.0, 990.0, 999.0, 1000.0]);
        assert_eq!(Latencies::of(&[]).quantile(0.5), 0.0);
    }

    #[test]
    fn a_server_is_back_when_it_has_its_share_for_three_seconds() {
        let calls: Vec<_> = (0..300)
            .map(|i| call(i * SECOND / 10, 0, u32::from(i >= 200 && i % 2 == 0), Answer::Good))
            .collect();
        assert_eq!(seconds_until(&calls, 1, 50.0, 10 * SECOND, 30 * SECOND), 10.0);
        assert_eq!(seconds_until(&calls, 1, 60.0, 10 * SECOND, 30 * SECOND), 20.0);
        assert_eq!(unevenness(&calls, 2), 250.0 / 150.0);
        assert_eq!(errors(&calls), 0.0);
    }
}
