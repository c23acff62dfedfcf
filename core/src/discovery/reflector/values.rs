//! What an entry of the registry says, as rows of the table: one for each instance.

use std::collections::HashSet;
use std::sync::Arc;

use crate::discovery::source::Part;
use crate::discovery::{Entry, Read};

/// A value of the registry on its way into the table.
pub(super) struct Value {
    pub(super) row: Arc<str>,
    /// The entry's key, where that holds several instances. Else it is the row's.
    pub(super) group: Option<Arc<str>>,
    pub(super) read: Read,
    pub(super) revision: u64,
}

/// Adds the values of an entry. Of several that are the same instance the first one counts.
pub(super) fn add(entry: Entry, values: &mut Vec<Value>) {
    let revision = entry.revision();
    let mut seen = HashSet::new();
    entry.each(|key, part, read| {
        let Some(part) = part else {
            return values.push(Value { row: key.clone(), group: None, read, revision });
        };
        let row: Arc<str> = match part {
            Part::Instance(id) => format!("{key}\0{}", id.as_key()).into(),
            Part::Unreadable(place) => format!("{key}\0\0{place}").into(),
        };
        if seen.insert(row.clone()) {
            values.push(Value { row, group: Some(key.clone()), read, revision });
        }
    });
}
