//! What was registered at an agent that then could not be reached, and what an operator has set.
//!
//! An instance that moves to another agent leaves its old registration behind: an agent that comes
//! back with its data has it still. Both have the same instance id, so nobody sees two; but the
//! old one would outlive a deregistration, so it is removed once its agent is back.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// By the service's id.
#[derive(Debug, Default)]
pub(crate) struct Leftovers {
    known: Mutex<HashMap<String, Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Where it stands, or may stand, the present place last.
    places: Vec<Leftover>,
    /// Attempts that were not answered: they may yet arrive, after a later one did.
    doubted: Vec<String>,
    /// Why an operator has put it into maintenance.
    maintenance: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct Leftover {
    pub(super) agent: usize,
    pub(super) nonce: String,
}

impl Leftovers {
    /// An agent has one registration an id, so there are never more than there are agents.
    pub(super) fn moved_to(&self, id: &str, agent: usize, nonce: &str) {
        let mut known = self.lock();
        let places = &mut known.entry(id.to_owned()).or_default().places;
        places.retain(|place| place.agent != agent);
        places.push(Leftover { agent, nonce: nonce.to_owned() });
    }

    /// All but the present place.
    pub(super) fn of(&self, id: &str) -> Vec<Leftover> {
        let known = self.lock();
        let places = known.get(id).map_or(&[][..], |known| &known.places);
        places.split_last().map(|(_, left)| left.to_vec()).unwrap_or_default()
    }

    pub(super) fn cleared(&self, id: &str, agent: usize) {
        if let Some(known) = self.lock().get_mut(id) {
            known.places.retain(|place| place.agent != agent);
        }
    }

    pub(super) fn doubt(&self, id: &str, nonce: &str) {
        let mut known = self.lock();
        let doubted = &mut known.entry(id.to_owned()).or_default().doubted;
        if doubted.len() == MAX_DOUBTED {
            doubted.remove(0);
        }
        doubted.push(nonce.to_owned());
    }

    pub(super) fn trust(&self, id: &str, nonce: &str) {
        if let Some(known) = self.lock().get_mut(id) {
            known.doubted.retain(|doubted| doubted != nonce);
        }
    }

    pub(super) fn is_doubted(&self, id: &str, nonce: &str) -> bool {
        self.lock().get(id).is_some_and(|known| known.doubted.iter().any(|one| one == nonce))
    }

    /// What the present place says of maintenance.
    pub(super) fn set_maintenance(&self, id: &str, reason: Option<String>) {
        let mut known = self.lock();
        if reason.is_some() || known.contains_key(id) {
            known.entry(id.to_owned()).or_default().maintenance = reason;
        }
    }

    /// Why it was in maintenance when its place was last looked at.
    pub(super) fn maintenance(&self, id: &str) -> Option<String> {
        self.lock().get(id)?.maintenance.clone()
    }

    pub(super) fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        // Nothing in here panics half way.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An attempt that is not answered within that many others does not arrive any more.
const MAX_DOUBTED: usize = 16;
