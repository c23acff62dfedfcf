//! How far calls and picks have to look into what an endpoint refuses.

use std::sync::atomic::{AtomicU8, Ordering};

/// Some operation was refused of late: good answers are looked at.
pub(super) const KEEPS: u8 = 1;
/// Calls of some operation go elsewhere: picks are looked at.
pub(super) const AVOIDED: u8 = 2;

/// How far calls and picks have to look.
#[derive(Debug, Default)]
pub(in crate::endpoints::endpoint) struct Flags(AtomicU8);

impl Flags {
    pub(super) fn set(&self, flags: u8) {
        self.0.store(flags, Ordering::Relaxed);
    }

    #[inline]
    pub(in crate::endpoints::endpoint) fn keeps(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    #[inline]
    pub(in crate::endpoints::endpoint) fn avoided(&self) -> bool {
        self.0.load(Ordering::Relaxed) & AVOIDED != 0
    }
}
