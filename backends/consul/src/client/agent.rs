//! What this process knows of one agent, and shares among all who ask it.
//!
//! An agent counts connections by the client's address, whoever in a program opens them. So all
//! handles of one agent share its lanes, however many registries were connected to.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::cuts::Cuts;
use super::lane::Lane;
use super::room::Room;
use super::silence::Pulse;
use super::wire::Wire;

pub(super) struct Agent {
    /// For lists and watches.
    pub(super) queries: Arc<Lane<Wire>>,
    /// For registrations and signs of life, which no number of watches may keep from the agent.
    pub(super) kept: Arc<Lane<Wire>>,
    pub(super) pulse: Pulse,
    pub(super) cuts: Cuts,
    survey: Mutex<Instant>,
}

/// By its URL. A list: a process knows few agents.
static AGENTS: Mutex<Vec<(String, Weak<Agent>)>> = Mutex::new(Vec::new());

impl Agent {
    /// The one that this process shares, for as long as somebody uses it.
    pub(super) fn of(url: &str) -> Arc<Self> {
        let mut agents = AGENTS.lock().unwrap_or_else(PoisonError::into_inner);
        agents.retain(|(_, agent)| agent.strong_count() > 0);
        let known = agents.iter().find(|(known, _)| known == url);
        if let Some(agent) = known.and_then(|(_, agent)| agent.upgrade()) {
            return agent;
        }
        let agent = Arc::new(Self {
            queries: Lane::new(Room::of(MOST_QUERIES)),
            kept: Lane::new(Room::of(MOST_KEPT)),
            pulse: Pulse::default(),
            cuts: Cuts::default(),
            survey: Mutex::new(Instant::now()),
        });
        agents.push((url.to_owned(), Arc::downgrade(&agent)));
        agent
    }

    /// Closes the idle connections: one that hangs has company.
    pub(super) fn close_idle(&self) {
        self.queries.close_idle();
        self.kept.close_idle();
    }

    /// Ends when it is time to look whether the agent has room for more connections, for one of
    /// those who wait for this. Where there is only one connection nobody needs to know.
    pub(super) async fn survey_is_due(&self) {
        loop {
            let due = *self.due();
            tokio::time::sleep_until(due).await;
            let mut next = self.due();
            if *next > due {
                continue;
            }
            *next = Instant::now() + SURVEY.mul_f64(0.75 + 0.5 * fastrand::f64());
            drop(next);
            if self.queries.open() > 1 || self.queries.is_shrunk() {
                return;
            }
        }
    }

    fn due(&self) -> std::sync::MutexGuard<'_, Instant> {
        // Nothing in here panics half way.
        self.survey.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An agent allows 200 connections by default: three such programs have room for all they may
/// open, and more of them share what there is.
const MOST_QUERIES: usize = 60;
const MOST_KEPT: usize = 4;
/// The time from one look to the next.
const SURVEY: Duration = Duration::from_secs(4);
