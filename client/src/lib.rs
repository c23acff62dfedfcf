#![doc = include_str!("../README.md")]

mod body;
mod head;

pub use self::body::{AttemptBody, AttemptError, AttemptGuard, ReplayBody, ReplayBuffer};
pub use self::head::RequestHead;
