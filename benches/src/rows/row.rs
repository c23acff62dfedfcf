//! What a row is.

use crate::error::Result;
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
