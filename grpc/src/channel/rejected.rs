//! The error that an attempt ends with by what its response says.

use std::fmt;

use tonic::{Code, Status};

use super::head::describe_foreign;

/// The head of a response that is a failure, kept whole to be handed on as it came.
#[derive(Debug)]
pub(super) struct Rejected {
    pub(super) code: Code,
    pub(super) head: http::response::Parts,
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.code)?;
        match self.head.headers.get(Status::GRPC_MESSAGE) {
            Some(message) => {
                let message = String::from_utf8_lossy(message.as_bytes());
                let short: String = message.chars().take(200).collect();
                write!(f, ": {}", short.escape_debug())
            }
            None if self.head.headers.contains_key(Status::GRPC_STATUS) => Ok(()),
            None => write!(f, ": {}", describe_foreign(&self.head)),
        }
    }
}

impl std::error::Error for Rejected {}
