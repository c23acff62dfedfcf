//! The tower service that sends each request to an endpoint of its balancer's choice.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::future::BoxFuture;
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    Balancer, BoxError, EndpointSet, Endpointer, InFlight, Instance, PickContext, ReadySet, attempt,
};

/// What a call does that finds no endpoint ready.
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
/// ```
/// # use std::sync::Arc;
/// # use fleetward_core::{Balanced, Balancer, Endpointer, FixedInstancer, Instance, PickContext, ReadySet};
/// # #[derive(Debug)] struct First;
/// # impl Balancer for First { fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> { Some(0) } }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use tower::{ServiceExt, service_fn};
///
/// let list = FixedInstancer::new("greeter", [Instance::new("10.0.0.1:80")?]);
/// let endpointer = Endpointer::new(list, |instance: Arc<Instance>| async move {
///     let id = instance.id().to_string();
///     Ok::<_, fleetward_core::Error>(service_fn(move |name: &'static str| {
///         let answer = format!("{id} greets {name}");
///         async move { Ok::<_, fleetward_core::Error>(answer) }
///     }))
/// });
/// let answer = Balanced::new(endpointer, First).oneshot("you").await?;
/// assert_eq!(answer, "10.0.0.1:80 greets you");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
pub struct Balanced<S> {
    endpointer: Endpointer<S>,
    balancer: Arc<dyn Balancer>,
    wait: WaitForReady,
}

impl<S> Balanced<S> {
    /// Sends each request to the endpoint that `balancer` picks.
    pub fn new(endpointer: Endpointer<S>, balancer: impl Balancer + 'static) -> Self {
        Self { endpointer, balancer: Arc::new(balancer), wait: WaitForReady::default() }
    }

    /// Sets what a call does that finds no endpoint ready (default: wait 3 s at most).
    #[must_use]
    pub fn wait_for_ready(mut self, wait: WaitForReady) -> Self {
        self.wait = wait;
        self
    }

    /// The endpoints.
    pub fn endpointer(&self) -> &Endpointer<S> {
        &self.endpointer
    }
}

impl<S: Clone> Balanced<S> {
    /// Picks an endpoint for `request` from the set as it is now.
    ///
    /// `None` if none is ready. Lock-free, and allocates nothing unless earlier attempts of this
    /// call are to be left out and the balancer keeps choosing them.
    pub fn pick<Req: 'static>(&self, request: &Req) -> Option<Picked<S>> {
        let set = self.endpointer.load();
        let context = PickContext::new().with_request(request).with_attempt(attempt::number());
        let position = pick_untried(&*self.balancer, set.ready(), &context);
        let picked = position.and_then(|position| picked_at(&set, position));
        attempt::picked(picked.as_ref().map(|picked| picked.instance.id()));
        picked
    }
}

/// The endpoint chosen for one call.
#[derive(Debug)]
pub struct Picked<S> {
    /// Its service.
    pub service: S,
    /// The instance.
    pub instance: Arc<Instance>,
    /// Counts the call as under way.
    pub in_flight: InFlight,
}

fn picked_at<S: Clone>(set: &EndpointSet<S>, position: usize) -> Option<Picked<S>> {
    let member = set.ready().get(position)?;
    let service = set.service(position)?.clone();
    Some(Picked { service, instance: member.instance().clone(), in_flight: member.begin() })
}

/// Asks the balancer, and again while it answers with an instance that this call has tried.
///
/// Most balancers move on by themselves within a few picks; for one that does not, what is left is
/// offered alone. Where everything has been tried, trying again is better than failing.
fn pick_untried(
    balancer: &dyn Balancer,
    ready: ReadySet<'_>,
    context: &PickContext<'_>,
) -> Option<usize> {
    const PICKS: usize = 4;
    if ready.is_empty() {
        return None;
    }
    let pick = |set: ReadySet<'_>| balancer.pick(&set, context).filter(|&at| at < set.len());
    if attempt::tried_len() == 0 {
        return pick(ready);
    }
    for _ in 0..PICKS {
        let at = pick(ready)?;
        if !attempt::is_tried(ready[at].instance().id()) {
            return Some(at);
        }
    }
    let untried: Vec<usize> =
        (0..ready.len()).filter(|&at| !attempt::is_tried(ready[at].instance().id())).collect();
    if untried.is_empty() {
        return pick(ready);
    }
    let members: Vec<_> = untried.iter().map(|&at| ready[at].clone()).collect();
    pick(ReadySet::new(&members)).map(|at| untried[at])
}

impl<S> Clone for Balanced<S> {
    fn clone(&self) -> Self {
        Self {
            endpointer: self.endpointer.clone(),
            balancer: self.balancer.clone(),
            wait: self.wait,
        }
    }
}

impl<S> fmt::Debug for Balanced<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Balanced")
            .field("endpointer", &self.endpointer)
            .field("balancer", &self.balancer)
            .field("wait", &self.wait)
            .finish()
    }
}

