//! The keys under which one instance stands.

use std::sync::Arc;

/// Nearly always one, which then costs no allocation: a client may know a hundred thousand instances.
#[derive(Debug)]
pub(super) enum Keys {
    One(Arc<str>),
    Several(Vec<Arc<str>>),
}

impl Keys {
    pub(super) fn as_slice(&self) -> &[Arc<str>] {
        match self {
            Self::One(key) => std::slice::from_ref(key),
            Self::Several(keys) => keys,
        }
    }

    pub(super) fn push(&mut self, key: Arc<str>) {
        match self {
            Self::One(first) => *self = Self::Several(vec![first.clone(), key]),
            Self::Several(keys) => keys.push(key),
        }
    }

    /// Whether none is left. Then what is left is as good as gone.
    pub(super) fn remove(&mut self, key: &Arc<str>) -> bool {
        match self {
            Self::One(only) => only == key,
            Self::Several(keys) => {
                keys.retain(|other| other != key);
                keys.is_empty()
            }
        }
    }
}
