//! What a request asks for, as far as instances may differ in whether they can do it.

/// Tells what one request asks for from what others do: a hash of a gRPC method's path, of an HTTP
/// method and the first part of its path.
///
/// Errors that may be the caller's fault are weighed by operation ([`Outcome::Refused`]). The default
/// is a service with a single operation.
///
/// ```
/// use fleetward_core::endpoints::Operation;
/// let get = Operation::named(b"GET").and(b"/users");
/// assert_eq!(get, Operation::named(b"GET").and(b"/users"));
/// assert_ne!(get, Operation::named(b"GET").and(b"/orders"));
/// ```
///
/// [`Outcome::Refused`]: crate::endpoints::Outcome::Refused
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Operation(u64);

/// Finds a request's operation.
pub type OperationOf = fn(request: &dyn std::any::Any) -> Operation;

impl Operation {
    /// By its name.
    #[inline]
    pub fn named(name: &[u8]) -> Self {
        Self::default().and(name)
    }

    /// By one more part of its name.
    #[must_use]
    #[inline]
    pub fn and(self, part: &[u8]) -> Self {
        // rustc's FxHash. Names that collide share their evidence, which errs on the side of harmless.
        const FACTOR: u64 = 0x517c_c1b7_2722_0a95;
        let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(FACTOR);
        let (words, rest) = part.as_chunks::<8>();
        let hash = words.iter().fold(self.0, |hash, word| mix(hash, u64::from_le_bytes(*word)));
        let rest = rest.iter().fold(0, |word, &byte| (word << 8) | u64::from(byte));
        Self(mix(mix(hash, rest), part.len() as u64 + 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_differ_by_every_byte_and_by_where_their_parts_end() {
        let mut seen = std::collections::BTreeSet::new();
        for name in
            ["", "a", "b", "ab", "/greet.Greet/Morning", "/greet.Greet/Morninh", "\0", "\0\0"]
        {
            assert!(seen.insert(Operation::named(name.as_bytes()).0), "{name:?}");
        }
        assert_ne!(Operation::named(b"a").and(b"b"), Operation::named(b"ab"));
        assert_ne!(Operation::named(b"").and(b""), Operation::default());
    }
}
