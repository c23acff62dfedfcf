//! What is measured: a module a row, in the order of the document.

#[cfg(feature = "rows")]
mod build;
#[cfg(feature = "rows")]
mod change;
pub(crate) mod instructions;
mod layers;
mod pick;
#[cfg(feature = "rows")]
pub(crate) mod registry;
#[cfg(feature = "rows")]
pub(crate) mod whole_call;

use crate::Result;
use crate::measure::Effort;
use crate::section::Section;

/// One row: a section of the document.
pub(crate) struct Row {
    /// Names its results' file and picks it with `--only`.
    pub(crate) name: &'static str,
    /// Its heading.
    pub(crate) title: &'static str,
    /// Measures. A part that cannot run here is said in [`Section::skipped`], not an error.
    pub(crate) run: fn(&Effort) -> Result<Section>,
}

#[cfg(feature = "rows")]
pub(crate) const ALL: &[Row] = &[
    pick::ROW,
    layers::ROW,
    instructions::ROW,
    whole_call::ROW,
    change::ROW,
    registry::ROW,
    build::ROW,
];
