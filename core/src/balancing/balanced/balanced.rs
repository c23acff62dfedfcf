//! The choice of an endpoint for a call.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::Picked;
use super::choice::{Choice, Repeat, ToCall};
use super::wait::WaitForReady;
use crate::balancing::{Lookup, PickContext, choose_way};
use crate::context::{AttemptContext, CallContext};
use crate::endpoints::Endpoints;
use crate::endpoints::endpointer::BalancerId;
use crate::endpoints::{ByResult, InFlight, Member, OperationOf};
use crate::{Balancer, Endpointer};

/// A tower service over all endpoints of a service.
///
/// It is always ready, `Clone + Send + Sync`, and has no worker or queue between a call and its
/// endpoint: `call` picks from an immutable set by `&self` and drives the endpoint's service to
/// readiness inside the response future.
///
/// It takes requests that can [carry a context](crate::context::ContextCarrier), and sends them without it.
///
/// ```
/// # use std::sync::Arc;
/// # use fleetward_core::{Balanced, Balancer, DefaultEndpointer, Instance};
/// # use fleetward_core::balancing::{PickContext, ReadySet};
/// # use fleetward_core::discovery::FixedInstancer;
/// # #[derive(Debug)] struct First;
/// # impl Balancer for First { fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> { Some(0) } }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use fleetward_core::context::WithContext;
/// use tower::{ServiceExt, service_fn};
///
/// let list = FixedInstancer::new("greeter", [Instance::new("10.0.0.1:80")?]);
/// let endpointer = DefaultEndpointer::new(list, |instance: Arc<Instance>| async move {
///     let id = instance.id().to_string();
///     Ok::<_, fleetward_core::Error>(service_fn(move |name: &'static str| {
///         let answer = format!("{id} greets {name}");
///         async move { Ok::<_, fleetward_core::Error>(answer) }
///     }))
/// });
/// let balanced = Balanced::new(endpointer, First);
/// let answer = balanced.oneshot(WithContext::from("you")).await?;
/// assert_eq!(answer, "10.0.0.1:80 greets you");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Balanced<S, O = ByResult> {
    shared: Arc<Parts<S, O>>,
    wait: WaitForReady,
}

/// What the clones have in common.
struct Parts<S, O> {
    endpoints: Endpoints<S>,
    balancer: Arc<dyn Balancer>,
    /// Under which the endpointer has its sets prepared for this balancer.
    id: BalancerId,
    observer: O,
    lookup: Option<Lookup>,
    operation: Option<OperationOf>,
}

impl<S> Balanced<S> {
    /// Sends each request to the endpoint that `balancer` picks.
    pub fn new(endpointer: impl Endpointer<S>, balancer: impl Balancer + 'static) -> Self {
        BalancedBuilder::default().build(endpointer, balancer)
    }
}

/// On one type only, so that `Balanced::builder()` needs no type annotation.
impl Balanced<()> {
    /// With other than the default settings.
    pub fn builder() -> BalancedBuilder {
        BalancedBuilder::default()
    }
}

/// Settings of a [`Balanced`].
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct BalancedBuilder<O = ByResult> {
    lookup: Option<Lookup>,
    operation: Option<OperationOf>,
    observer: O,
}

impl<O> BalancedBuilder<O> {
    /// Lets balancers look into a request by name ([`PickContext::attribute`]).
    pub fn lookup(mut self, lookup: Lookup) -> Self {
        self.lookup = Some(lookup);
        self
    }

    /// Says what a request asks for, so that errors that may be the caller's fault
    /// ([`Outcome::Refused`](crate::endpoints::Outcome::Refused)) are weighed by what was asked (default: all
    /// requests ask for the same).
    pub fn operation(mut self, operation: OperationOf) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Sets who judges how calls went (default: [`ByResult`]).
    pub fn observer<P>(self, observer: P) -> BalancedBuilder<P> {
        BalancedBuilder { lookup: self.lookup, operation: self.operation, observer }
    }

