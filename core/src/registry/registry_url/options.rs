//! The query of a registry URL: every option is known, or an error.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::Error;
use crate::registry::{Secret, redact};

/// The options in a URL's query.
///
/// A backend takes the options it knows, then calls [`finish`](Self::finish): what is left over is
/// an error that lists what was asked for, so the list of known options cannot go stale.
///
/// ```
/// use fleetward_core::registry::RegistryUrl;
/// let mut url = RegistryUrl::parse("etcd://127.0.0.1:2379/greeter?codecc=plain")?;
/// let options = url.options();
/// assert_eq!(options.take("codec")?, None);
/// let error = options.finish().unwrap_err();
/// assert_eq!(error.message(), "unknown option; known options are: codec");
/// assert_eq!(error.context("option"), Some("no. 1 of 1 (6 characters, not shown)"));
/// # Ok::<(), fleetward_core::Error>(())
/// ```
///
/// Neither an error nor `Debug` shows a value; and of a URL's options no error shows an unknown name
/// either, for it may be a piece of a secret that was not escaped.
#[derive(Clone, Default)]
pub struct Options {
    /// What is not taken yet, each with its place in the query.
    left: Vec<(usize, String, Secret)>,
    given: usize,
    redacted: bool,
    known: Vec<&'static str>,
}

impl Options {
    /// Takes a URL's query apart, without its `?`: `min=1024&header=user`.
    pub fn parse(query: &str) -> Self {
        form_urlencoded::parse(query.as_bytes()).collect()
    }

    /// As [`parse`](Self::parse), for a query that comes from a URL: an unknown option is not named,
    /// its place is given.
    pub fn parse_redacted(query: &str) -> Self {
        Self { redacted: true, ..Self::parse(query) }
    }

    /// What has not been taken, in order. It may hold secrets.
    pub fn left(&self) -> impl Iterator<Item = (&str, &str)> {
        self.left.iter().map(|(_, name, value)| (&**name, value.expose()))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.given == 0
    }

    /// Takes an option's text out.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is given twice.
    pub fn take(&mut self, key: &'static str) -> Result<Option<String>, Error> {
        let mut values = self.take_all(key);
        if values.len() > 1 {
            return Err(
                Error::invalid_input("the option is given twice").with_context("option", key)
            );
        }
        Ok(values.pop())
    }

    /// As [`take`](Self::take), where an empty text makes no sense: it is mostly a variable that a
    /// script has not set.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is given twice or empty.
    pub fn take_text(&mut self, key: &'static str) -> Result<Option<String>, Error> {
        let text = self.take(key)?;
        if text.as_deref() == Some("") {
            return Err(Error::invalid_input("the option is empty").with_context("option", key));
        }
        Ok(text)
    }

    /// Takes out every value of an option that may stand several times, in order.
    pub fn take_all(&mut self, key: &'static str) -> Vec<String> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let mut values = Vec::new();
        self.left.retain(|(_, name, value)| {
            let found = name == key;
            if found {
                values.push(value.expose().to_owned());
            }
            !found
        });
        values
    }

    /// Takes an option as any type that parses from text.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) naming the option and the type. Neither the
    /// value nor what the type says of it is repeated: it may be a secret.
    pub fn take_parsed<T: FromStr>(&mut self, key: &'static str) -> Result<Option<T>, Error> {
        let kind = std::any::type_name::<T>();
        let kind = kind.rsplit("::").next().unwrap_or(kind);
        self.take_as(key, &format!("the option's value cannot be read as {kind}"))
    }

    /// Takes an option as a length of time: `100ms`, `5s`, `1m 30s`.
    ///
    /// # Errors
    /// As [`take_parsed`](Self::take_parsed).
    pub fn take_duration(&mut self, key: &'static str) -> Result<Option<Duration>, Error> {
        let what = "the option is a length of time, as in 100ms, 5s or 1m 30s";
        Ok(self.take_as::<humantime::Duration>(key, what)?.map(Into::into))
    }

    fn take_as<T: FromStr>(&mut self, key: &'static str, what: &str) -> Result<Option<T>, Error> {
        let Some(text) = self.take(key)? else { return Ok(None) };
        let parsed = text.parse::<T>().map(Some);
        parsed.map_err(|_| Error::invalid_input(what.to_owned()).with_context("option", key))
    }

    /// Takes an option as `true` or `false`; the bare name means `true`.
    ///
    /// # Errors
    /// As [`take_parsed`](Self::take_parsed).
    pub fn take_bool(&mut self, key: &'static str) -> Result<Option<bool>, Error> {
        match self.take(key)?.as_deref() {
            None => Ok(None),
            Some("true" | "1" | "") => Ok(Some(true)),
            Some("false" | "0") => Ok(Some(false)),
            Some(_) => {
                Err(Error::invalid_input("the option is true or false").with_context("option", key))
            }
        }
    }

    /// Checks that nothing else is given, before anything is taken: so what is misspelt is named, and not
    /// what is missing because of it.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn only(&mut self, known: &[&'static str]) -> Result<(), Error> {
        self.known.extend(known.iter().filter(|key| !self.known.contains(key)).collect::<Vec<_>>());
        match self.left.iter().find(|(_, name, _)| !self.known.iter().any(|key| key == name)) {
            Some((place, unknown, _)) => Err(self.unknown(*place, unknown)),
            None => Ok(()),
        }
    }

    /// Checks that nothing is left over.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) with the name of the first unknown option, or
    /// its place, and the names of all known ones.
    pub fn finish(&self) -> Result<(), Error> {
        match self.left.first() {
            Some((place, unknown, _)) => Err(self.unknown(*place, unknown)),
            None => Ok(()),
        }
    }

    fn unknown(&self, place: usize, unknown: &str) -> Error {
        let known = self.known();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let unknown = match self.redacted {
            true => format!("no. {} of {} {}", place + 1, self.given, redact::length(unknown)),
            false => unknown.to_owned(),
        };
        Error::invalid_input(format!("unknown option; known options are: {known}"))
            .with_context("option", unknown)
    }

    fn known(&self) -> Vec<&'static str> {
        let mut known = self.known.clone();
        known.sort_unstable();
        known
    }
}

/// Options that do not come as one text.
impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Options {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs = pairs.into_iter().enumerate();
        let left: Vec<_> =
            pairs.map(|(place, (key, value))| (place, key.into(), Secret::new(value))).collect();
        Self { given: left.len(), left, redacted: false, known: Vec::new() }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("given", &self.given)
            .field("known", &self.known())
            .finish_non_exhaustive()
    }
}
