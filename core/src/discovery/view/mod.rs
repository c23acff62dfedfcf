//! A part of a service, for a client that wants no more than that.
//!
//! A view is a function of the complete set, so there is nothing that could miss an update. It has
//! no task and no state to keep in step: who subscribes through it reads what the inner instancer
//! published, and the first to read a new snapshot computes what all the others are shown (`memo`).
//! The price is that the work is done by a reader, in `current` or `changed`.

mod choice;
mod filter;
mod lens;
mod memo;
mod viewed;

pub use self::choice::View;
pub use self::filter::Filter;
pub(crate) use self::lens::Lens;
pub(crate) use self::memo::Memo;
pub use self::viewed::{InstancerExt, Viewed};
