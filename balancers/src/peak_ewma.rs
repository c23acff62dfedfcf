//! The one of two that will probably answer first.

use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::registry::Options;
use fleetward_core::{Balancer, Error};

use crate::draws::Draws;
use crate::sampler::{MAX_CHOICES, Sampler};

/// Of two endpoints at random, the one with the lower latency times calls under way.
///
/// The default to choose when instances may turn slow or fail: a slow answer is believed at once, a
/// failure counts as 5 s, and both fade with time, so that the endpoint is tried again (see
/// [`FeedbackConfig`](fleetward_core::endpoints::FeedbackConfig), where both are set). It needs no
/// configuration, and no endpoint's word: only what this process has measured.
///
/// The load is `latency * (calls under way + 1)`. Where weights differ, the two are drawn in
/// proportion to weight, and calls under way count per unit of weight: shares follow weights in a busy fleet,
/// and are up to a tenth of all calls more even in a quiet one, where the endpoint wins whose last
/// answer is longer ago. An endpoint without history has no load: it is
/// tried now. Once it has its first call under way and nothing has come back, it counts as worse
/// than any that has answered, so that a new endpoint that hangs gets one call and not a thousand.
///
/// ```
/// use std::time::Duration;
/// use fleetward_balancers::PeakEwma;
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::endpoints::{Member, Outcome};
/// use tokio::time::Instant;
/// let members = ["10.0.0.1:80", "10.0.0.2:80"]
///     .map(|address| Member::detached(Instance::new(address).unwrap()));
/// let start = Instant::now();
/// for (member, millis) in members.iter().zip([100, 10]) {
///     let answered = start + Duration::from_millis(millis);
///     member.begin_at(start).finish_at(Outcome::Success, answered);
/// }
/// let context = PickContext::new().with_now(start + Duration::from_secs(1));
/// assert_eq!(PeakEwma::new().pick(&ReadySet::new(&members), &context), Some(1));
/// ```
///
/// Source: Twitter's [Finagle](https://twitter.github.io/finagle/guide/Clients.html), Peak EWMA.
#[derive(Debug)]
pub struct PeakEwma {
    draws: Draws,
    choices: usize,
}

/// What a call counts that is under way at an endpoint that has never answered: a latency in seconds
/// that no call reaches.
const UNKNOWN: f32 = 1e9;

impl PeakEwma {
    /// Two choices.
    pub fn new() -> Self {
        Self { draws: Draws::default(), choices: 2 }
    }

    /// Draws the same sequence for the same seed, shared by all threads.
    pub fn with_seed(seed: u64) -> Self {
        Self { draws: Draws::with_seed(seed), ..Self::new() }
    }

    /// Sets how many endpoints to look at (2 to 10; clamped to that range).
    #[must_use]
    pub fn with_choices(mut self, choices: usize) -> Self {
        self.choices = choices.clamp(2, MAX_CHOICES);
        self
    }

    /// From `choices` (2 to 10).
    pub(crate) fn from_options(options: &mut Options) -> Result<Self, Error> {
        match options.take_parsed("choices")? {
            None => Ok(Self::new()),
            Some(choices @ 2..=MAX_CHOICES) => Ok(Self::new().with_choices(choices)),
            Some(_) => {
                Err(Error::invalid_input("the option is 2 to 10").with_context("option", "choices"))
            }
        }
    }
}

impl Default for PeakEwma {
    fn default() -> Self {
        Self::new()
    }
}

impl Balancer for PeakEwma {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        let now = context.now();
        Sampler::pick(endpoints, self.choices, &self.draws, context, |member, inverse_weight| {
            let pending = member.in_flight() as f32;
            match member.latency(now) {
                Some(latency) => latency * (pending * inverse_weight + 1.0),
                None => UNKNOWN * pending * inverse_weight,
            }
        })
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        Some(Box::new(Sampler::new(endpoints)))
    }
}
