//! Reading JSON as protobuf maps messages to it, with errors that say where.
//!
//! Not by derived deserialisers: most of the rules are about values (above zero, one of two, a known
//! name first), and an error about a value shall name its place just as one about a type does. What
//! holds for all of it: `null` is as good as absent, a number may come as text, and a field that nobody
//! asks for is ignored, whatever it holds. A field that stands twice is an error, for which of the two
//! is meant nobody knows.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::time::Duration;

use fleetward_core::Error;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use super::duration;

/// Parses a text in which no object has a field twice. How deep it nests is bounded by the parser.
pub(super) fn parse(text: &str) -> Result<Value, Error> {
    let fails = |error: serde_json::Error| Error::invalid_input(format!("not JSON: {error}"));
    // Two passes: serde_json's own `Value` reads numbers in whatever way its features ask for.
    serde_json::from_str::<Unique>(text).map_err(fails)?;
    serde_json::from_str(text).map_err(fails)
}

/// A value and where it stands.
#[derive(Clone)]
pub(super) struct Node<'a> {
    value: &'a Value,
    path: String,
}

impl<'a> Node<'a> {
    pub(super) fn new(value: &'a Value, path: impl Into<String>) -> Self {
        Self { value, path: path.into() }
    }

    /// Another value in the same place.
    pub(super) fn with_value<'b>(&self, value: &'b Value) -> Node<'b> {
        Node { value, path: self.path.clone() }
    }

    pub(super) fn error(&self, what: impl Display) -> Error {
        match self.path.as_str() {
            "" => Error::invalid_input(format!("the config {what}")),
            path => Error::invalid_input(format!("{path}: {what}")),
        }
    }

    /// What a field holds, if it is there.
    pub(super) fn get<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Node<'a>) -> Result<T, Error>,
    ) -> Result<Option<T>, Error> {
        let object = self.object()?;
        // Nobody means such a field to be ignored.
        let differs = |key: &String| key != name && key.eq_ignore_ascii_case(name);
        if let Some((key, _)) = object.iter().find(|(key, value)| differs(key) && !value.is_null())
        {
            return Err(self.error_at(key, format!("is written {name}")));
        }
        let found = object.get(name).filter(|value| !value.is_null());
        found.map(|value| read(&self.child(name, value))).transpose()
    }

    /// What a field holds that must be there.
    pub(super) fn require<T>(
        &self,
        name: &str,
        read: impl FnOnce(&Node<'a>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.get(name, read)?.ok_or_else(|| self.error_at(name, "is required"))
    }

    /// An error about a field, whether or not it is there.
    pub(super) fn error_at(&self, name: &str, what: impl Display) -> Error {
        self.child(name, &Value::Null).error(what)
    }

    /// Tells of a field that is right and does nothing.
    pub(super) fn has_no_effect(&self, name: &str) {
        let field = format!("{}.{name}", self.path);
        // The subscriber is the user's.
        let told = std::panic::AssertUnwindSafe(|| {
            tracing::warn!(target: "fleetward", field, "a field of the service config has no effect here");
        });
        let _ = std::panic::catch_unwind(told);
    }

    /// Every field and what it holds.
    pub(super) fn fields(&self) -> Result<Vec<(&'a str, Node<'a>)>, Error> {
        let fields = self.object()?.iter().filter(|(_, value)| !value.is_null());
        Ok(fields.map(|(name, value)| (name.as_str(), self.child(name, value))).collect())
    }

    pub(super) fn items(&self) -> Result<impl Iterator<Item = Node<'a>> + use<'a, '_>, Error> {
        let items = self.value.as_array().ok_or_else(|| self.error("must be a list"))?;
        let at = |(i, value)| Node { value, path: format!("{}[{i}]", self.path) };
        Ok(items.iter().enumerate().map(at))
    }

    pub(super) fn text(&self) -> Result<&'a str, Error> {
        self.value.as_str().ok_or_else(|| self.error("must be a string"))
    }

    /// A string, number or boolean, as one would write it in a URL.
    pub(super) fn scalar(&self) -> Result<String, Error> {
        match self.value {
            Value::String(text) => Ok(text.clone()),
            Value::Number(_) | Value::Bool(_) => Ok(self.value.to_string()),
            _ => Err(self.error("must be a string, a number or a boolean")),
        }
    }

    pub(super) fn boolean(&self) -> Result<bool, Error> {
        self.value.as_bool().ok_or_else(|| self.error("must be true or false"))
    }

    pub(super) fn is_number(&self) -> bool {
        self.value.is_number()
    }

    /// A finite number.
    pub(super) fn number(&self) -> Result<f64, Error> {
        let number = match self.value {
            Value::Number(number) => number.as_f64(),
            Value::String(text) => text.parse().ok(),
            _ => return Err(self.error("must be a number")),
        };
        number.filter(|number| number.is_finite()).ok_or_else(|| self.error("must be a number"))
    }

    /// A whole number from 0 on, `3.0` and `3e0` among them.
    pub(super) fn whole(&self) -> Result<u32, Error> {
        let number = self.number()?;
        if number.fract() != 0.0 || !(0.0..=f64::from(u32::MAX)).contains(&number) {
            return Err(self.error("must be a whole number from 0 to 4294967295"));
        }
        // Exact: an f64 holds every u32.
        Ok(number as u32)
    }

    /// As [`whole`](Self::whole), and not above 100.
    pub(super) fn percent(&self) -> Result<u32, Error> {
        let percent = self.whole()?;
        if percent > 100 {
            return Err(self.error("must be at most 100"));
        }
        Ok(percent)
    }

    pub(super) fn duration(&self) -> Result<Duration, Error> {
        duration::parse(self.text()?).map_err(|why| self.error(why))
    }

    fn object(&self) -> Result<&'a serde_json::Map<String, Value>, Error> {
        self.value.as_object().ok_or_else(|| self.error("must be an object"))
    }

    fn child<'b>(&self, name: &str, value: &'b Value) -> Node<'b> {
        let dot = if self.path.is_empty() { "" } else { "." };
        Node { value, path: format!("{}{dot}{name}", self.path) }
    }
}

/// Any value, as long as no object in it has a field twice.
struct Unique;

impl<'de> Deserialize<'de> for Unique {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Unique)
    }
}

impl<'de> Visitor<'de> for Unique {
    type Value = Unique;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Unique, A::Error> {
        let mut seen = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if seen.contains(&name) {
                return Err(A::Error::custom(format!("the field {name:?} stands twice")));
            }
            seen.insert(name);
            map.next_value::<Unique>()?;
        }
        Ok(Unique)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Unique, A::Error> {
        while items.next_element::<Unique>()?.is_some() {}
        Ok(Unique)
    }

    fn visit_str<E>(self, _: &str) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Unique, E> {
        Ok(Unique)
    }

    fn visit_unit<E>(self) -> Result<Unique, E> {
        Ok(Unique)
    }
}
