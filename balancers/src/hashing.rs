//! What the balancers by key have in common: a table of endpoints, and the walk along it.

use fleetward_core::Error;
use fleetward_core::balancing::{PickContext, ReadySet};
use fleetward_core::registry::Options;

use crate::HashKey;
use crate::draws::Draws;
use crate::load::{LoadBound, Room};

/// Whose each entry of a table is. A key's hash leads to an entry; who cannot go there walks on to
/// the next.
#[derive(Debug)]
pub(crate) struct Owners {
    positions: Box<[u32]>,
    total_weight: u64,
}

impl Owners {
    /// `positions` holds nobody of weight 0.
    pub(crate) fn new(positions: Vec<u32>, endpoints: &ReadySet<'_>) -> Self {
        let weights = endpoints.iter().map(|member| u64::from(member.instance().weight()));
        Self { positions: positions.into(), total_weight: weights.sum() }
    }

    pub(crate) fn len(&self) -> usize {
        self.positions.len()
    }

    pub(crate) fn position(&self, entry: usize) -> Option<usize> {
        self.positions.get(entry).map(|&position| position as usize)
    }

    /// The entries from one on, once around. Not all of a big table: after some entries for each
    /// endpoint what is left is not worth the time.
    fn from(&self, entry: usize, endpoints: usize) -> impl Iterator<Item = usize> {
        let (before, after) = self.positions.split_at(entry.min(self.positions.len()));
        let walk = after.iter().chain(before).take(endpoints.saturating_mul(16));
        walk.map(|&position| position as usize)
    }
}

/// The key, and which endpoints are passed by.
#[derive(Debug)]
pub(crate) struct ByKey {
    key: HashKey,
    bound: Option<LoadBound>,
    draws: Draws,
}

impl ByKey {
    pub(crate) fn new(key: HashKey) -> Self {
        Self { key, bound: None, draws: Draws::default() }
    }

    pub(crate) fn set_load(&mut self, factor: f64) {
        self.bound = Some(LoadBound::new(factor));
    }

    pub(crate) fn set_seed(&mut self, seed: u64) {
        self.draws = Draws::with_seed(seed);
    }

    /// The hash of the call's key; of a call without one, any.
    pub(crate) fn hash(&self, context: &PickContext<'_>) -> u64 {
        self.key.hash(context).unwrap_or_else(|| self.draws.bits())
    }

    /// The endpoint at an entry, or the next one along the table that the call may go to and that
    /// has room.
    ///
    /// Where none has, the next one that it may go to; where it may go to none, the first.
    pub(crate) fn choose(
        &self,
        owners: &Owners,
        entry: usize,
        endpoints: &ReadySet<'_>,
        context: &PickContext<'_>,
    ) -> Option<usize> {
        let first = owners.position(entry)?;
        // The table is of this set, or it is nobody's.
        let member = endpoints.get(first)?;
        if self.bound.is_none() && !context.excludes(member) {
            return Some(first);
        }
        self.choose_along(owners, entry, first, endpoints, context)
    }

    /// As [`choose`](Self::choose) where more than the first has to be looked at, or how busy it is.
    fn choose_along(
        &self,
        owners: &Owners,
        entry: usize,
        first: usize,
        endpoints: &ReadySet<'_>,
        context: &PickContext<'_>,
    ) -> Option<usize> {
        let mut room = self.bound.map(|bound| Room::new(bound, endpoints, owners.total_weight));
        let mut has_room = |position| room.as_mut().is_none_or(|room| room.is_at(position));
        if !context.excludes(&endpoints[first]) && has_room(first) {
            return Some(first);
        }
        let walk = owners.from(entry, endpoints.len());
        let rest = (first..endpoints.len()).chain(0..first);
        let (mut last, mut crowded) = (None, None);
        for position in walk.chain(rest) {
            let Some(member) = endpoints.get(position) else { continue };
            // Neighbours are often the same; that is quickly seen.
            if last.replace(position) == Some(position)
                || member.instance().is_draining()
                || context.excludes(member)
            {
                continue;
            }
            if has_room(position) {
                return Some(position);
            }
            crowded.get_or_insert(position);
        }
        crowded.or(Some(first))
    }
}

/// The options that they have in common.
pub(crate) struct KeyOptions {
    pub(crate) key: HashKey,
    pub(crate) load: Option<f64>,
}

impl KeyOptions {
    pub(crate) fn take(options: &mut Options) -> Result<Self, Error> {
        let load = options.take_parsed::<f64>("load")?;
        if load.is_some_and(|load| !(1.0..=1000.0).contains(&load)) {
            let message = "the load is a factor from 1 to 1000, as in load=1.25";
            return Err(Error::invalid_input(message).with_context("option", "load"));
        }
        match options.take("header")? {
            Some(header) if !header.is_empty() => {
                Ok(Self { key: HashKey::attribute(header), load })
            }
            _ => Err(Error::invalid_input(
                "what calls are hashed by is missing; give header=, as in header=user-id",
            )),
        }
    }
}
