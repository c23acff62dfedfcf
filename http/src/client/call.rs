//! What the attempts of one call have in common.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fleetward_client::{AttemptGuard, ReplayBody, RequestHead};
use fleetward_core::{BoxError, InstanceId};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body;
use tokio::time::Instant;

use super::rejected::Rejected;
use super::settings::Settings;
use crate::RetryPolicy;
use crate::request_body::{CallerBody, Progress, RequestBody, replay};
use crate::response_body::ResponseBody;
use crate::retry_after::retry_after;

/// For so long after another attempt has begun the body of the last response is kept whole.
const KEPT: Duration = Duration::from_secs(10);

/// One call: the request that each attempt takes a copy of, and what the last one left.
pub(super) struct Call<B> {
    head: RequestHead,
    body: ReplayBody<CallerBody>,
    /// Nothing if the request must not be sent again once it has left.
    policy: Option<RetryPolicy>,
    past: Mutex<Past<B>>,
}

struct Past<B> {
    /// The last response, in case no better one follows.
    rejected: Option<Response<ResponseBody<B>>>,
    /// When its body, which keeps a connection, is let go. Nothing before another attempt has begun.
    kept_until: Option<Instant>,
    tried: Vec<InstanceId>,
    /// How far the latest attempt's client has come.
    latest: Option<Arc<Progress>>,
}

impl<B> Call<B> {
    /// # Errors
    /// What the body fails with.
    pub(super) fn new<R>(request: Request<R>, settings: &Settings) -> Result<Self, BoxError>
    where
        R: Body<Data = Bytes> + Send + 'static,
        R::Error: Into<BoxError>,
    {
        let (mut parts, body) = request.into_parts();
        let body = replay(body, settings.replay_limit, &settings.replay_buffer)?;
        // RFC 9110, section 8.6; hyper leaves it out.
        if body.is_empty() && matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
            parts.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
        }
        let policy = settings.retry.clone();
        let policy = policy.filter(|policy| policy.covers(&parts.method));
        let past = Past { rejected: None, kept_until: None, tried: Vec::new(), latest: None };
        Ok(Self { head: RequestHead::new(parts), body, policy, past: Mutex::new(past) })
    }

    pub(super) fn policy(&self) -> Option<&RetryPolicy> {
        self.policy.as_ref()
    }

    /// The request of the next attempt; `None` if it cannot be sent again.
    pub(super) fn request(&self) -> Option<(Request<RequestBody>, AttemptGuard<CallerBody>)> {
        let (body, guard) = self.body.attempt()?;
        let body = RequestBody::new(body);
        let mut past = self.past();
        past.latest = Some(body.progress().clone());
        if past.rejected.is_some() && past.kept_until.is_none() {
            past.kept_until = Instant::now().checked_add(KEPT);
        }
        drop(past);
        Some((Request::from_parts(self.head.for_attempt(), body), guard))
    }

    /// Whether the whole request can be sent once more.
    pub(super) fn can_be_sent(&self) -> bool {
        self.body.can_be_sent()
    }

    /// Whether the latest attempt, which is given up, has sent nothing of the request and never will.
    pub(super) fn take_back(&self) -> bool {
        self.past().latest.as_ref().is_none_or(|latest| latest.take_back())
    }

    /// When the body of the response that is kept is to be [let go](Self::let_go), if there is one.
    pub(super) fn kept_until(&self) -> Option<Instant> {
        self.past().kept_until
    }

    /// Lets the body go of the response that is kept, and with it its connection: other calls need it.
    pub(super) fn let_go(&self)
    where
        B: Body,
    {
        let mut past = self.past();
        past.kept_until = None;
        let Some(mut response) = past.rejected.take() else { return };
        drop(past);
        // The body is the caller's type or a connection's end, so it is dropped without the lock.
        response.body_mut().let_go();
        self.past().rejected = Some(response);
    }

    /// Keeps a response that another attempt is to better; gives back any other.
    pub(super) fn reject(
        &self,
        response: Response<ResponseBody<B>>,
    ) -> Result<Response<ResponseBody<B>>, Rejected> {
        let status = response.status();
        let retries = self.policy.as_ref().is_some_and(|policy| policy.retries(status));
        if !retries || !self.can_be_sent() {
            return Ok(response);
        }
        let wait = retry_after(response.headers(), SystemTime::now());
        let instance = response.extensions().get().cloned();
        let mut past = self.past();
        past.tried.extend(instance);
        past.kept_until = None;
        let last = past.rejected.replace(response);
        drop(past);
        // The body is the caller's type or a connection's end, so it is dropped without the lock.
        drop(last);
        Err(Rejected { status, wait })
    }

    pub(super) fn failed_on(&self, instance: &InstanceId) {
        self.past().tried.push(instance.clone());
    }

    pub(super) fn has_tried(&self, instance: &InstanceId) -> bool {
        self.past().tried.contains(instance)
    }

    /// The last response, which a call ends with that got no better one: it says more than the errors
    /// that followed it.
    pub(super) fn take_rejected(&self) -> Option<Response<ResponseBody<B>>> {
        self.past().rejected.take()
    }

    fn past(&self) -> MutexGuard<'_, Past<B>> {
        self.past.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{OnceLock, Weak, mpsc};

    use fleetward_client::ReplayBuffer;
    use fleetward_core::retry::RatioBudget;
    use http::StatusCode;
    use http_body_util::Empty;

    use super::*;

    fn instance() -> InstanceId {
        fleetward_core::Instance::new("10.0.0.1:80").unwrap().id().clone()
    }

    /// A response's body that asks its call for something when it is dropped.
    struct ComesBack(Arc<OnceLock<Weak<Call<ComesBack>>>>);

    impl Drop for ComesBack {
        fn drop(&mut self) {
            if let Some(call) = self.0.get().and_then(Weak::upgrade) {
                call.failed_on(&instance());
            }
        }
    }

    #[test]
    fn a_response_is_dropped_without_the_lock() {
        let (done, over) = mpsc::channel();
        std::thread::spawn(move || {
            let settings = Settings {
                retry: Some(RetryPolicy::default()),
                budget: Arc::new(RatioBudget::default()),
                timeout: None,
                replay_limit: 1,
                replay_buffer: Arc::new(ReplayBuffer::new(1)),
            };
            let request = Request::new(Empty::<Bytes>::new());
            let call = Arc::new(Call::new(request, &settings).unwrap());
            let home = Arc::new(OnceLock::from(Arc::downgrade(&call)));
            let mut refused = (0..3).map(|_| {
                let body = ResponseBody::new(ComesBack(home.clone()), instance());
                let mut response = Response::new(body);
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response
            });
            assert!(call.reject(refused.next().unwrap()).is_err());
            assert!(call.reject(refused.next().unwrap()).is_err());
            assert!(call.request().is_some());
            assert!(call.has_tried(&instance()));
            done.send(()).unwrap();
        });
        over.recv_timeout(Duration::from_secs(20)).expect("the thread is frozen");
    }
}
