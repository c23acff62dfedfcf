//! How a context travels with its request.

use super::CallContext;

/// A request that can carry the context of its call: an [`http::Request`], or any other one in a
/// [`WithContext`].
///
/// ```
/// use fleetward_core::context::{CallContext, ContextCarrier, WithContext};
///
/// let mut request = WithContext::from("GET users/7");
/// assert!(request.context().is_none());
/// request.replace_context(Some(CallContext::new()));
/// assert!(request.context().is_some());
/// let (request, context) = request.into_parts();
/// assert!(request == "GET users/7" && context.is_some());
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot carry the context of its call",
    note = "`Retry` and `Balanced` take an `http::Request`, or any other request in a `WithContext`: `WithContext::from(request)`, or `map_request(WithContext::from)` around the stack"
)]
pub trait ContextCarrier {
    /// What an instance is sent.
    type Request;

    /// The context, if there is one.
    fn context(&self) -> Option<&CallContext>;

    /// Gives it a context, or none. The one before.
    fn replace_context(&mut self, context: Option<CallContext>) -> Option<CallContext>;

    /// The request without the context, and the context.
    fn into_parts(self) -> (Self::Request, Option<CallContext>);
}

impl<B> ContextCarrier for http::Request<B> {
    type Request = Self;

    fn context(&self) -> Option<&CallContext> {
        self.extensions().get()
    }

    fn replace_context(&mut self, context: Option<CallContext>) -> Option<CallContext> {
        match context {
            Some(context) => self.extensions_mut().insert(context),
            None => self.extensions_mut().remove(),
        }
    }

    fn into_parts(mut self) -> (Self, Option<CallContext>) {
        let context = self.replace_context(None);
        (self, context)
    }
}

/// A request of any type, and the context of its call.
///
/// A stack for requests that are no [`http::Request`]s can be made one for plain requests again by
/// tower's `map_request`:
///
/// ```
/// # use std::time::Duration;
/// use fleetward_core::Retry;
/// use fleetward_core::context::WithContext;
/// use tower::{Layer, ServiceExt, service_fn};
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// # let balanced = service_fn(|request: WithContext<&'static str>| async move {
/// #     Ok::<_, std::io::Error>(request.request)
/// # });
/// let retried = Retry::new(3, Duration::from_secs(1)).layer(balanced);
/// let plain = retried.map_request(WithContext::<&'static str>::from);
/// assert_eq!(plain.oneshot("hello").await?, "hello");
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error + Send + Sync>>(())
/// ```
#[derive(Clone, Debug)]
pub struct WithContext<R> {
    /// The request.
    pub request: R,
    context: Option<CallContext>,
}

impl<R> WithContext<R> {
    /// With a context, or none.
    pub fn within(context: impl Into<Option<CallContext>>, request: R) -> Self {
        Self { request, context: context.into() }
    }
}

/// Without a context until somebody gives it one.
impl<R> From<R> for WithContext<R> {
    fn from(request: R) -> Self {
        Self { request, context: None }
    }
}

impl<R> ContextCarrier for WithContext<R> {
    type Request = R;

    fn context(&self) -> Option<&CallContext> {
        self.context.as_ref()
    }

    fn replace_context(&mut self, context: Option<CallContext>) -> Option<CallContext> {
        std::mem::replace(&mut self.context, context)
    }

    fn into_parts(self) -> (R, Option<CallContext>) {
        (self.request, self.context)
    }
}