impl<S, Req> Service<Req> for Balanced<S>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    Req: Send + 'static,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = BalancedFuture<S, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let state = match self.pick(&request) {
            Some(picked) => State::driving(picked, request),
            None => State::Waiting { waiting: Some(Waiting::new(self.clone(), request)) },
        };
        BalancedFuture { state }
    }
}

/// A call that found no endpoint and waits for one.
struct Waiting<S, Req> {
    balanced: Balanced<S>,
    request: Req,
    /// Nothing if it lies beyond the clock's range.
    until: Option<Instant>,
    /// Ends with whether some endpoint was ready before `until`. It does not hold the request,
    /// which need not be `Sync`.
    ready: BoxFuture<'static, bool>,
}

impl<S: Clone + Send + Sync + 'static, Req: 'static> Waiting<S, Req> {
    fn new(balanced: Balanced<S>, request: Req) -> Self {
        let (until, ready): (_, BoxFuture<'static, bool>) = match balanced.wait {
            // Without a timer: even one that is over takes until the clock's next tick.
            WaitForReady::FailFast => (None, Box::pin(std::future::ready(false))),
            WaitForReady::AtMost(most) => {
                let until = Instant::now().checked_add(most);
                (until, some_ready(balanced.endpointer.clone(), until))
            }
        };
        Self { balanced, request, until, ready }
    }

    /// Waits on, picks, or gives up with an error about the set as it is then.
    fn poll(mut self, cx: &mut Context<'_>) -> Result<State<S, Req>, BoxError>
    where
        S: Service<Req>,
    {
        loop {
            let some_ready = match self.ready.as_mut().poll(cx) {
                Poll::Pending => return Ok(State::Waiting { waiting: Some(self) }),
                Poll::Ready(some_ready) => some_ready,
            };
            let endpointer = &self.balanced.endpointer;
            if some_ready && let Some(picked) = self.balanced.pick(&self.request) {
                return Ok(State::driving(picked, self.request));
            }
            // The set may be empty again by now: then wait on. A balancer that refuses a set with
            // endpoints in it is not asked again.
            if !some_ready || !endpointer.load().ready().is_empty() {
                return Err(endpointer.load().no_endpoints(endpointer.service()).into());
            }
            self.ready = self::some_ready(endpointer.clone(), self.until);
        }
    }
}

fn some_ready<S: Clone + Send + Sync + 'static>(
    endpointer: Endpointer<S>,
    until: Option<Instant>,
) -> BoxFuture<'static, bool> {
    Box::pin(async move {
        let ready = endpointer.wait_for(|set| !set.ready().is_empty());
        match until {
            Some(until) => tokio::time::timeout_at(until, ready).await.is_ok(),
            None => {
                ready.await;
                true
            }
        }
    })
}

pin_project! {
    /// The response of [`Balanced`].
    pub struct BalancedFuture<S, Req>
    where
        S: Service<Req>,
    {
        #[pin]
        state: State<S, Req>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req>
    where
        S: Service<Req>,
    {
        // An option, to be moved out of and back.
        Waiting { waiting: Option<Waiting<S, Req>> },
        Driving { service: S, request: Option<Req>, in_flight: Option<InFlight> },
        Calling {
            #[pin]
            response: S::Future,
            // Dropped with the response's future: however it ends, the call is counted out.
            in_flight: InFlight,
        },
    }
}

impl<S: Service<Req>, Req> State<S, Req> {
    fn driving(picked: Picked<S>, request: Req) -> Self {
        Self::Driving {
            service: picked.service,
            request: Some(request),
            in_flight: Some(picked.in_flight),
        }
    }
}

impl<S, Req> Future for BalancedFuture<S, Req>
where
    S: Service<Req> + Clone + Send + Sync + 'static,
    Req: 'static,
    S::Error: Into<BoxError>,
{
    type Output = Result<S::Response, BoxError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            let next = match state.as_mut().project() {
                StateProj::Waiting { waiting } => {
                    let Some(waiting) = waiting.take() else { return Poll::Pending };
                    match waiting.poll(cx) {
                        Ok(next @ State::Waiting { .. }) => {
                            state.set(next);
                            return Poll::Pending;
                        }
                        Ok(next) => next,
                        Err(error) => return Poll::Ready(Err(error)),
                    }
                }
                StateProj::Driving { service, request, in_flight } => {
                    match attempt::hidden(|| service.poll_ready(cx)) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Err(error)) => return Poll::Ready(Err(error.into())),
                        Poll::Ready(Ok(())) => {}
                    }
                    let (Some(request), Some(in_flight)) = (request.take(), in_flight.take())
                    else {
                        // Both are there until this state is left, a few lines down.
                        return Poll::Pending;
                    };
                    let response = attempt::hidden(|| service.call(request));
                    State::Calling { response, in_flight }
                }
                StateProj::Calling { response, .. } => {
                    return attempt::hidden(|| response.poll(cx)).map_err(Into::into);
                }
            };
            state.set(next);
        }
    }
}

impl<S: Service<Req>, Req> fmt::Debug for BalancedFuture<S, Req> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BalancedFuture").finish_non_exhaustive()
    }
}
