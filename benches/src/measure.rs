//! Timing side by side.
//!
//! Not criterion, and not divan: both measure one thing to its end before the next, so what the machine
//! does meanwhile falls on one contender alone. Here every round runs each of them for a moment, in an order
//! that turns, and what is compared are medians over the rounds: a ratio holds on a noisy machine,
//! where an absolute figure does not.

use std::hint::spin_loop;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::cpu;

/// How long things are measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) rounds: usize,
    /// How long one contender runs in one round.
    pub(crate) slice: Duration,
    pub(crate) brief: bool,
}

impl Effort {
    pub(crate) fn full() -> Self {
        Self { rounds: 31, slice: Duration::from_millis(4), brief: false }
    }

    pub(crate) fn brief() -> Self {
        Self { rounds: 1, slice: Duration::from_micros(50), brief: true }
    }
}

/// Runs what is measured so many times. One for each thread.
pub(crate) type Worker<'a> = Box<dyn FnMut(u64) + Send + 'a>;

/// Something to measure.
pub(crate) struct Contender<'a> {
    pub(crate) name: String,
    threads: u64,
    /// Does it so many times on each thread, and says how long that took.
    run: Box<dyn FnMut(u64) -> Duration + 'a>,
}

impl<'a> Contender<'a> {
    /// On the caller's thread.
    pub(crate) fn new(name: impl Into<String>, mut worker: impl FnMut(u64) + 'a) -> Self {
        Self::elsewhere(name, 1, move |times| {
            let start = Instant::now();
            worker(times);
            start.elapsed()
        })
    }

    /// A thread and a core for each worker, all at the same time. The time is that from the moment when all
    /// threads are there until the last one is done.
    pub(crate) fn on_threads(name: impl Into<String>, mut workers: Vec<Worker<'a>>) -> Self {
        let threads = workers.len() as u64;
        Self::elsewhere(name, threads, move |times| at_once(&mut workers, times))
    }

    /// Where something else has the clock: another process, say.
    pub(crate) fn elsewhere(
        name: impl Into<String>,
        threads: u64,
        run: impl FnMut(u64) -> Duration + 'a,
    ) -> Self {
        Self { name: name.into(), threads, run: Box::new(run) }
    }
}

fn at_once(workers: &mut [Worker<'_>], times: u64) -> Duration {
    let count = workers.len();
    let ready = AtomicUsize::new(0);
    let work = |at: usize, worker: &mut Worker<'_>| {
        cpu::pin_to(at);
        ready.fetch_add(1, Ordering::AcqRel);
        while ready.load(Ordering::Acquire) < count {
            spin_loop();
        }
        let start = Instant::now();
        worker(times);
        (start, Instant::now())
    };
    std::thread::scope(|scope| {
        let work = &work;
        let threads = workers.iter_mut().enumerate();
        let threads: Vec<_> = threads.map(|(at, w)| scope.spawn(move || work(at, w))).collect();
        let spans = threads.into_iter().filter_map(|thread| thread.join().ok());
        let spans: Vec<(Instant, Instant)> = spans.collect();
        let start = spans.iter().map(|span| span.0).min();
        let end = spans.iter().map(|span| span.1).max();
        start.zip(end).map_or(Duration::ZERO, |(start, end)| end - start)
    })
}

/// What was measured, in nanoseconds for each time; with several threads, for each time of any.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) median: f64,
    /// The quartiles.
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Figure {
    /// `12.3 (11.9-13.0)`.
    pub(crate) fn with_spread(&self) -> String {
        format!("{} ({}-{})", short(self.median), short(self.low), short(self.high))
    }
}

/// Measures all of them in interleaved rounds; figures in the order of `contenders`.
pub(crate) fn race(mut contenders: Vec<Contender<'_>>, effort: &Effort) -> Vec<Figure> {
    let times: Vec<u64> = contenders.iter_mut().map(|c| calibrate(c, effort.slice)).collect();
    let mut samples = vec![Vec::with_capacity(effort.rounds); contenders.len()];
    for round in 0..effort.rounds {
        for turn in 0..contenders.len() {
            let i = (round + turn) % contenders.len();
            let elapsed = (contenders[i].run)(times[i]);
            let all = times[i] * contenders[i].threads;
            samples[i].push(elapsed.as_secs_f64() * 1e9 / all as f64);
        }
    }
    contenders.iter().zip(samples).map(|(c, samples)| figure(&c.name, samples)).collect()
}

/// How often fills the slice. Warms up by the way.
fn calibrate(contender: &mut Contender<'_>, slice: Duration) -> u64 {
    let mut times = 16;
    loop {
        // The quickest of some: one that was kept waiting, for its second thread perhaps, would have all rounds be
        // too short, and mostly waiting.
        let tries = [(); 3].map(|()| (contender.run)(times));
        let elapsed = tries.into_iter().min().unwrap_or_default();
        if elapsed >= slice / 4 {
            let scale = slice.as_secs_f64() / elapsed.as_secs_f64().max(1e-9);
            return ((times as f64 * scale) as u64).max(1);
        }
        times *= 4;
    }
}

/// The median and the quartiles of samples.
pub(crate) fn figure(name: &str, mut samples: Vec<f64>) -> Figure {
    samples.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let position = share * samples.len().saturating_sub(1) as f64;
        samples.get(position.round() as usize).copied().unwrap_or(f64::NAN)
    };
    Figure { name: name.to_owned(), median: at(0.5), low: at(0.25), high: at(0.75) }
}

/// A figure with three digits that say something.
pub(crate) fn short(value: f64) -> String {
    match value {
        v if v >= 100.0 => format!("{v:.0}"),
        v if v >= 10.0 => format!("{v:.1}"),
        v => format!("{v:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_and_the_quartiles_are_those_of_the_samples() {
        let figure = figure("", vec![5.0, 1.0, 4.0, 2.0, 3.0]);
        assert_eq!((figure.low, figure.median, figure.high), (2.0, 3.0, 4.0));
    }

    #[test]
    fn twice_the_work_takes_about_twice_the_time() {
        let spin = |work: u64| {
            move |times: u64| {
                for i in 0..times * work {
                    std::hint::black_box(i);
                }
            }
        };
        let effort = Effort { rounds: 15, slice: Duration::from_millis(1), brief: false };
        let contenders = vec![Contender::new("one", spin(100)), Contender::new("two", spin(200))];
        let figures = race(contenders, &effort);
        let ratio = figures[1].median / figures[0].median;
        assert!((1.6..2.5).contains(&ratio), "{ratio}");
    }

    #[test]
    fn every_thread_does_its_work() {
        let counts = [AtomicUsize::new(0), AtomicUsize::new(0)];
        let worker = |count| -> Worker<'_> {
            let count: &AtomicUsize = count;
            Box::new(move |times| {
                count.fetch_add(times as usize, Ordering::Relaxed);
            })
        };
        let mut contender = Contender::on_threads("both", counts.iter().map(worker).collect());
        (contender.run)(7);
        drop(contender);
        assert_eq!(counts.map(AtomicUsize::into_inner), [7, 7]);
    }
}
