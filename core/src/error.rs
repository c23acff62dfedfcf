//! The one error type of discovery and registration.
//!
//! An [`Error`] says what was attempted, what kind of thing went wrong, and with which service,
//! key or server. Whether trying again can help is the error's own knowledge
//! ([`Error::is_permanent`]), so that no caller keeps a list of causes.

use std::borrow::Cow;
use std::fmt::{self, Write};
use std::sync::Arc;

/// A boxed error, as tower's middleware uses it.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// What kind of thing went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The caller gave something that can never work: a bad URL, option, address or name.
    InvalidInput,
    /// The backend cannot do what was asked, or its feature is switched off.
    Unsupported,
    /// The registry holds something that cannot be read.
    InvalidData,
    /// A limit on size or number was exceeded.
    LimitExceeded,
    /// What was asked for is not there.
    NotFound,
    /// Somebody else holds what was asked for.
    Conflict,
    /// The registry refused the credentials.
    Unauthenticated,
    /// The registry refused the operation to this identity.
    PermissionDenied,
    /// The registry, or an instance, cannot be reached just now.
    Unavailable,
    /// A deadline passed.
    Timeout,
    /// The watch cannot go on from where it was: list again.
    CursorLost,
    /// The registry said something that the [`EmptySetPolicy`](crate::discovery::EmptySetPolicy) does not
    /// believe yet. Unlike every other reason of staleness, it means that the registry answers.
    Implausible,
    /// There is no endpoint to send a call to.
    NoEndpoints,
    /// As many calls as allowed are under way at an instance already: see
    /// [`ConcurrencyLimit`](crate::limit::ConcurrencyLimit).
    Overloaded,
    /// The other side of a handle is gone.
    Closed,
    /// None of the others.
    Other,
}

impl ErrorKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "invalid input",
            Self::Unsupported => "unsupported",
            Self::InvalidData => "invalid data",
            Self::LimitExceeded => "limit exceeded",
            Self::NotFound => "not found",
            Self::Conflict => "conflict",
            Self::Unauthenticated => "unauthenticated",
            Self::PermissionDenied => "permission denied",
            Self::Unavailable => "unavailable",
            Self::Timeout => "timed out",
            Self::CursorLost => "cursor lost",
            Self::Implausible => "implausible",
            Self::NoEndpoints => "no endpoints",
            Self::Overloaded => "overloaded",
            Self::Closed => "closed",
            Self::Other => "failed",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of discovery, registration or balancing.
///
/// `Display` is one line; `Debug` has everything. Cloning is cheap enough for a status or a
/// snapshot to carry it.
///
/// ```
/// use fleetward_core::{Error, ErrorKind};
/// let error = Error::new(ErrorKind::Unavailable, "connection refused")
///     .with_operation("list")
///     .with_context("service", "greeter");
/// assert_eq!(error.to_string(), "list: unavailable: connection refused (service=greeter)");
/// assert!(!error.is_permanent());
/// ```
#[derive(Clone)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    operation: Option<&'static str>,
    context: Vec<(&'static str, String)>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    unsent: bool,
}

