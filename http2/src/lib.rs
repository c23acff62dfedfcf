#![doc = include_str!("../README.md")]

mod body;
mod call;
mod config;
mod driver;
mod error;
pub mod frames;
mod handshake;
mod owed;
mod ping;
mod preface;
mod reset_queue;
mod sender;
mod slots;
mod stream;
mod sync;
mod upload;

pub use self::body::Incoming;
pub use self::call::{Call, CallError, Caller, Unsent};
pub use self::config::Config;
pub use self::driver::{Closing, DriverTask};
pub use self::error::{Lost, WasProcessed};
pub use self::handshake::{Established, HandshakeError, handshake};
pub use self::preface::Spoken;
pub use self::sender::Sender;
