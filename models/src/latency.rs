//! The moving average of an endpoint's latency: a pair in one word.

use std::time::Duration;

use loom::sync::Arc;
use loom::thread;

use self::piece::PeakEwma;

#[allow(dead_code)]
#[path = "../../core/src/endpoints/endpoint/latency.rs"]
mod piece;

const TAU: f32 = 1.0;

/// Two calls end at the same time, and a third thread picks. The highest sample is never lost, whoever is first,
/// and the pick sees the average of one moment: no average with the time of another one.
pub fn no_peak_is_lost() {
    loom::model(|| {
        let ewma = Arc::new(PeakEwma::default());
        let at = Duration::from_secs(1);
        ewma.observe(0.25, at, TAU);
        let ends: Vec<_> = [(0.5, 1), (2.0, 100)]
            .map(|(rtt, seconds)| {
                let ewma = ewma.clone();
                thread::spawn(move || ewma.observe(rtt, Duration::from_secs(seconds), TAU))
            })
            .into();
        // If the first average had the last sample's time, or the other way round, it had faded to nothing here.
        let seen = ewma.estimate(at, TAU);
        assert!(seen.is_some_and(|seen| [0.25, 0.5, 2.0].contains(&seen)), "{seen:?}");
        for end in ends {
            end.join().expect("no thread fails");
        }
        let peak = ewma.estimate(Duration::from_secs(100), TAU);
        assert_eq!(peak, Some(2.0));
    });
}

/// A success and an answer that was not good at the same time: what is known after both is what the good one took,
/// whichever is written first.
pub fn a_good_answer_replaces_what_stands_in_for_one() {
    loom::model(|| {
        let ewma = Arc::new(PeakEwma::default());
        let at = Duration::from_secs(1);
        let other = ewma.clone();
        let bad = thread::spawn(move || other.no_sample(0.125, None, at, TAU));
        ewma.observe(0.5, at, TAU);
        bad.join().expect("no thread fails");
        assert_eq!(ewma.level(), Some(0.5));
    });
}
