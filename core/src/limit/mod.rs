//! How many calls an instance has to bear at once.
//!
//! An instance that is given more calls than it can work on gets slower for all of them, and in the
//! end answers none in time. A limit keeps the rest away from it: a few wait here, in order, and
//! what is more fails at once, unsent, so that [`Retry`](crate::Retry) may take it elsewhere.
//!
//! Unlike tower's own limit, which stands in `poll_ready`, this one never makes a service unready:
//! a full instance would hold up a call that could go elsewhere, and a permit taken by a service
//! that is then not called is lost until that service is dropped. So the limit stands inside the
//! response future, as all waiting here does.

mod factory;
mod future;
mod gate;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::sync::Semaphore;
use tower_layer::Layer;
use tower_service::Service;

pub use self::factory::LimitedFactory;
pub use self::future::LimitedFuture;
use self::gate::Gate;
use crate::endpoints::Readiness;
use crate::{BoxError, InstanceId};

/// Limits how many calls are under way at once and how many wait: for each instance by
/// [`per_instance`](Self::per_instance), for any one service as a tower layer.
///
/// A call takes its place when its future is first polled. It is under way from then, or from when
/// it has waited long enough, until its response is there, or its future dropped, whichever is
/// first: a *response body* that is streamed after that does not count. Calls that wait get their
/// turn in the order they came; how long they wait is for the caller's deadline to say.
///
/// A call that waits at an instance which leaves the set of those that take calls
/// ([`Readiness::withdrawn`]) fails in the same way: it is not sent, and goes elsewhere.
///
/// Beyond that, calls fail at once with [`ErrorKind::Overloaded`](crate::ErrorKind::Overloaded),
/// which [`Error::is_unsent`](crate::Error::is_unsent). [`Balanced`](crate::Balanced) does not hold
/// it against the instance. Waiting calls count as in flight there, and their wait as latency, so
/// balancers that look at either keep away from a full instance by themselves. A deadline of `Retry`
/// that passes while a call waits is a failure of the instance, as any other of them.
///
/// ```
/// # use std::sync::Arc;
/// # use fleetward_core::{Balanced, Balancer, DefaultEndpointer, Instance};
/// # use fleetward_core::balancing::{PickContext, ReadySet};
/// # use fleetward_core::discovery::FixedInstancer;
/// # use fleetward_core::limit::ConcurrencyLimit;
/// # #[derive(Debug)] struct First;
/// # impl Balancer for First { fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> { Some(0) } }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use tower::{ServiceExt, service_fn};
///
/// let list = FixedInstancer::new("greeter", [Instance::new("10.0.0.1:80")?]);
/// let factory = |_: Arc<Instance>| async {
///     Ok::<_, fleetward_core::Error>(service_fn(|request: http::Request<&'static str>| async move {
///         Ok::<_, fleetward_core::Error>(format!("hello {}", request.body()))
///     }))
/// };
/// let limit = ConcurrencyLimit::new(100).queue(20);
/// let client = Balanced::new(DefaultEndpointer::new(list, limit.per_instance(factory)), First);
/// assert_eq!(client.oneshot(http::Request::new("you")).await?, "hello you");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConcurrencyLimit {
    max: usize,
    queue: usize,
}

impl ConcurrencyLimit {
    /// At most `max` calls at once (0 counts as 1), and none that waits.
    pub fn new(max: usize) -> Self {
        Self { max: max.clamp(1, Semaphore::MAX_PERMITS), queue: 0 }
    }

    /// Sets how many calls may wait for their turn (default 0).
    ///
    /// A queue evens out bursts. A long one only makes calls wait for what they will not get in
    /// time: as long as the calls that arrive in a fraction of their deadline is long enough.
    #[must_use]
    pub fn queue(mut self, waiting: usize) -> Self {
        self.queue = waiting;
        self
    }

    fn limit<S>(self, inner: S, endpoint: Option<(InstanceId, Readiness)>) -> Limited<S> {
        Limited { inner, gate: Arc::new(Gate::new(self.max, self.queue, endpoint)) }
    }
}

/// Each service made by this has a limit of its own; its clones share it.
impl<S> Layer<S> for ConcurrencyLimit {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        self.limit(inner, None)
    }
}

/// A service with a limit on its calls: what [`ConcurrencyLimit`] makes.
///
/// Always ready; the inner service's readiness is driven inside the response future, when the call
/// has its turn.
#[derive(Clone)]
pub struct Limited<S> {
    inner: S,
    gate: Arc<Gate>,
}

impl<S> Limited<S> {
    /// How many calls are under way.
    pub fn under_way(&self) -> usize {
        self.gate.under_way()
    }

    /// How many calls wait for their turn.
    pub fn waiting(&self) -> usize {
        self.gate.waiting()
    }
}

impl<S, Req> Service<Req> for Limited<S>
where
    S: Service<Req> + Clone,
    S::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = BoxError;
    type Future = LimitedFuture<S, Req>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        LimitedFuture::new(self.inner.clone(), request, self.gate.clone())
    }
}

impl<S: fmt::Debug> fmt::Debug for Limited<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Limited").field("inner", &self.inner).field("gate", &self.gate).finish()
    }
}
