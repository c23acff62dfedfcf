//! What the detector remembers of one instance.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::MovingSuccessRate;
use crate::endpoints::endpoint::{Admission, EndpointState, Window};

pub(super) struct Host {
    pub(super) state: Arc<EndpointState>,
    /// The outcomes of the current interval.
    pub(super) window: Window,
    moving: Moving,
    /// How often it was ejected lately: one less for each interval in which it behaved.
    pub(super) ejections: u32,
    pub(super) ejected_until: Option<Instant>,
    /// When the call that tries it has had its time.
    probed_until: Option<Instant>,
}

/// The success rate of late, and how much it is based on.
struct Moving {
    rate: f64,
    requests: f64,
}

impl Host {
    pub(super) fn new(state: Arc<EndpointState>) -> Self {
        Self {
            state,
            window: Window::default(),
            moving: Moving { rate: 1.0, requests: 0.0 },
            ejections: 0,
            ejected_until: None,
            probed_until: None,
        }
    }

    pub(super) fn is_ejected(&self) -> bool {
        self.ejected_until.is_some()
    }

    /// Takes in the outcomes since the last time, which was `elapsed` ago.
    pub(super) fn collect(&mut self, elapsed: Duration, rule: Option<&MovingSuccessRate>) {
        let window = self.state.outcomes.take();
        self.window.successes = self.window.successes.saturating_add(window.successes);
        self.window.failures = self.window.failures.saturating_add(window.failures);
        let Some(rule) = rule else { return };
        let old = (-elapsed.as_secs_f64() / rule.window.as_secs_f64().max(1e-3)).exp();
        self.moving.requests = self.moving.requests * old + f64::from(window.total());
        if let Some(rate) = window.success_rate() {
            self.moving.rate = self.moving.rate * old + rate * (1.0 - old);
        }
    }

    pub(super) fn fails_often(&self, rule: &MovingSuccessRate) -> bool {
        self.moving.requests >= f64::from(rule.min_requests) && self.moving.rate < rule.threshold
    }

    pub(super) fn eject(&mut self, until: Instant) {
        self.ejections = self.ejections.saturating_add(1);
        self.ejected_until = Some(until);
        self.state.set_admission(Admission::Ejected);
    }

    /// Lets one call try it, unburdened by what was.
    pub(super) fn offer(&mut self) {
        self.moving = Moving { rate: 1.0, requests: 0.0 };
        self.window = Window::default();
        self.state.forget();
        self.state.set_admission(Admission::Probe);
        self.probed_until = None;
    }

    /// The call that tries it is under way: no longer than `patience`, then another one may.
    pub(super) fn await_probe(&mut self, now: Instant, patience: Duration) {
        let until = *self.probed_until.get_or_insert(now + patience);
        if now >= until {
            self.state.offer_again();
            self.probed_until = None;
        }
    }
}
