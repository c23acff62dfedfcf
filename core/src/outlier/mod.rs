//! Instances that fail more than others are left out for a time.
//!
//! The detector has no task and no clock: whoever holds it says what time it is, and publishes a new
//! set of endpoints when it says that something changed. The [`Endpointer`](crate::Endpointer) does
//! so; a simulator may as well.

mod config;
mod detector;
mod host;
mod statistics;

pub use self::config::{FailureShare, MovingSuccessRate, OutlierDetection, SuccessRate};
pub use self::detector::OutlierDetector;