    /// Sends each request to the endpoint that `balancer` picks.
    pub fn build<S>(
        self,
        endpointer: impl Endpointer<S>,
        balancer: impl Balancer + 'static,
    ) -> Balanced<S, O> {
        let balancer: Arc<dyn Balancer> = Arc::new(balancer);
        let endpoints = endpointer.endpoints().clone();
        let id = endpoints.attach(&balancer);
        let Self { lookup, operation, observer } = self;
        let shared = Parts { endpoints, balancer, id, observer, lookup, operation };
        Balanced { shared: Arc::new(shared), wait: WaitForReady::default() }
    }
}

impl<S, O> Balanced<S, O> {
    /// Sets what a call does that finds no endpoint ready (default: wait 3 s at most).
    #[must_use]
    pub fn wait_for_ready(mut self, wait: WaitForReady) -> Self {
        self.wait = wait;
        self
    }

    pub(super) fn wait(&self) -> WaitForReady {
        self.wait
    }

    pub(super) fn observer(&self) -> &O {
        &self.shared.observer
    }

    /// The endpoints.
    pub fn endpoints(&self) -> &Endpoints<S> {
        &self.shared.endpoints
    }
}

impl<S: Clone, O> Balanced<S, O> {
    /// Picks an endpoint for `request` from the set as it is now.
    ///
    /// `None` if none is ready. Lock-free, and allocates nothing.
    pub fn pick<Req: 'static>(&self, request: &Req) -> Option<Picked<S>> {
        let choice = self.choose(None, request, Repeat::Yes, |member, service, in_flight| {
            let (service, instance) = (service.clone(), member.instance().clone());
            Picked { service, instance, in_flight }
        });
        match choice {
            Choice::Picked(picked) => Some(picked),
            Choice::Nothing | Choice::Tried => None,
        }
    }

    pub(super) fn choose_to_call<R: 'static>(
        &self,
        context: Option<&CallContext>,
        request: &R,
        repeat: Repeat,
    ) -> Choice<ToCall<S>> {
        self.choose(context, request, repeat, |_, service, in_flight| (service.clone(), in_flight))
    }

    /// Picks, and takes what is wanted of the endpoint along with the call's guard.
    fn choose<R: 'static, T>(
        &self,
        call: Option<&CallContext>,
        request: &R,
        repeat: Repeat,
        take: impl FnOnce(&Member, &S, InFlight) -> T,
    ) -> Choice<T> {
        let Parts { endpoints, balancer, id, lookup, operation, .. } = &*self.shared;
        let set = endpoints.load();
        let attempt = call.map(CallContext::attempt);
        let now = attempt.map_or_else(Instant::now, AttemptContext::now);
        let earlier = attempt.and_then(|attempt| attempt.earlier());
        let (number, tried) =
            earlier.map_or((0, &[][..]), |earlier| (earlier.number, &earlier.tried));
        let mut context = PickContext::new()
            .with_request(request)
            .with_sorted_attempt(number, tried)
            .with_now(now);
        if let Some(lookup) = lookup {
            context = context.with_lookup(*lookup);
        }
        let operation = operation.map(|operation| operation(request)).unwrap_or_default();
        context = context.with_operation(operation);
        let chosen = choose_way(&**balancer, &set.ready_for(*id), &context);
        let chosen =
            chosen.and_then(|(at, way)| Some((set.ready().get(at)?, set.service(at)?, way)));
        let Some((member, service, way)) = chosen else {
            if let Some(attempt) = attempt {
                attempt.waits();
            }
            return Choice::Nothing;
        };
        if let Some(attempt) = attempt {
            if number > 0
                && context.has_tried(member.instance().id())
                && let Some(mut again) = attempt.again()
            {
                // The first time it goes there at once.
                if repeat == Repeat::No && again.rounds > 0 {
                    attempt.waits();
                    return Choice::Tried;
                }
                again.rounds += 1;
                attempt.set_again(again);
            }
            attempt.goes_to(member.state(), now);
        }
        Choice::Picked(take(member, service, member.begin_by(operation, way, now)))
    }
}

impl<S, O> Clone for Balanced<S, O> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), wait: self.wait }
    }
}

impl<S, O> fmt::Debug for Balanced<S, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balanced")
            .field("endpoints", &self.shared.endpoints)
            .field("balancer", &self.shared.balancer)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}
