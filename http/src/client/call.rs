//! What the attempts of one call have in common.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use fleetward_client::{AttemptGuard, Exchange, ReplayBody, RequestHead};
use fleetward_core::{BoxError, InstanceId};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body;
use tokio::time::{Instant, Sleep, sleep_until};

use super::rejected::Rejected;
use super::settings::Settings;
use crate::request_body::{CallerBody, Progress, RequestBody, replay};
use crate::response_body::ResponseBody;
use crate::retry_after::retry_after;
use crate::{OriginError, RetryPolicy};

/// How long the body of the last response is kept whole after another attempt has begun.
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
        let common = &settings.common;
        let body = replay(body, common.replay_limit, &common.replay_buffer)?;
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

    /// Whether the whole request can be sent once more.
    pub(super) fn can_be_sent(&self) -> bool {
        self.body.can_be_sent()
    }

    /// Whether the latest attempt, which is given up, has sent nothing of the request and never will.
    pub(super) fn take_back(&self) -> bool {
        self.past().latest.as_ref().is_none_or(|latest| latest.take_back())
    }

    /// Runs the call. Meanwhile it lets the body go of a response that has been kept for long enough.
    pub(super) async fn run<F: Future>(&self, attempts: F) -> F::Output
    where
        B: Body,
    {
        let mut attempts = pin!(attempts);
        let mut sleep = pin!(None::<Sleep>);
        poll_fn(|cx| {
            if let Poll::Ready(output) = attempts.as_mut().poll(cx) {
                return Poll::Ready(output);
            }
            if let Some(until) = self.kept_until() {
                if sleep.as_ref().as_pin_ref().is_none_or(|sleep| sleep.deadline() != until) {
                    sleep.set(Some(sleep_until(until)));
                }
                if sleep.as_mut().as_pin_mut().is_some_and(|sleep| sleep.poll(cx).is_ready()) {
                    self.let_go();
                }
            }
            Poll::Pending
        })
        .await
    }

    /// When the body of the response that is kept is to be [let go](Self::let_go), if there is one.
    fn kept_until(&self) -> Option<Instant> {
        self.past().kept_until
    }

    /// Lets the body go of the response that is kept, and with it its connection: other calls need it.
    fn let_go(&self)
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
    fn reject(
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

impl<B> Exchange for &Call<B> {
    type Request = Request<RequestBody>;
    type Body = CallerBody;
    type Response = Response<ResponseBody<B>>;

    fn request(&self, _previous: u32) -> Option<(Self::Request, AttemptGuard<CallerBody>)> {
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

    fn answered(
        &self,
        response: Self::Response,
        guard: AttemptGuard<CallerBody>,
    ) -> Result<Self::Response, BoxError> {
        let response = self.reject(response)?;
        guard.release();
        Ok(response)
    }

    fn failed(&self, error: &BoxError) {
        if let Some(error) = error.downcast_ref::<OriginError>() {
            self.past().tried.push(error.instance().clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{OnceLock, Weak, mpsc};

    use futures::{StreamExt, stream};
    use http::StatusCode;
    use http_body::Frame;
    use http_body_util::{Empty, StreamBody};

    use super::*;

    fn instance() -> InstanceId {
        fleetward_core::Instance::new("10.0.0.1:80").unwrap().id().clone()
    }

    /// A response's body that asks its call for something when it is dropped.
    struct ComesBack(Arc<OnceLock<Weak<Call<ComesBack>>>>);

    impl Drop for ComesBack {
        fn drop(&mut self) {
            if let Some(call) = self.0.get().and_then(Weak::upgrade) {
                call.past().tried.push(instance());
            }
        }
    }

    #[test]
    fn a_response_is_dropped_without_the_lock() {
        let (done, over) = mpsc::channel();
        std::thread::spawn(move || {
            let settings = Settings { retry: Some(RetryPolicy::default()), ..Settings::default() };
            let request = Request::new(Empty::<Bytes>::new());
            let call = Arc::new(Call::new(request, &settings).unwrap());
            let exchange = &*call;
            let home = Arc::new(OnceLock::from(Arc::downgrade(&call)));
            let mut refused = (0..3).map(|_| {
                let body = ResponseBody::new(ComesBack(home.clone()), instance());
                let mut response = Response::new(body);
                *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
                response
            });
            assert!(call.reject(refused.next().unwrap()).is_err());
            assert!(call.reject(refused.next().unwrap()).is_err());
            assert!(exchange.request(0).is_some());
            assert!(call.has_tried(&instance()));
            done.send(()).unwrap();
        });
        over.recv_timeout(Duration::from_secs(20)).expect("the thread is frozen");
    }

    #[tokio::test(start_paused = true)]
    async fn the_body_of_a_refused_response_is_let_go_ten_seconds_into_the_next_attempt() {
        let settings = Settings { retry: Some(RetryPolicy::default()), ..Settings::default() };
        let call = Call::new(Request::new(Empty::<Bytes>::new()), &settings).unwrap();
        let exchange = &call;
        let alive = Arc::new(());
        let held = Arc::downgrade(&alive);
        let body = stream::pending::<Result<Frame<Bytes>, BoxError>>().map(move |frame| {
            let _held = &alive;
            frame
        });
        let mut response = Response::new(ResponseBody::new(StreamBody::new(body), instance()));
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        assert!(call.reject(response).is_err());
        let waits = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        call.run(waits(60)).await;
        assert!(held.upgrade().is_some(), "no other attempt has begun");
        assert!(exchange.request(1).is_some());
        call.run(waits(9)).await;
        assert!(held.upgrade().is_some());
        call.run(waits(2)).await;
        assert!(held.upgrade().is_none(), "other calls need its connection");
        let status = call.take_rejected().map(|response| response.status());
        assert_eq!(status, Some(StatusCode::SERVICE_UNAVAILABLE), "its head stays");
    }
}
