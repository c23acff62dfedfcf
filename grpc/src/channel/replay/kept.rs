//! The head of a request, for as many attempts as there will be.

use std::sync::{Mutex, PoisonError};

use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

/// As it came for the first attempt, which mostly is the only one. For the others it is kept in less
/// room than a copy would take.
pub(in crate::channel) struct Kept {
    first: Mutex<Option<Parts>>,
    method: Method,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
}

/// How many headers are added to a request on its way.
const ADDED: usize = 4;

impl Kept {
    pub(in crate::channel) fn new(parts: Parts) -> Self {
        let headers = parts.headers.iter();
        Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: headers.map(|(name, value)| (name.clone(), value.clone())).collect(),
            extensions: parts.extensions.clone(),
            first: Mutex::new(Some(parts)),
        }
    }

    /// For the next attempt.
    pub(super) fn take(&self) -> Parts {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| self.again())
    }

    fn again(&self) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.uri = self.uri.clone();
        parts.headers = HeaderMap::with_capacity(self.headers.len() + ADDED);
        for (name, value) in &self.headers {
            parts.headers.append(name, value.clone());
        }
        parts.extensions = self.extensions.clone();
        parts
    }
}
