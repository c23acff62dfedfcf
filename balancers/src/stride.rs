//! Weighted turns in any proportion, from nothing but their number.
//!
//! The weights are halved, as evenly as they allow, and the halves again, down to single ones. At
//! each fork the `k`-th turn goes left if `floor(k * p + phase)` goes up with it, where `p` is the
//! left share; so many turns went left before, and by that number the turn goes on there. So each
//! fork is off by less than one turn, at any time; and what it is off is shared out among those
//! below, who add theirs. Forks but the last get two thirds of what is above at most, so it all
//! adds up to two turns if every phase is a half, and to four at the very most.
//!
//! Random phases make a new order start anywhere. Where they would let somebody lag behind by more
//! than three turns, they are drawn towards one half.
//!
//! The way down takes as many steps as the weight is light. So on average it takes the entropy of
//! the weights and two more at most, and that is the less the more the weights differ.

use std::fmt;

/// The lag that phases must not lead to.
const MOST: f64 = 3.0;

/// 2^64 as a float.
const WHOLE: f64 = 18_446_744_073_709_551_616.0;

/// Whose turn it is, for each number of a turn.
pub(crate) struct StrideSchedule {
    forks: Box<[Fork]>,
    root: Next,
}

/// 24 bytes, which lie near those of the forks below.
struct Fork {
    /// What the left side gets, as a fraction of 2^64.
    share: u64,
    phase: u64,
    /// Right and left.
    next: [Next; 2],
}

/// An index of a fork, or a position.
#[derive(Clone, Copy)]
enum Next {
    Fork(u32),
    End(u32),
}

impl StrideSchedule {
    /// Nothing if no weight is above 0.
    pub(crate) fn new(weights: &[u32], seed: u64) -> Option<Self> {
        Self::with_most(weights, seed, MOST)
    }

    /// With another bound of the lag, 2 at least.
    fn with_most(weights: &[u32], seed: u64, most: f64) -> Option<Self> {
        let mut sorted: Vec<(u64, u32)> = (0..)
            .zip(weights)
            .filter(|(_, weight)| **weight > 0)
            .map(|(position, &weight)| (u64::from(weight), position))
            .collect();
        // The heaviest first: then a cut near the middle leaves no side with more than two thirds,
        // unless it is a single one's.
        sorted.sort_unstable_by(|a, b| b.cmp(a));
        let mut building = Building {
            forks: Vec::with_capacity(sorted.len()),
            phases: fastrand::Rng::with_seed(seed),
            most,
            range: 1.0,
        };
        let total = sorted.iter().map(|(weight, _)| weight).sum();
        let root = building.fork(&sorted, total, Lag::default())?;
        let range = building.range;
        for fork in &mut building.forks {
            let phase = 0.5 + (fork.phase as f64 / WHOLE - 0.5) * range;
            fork.phase = (phase * WHOLE) as u64;
        }
        Some(Self { forks: building.forks.into(), root })
    }

    /// The position whose turn it is.
    pub(crate) fn at(&self, turn: u64) -> usize {
        let (mut turn, mut next) = (turn, self.root);
        loop {
            match next {
                Next::End(position) => return position as usize,
                Next::Fork(index) => {
                    let fork = &self.forks[index as usize];
                    let place = u128::from(turn) * u128::from(fork.share) + u128::from(fork.phase);
                    let left = (place >> 64) as u64;
                    let (_, goes_left) = (place as u64).overflowing_add(fork.share);
                    turn = if goes_left { left } else { turn.wrapping_sub(left) };
                    next = fork.next[usize::from(goes_left)];
                }
            }
        }
    }
}

impl fmt::Debug for StrideSchedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StrideSchedule").field("forks", &self.forks.len()).finish_non_exhaustive()
    }
}

/// The most that somebody can lag behind, with every phase a half and with those drawn.
#[derive(Clone, Copy, Default)]
struct Lag {
    even: f64,
    drawn: f64,
}

impl Lag {
    fn below(self, share: f64, drawn: f64) -> Self {
        Self { even: self.even * share + 0.5, drawn: self.drawn * share + drawn }
    }
}

struct Building {
    forks: Vec<Fork>,
    phases: fastrand::Rng,
    most: f64,
    /// How much of the distance from one half the phases may keep.
    range: f64,
}

