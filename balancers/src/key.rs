//! Where a call's key comes from, for balancers that send calls with the same key to the same
//! endpoint.

use std::any::type_name;
use std::fmt;
use std::sync::Arc;

use fleetward_core::balancing::PickContext;
use twox_hash::XxHash64;

/// What a call is hashed by: a user's id, a session, the name of what is asked for.
///
/// It is taken from the request in place, without allocating. A call that has no key, or an empty
/// one, may go anywhere.
///
/// ```
/// use fleetward_balancers::{HashKey, RingHash};
/// struct GetCart { user: String }
/// let key = HashKey::request(|request: &GetCart| Some(request.user.as_bytes()));
/// let balancer = RingHash::new(key);
/// // For gRPC: an entry of the metadata.
/// let balancer = RingHash::new(HashKey::attribute("user-id"));
/// ```
#[derive(Clone)]
pub struct HashKey {
    source: Source,
}

#[derive(Clone)]
enum Source {
    Attribute(Arc<str>),
    Request { hash: Arc<HashOf>, of: &'static str },
}

type HashOf = dyn Fn(&PickContext<'_>) -> Option<u64> + Send + Sync;

impl HashKey {
    /// What the request says under a name ([`PickContext::attribute`]): for gRPC a metadata entry,
    /// for HTTP a header.
    pub fn attribute(name: impl Into<Arc<str>>) -> Self {
        Self { source: Source::Attribute(name.into()) }
    }

    /// Bytes of the request, or nothing if it has no key. A request of another type has none.
    pub fn request<R, F>(key: F) -> Self
    where
        R: 'static,
        F: for<'a> Fn(&'a R) -> Option<&'a [u8]> + Send + Sync + 'static,
    {
        Self::hashed::<R>(move |context| {
            key(context.request()?).filter(|key| !key.is_empty()).map(hash)
        })
    }

    /// A number in the request, or nothing if it has no key: a numeric id, or a hash that the
    /// caller has made of several fields. It need not be spread well.
    ///
    /// ```
    /// use fleetward_balancers::{HashKey, Maglev};
    /// struct GetAccount { number: u64 }
    /// let balancer = Maglev::new(HashKey::number(|request: &GetAccount| Some(request.number)));
    /// ```
    pub fn number<R, F>(key: F) -> Self
    where
        R: 'static,
        F: Fn(&R) -> Option<u64> + Send + Sync + 'static,
    {
        Self::hashed::<R>(move |context| {
            key(context.request()?).map(|number| hash(&number.to_le_bytes()))
        })
    }

    fn hashed<R>(hash: impl Fn(&PickContext<'_>) -> Option<u64> + Send + Sync + 'static) -> Self {
        Self { source: Source::Request { hash: Arc::new(hash), of: type_name::<R>() } }
    }

    /// The hash of this call's key.
    pub(crate) fn hash(&self, context: &PickContext<'_>) -> Option<u64> {
        match &self.source {
            Source::Attribute(name) => {
                context.attribute(name).filter(|key| !key.is_empty()).map(hash)
            }
            Source::Request { hash, .. } => hash(context),
        }
    }
}

impl fmt::Debug for HashKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (of, name) = match &self.source {
            Source::Attribute(name) => ("attribute", &**name),
            Source::Request { of, .. } => ("request", *of),
        };
        f.debug_struct("HashKey").field(of, &name).finish_non_exhaustive()
    }
}

/// The hash that gRPC and Envoy use for keys and for endpoints: XXH64 with seed 0.
pub(crate) fn hash(key: &[u8]) -> u64 {
    XxHash64::oneshot(0, key)
}

#[cfg(test)]
mod tests {
    use std::any::Any;

    use super::*;

    #[test]
    fn keys_come_from_the_request_or_its_attributes() {
        struct Request {
            user: &'static str,
        }
        fn lookup<'a>(request: &'a dyn Any, name: &str) -> Option<&'a [u8]> {
            let request = request.downcast_ref::<Request>()?;
            (name == "user").then_some(request.user.as_bytes())
        }
        let request = Request { user: "ann" };
        let context = PickContext::new().with_request(&request).with_lookup(lookup);
        let by_request = HashKey::request(|r: &Request| Some(r.user.as_bytes()));
        let by_number = HashKey::number(|r: &Request| Some(r.user.len() as u64));
        assert_eq!(by_request.hash(&context), Some(hash(b"ann")));
        assert_eq!(HashKey::attribute("user").hash(&context), Some(hash(b"ann")));
        assert_eq!(by_number.hash(&context), Some(hash(&[3, 0, 0, 0, 0, 0, 0, 0])));
        assert_eq!(HashKey::attribute("session").hash(&context), None);
        // An empty key, another type, nothing at all.
        let nobody = Request { user: "" };
        let context = PickContext::new().with_request(&nobody).with_lookup(lookup);
        assert_eq!(by_request.hash(&context), None);
        assert_eq!(HashKey::attribute("user").hash(&context), None);
        let other = PickContext::new().with_request(&"text");
        assert_eq!((by_request.hash(&other), by_number.hash(&other)), (None, None));
        assert_eq!(HashKey::attribute("user").hash(&PickContext::new()), None);
    }

    #[test]
    fn the_hash_is_xxh64() {
        // From the specification's sanity checks.
        assert_eq!(hash(b""), 0xef46_db37_51d8_e999);
        assert_eq!(hash(b"abc"), 0x44bc_2cf5_ad77_0999);
    }
}
