//! How an endpoint's calls went: two counts in one word.

use loom::sync::Arc;
use loom::thread;

use self::piece::Outcomes;

#[allow(dead_code, unreachable_pub)]
#[path = "../../core/src/endpoints/endpoint/outcomes.rs"]
mod piece;

/// Two calls end while the detector ends a window: each outcome is in exactly one window, as what it was.
pub fn every_outcome_is_in_one_window() {
    loom::model(|| {
        let outcomes = Arc::new(Outcomes::default());
        let (good, bad) = (outcomes.clone(), outcomes.clone());
        let ends = [
            thread::spawn(move || good.success()),
            thread::spawn(move || {
                bad.failure();
            }),
        ];
        let first = outcomes.take();
        for end in ends {
            end.join().expect("no thread fails");
        }
        let second = outcomes.take();
        assert_eq!(first.successes + second.successes, 1);
        assert_eq!(first.failures + second.failures, 1);
        assert!(outcomes.in_a_row() <= 1);
    });
}
