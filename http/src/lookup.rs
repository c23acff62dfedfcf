//! What balancers may know of a request.

use std::any::Any;

use fleetward_core::endpoints::Operation;
use http::Request;

/// Finds a header, for balancers that go by a key of the request, such as `ring_hash`; and by HTTP/2's
/// names what is no header: `:method`, `:path` (with the query) and `:authority`.
///
/// A [`Client`](crate::Client) has it already; this is for a [`Balanced`](fleetward_core::Balanced) of
/// one's own, whose requests have bodies of type `B`. Of several headers of one name it finds the first.
///
/// ```
/// use fleetward_core::Balanced;
/// use fleetward_http::{ByStatus, RequestBody, header};
/// let builder = Balanced::builder().observer(ByStatus).lookup(header::<RequestBody>);
/// ```
pub fn header<'a, B: 'static>(request: &'a dyn Any, name: &str) -> Option<&'a [u8]> {
    let request = request.downcast_ref::<Request<B>>()?;
    match name {
        ":method" => Some(request.method().as_str().as_bytes()),
        ":path" => Some(request.uri().path_and_query()?.as_str().as_bytes()),
        // In the order in which a pool takes it.
        ":authority" => match request.headers().get(http::header::HOST) {
            Some(host) => Some(host.as_bytes()),
            None => Some(request.uri().authority()?.as_str().as_bytes()),
        },
        name => Some(request.headers().get(name)?.as_bytes()),
    }
}

/// What a request asks for: its method and the first part of its path, `GET /users` of `GET /users/7?all`.
///
/// A [`Client`](crate::Client) has it already; this is for a [`Balanced`](fleetward_core::Balanced) of one's own
/// ([`BalancedBuilder::operation`](fleetward_core::balancing::BalancedBuilder::operation)), whose requests have bodies of
/// type `B`.
pub fn operation<B: 'static>(request: &dyn Any) -> Operation {
    let Some(request) = request.downcast_ref::<Request<B>>() else { return Operation::default() };
    let path = request.uri().path();
    let end = path.bytes().skip(1).position(|byte| byte == b'/').map_or(path.len(), |at| at + 1);
    Operation::named(request.method().as_str().as_bytes()).and(&path.as_bytes()[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_the_method_and_the_first_part_of_the_path() {
        let of = |method, uri| {
            operation::<()>(&Request::builder().method(method).uri(uri).body(()).unwrap())
        };
        assert_eq!(of("GET", "/users/7?all"), of("GET", "http://shop/users/8"));
        assert_eq!(of("GET", "/users"), of("GET", "/users?a=/b"));
        assert_eq!(of("OPTIONS", "*"), of("OPTIONS", "*"));
        assert_ne!(of("GET", "/users/7"), of("POST", "/users/7"));
        assert_ne!(of("GET", "/users/7"), of("GET", "/orders/7"));
        assert_ne!(of("GET", "/"), of("GET", "/users"));
    }

    #[test]
    fn it_finds_headers_and_what_is_none() {
        let request = Request::get("/a?b=c").header("User-Id", "7").header("host", "shop").body(());
        let request = request.unwrap();
        let find = |name| header::<()>(&request, name).map(|found| str::from_utf8(found).unwrap());
        assert_eq!(find("user-id"), Some("7"));
        assert_eq!(find("User-Id"), Some("7"));
        assert_eq!(find(":method"), Some("GET"));
        assert_eq!(find(":path"), Some("/a?b=c"));
        assert_eq!(find(":authority"), Some("shop"));
        let both = Request::get("http://a/").header("host", "b").body(()).unwrap();
        assert_eq!(header::<()>(&both, ":authority"), Some(&b"b"[..]));
        let uri = Request::get("http://a/").body(()).unwrap();
        assert_eq!(header::<()>(&uri, ":authority"), Some(&b"a"[..]));
        assert_eq!(find("other"), None);
        assert_eq!(find("not a\nname"), None);
        assert_eq!(header::<String>(&request, "user-id"), None);
    }
}
