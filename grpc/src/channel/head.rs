//! What the head of a response says of the call.

use http::StatusCode;
use tonic::{Code, Status};

/// Read once, and kept with the response's body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Head {
    /// Nothing yet: the trailers will.
    #[default]
    Begun,
    /// All is done and well, by the head alone.
    Succeeded,
    /// It has failed by the head alone: trailers-only, or not from a gRPC server at all (a proxy's
    /// 503).
    Failed(Code),
}

impl Head {
    pub(crate) fn of<B>(response: &http::Response<B>) -> Self {
        match response.headers().get(Status::GRPC_STATUS) {
            Some(status) => match Code::from_bytes(status.as_bytes()) {
                Code::Ok => Self::Succeeded,
                code => Self::Failed(code),
            },
            None => code_of_http(response.status()).map_or(Self::Begun, Self::Failed),
        }
    }
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
