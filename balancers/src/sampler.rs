//! A few endpoints at random, and the least loaded of them.
//!
//! Two random choices are nearly as good as looking at all, and they do not make all callers run to
//! the same endpoint (Mitzenmacher, "The Power of Two Choices in Randomized Load Balancing", 2001).
//!
//! Where weights differ, choices are drawn in proportion to weight from an alias table,
//! one step whatever the skew, and then they need not be different: an endpoint with nearly all the
//! weight has to meet itself, or the few others get far more than their share.

use fleetward_core::balancing::{PickContext, ReadySet};
use fleetward_core::endpoints::Member;

use crate::alias::AliasTable;
use crate::draws::Draws;

/// More choices than this are no longer a sample.
pub(crate) const MAX_CHOICES: usize = 10;

/// How to draw from one set of endpoints.
#[derive(Debug)]
pub(crate) struct Sampler {
    len: usize,
    weights: Weights,
}

#[derive(Debug)]
enum Weights {
    /// All the same.
    Even,
    Uneven {
        table: AliasTable,
        /// By position: the mean weight divided by its weight.
        inverse: Box<[f32]>,
    },
    /// All of them zero.
    Zero,
}

impl Sampler {
    pub(crate) fn new(endpoints: &ReadySet<'_>) -> Self {
        let weights = match endpoints.even_weight() {
            Some(0) => Weights::Zero,
            Some(_) => Weights::Even,
            None if endpoints.is_empty() => Weights::Zero,
            None => Weights::uneven(endpoints.members()),
        };
        Self { len: endpoints.len(), weights }
    }

    /// Finds the sampler that was prepared for this set, or makes one for this pick, and has it pick
    /// the least loaded of some choices; see [`least_of`](Self::least_of).
    pub(crate) fn pick(
        endpoints: &ReadySet<'_>,
        choices: usize,
        draws: &Draws,
        context: &PickContext<'_>,
        load: impl Fn(&Member, f32) -> f32,
    ) -> Option<usize> {
        match endpoints.prepared::<Self>() {
            Some(sampler) if sampler.len == endpoints.len() => {
                sampler.least_of(endpoints.members(), choices, draws, context, load)
            }
            _ => Self::new(endpoints).least_of(endpoints.members(), choices, draws, context, load),
        }
    }

    /// The least loaded of `choices` members, drawn in proportion to weight; of equal ones the one
    /// drawn first. `load` is given the member and the mean weight divided by its weight, which is 1
    /// where all are the same. With 0 choices: the least loaded of all, of equal ones any.
    ///
    /// A member that the call must not go to is taken only if every choice is such.
    fn least_of(
        &self,
        members: &[Member],
        choices: usize,
        draws: &Draws,
        context: &PickContext<'_>,
        load: impl Fn(&Member, f32) -> f32,
    ) -> Option<usize> {
        let load = |at: usize| {
            let member = &members[at];
            if context.excludes(member) {
                return f32::INFINITY;
            }
            load(member, self.inverse_weight(at))
        };
        let n = members.len();
        match &self.weights {
            Weights::Zero => None,
            _ if n == 1 => Some(0),
            _ if choices == 2 => {
                let (first, second) = match &self.weights {
                    Weights::Uneven { table, .. } => {
                        (table.at(draws.bits())?, table.at(draws.bits())?)
                    }
                    Weights::Even | Weights::Zero => pair(draws.bits(), n),
                };
                let loads = (load(first), load(second));
                if loads.0 == f32::INFINITY && loads.1 == f32::INFINITY {
                    return self.least_of_some(choices, draws, load);
                }
                Some(if loads.1 < loads.0 { second } else { first })
            }
            _ if choices == 0 || self.is_even() && choices >= n => {
                least_of_all((0..n).filter(|&at| self.can_take(at)), draws, load)
            }
            _ => self.least_of_some(choices, draws, load),
        }
    }

    fn least_of_some(
        &self,
        choices: usize,
        draws: &Draws,
        load: impl Fn(usize) -> f32,
    ) -> Option<usize> {
        let mut seen = [0; MAX_CHOICES];
        let (mut count, mut best, mut least) = (0, None, f32::INFINITY);
        // Some tries more, for those that are drawn twice or that the call must not go to.
        for _ in 0..4 * choices {
            let at = self.draw(draws)?;
            if self.is_even() {
                if seen[..count].contains(&at) {
                    continue;
                }
                seen[count] = at;
            }
            count += 1;
            let load = load(at);
            if best.is_none() || load < least {
                (best, least) = (Some(at), load);
            }
            if count == choices {
                if least < f32::INFINITY {
                    break;
                }
                count -= 1;
            }
        }
        best
    }

    fn draw(&self, draws: &Draws) -> Option<usize> {
        match &self.weights {
            Weights::Uneven { table, .. } => table.at(draws.bits()),
            Weights::Even | Weights::Zero => Some(scale(draws.bits() >> 32, self.len)),
        }
    }

    fn inverse_weight(&self, at: usize) -> f32 {
        match &self.weights {
            Weights::Uneven { inverse, .. } => inverse[at],
            Weights::Even | Weights::Zero => 1.0,
        }
    }

    fn is_even(&self) -> bool {
        matches!(self.weights, Weights::Even)
    }

    fn can_take(&self, at: usize) -> bool {
        self.inverse_weight(at).is_finite()
    }
}

impl Weights {
    fn uneven(members: &[Member]) -> Self {
        let weights: Vec<u32> = members.iter().map(|member| member.instance().weight()).collect();
        let total: f32 = weights.iter().map(|&weight| weight as f32).sum();
        let mean = total / weights.len() as f32;
        let inverse = weights.iter().map(|&weight| mean / weight as f32).collect();
        Self::Uneven { table: AliasTable::new(&weights), inverse }
    }
}

/// The least loaded, and of equal ones any with the same chance.
fn least_of_all(
    positions: impl Iterator<Item = usize>,
    draws: &Draws,
    load: impl Fn(usize) -> f32,
) -> Option<usize> {
    let (mut best, mut least, mut equal) = (None, f32::INFINITY, 0);
    for at in positions {
        let load = load(at);
        if best.is_none() || load < least {
            (best, least, equal) = (Some(at), load, 1);
        } else if load == least {
            equal += 1;
            if draws.below(equal) == 0 {
                best = Some(at);
            }
        }
    }
    best
}

/// Two different positions below `n`, which is at least 2, each pair with the same chance.
fn pair(bits: u64, n: usize) -> (usize, usize) {
    let first = scale(bits >> 32, n);
    let second = scale(bits & 0xffff_ffff, n - 1);
    (first, second + usize::from(second >= first))
}

/// Brings 32 random bits into `0..n`. Sets are far smaller than 2^32, so no position is noticeably
/// preferred.
fn scale(bits: u64, n: usize) -> usize {
    ((bits * n as u64) >> 32) as usize
}
