//! The tower service that sends each request to an endpoint of its balancer's choice.

mod future;
mod pick;
mod waiting;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;
use tower_service::Service;

pub use self::future::BalancedFuture;
pub use self::pick::Picked;
use self::waiting::Repeat;

use crate::balancing::{Lookup, PickContext, choose_way};
use crate::context::{Attempt, CallContext, ContextCarrier};
use crate::endpoints::Endpoints;
use crate::endpoints::endpointer::BalancerId;
use crate::endpoints::{ByResult, InFlight, Member, Observer, OperationOf};
use crate::{Balancer, BoxError, Endpointer};

/// All that a call needs of the endpoint picked.
type ToCall<S> = (S, InFlight);

/// Where a call goes.
enum Choice<T> {
    Picked(T),
    /// No endpoint is ready, or the balancer chose none.
    Nothing,
    /// To one that was tried before. The attempt before this one came back unsent, so it is not worth
    /// trying again at once.
    Tried,
}

/// What a call does that finds no endpoint ready, or none that takes it: where a
/// [`Retry`](crate::Retry) is above, all attempts together that were not sent wait so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WaitForReady {
    /// Fail at once.
    FailFast,
    /// Wait for the first one, at most this long. The caller's own deadline may end it sooner:
    /// dropping the call's future is all it takes.
    AtMost(Duration),
}

impl Default for WaitForReady {
    fn default() -> Self {
        Self::AtMost(Duration::from_secs(3))
    }
}

/// A tower service over all endpoints of a service.
///
/// It is always ready, `Clone + Send + Sync`, and has no worker or queue between a call and its
/// endpoint: `call` picks from an immutable set by `&self` and drives the endpoint's service to
/// readiness inside the response future.
///
/// It takes requests that can [carry a context](ContextCarrier), and sends them without it.
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
    shared: Arc<Shared<S, O>>,
    wait: WaitForReady,
}

struct Shared<S, O> {
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
        let shared = Shared { endpoints, balancer, id, observer, lookup, operation };
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

    fn choose_to_call<R: 'static>(
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
        let Shared { endpoints, balancer, id, lookup, operation, .. } = &*self.shared;
        let set = endpoints.load();
        let attempt = call.map(CallContext::attempt);
        let now = attempt.map_or_else(Instant::now, Attempt::now);
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

impl<S, O, Req> Service<Req> for Balanced<S, O>
where
    S: Service<Req::Request> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    O: Observer<S::Response> + 'static,
    Req: ContextCarrier<Request: Send + 'static>,
{
    type Response = O::Observed;
    type Error = BoxError;
    type Future = BalancedFuture<S, O, Req::Request>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let (request, context) = request.into_parts();
        let choice = self.choose_to_call(context.as_ref(), &request, Repeat::No);
        BalancedFuture::new(self, choice, context, request)
    }
}
