#![doc = include_str!("../README.md")]

mod attempts;
mod body;
mod deadline;
mod head;
mod settings;
mod sync;

pub use self::attempts::{Attempt, Attempts, Exchange, Superseded};
pub use self::body::{AttemptBody, AttemptError, AttemptGuard, ReplayBody, ReplayBuffer};
pub use self::deadline::{Deadline, DeadlineTimer};
pub use self::head::RequestHead;
pub use self::settings::ClientSettings;
