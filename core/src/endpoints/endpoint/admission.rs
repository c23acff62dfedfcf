//! Whether outlier detection lets calls through to an endpoint.

use crate::sync::{AtomicU8, Ordering};

/// Whether outlier detection lets calls through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Admission {
    Open,
    /// Ejected: in a ready set only while there is nothing better.
    Ejected,
    /// The time is over: one call may try.
    Probe,
    /// That call is under way.
    Probing,
    /// It failed; the detector has not yet taken note.
    Relapsed,
}

/// An [`Admission`] that calls and the detector change. Picks read it, and no pick takes a lock.
#[derive(Debug)]
pub(super) struct Admittance(AtomicU8);

impl Default for Admittance {
    fn default() -> Self {
        Self(AtomicU8::new(Admission::Open as u8))
    }
}

// Relaxed throughout: it orders nothing else.
impl Admittance {
    #[inline]
    pub(super) fn get(&self) -> Admission {
        match self.0.load(Ordering::Relaxed) {
            0 => Admission::Open,
            1 => Admission::Ejected,
            2 => Admission::Probe,
            3 => Admission::Probing,
            _ => Admission::Relapsed,
        }
    }

    pub(super) fn set(&self, to: Admission) {
        self.0.store(to as u8, Ordering::Relaxed);
    }

    #[inline]
    fn change(&self, from: Admission, to: Admission) -> bool {
        let order = Ordering::Relaxed;
        self.0.compare_exchange(from as u8, to as u8, order, order).is_ok()
    }

    /// A call begins. Whether it is the probe.
    #[inline]
    pub(super) fn enter(&self) -> bool {
        self.get() == Admission::Probe && self.change(Admission::Probe, Admission::Probing)
    }

    /// The probe has a result, and is no probe any more: what it does later is no word of the next one. Whether the
    /// admission has changed by it.
    #[inline]
    pub(super) fn settle(&self, probe: &mut bool, to: Admission) -> bool {
        std::mem::take(probe) && self.change(Admission::Probing, to)
    }

    /// The probe hangs: another call may be one.
    pub(super) fn offer_again(&self) {
        self.change(Admission::Probing, Admission::Probe);
    }
}
