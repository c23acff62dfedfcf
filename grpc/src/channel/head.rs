//! What the head of a response says of the call.

use http::{HeaderMap, StatusCode, header, response};
use tonic::{Code, Status};

/// Read once, and kept with the response's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Head {
    /// Nothing yet: the trailers will.
    #[default]
    Begun,
    /// All is done and well, by the head alone.
    Succeeded,
    /// A gRPC server says that it has failed (trailers-only).
    Failed(Code),
    /// No gRPC server has answered: a proxy, or another program at the instance's address. The code is
    /// what gRPC makes of that.
    Foreign(Code),
}

impl Head {
    /// `is_over`: nothing follows the head.
    pub(crate) fn of<B>(response: &http::Response<B>, is_over: bool) -> Self {
        let headers = response.headers();
        match headers.get(Status::GRPC_STATUS) {
            Some(status) => match Code::from_bytes(status.as_bytes()) {
                Code::Ok => Self::Succeeded,
                code => Self::Failed(code),
            },
            None => match code_of_http(response.status()) {
                Some(code) => Self::Foreign(code),
                None if is_over || !is_grpc(headers) => Self::Foreign(Code::Unknown),
                None => Self::Begun,
            },
        }
    }
}

/// `application/grpc`, alone or with what the messages are written in or a parameter.
fn is_grpc(headers: &HeaderMap) -> bool {
    const TYPE: &[u8] = b"application/grpc";
    let Some(text) = headers.get(header::CONTENT_TYPE) else { return false };
    let text = text.as_bytes();
    let Some((start, rest)) = text.split_at_checked(TYPE.len()) else { return false };
    start.eq_ignore_ascii_case(TYPE) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// What has answered, where it was no gRPC server.
pub(crate) fn describe_foreign(head: &response::Parts) -> String {
    let status = head.status;
    let mut text = format!("the answer is not gRPC: HTTP {status}");
    if let Some(content) = head.headers.get(header::CONTENT_TYPE) {
        let content = String::from_utf8_lossy(content.as_bytes());
        let short: String = content.chars().take(100).collect();
        text.push_str(&format!(", content-type {}", short.escape_debug()));
    }
    text
}

/// The table in gRPC's "HTTP to gRPC Status Code Mapping".
fn code_of_http(status: StatusCode) -> Option<Code> {
    Some(match status.as_u16() {
        200 => return None,
        400 => Code::Internal,
        401 => Code::Unauthenticated,
        403 => Code::PermissionDenied,
        404 => Code::Unimplemented,
        429 | 502 | 503 | 504 => Code::Unavailable,
        _ => Code::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(status: u16, headers: &[(&str, &str)], is_over: bool) -> Head {
        let mut response = http::Response::builder().status(status);
        for (name, value) in headers {
            response = response.header(*name, *value);
        }
        Head::of(&response.body(()).unwrap(), is_over)
    }

    #[test]
    fn only_a_grpc_server_begins_a_response() {
        let of = |content| head(200, &[("content-type", content)], false);
        for content in ["application/grpc", "application/grpc+proto", "Application/gRPC;v=1"] {
            assert_eq!(of(content), Head::Begun, "{content}");
        }
        for content in
            ["text/html", "application/grpc-web", "application/json", "", "application/grp"]
        {
            assert_eq!(of(content), Head::Foreign(Code::Unknown), "{content}");
        }
        assert_eq!(head(200, &[], false), Head::Foreign(Code::Unknown));
        let ended = head(200, &[("content-type", "application/grpc")], true);
        assert_eq!(ended, Head::Foreign(Code::Unknown));
        assert_eq!(head(404, &[], true), Head::Foreign(Code::Unimplemented));
    }

    #[test]
    fn a_status_of_grpc_s_own_is_believed() {
        let of =
            |status| head(404, &[("grpc-status", status), ("content-type", "text/html")], true);
        assert_eq!(of("0"), Head::Succeeded);
        assert_eq!(of("7"), Head::Failed(Code::PermissionDenied));
        assert_eq!(of("nonsense"), Head::Failed(Code::Unknown));
    }
}
