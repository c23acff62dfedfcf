//! The head of a request, kept for the attempts after the first.

use http::request::Parts;
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Uri};

/// In less room than a copy of the request would take: most calls need no second attempt.
pub(super) struct Kept {
    method: Method,
    uri: Uri,
    headers: Vec<(HeaderName, HeaderValue)>,
    extensions: Extensions,
}

/// How many headers are added to a request on its way.
const ADDED: usize = 4;

impl Kept {
    pub(super) fn new(parts: &Parts) -> Self {
        let headers = parts.headers.iter();
        Self {
            method: parts.method.clone(),
            uri: parts.uri.clone(),
            headers: headers.map(|(name, value)| (name.clone(), value.clone())).collect(),
            extensions: parts.extensions.clone(),
        }
    }

    pub(super) fn parts(&self) -> Parts {
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
