//! The smooth order of weighted turns, where it is short enough to be written down.
//!
//! An order is fair if nobody ever lags behind his share by a whole turn: then the `k`-th turn of a
//! weight `w` in a period of `p` comes among the first `ceil(k * p / w)`. Such an order exists for
//! any weights (Tijdeman, "The chairman assignment problem", 1980), for of the first `d` turns no
//! more than `d` fall due; and any order in which every turn comes at the last by when it is due can
//! be built backwards, with a free choice among those that are not due before. So the order that
//! was wished for, evenly spread and from a random start, is kept wherever it is fair.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// The longest order that is written down: 32 KiB, a processor's nearest cache.
pub(crate) const LONGEST: u64 = 8192;

/// The order for these weights divided by what they have in common, as indices into them; as it is
/// `start` turns after the evenly spread one began. Nothing if it would be longer than
/// [`LONGEST`], or if nobody has a turn.
pub(crate) fn smooth(weights: &[u32], start: u64) -> Option<Box<[u32]>> {
    let common = weights.iter().fold(0, |a, &b| gcd(a, u64::from(b)));
    let turns: Vec<u64> =
        weights.iter().map(|&w| u64::from(w).checked_div(common)).collect::<Option<_>>()?;
    let period = turns.iter().sum::<u64>();
    if period == 0 || period > LONGEST {
        return None;
    }
    let mut order = fair(&evenly_spread(&turns, period), &turns, period);
    let start = start % period;
    if start > 0 {
        order.rotate_left(start as usize);
        order = fair(&order, &turns, period);
    }
    Some(order.into())
}

/// Everybody's `k`-th turn in the `k`-th of as many equal stretches as he has turns, where that is
/// possible: of those whose stretch has begun, whose ends first (WF2Q: Bennett and Zhang, 1996).
fn evenly_spread(turns: &[u64], period: u64) -> Vec<u32> {
    let mut taken = vec![0; turns.len()];
    // When the next stretch of each begins, and when those that have begun end.
    let mut waiting: BinaryHeap<Reverse<(u64, usize)>> = (0..turns.len())
        .filter(|&index| turns[index] > 0)
        .map(|index| Reverse((0, index)))
        .collect();
    let mut begun: BinaryHeap<Reverse<(u64, usize)>> = BinaryHeap::new();
    let mut order = Vec::with_capacity(period as usize);
    for now in 0..period {
        while let Some(&Reverse((begin, index))) = waiting.peek()
            && begin <= now
        {
            waiting.pop();
            begun.push(Reverse((((taken[index] + 1) * period).div_ceil(turns[index]), index)));
        }
        // Never empty: who is not ahead has begun.
        let Some(Reverse((_, index))) = begun.pop() else { break };
        order.push(index as u32);
        taken[index] += 1;
        if taken[index] < turns[index] {
            let begin = (taken[index] * period).div_ceil(turns[index]);
            waiting.push(Reverse((begin, index)));
        }
    }
    order
}

/// The order nearest to `wished` in which nobody lags behind by a turn.
fn fair(wished: &[u32], turns: &[u64], period: u64) -> Vec<u32> {
    let mut seen = vec![0; turns.len()];
    let due = |(place, &index): (usize, &u32)| {
        let seen = &mut seen[index as usize];
        *seen += 1;
        ((*seen * period).div_ceil(turns[index as usize]), place)
    };
    let mut due: Vec<(u64, usize)> = wished.iter().enumerate().map(due).collect();
    due.sort_unstable();
    let mut backwards = Vec::with_capacity(wished.len());
    // The places in `wished` of what may come as late as this.
    let mut late: BinaryHeap<usize> = BinaryHeap::new();
    for before in (0..period).rev() {
        while let Some((_, place)) = due.pop_if(|(due, _)| *due > before) {
            late.push(place);
        }
        // Never empty: no more than `before` fall due among the first `before`.
        backwards.extend(late.pop().map(|place| wished[place]));
    }
    backwards.reverse();
    backwards
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How far anybody ever lags behind and gets ahead, in turns, over two periods.
    fn strays(order: &[u32], weights: &[u32]) -> (f64, f64) {
        let total: i64 = weights.iter().map(|&w| i64::from(w)).sum();
        let mut behind = vec![0i64; weights.len()];
        let (mut lag, mut lead) = (0, 0);
        for &index in order.iter().chain(order) {
            behind.iter_mut().zip(weights).for_each(|(b, &w)| *b += i64::from(w));
            behind[index as usize] -= total;
            lag = lag.max(*behind.iter().max().unwrap());
            lead = lead.max(-behind.iter().min().unwrap());
        }
        (lag as f64 / total as f64, lead as f64 / total as f64)
    }

    #[test]
    fn nobody_lags_behind_by_a_turn_whatever_the_weights_and_the_start() {
        let zipf: Vec<u32> = (1..=100).map(|rank| 1000 / rank).collect();
        let mut rng = fastrand::Rng::with_seed(5);
        let random = (0..60).map(|_| {
            let most = 1 << rng.u32(0..10);
            (0..rng.usize(1..60)).map(|_| rng.u32(0..=most)).collect()
        });
        let mut starts = fastrand::Rng::with_seed(6);
        for weights in [zipf, vec![5, 1, 1], vec![1], vec![7000, 1, 1191]].into_iter().chain(random)
        {
            for start in [0, 1, starts.u64(..), starts.u64(..)] {
                let Some(order) = smooth(&weights, start) else { continue };
                let (lag, lead) = strays(&order, &weights);
                assert!(lag < 1.0, "{lag} {weights:?} from {start}");
                let most = if start == 0 { 1.0 } else { 3.0 };
                assert!(lead < most, "{lead} {weights:?} from {start}");
                let common = weights.iter().fold(0, |a, &b| gcd(a, b.into()));
                for (index, &weight) in (0..).zip(&weights) {
                    let turns = order.iter().filter(|&&i| i == index).count() as u64;
                    assert_eq!(turns * common, u64::from(weight));
                }
            }
        }
    }

    #[test]
    fn turns_are_spread() {
        assert_eq!(*smooth(&[5, 1, 1], 0).unwrap(), [0, 1, 0, 0, 2, 0, 0]);
        assert_eq!(*smooth(&[4, 0, 2], 0).unwrap(), [0, 2, 0]);
    }

    #[test]
    fn over_all_starts_the_first_turn_falls_to_each_by_its_weight() {
        let weights = [60, 25, 10, 3, 2];
        let mut firsts = [0; 5];
        for start in 0..100 {
            firsts[smooth(&weights, start).unwrap()[0] as usize] += 1;
        }
        assert_eq!(firsts, weights);
    }

    #[test]
    fn what_is_too_long_or_nothing_is_not_written_down() {
        assert!(smooth(&[8191, 1], 0).is_some());
        assert!(smooth(&[8192, 1], 0).is_none());
        assert!(smooth(&[u32::MAX, u32::MAX - 1], 0).is_none());
        assert!(smooth(&[0, 0], 0).is_none());
        assert!(smooth(&[], 0).is_none());
    }
}
