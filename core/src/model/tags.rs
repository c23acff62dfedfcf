//! The tags of an instance.

use std::sync::Arc;

/// The tags of an instance, in the order in which the registry has them.
///
/// A registry may say anything, so what is kept of it is bounded: [`MAX`](Self::MAX) tags and
/// [`MAX_BYTES`](Self::MAX_BYTES). What goes beyond is counted and not forgotten: [`has`](Self::has) does not know then
/// whether an instance has a tag that is not among those kept.
///
/// ```
/// use fleetward_core::model::Tags;
/// let tags = Tags::new(["canary", "blue"]);
/// assert_eq!((tags.has("blue"), tags.has("green")), (Some(true), Some(false)));
/// let many = Tags::new((0..=Tags::MAX).map(|n| n.to_string()));
/// assert_eq!((many.has("0"), many.has("canary"), many.left_out()), (Some(true), None, 1));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tags(Option<Arc<Known>>);

#[derive(Debug, PartialEq, Eq)]
struct Known {
    tags: Box<[Box<str>]>,
    left_out: usize,
}

impl Tags {
    /// The most tags that are kept.
    pub const MAX: usize = 1024;
    /// The most bytes that are kept of them.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Keeps the first tags, up to the bounds.
    pub fn new<T: Into<Box<str>>>(tags: impl IntoIterator<Item = T>) -> Self {
        let (mut kept, mut bytes, mut left_out) = (Vec::new(), 0, 0);
        for tag in tags {
            let tag: Box<str> = tag.into();
            bytes += tag.len();
            if kept.len() < Self::MAX && bytes <= Self::MAX_BYTES {
                kept.push(tag);
            } else {
                left_out += 1;
            }
        }
        let any = !kept.is_empty() || left_out > 0;
        Self(any.then(|| Arc::new(Known { tags: kept.into(), left_out })))
    }

    /// Whether the instance has that tag; nothing if that is not known, because tags were left out.
    pub fn has(&self, tag: &str) -> Option<bool> {
        let found = self.iter().any(|kept| kept == tag);
        (found || self.left_out() == 0).then_some(found)
    }

    /// Those kept, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> {
        let kept = self.0.as_deref().map_or(&[][..], |known| &known.tags);
        kept.iter().map(|tag| &**tag)
    }

    /// Whether the instance has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many were left out.
    pub fn left_out(&self) -> usize {
        self.0.as_ref().map_or(0, |known| known.left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_bounds_is_counted_and_not_taken_for_absent() {
        let many = Tags::new((0..2000).map(|n| n.to_string()));
        assert_eq!((many.iter().len(), many.left_out()), (Tags::MAX, 2000 - Tags::MAX));
        assert_eq!((many.has("1023"), many.has("1024"), many.has("x")), (Some(true), None, None));
        let long = Tags::new(["x".repeat(Tags::MAX_BYTES + 1), "y".to_owned()]);
        assert_eq!((long.iter().len(), long.left_out(), long.is_empty()), (0, 2, false));
        let none = Tags::new::<&str>([]);
        assert!(none.is_empty() && none == Tags::default() && none.has("x") == Some(false));
    }
}
