//! The head of a request, for as many attempts as there will be.

use std::fmt;
use std::sync::{Mutex, PoisonError};

use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, Version};

/// A request's head, from which each attempt takes its own.
///
/// It is kept as it came for the first attempt, which mostly is the only one. For the others it is kept in less
/// room than a copy would take.
pub struct RequestHead {
    first: Mutex<Option<Parts>>,
    method: Method,
    uri: Uri,
    version: Version,
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
}

/// The number of headers for which a later attempt's head has room beside those of the request.
const ROOM: usize = 4;

impl RequestHead {
    /// The head of a request, as [`Request::into_parts`] gives it.
    pub fn new(parts: Parts) -> Self {
        let headers = parts.headers.iter();
        Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            version: parts.version,
            headers: headers.map(|(name, value)| (name.clone(), value.clone())).collect(),
            extensions: parts.extensions.clone(),
            first: Mutex::new(Some(parts)),
        }
    }

    /// The head for the next attempt.
    pub fn for_attempt(&self) -> Parts {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        first.unwrap_or_else(|| self.again())
    }

    fn again(&self) -> Parts {
        let (mut parts, ()) = Request::new(()).into_parts();
        parts.method = self.method.clone();
        parts.uri = self.uri.clone();
        parts.version = self.version;
        parts.headers = HeaderMap::with_capacity(self.headers.len() + ROOM);
        for (name, value) in &self.headers {
            parts.headers.append(name, value.clone());
        }
        parts.extensions = self.extensions.clone();
        parts
    }
}

/// Not the headers: they may hold credentials.
impl fmt::Debug for RequestHead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestHead")
            .field("method", &self.method)
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_attempt_has_the_same_head() {
        let mut request = Request::post("/a?b").version(Version::HTTP_2);
        for (name, value) in [("x", "1"), ("y", "2"), ("x", "3")] {
            request = request.header(name, value);
        }
        let (parts, ()) = request.extension(7_u8).body(()).unwrap().into_parts();
        let head = RequestHead::new(parts.clone());
        for _ in 0..3 {
            let again = head.for_attempt();
            assert_eq!((&again.method, &again.uri), (&parts.method, &parts.uri));
            assert_eq!((again.version, &again.headers), (parts.version, &parts.headers));
            assert_eq!(again.extensions.get::<u8>(), Some(&7));
        }
    }
}
