//! The hash that both choices draw by.

use twox_hash::XxHash64;

/// The hash of an instance's key in some context.
pub(super) fn mix(key: u64, seed: u64) -> u64 {
    XxHash64::oneshot(seed, &key.to_le_bytes())
}
