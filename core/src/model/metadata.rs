//! Free-form facts about an instance, within limits.

use std::collections::BTreeMap;

use crate::{Error, ErrorKind};

/// Key-value pairs of an instance: at most 128 pairs and 64 KiB in all, sorted by key.
///
/// That is room for all that a registry takes, and for what it says of the instance beside: nothing is left out.
///
/// ```
/// use fleetward_core::Metadata;
/// let metadata = Metadata::new([("protocol", "grpc"), ("shard", "7")])?;
/// assert_eq!(metadata.get("shard"), Some("7"));
/// # Ok::<(), fleetward_core::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Metadata {
    pairs: BTreeMap<Box<str>, Box<str>>,
}

impl Metadata {
    /// The most pairs that an instance may carry.
    pub const MAX_PAIRS: usize = 128;
    /// The most bytes of keys and values together.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Collects pairs; a later key replaces an earlier one.
    ///
    /// # Errors
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) past a limit: nothing is cut off in silence.
    pub fn new<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<Self, Error>
    where
        K: Into<String>,
        V: Into<String>,
    {
        let mut metadata = Self::default();
        for (key, value) in pairs {
            metadata.insert(key, value)?;
        }
        Ok(metadata)
    }

    /// Adds or replaces one pair. On an error nothing has changed.
    ///
    /// # Errors
    /// [`LimitExceeded`](ErrorKind::LimitExceeded) past a limit.
    pub fn insert(
        &mut self,
        key: impl Into<String>,
        value: impl Into<String>,
    ) -> Result<(), Error> {
        let (key, value) = (key.into(), value.into());
        let replaced = self.pairs.get(key.as_str()).map(|old| key.len() + old.len());
        let before: usize = self.iter().map(|(key, value)| key.len() + value.len()).sum();
        let bytes = before - replaced.unwrap_or(0) + key.len() + value.len();
        let pairs = self.pairs.len() + usize::from(replaced.is_none());
        if pairs > Self::MAX_PAIRS || bytes > Self::MAX_BYTES {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                "an instance carries at most 128 metadata pairs and 64 KiB",
            ));
        }
        self.pairs.insert(key.into(), value.into());
        Ok(())
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.pairs.get(key).map(|value| &**value)
    }

    /// All pairs, sorted by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (&**key, &**value))
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_a_refused_pair_changes_nothing() {
        let mut metadata =
            Metadata::new((0..Metadata::MAX_PAIRS).map(|i| (format!("k{i}"), "v"))).unwrap();
        let before = metadata.clone();
        assert_eq!(metadata.insert("one more", "v").unwrap_err().kind(), ErrorKind::LimitExceeded);
        assert!(metadata.insert("k0", "x".repeat(Metadata::MAX_BYTES)).is_err());
        assert_eq!(metadata, before);
        metadata.insert("k0", "longer").unwrap();
        metadata.insert("k0", "v").unwrap();
        assert_eq!(metadata, before);
    }
}
