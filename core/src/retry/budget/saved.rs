//! What a [`RatioBudget`](super::RatioBudget) holds, in one word.

/// What the word holds: the balance above, below it the calls since it was brought up to date, and
/// when that was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Saved {
    /// In units of which an attempt costs [`ATTEMPT`].
    pub(super) balance: u64,
    /// Calls whose deposits are not yet in the balance.
    pub(super) unaged: u8,
    /// In steps since the budget was made; it wraps around.
    pub(super) stamp: u64,
}

/// What an attempt costs. 36 bits hold 687,000 attempts, more than any reserve.
pub(super) const ATTEMPT: u64 = 100_000;
pub(super) const BALANCE_BITS: u32 = 36;
pub(super) const MAX_UNAGED: u8 = 15;
const STAMP_BITS: u32 = 24;
pub(super) const STAMP_MASK: u64 = (1 << STAMP_BITS) - 1;

/// Steps in a ttl. The stamp wraps around after 16,384 of them, with the default ttl after 45 hours:
/// a budget that nobody touched for so long takes what it holds for fresh.
pub(super) const STEPS: f64 = 1024.0;

impl Saved {
    pub(super) fn pack(self) -> u64 {
        let balance = self.balance.min((1 << BALANCE_BITS) - 1);
        (balance << (64 - BALANCE_BITS)) | (u64::from(self.unaged) << STAMP_BITS) | self.stamp
    }

    pub(super) fn unpack(word: u64) -> Self {
        Self {
            balance: word >> (64 - BALANCE_BITS),
            unaged: (word >> STAMP_BITS) as u8 & MAX_UNAGED,
            stamp: word & STAMP_MASK,
        }
    }
}

/// Steps from one stamp to a later one. Clocks of two cores may differ by a little: what seems to lie
/// before is now.
pub(super) fn since(stamp: u64, now: u64) -> u64 {
    let elapsed = now.wrapping_sub(stamp) & STAMP_MASK;
    if elapsed > STAMP_MASK - STEPS as u64 { 0 } else { elapsed }
}
