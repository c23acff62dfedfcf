//! Rendezvous hashing (highest random weight): each client draws a number for every instance and
//! takes those with the largest.
//!
//! No instance's number depends on another's, so an instance that goes moves only the connections to
//! it, the least there can be. But the draws are independent, so the load is as uneven as chance has
//! it: an instance has C x k / B connections, give or take the square root of that.

use std::cmp::Reverse;

use super::mix::mix;

/// The positions of the `size` keys to take; `size` is below their number.
pub(super) fn choose(keys: &[u64], size: usize, client: u64) -> Vec<usize> {
    // Keys that collide are told apart by their place.
    let draw = |at: usize| Reverse((mix(keys[at], client), at));
    let mut all: Vec<_> = (0..keys.len()).map(draw).collect();
    all.select_nth_unstable(size);
    all.into_iter().take(size).map(|Reverse((_, at))| at).collect()
}