impl Building {
    /// Adds what is below. The depth is limited by the shares, which shrink by a third or more.
    fn fork(&mut self, sorted: &[(u64, u32)], total: u64, lag: Lag) -> Option<Next> {
        if let [(_, position)] = sorted {
            if lag.drawn > self.most {
                self.range = self.range.min((self.most - lag.even) / (lag.drawn - lag.even));
            }
            return Some(Next::End(*position));
        }
        let (cut, left) = middle(sorted, total)?;
        let phase = self.phases.u64(..);
        let share = (u128::from(left) << 64) / u128::from(total);
        let index = self.forks.len();
        let end = Next::End(0);
        self.forks.push(Fork { share: share as u64, phase, next: [end, end] });
        let (share, phase) = (left as f64 / total as f64, phase as f64 / WHOLE);
        let (lefts, rights) = sorted.split_at(cut);
        let to_left = self.fork(lefts, left, lag.below(share, 1.0 - phase))?;
        let to_right = self.fork(rights, total - left, lag.below(1.0 - share, phase))?;
        self.forks[index].next = [to_right, to_left];
        Some(Next::Fork(index as u32))
    }
}

/// Where to cut so that both sides weigh the same, as nearly as can be, and the left side's weight.
fn middle(sorted: &[(u64, u32)], total: u64) -> Option<(usize, u64)> {
    let mut left = 0;
    let cuts = sorted.iter().enumerate().take(sorted.len().saturating_sub(1));
    let cuts = cuts.map(|(index, (weight, _))| {
        left += weight;
        (index + 1, left)
    });
    cuts.min_by_key(|(_, left)| left.abs_diff(total - left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fork_deals_turns_as_the_formula_says() {
        let stride = StrideSchedule::new(&[3, 0, 1], 7).unwrap();
        let phase = stride.forks[0].phase as f64 / WHOLE;
        for turn in 0..1000 {
            let before = (f64::from(turn) * 0.75 + phase).floor();
            let after = (f64::from(turn + 1) * 0.75 + phase).floor();
            assert_eq!(stride.at(turn as u64), if after > before { 0 } else { 2 });
        }
    }

    #[test]
    fn a_whole_turn_of_the_wheel_gives_each_what_it_weighs() {
        // Any 2^k turns in a row, where shares are multiples of 2^-k at every fork.
        let weights = [8, 4, 2, 1, 1];
        for (seed, start) in [(1, 0), (2, 5), (3, u64::MAX / 3)] {
            let stride = StrideSchedule::new(&weights, seed).unwrap();
            let mut counts = [0; 5];
            (start..start + 16).for_each(|turn| counts[stride.at(turn)] += 1);
            assert_eq!(counts, weights);
        }
    }

    #[test]
    fn phases_keep_everybody_within_the_bound() {
        fn worst(stride: &StrideSchedule, next: Next, lag: f64) -> f64 {
            let Next::Fork(index) = next else { return lag };
            let fork = &stride.forks[index as usize];
            let (share, phase) = (fork.share as f64 / WHOLE, fork.phase as f64 / WHOLE);
            let left = worst(stride, fork.next[1], lag * share + 1.0 - phase);
            let right = worst(stride, fork.next[0], lag * (1.0 - share) + phase);
            left.max(right)
        }
        let mut narrowed = 0;
        for seed in 0..500 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let most = u32::MAX >> rng.u32(..31);
            let weights: Vec<_> = (0..rng.usize(2..200)).map(|_| rng.u32(1..=most)).collect();
            // Hard ones as well: each fork as uneven as can be.
            let thirds = (0..20).map(|k| 3u32.pow(k));
            for weights in [weights, thirds.collect()] {
                for most in [2.0, MOST] {
                    let stride = StrideSchedule::with_most(&weights, seed, most).unwrap();
                    let worst = worst(&stride, stride.root, 0.0);
                    assert!(worst <= most + 1e-9, "{worst} {weights:?}");
                    narrowed += u32::from(worst > most - 1e-6);
                }
            }
        }
        assert!(narrowed > 0, "the bound was never reached");
    }

    #[test]
    fn nobody_has_a_turn_where_nothing_weighs() {
        assert!(StrideSchedule::new(&[], 1).is_none());
        assert!(StrideSchedule::new(&[0, 0], 1).is_none());
        assert_eq!(StrideSchedule::new(&[0, 7, 0], 1).unwrap().at(u64::MAX), 1);
        let extremes = StrideSchedule::new(&[u32::MAX; 3], 1).unwrap();
        assert!((0..100).all(|back| extremes.at(u64::MAX - back) < 3));
    }
}
