//! The least busy of a few, or of all.

use fleetward_core::balancing::{PickContext, Prepared, ReadySet};
use fleetward_core::endpoints::Member;
use fleetward_core::registry::Options;
use fleetward_core::{Balancer, Error};

use crate::draws::Draws;
use crate::sampler::{MAX_CHOICES, Sampler};

/// Of some endpoints at random, or of all, the one with the fewest calls under way.
///
/// With two choices and equal weights it is [`P2c`](crate::P2c). More choices even the load out
/// further, up to a full scan, which is best for a single client with few, long calls; many clients
/// that all scan run to the same endpoint at once.
///
/// Where weights differ, choices are drawn in proportion to weight, and the one with the greatest
/// `weight / (calls under way + 1)^bias` is taken, as Envoy weighs them. A `bias` above 1 flees busy
/// endpoints the more; 0 looks at weights alone. So heavy endpoints get more than their share while
/// few calls are under way, which is right if weight is capacity; where it is to be a share at any
/// time, use [`P2c`](crate::P2c).
///
/// ```
/// use fleetward_balancers::LeastRequest;
/// use fleetward_core::{Balancer, Instance};
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::endpoints::Member;
/// let members: Vec<_> = (1..=5)
///     .map(|i| Member::detached(Instance::new(format!("10.0.0.{i}:80")).unwrap()))
///     .collect();
/// let _under_way: Vec<_> = [0, 1, 3, 4].map(|at| members[at].begin()).into();
/// let balancer = LeastRequest::new().with_full_scan();
/// assert_eq!(balancer.pick(&ReadySet::new(&members), &PickContext::new()), Some(2));
/// ```
///
/// Sources: [gRFC A48](https://github.com/grpc/proposal/blob/master/A48-xds-least-request-lb-policy.md)
/// (`choiceCount` 2 to 10), Envoy's `least_request` (`choice_count`, `active_request_bias`,
/// `FULL_SCAN`).
#[derive(Debug)]
pub struct LeastRequest {
    draws: Draws,
    /// 0: all.
    choices: usize,
    bias: f32,
}

impl LeastRequest {
    /// Two choices, bias 1.
    pub fn new() -> Self {
        Self { draws: Draws::default(), choices: 2, bias: 1.0 }
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

    /// Looks at all endpoints; of equal ones it takes any. A pick then takes time in proportion to
    /// their number.
    #[must_use]
    pub fn with_full_scan(mut self) -> Self {
        self.choices = 0;
        self
    }

    /// Sets how much calls under way count where weights differ (default 1; what is negative or not
    /// a number counts as 0).
    #[must_use]
    pub fn with_bias(mut self, bias: f32) -> Self {
        self.bias = if bias > 0.0 { bias.min(f32::MAX) } else { 0.0 };
        self
    }

    /// From `choices` (`all`, 0 or 2 to 10) and `bias`.
    pub(crate) fn from_options(options: &mut Options) -> Result<Self, Error> {
        let mut balancer = Self::new();
        match options.take("choices")?.as_deref().map(|text| (text, text.parse())) {
            None => {}
            Some(("all", _) | (_, Ok(0))) => balancer = balancer.with_full_scan(),
            Some((_, Ok(choices @ 2..=MAX_CHOICES))) => balancer = balancer.with_choices(choices),
            Some(_) => {
                return Err(Error::invalid_input("the option is `all` or 2 to 10")
                    .with_context("option", "choices"));
            }
        }
        match options.take_parsed::<f32>("bias")? {
            None => {}
            Some(bias) if bias >= 0.0 && bias.is_finite() => balancer = balancer.with_bias(bias),
            Some(_) => {
                return Err(Error::invalid_input("the option is a number from 0 on")
                    .with_context("option", "bias"));
            }
        }
        Ok(balancer)
    }
}

impl Default for LeastRequest {
    fn default() -> Self {
        Self::new()
    }
}

impl Balancer for LeastRequest {
    fn pick(&self, endpoints: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        let bias = self.bias;
        // Envoy's dynamic weight, turned upside down: the least is taken.
        let load = |member: &Member, inverse_weight: f32| {
            let active = member.in_flight() as f32 + 1.0;
            inverse_weight * if bias == 1.0 { active } else { active.powf(bias) }
        };
        Sampler::pick(endpoints, self.choices, &self.draws, context, load)
    }

    fn prepare(&self, endpoints: &ReadySet<'_>) -> Option<Prepared> {
        Some(Box::new(Sampler::new(endpoints)))
    }
}