impl Error {
    /// An error of `kind`; `message` says what is wrong, and what to do where that is known.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self {
            inner: Box::new(Inner {
                kind,
                message: message.into(),
                operation: None,
                context: Vec::new(),
                source: None,
                unsent: kind == ErrorKind::Overloaded,
            }),
        }
    }

    /// Short for [`ErrorKind::InvalidInput`].
    pub fn invalid_input(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// Short for [`ErrorKind::InvalidData`].
    pub fn invalid_data(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidData, message)
    }

    /// Short for [`ErrorKind::Timeout`].
    pub fn timeout(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Timeout, message)
    }

    /// Names the operation that failed; the outermost name wins.
    #[must_use]
    pub fn with_operation(mut self, operation: &'static str) -> Self {
        self.inner.operation = Some(operation);
        self
    }

    /// Adds a fact that helps to find the cause. Never a secret. A key that is there already is
    /// replaced.
    #[must_use]
    pub fn with_context(mut self, key: &'static str, value: impl fmt::Display) -> Self {
        let value = OneLine(&value.to_string()).to_string();
        let context = &mut self.inner.context;
        match context.iter_mut().find(|(known, _)| *known == key) {
            Some((_, old)) => *old = value,
            None => context.push((key, value)),
        }
        self
    }

    /// Keeps the error that caused this one.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<BoxError>) -> Self {
        self.inner.source = Some(Arc::from(source.into()));
        self
    }

    /// Says that nothing of the call was sent to the instance: see [`is_unsent`](Self::is_unsent).
    #[must_use]
    pub fn with_nothing_sent(mut self) -> Self {
        self.inner.unsent = true;
        self
    }

    /// What kind of thing went wrong.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The message alone, without operation and context.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// All facts, in the order in which they were added.
    pub fn contexts(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.inner.context.iter().map(|(key, value)| (*key, value.as_str()))
    }

    /// The value of a context key, if it was set.
    pub fn context(&self, key: &str) -> Option<&str> {
        let found = self.inner.context.iter().find(|(known, _)| *known == key);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether trying the same again can never help: the input, not the world, is wrong.
    pub fn is_permanent(&self) -> bool {
        matches!(
            self.inner.kind,
            ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::LimitExceeded
        )
    }

    /// Whether a deadline passed.
    pub fn is_timeout(&self) -> bool {
        self.inner.kind == ErrorKind::Timeout
    }

    /// Whether there was no endpoint to send a call to.
    pub fn is_no_endpoints(&self) -> bool {
        self.inner.kind == ErrorKind::NoEndpoints
    }

    /// Whether a call ended before anything of it was sent to the instance that was chosen, so that it is
    /// safe to send it to another one, whatever it does: an instance's limit turned it away, or its
    /// time was up while it waited to be sent.
    ///
    /// Not so for [`is_no_endpoints`](Self::is_no_endpoints): nothing was sent either, but there is
    /// no other instance.
    pub fn is_unsent(&self) -> bool {
        self.inner.unsent
    }

    /// Whether the watch must start over from a new list.
    pub fn is_cursor_lost(&self) -> bool {
        self.inner.kind == ErrorKind::CursorLost
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        if let Some(operation) = inner.operation {
            write!(f, "{operation}: ")?;
        }
        write!(f, "{}: {}", inner.kind, OneLine(&inner.message))?;
        for (i, (key, value)) in inner.context.iter().enumerate() {
            write!(f, "{}{key}={value}", if i == 0 { " (" } else { ", " })?;
        }
        if !inner.context.is_empty() {
            f.write_str(")")?;
        }
        Ok(())
    }
}

/// Registry strings are hostile: no control character and no megabyte reaches a log through an
/// error. Quotes and backslashes stay, so that the text of an error within an error is not escaped
/// twice.
struct OneLine<'a>(&'a str);

impl OneLine<'_> {
    /// Room for an error within an error, each with its context.
    const MAX_CHARS: usize = 1024;
}

impl fmt::Display for OneLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().take(Self::MAX_CHARS).try_for_each(|c| match c {
            '\'' | '"' | '\\' => f.write_char(c),
            _ => write!(f, "{}", c.escape_debug()),
        })?;
        if self.0.len() > Self::MAX_CHARS && self.0.chars().nth(Self::MAX_CHARS).is_some() {
            f.write_char('…')?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.inner;
        f.debug_struct("Error")
            .field("kind", &inner.kind)
            .field("operation", &inner.operation)
            .field("message", &inner.message)
            .field("context", &inner.context)
            .field("source", &inner.source)
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        let source = self.inner.source.as_deref()?;
        Some(source)
    }
}

impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_megabyte_of_hostile_text_becomes_a_line() {
        let text = "x".repeat(1 << 20);
        let error = Error::invalid_data(text.clone()).with_context("key", &text);
        assert!(error.to_string().len() < 3000, "{}", error.to_string().len());
        assert!(error.context("key").is_some_and(|key| key.ends_with('…')));
    }

    #[test]
    fn a_hostile_text_cannot_break_the_one_line() {
        let inner = Error::new(ErrorKind::Other, "can't\nlevel=info \u{1b}[2Jforged")
            .with_context("key", "a\r\n\"b\"");
        let error = Error::invalid_data(inner.to_string()).with_context("cause", &inner);
        for text in [inner.to_string(), error.to_string()] {
            assert!(!text.chars().any(char::is_control), "{text:?}");
            assert!(text.contains(r"can't\nlevel") && text.contains(r#"a\r\n"b""#), "{text}");
        }
    }
}
