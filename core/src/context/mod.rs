//! What the parts of one call know of each other.
//!
//! A retry must leave out the instances tried already, and say which instance an error came from. It
//! must know whether the request has left, and whose instance is to blame when its deadline passes.
//! The retry layer and the balancer do not know each other's types, and there may be other layers
//! between them, so the request itself carries the context: an [`http::Request`] in its extensions,
//! any other one [beside it](WithContext). The context ends at the endpoint, which takes it off:
//! what an instance's service calls in turn is no part of this call.

mod attempt;
mod carrier;
mod progress;

use std::fmt;
use std::sync::Arc;

use self::attempt::Expired;
pub(crate) use self::attempt::{Again, AttemptContext, Earlier};
pub use self::carrier::{ContextCarrier, WithContext};
use crate::InstanceId;

/// The context of a call, or of one attempt of it. Clones are the same context.
///
/// [`Retry`](crate::Retry) makes one for each attempt, and [`Balanced`](crate::Balanced) reads it.
/// Middleware between them, which finds it by [`ContextCarrier::context`], can ask it how many
/// attempts went before. Whoever makes a call may put one in its request, to learn which
/// [instance](Self::instance) the call went to, or to say that [its time is up](Self::expire).
///
/// ```
/// # use std::sync::Arc;
/// # use fleetward_core::{Balanced, Balancer, DefaultEndpointer, Instance};
/// # use fleetward_core::balancing::{PickContext, ReadySet};
/// # use fleetward_core::discovery::FixedInstancer;
/// # #[derive(Debug)] struct First;
/// # impl Balancer for First { fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> { Some(0) } }
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use fleetward_core::context::{CallContext, ContextCarrier};
/// use tower::{ServiceExt, service_fn};
///
/// # let list = FixedInstancer::new("greeter", [Instance::new("10.0.0.1:80")?]);
/// # let endpointer = DefaultEndpointer::new(list, |_: Arc<Instance>| async move {
/// #     Ok::<_, fleetward_core::Error>(service_fn(|_: http::Request<()>| async move { Ok::<_, fleetward_core::Error>(()) }))
/// # });
/// # let balanced = Balanced::new(endpointer, First);
/// let context = CallContext::new();
/// let mut request = http::Request::new(());
/// request.replace_context(Some(context.clone()));
/// balanced.oneshot(request).await?;
/// assert_eq!(context.instance().unwrap().as_str(), "10.0.0.1:80");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone, Default)]
pub struct CallContext(Arc<AttemptContext>);

impl CallContext {
    /// Of a call that is about to begin.
    pub fn new() -> Self {
        Self::default()
    }

    /// Of one attempt of a call.
    #[inline]
    pub(crate) fn of(attempt: AttemptContext) -> Self {
        Self(Arc::new(attempt))
    }

    /// How many attempts of the call were sent before this one, without those that never left this
    /// process.
    pub fn previous_attempts(&self) -> u32 {
        self.0.earlier().map_or(0, |earlier| earlier.previous)
    }

    /// The instances that earlier attempts went to, in the order of their ids.
    pub fn tried(&self) -> &[InstanceId] {
        self.0.earlier().map_or(&[], |earlier| &earlier.tried)
    }

    /// The instance that was picked last, if one was.
    pub fn instance(&self) -> Option<InstanceId> {
        self.0.last_picked()
    }

    /// Says that the time of the call is up, just before it is dropped.
    ///
    /// To an endpoint a dropped call is a caller that has gone away, which says nothing about the
    /// instance. Whoever drops a call because the *instance* took too long says so by this: then it
    /// counts as a failure of the instance. It is for a timeout of one's own;
    /// [`Retry`](crate::Retry) and the clients built on it do this for their own deadlines.
    ///
    /// ```
    /// use std::time::Duration;
    /// use fleetward_core::BoxError;
    /// use fleetward_core::context::{CallContext, WithContext};
    /// use tower::{Service, ServiceExt};
    ///
    /// async fn within_a_second<S>(service: S, name: String) -> Result<S::Response, BoxError>
    /// where
    ///     S: Service<WithContext<String>, Error = BoxError>,
    /// {
    ///     let context = CallContext::new();
    ///     let mut call = Box::pin(service.oneshot(WithContext::within(context.clone(), name)));
    ///     match tokio::time::timeout(Duration::from_secs(1), &mut call).await {
    ///         Ok(answer) => answer,
    ///         Err(too_late) => {
    ///             context.expire();
    ///             drop(call);
    ///             Err(too_late.into())
    ///         }
    ///     }
    /// }
    /// ```
    pub fn expire(&self) {
        self.0.expire(Expired::All);
    }

    /// Says that the instance picked last took too long, just before the attempt is dropped.
    pub(crate) fn expire_picked(&self) {
        self.0.expire(Expired::Picked);
    }

    /// The attempt, for one below it to know it by.
    pub(crate) fn share(&self) -> Arc<AttemptContext> {
        self.0.clone()
    }

    #[inline]
    pub(crate) fn attempt(&self) -> &AttemptContext {
        &self.0
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallContext")
            .field("previous_attempts", &self.previous_attempts())
            .field("tried", &self.tried())
            .field("instance", &self.instance())
            .finish_non_exhaustive()
    }
}
