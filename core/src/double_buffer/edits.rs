//! Changes of a long sorted list, made in place.
//!
//! Moving what stands behind a change is one `memmove`, which is a hundred times cheaper than a copy of shared
//! entries.

/// What becomes of one position of a list.
pub(crate) struct Edit<T> {
    /// Where it stands in the list before any edit, or where it would stand.
    at: usize,
    replaces: bool,
    with: Option<T>,
}

impl<T> Edit<T> {
    /// Puts `with` in the place that a binary search has found, or takes away what stands there; `None`
    /// if that is nothing.
    pub(crate) fn new(found: Result<usize, usize>, with: Option<T>) -> Option<Self> {
        match found {
            Ok(at) => Some(Self { at, replaces: true, with }),
            Err(at) => with.map(|with| Self { at, replaces: false, with: Some(with) }),
        }
    }
}

/// The most edits that are made one by one; for more, the list is moved into a new one in one pass.
const ONE_BY_ONE: usize = 16;

/// Makes the edits, which are in the order of their positions.
pub(crate) fn apply<T>(list: &mut Vec<T>, edits: Vec<Edit<T>>) {
    if edits.len() <= ONE_BY_ONE {
        // From the end: what stands before an edit has not moved yet.
        for Edit { at, replaces, with } in edits.into_iter().rev() {
            match (replaces, with) {
                (true, Some(with)) => list[at] = with,
                (true, None) => drop(list.remove(at)),
                (false, Some(with)) => list.insert(at, with),
                (false, None) => {}
            }
        }
        return;
    }
    let mut next = Vec::with_capacity(list.len() + edits.len());
    let mut old = std::mem::take(list).into_iter();
    let mut passed = 0;
    for Edit { at, replaces, with } in edits {
        next.extend(old.by_ref().take(at - passed));
        passed = at;
        if replaces {
            old.next();
            passed += 1;
        }
        next.extend(with);
    }
    next.extend(old);
    *list = next;
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn edits_do_what_a_map_does(
            before in proptest::collection::btree_map(0..200_u32, 0..9_u32, 0..60),
            changes in proptest::collection::btree_map(0..200_u32, proptest::option::of(0..9_u32), 0..60),
        ) {
            let mut list: Vec<(u32, u32)> = before.clone().into_iter().collect();
            let edits = changes.iter().filter_map(|(key, value)| {
                let found = list.binary_search_by_key(key, |(key, _)| *key);
                Edit::new(found, value.map(|value| (*key, value)))
            });
            let edits = edits.collect();
            apply(&mut list, edits);
            let mut expected: BTreeMap<u32, u32> = before;
            for (key, value) in changes {
                match value {
                    Some(value) => drop(expected.insert(key, value)),
                    None => drop(expected.remove(&key)),
                }
            }
            prop_assert_eq!(list, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
