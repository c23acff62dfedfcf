//! Which call may try an endpoint that was ejected.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use self::piece::{Admission, Admittance};

#[allow(dead_code, unreachable_pub)]
#[path = "../../core/src/endpoints/endpoint/admission.rs"]
mod piece;

struct Endpoint {
    admittance: Admittance,
    probes: AtomicUsize,
}

impl Endpoint {
    fn offered() -> Arc<Self> {
        let admittance = Admittance::default();
        admittance.set(Admission::Probe);
        Arc::new(Self { admittance, probes: AtomicUsize::new(0) })
    }

    /// A call that says nothing: from the pick to its end. Whether it was the probe.
    fn call(&self) -> bool {
        let mut probe = self.admittance.enter();
        let is_probe = probe;
        if is_probe {
            assert_eq!(self.probes.fetch_add(1, Ordering::Relaxed), 0, "two probes at once");
            self.probes.fetch_sub(1, Ordering::Relaxed);
        }
        self.admittance.settle(&mut probe, Admission::Probe);
        is_probe
    }

    /// The detector: after a relapse the endpoint waits, and is then offered again.
    fn detect(&self) {
        if self.admittance.get() == Admission::Relapsed {
            self.admittance.set(Admission::Ejected);
            self.admittance.set(Admission::Probe);
        }
    }
}

/// Two calls come to an endpoint whose time is over: at least one tries it, one at a time. That one says nothing:
/// another one may try.
pub fn a_probe_that_says_nothing_is_offered_again() {
    loom::model(|| {
        let endpoint = Endpoint::offered();
        let other = endpoint.clone();
        let first = thread::spawn(move || other.call());
        let second = endpoint.call();
        let first = first.join().expect("no thread fails");
        assert!(first || second);
        assert_eq!(endpoint.admittance.get(), Admission::Probe);
    });
}

/// The probe fails while another call comes and the detector looks. What the failed one does as it ends does not
/// offer again what the second one has taken.
pub fn a_failed_probe_takes_nothing_from_the_next_one() {
    loom::model(|| {
        let endpoint = Endpoint::offered();
        let mut probe = endpoint.admittance.enter();
        let other = endpoint.clone();
        let failing = thread::spawn(move || {
            other.admittance.settle(&mut probe, Admission::Relapsed);
            other.admittance.settle(&mut probe, Admission::Probe);
        });
        endpoint.detect();
        // A stream that goes on.
        let next = endpoint.admittance.enter();
        failing.join().expect("no thread fails");
        if next {
            assert_eq!(endpoint.admittance.get(), Admission::Probing);
        }
    });
}
