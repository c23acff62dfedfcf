//! The query of a registry URL: every option is known, or an error.

use std::fmt::Display;
use std::str::FromStr;
use std::time::Duration;

use crate::{Error, Secret};

/// The options in a URL's query.
///
/// A backend takes the options it knows, then calls [`finish`](Self::finish): what is left over is
/// an error that lists what was asked for, so the list of known options cannot go stale.
///
/// ```
/// use fleetward_core::RegistryUrl;
/// let mut url = RegistryUrl::parse("etcd://127.0.0.1:2379/greeter?codecc=plain")?;
/// let options = url.options();
/// assert_eq!(options.take("codec")?, None);
/// let error = options.finish().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "invalid input: unknown option; known options are: codec (option=codecc)"
/// );
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Options {
    given: Vec<(String, Secret)>,
    known: Vec<&'static str>,
}

impl Options {
    /// Takes a URL's query apart, without its `?`: `min=1024&header=user`.
    pub fn parse(query: &str) -> Self {
        let pairs = form_urlencoded::parse(query.as_bytes());
        let given = pairs.map(|(key, value)| (key.into_owned(), Secret::new(value))).collect();
        Self { given, known: Vec::new() }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.given.iter().map(|(key, _)| key.as_str())
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
        self.given.retain(|(name, value)| {
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
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) naming the option, and why it cannot be
    /// read. The value itself is not repeated: it may be a secret.
    pub fn take_parsed<T>(&mut self, key: &'static str) -> Result<Option<T>, Error>
    where
        T: FromStr,
        T::Err: Display,
    {
        let Some(text) = self.take(key)? else { return Ok(None) };
        let parsed = text.parse::<T>();
        parsed.map(Some).map_err(|why| {
            Error::invalid_input(format!("the option's value cannot be read: {why}"))
                .with_context("option", key)
        })
    }

    /// Takes an option as a length of time: `100ms`, `5s`, `1m 30s`.
    ///
    /// # Errors
    /// As [`take_parsed`](Self::take_parsed).
    pub fn take_duration(&mut self, key: &'static str) -> Result<Option<Duration>, Error> {
        Ok(self.take_parsed::<humantime::Duration>(key)?.map(Into::into))
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

    /// Checks that nothing is left over.
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) naming the first unknown option and all
    /// known ones.
    pub fn finish(&self) -> Result<(), Error> {
        let Some((unknown, _)) = self.given.first() else { return Ok(()) };
        let mut known = self.known.clone();
        known.sort_unstable();
        let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        Err(Error::invalid_input(format!("unknown option; known options are: {known}"))
            .with_context("option", unknown))
    }
}
