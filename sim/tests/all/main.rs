//! The simulator against theory and against itself, and the goals that balancers have to keep.

#![allow(clippy::unwrap_used)]

mod goals;
mod repeatable;
mod theory;
