//! What the head of a response says of the call.

use http::StatusCode;
use tonic::body::Body;
use tonic::{Code, Status};

/// The code of a response that has failed by its head alone: trailers-only, or not from a gRPC
/// server at all (a proxy's 503).
pub(super) fn failure(response: &http::Response<Body>) -> Option<Code> {
    match response.headers().get(Status::GRPC_STATUS) {
        Some(status) => Some(Code::from_bytes(status.as_bytes())).filter(|code| *code != Code::Ok),
        None => code_of_http(response.status()),
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
