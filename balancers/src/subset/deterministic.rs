//! Lots: ten clients at a time share out a stretch of the instances, evenly.
//!
//! The plan is that of Google's Rocksteadier subsetting: clients come in lots of a fixed size; a lot
//! takes a stretch of the circle of instances, just long enough for all its clients, and starts where
//! the van der Corput sequence says, so that the stretches of successive lots cover the circle evenly;
//! within the stretch each instance goes to one client.
//!
//! Google's tasks are numbered without gaps, and a job shrinks from its end; instances of a registry
//! have names, and any of them may go. So what Google does by number is done by hash here: instances
//! stand on the circle by the hash of their id, and within a lot each goes to the client that it
//! prefers (by hash) of those that have room. When one goes, its place is taken by one that had
//! preferred it, whose place is taken in turn, and so on: two or three moves in a lot instead of the
//! one that is unavoidable.
//!
//! A lot's size is a constant, for if it followed the number of instances, one more or less would now
//! and then change every subset. A larger lot shares more instances among its clients, which makes
//! the subsets more diverse; in a lot that is not full yet the load is off by one connection.

use super::mix::mix;

/// How many clients share a stretch (as in the paper's figures).
const LOT: usize = 10;

/// The positions of the `size` keys to take; `size` is below their number.
pub(super) fn choose(keys: &[u64], size: usize, index: u64) -> Vec<usize> {
    let lot = index / LOT as u64;
    let me = (index % LOT as u64) as usize;
    let mut circle: Vec<usize> = (0..keys.len()).collect();
    // Keys that collide are told apart by their place.
    circle.sort_unstable_by_key(|at| (keys[*at], *at));
    // The binary van der Corput sequence, as a fraction of the circle.
    let start = lot.reverse_bits();
    let start = circle.partition_point(|at| keys[*at] < start);
    let mut clients: Vec<_> =
        (0..LOT).map(|_| Share { has: vec![false; keys.len()], count: 0 }).collect();
    let stretch = circle.iter().cycle().skip(start).copied().enumerate();
    let mut open = LOT;
    // Ends: a client with room lacks some instance, for there are more than `size`; so each time
    // around somebody takes one.
    for (step, at) in stretch {
        let round = (step / keys.len()) as u64;
        // Never empty before all are full.
        let takes = (0..LOT)
            .filter(|client| clients[*client].count < size && !clients[*client].has[at])
            .min_by_key(|client| mix(keys[at], seed(lot, *client, round)));
        if let Some(client) = takes {
            let share = &mut clients[client];
            share.has[at] = true;
            share.count += 1;
            open -= usize::from(share.count == size);
        }
        if open == 0 {
            break;
        }
    }
    let mine = clients[me].has.iter().enumerate();
    mine.filter(|(_, has)| **has).map(|(at, _)| at).collect()
}

/// What one client of a lot has so far.
struct Share {
    has: Vec<bool>,
    count: usize,
}

/// Another preference for every client and every time around the circle.
fn seed(lot: u64, client: usize, round: u64) -> u64 {
    mix(lot.wrapping_mul(LOT as u64).wrapping_add(client as u64), round)
}
