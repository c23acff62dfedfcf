//! What the attempts of one call have in common.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use fleetward_core::{BoxError, InstanceId, RetryError};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request, Response};
use http_body::Body;

use super::Settings;
use super::attempts::Rejected;
use crate::RetryPolicy;
use crate::request_body::{RequestBody, Source};
use crate::response_body::ResponseBody;
use crate::retry_after::retry_after;

/// One call: the request that each attempt takes a copy of, and what the last one left.
pub(super) struct Call<B> {
    parts: http::request::Parts,
    body: Source,
    /// Nothing if the request must not be sent again once it has left.
    policy: Option<RetryPolicy>,
    progress: Mutex<Progress<B>>,
}

struct Progress<B> {
    /// The last response, while it is not known whether another attempt follows. It keeps its
    /// connection for so long.
    rejected: Option<Response<ResponseBody<B>>>,
    tried: Vec<InstanceId>,
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
        let body = Source::new(body, settings.replay_limit)?;
        // RFC 9110, section 8.6; hyper leaves it out.
        if body.is_empty() && matches!(parts.method, Method::POST | Method::PUT | Method::PATCH) {
            parts.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from_static("0"));
        }
        let policy = settings.retry.clone();
        let policy = policy.filter(|policy| body.is_whole() && policy.covers(&parts.method));
        let progress = Progress { rejected: None, tried: Vec::new() };
        Ok(Self { parts, body, policy, progress: Mutex::new(progress) })
    }

    pub(super) fn policy(&self) -> Option<&RetryPolicy> {
        self.policy.as_ref()
    }

    /// The request of the next attempt; `None` if it cannot be sent again.
    pub(super) fn request(&self) -> Option<Request<RequestBody>> {
        // Whatever the last attempt got, another one has begun.
        self.progress().rejected = None;
        Some(Request::from_parts(self.parts.clone(), self.body.lend()?))
    }

    /// Keeps a response that another attempt is to better; gives back any other.
    pub(super) fn reject(
        &self,
        response: Response<ResponseBody<B>>,
    ) -> Result<Response<ResponseBody<B>>, Rejected> {
        let status = response.status();
        if !self.policy.as_ref().is_some_and(|policy| policy.retries(status)) {
            return Ok(response);
        }
        let wait = retry_after(response.headers(), SystemTime::now());
        let instance = response.extensions().get().cloned();
        let mut progress = self.progress();
        progress.tried.extend(instance);
        progress.rejected = Some(response);
        Err(Rejected { status, wait })
    }

    pub(super) fn failed_on(&self, instance: &InstanceId) {
        self.progress().tried.push(instance.clone());
    }

    pub(super) fn has_tried(&self, instance: &InstanceId) -> bool {
        self.progress().tried.contains(instance)
    }

    /// The response that the call ends with, if it is that which ends it.
    pub(super) fn take_rejected(&self, error: &RetryError) -> Option<Response<ResponseBody<B>>> {
        error.final_error().downcast_ref::<Rejected>()?;
        self.progress().rejected.take()
    }

    fn progress(&self) -> MutexGuard<'_, Progress<B>> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
