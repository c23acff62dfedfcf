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
mod row;
#[cfg(feature = "rows")]
pub(crate) mod whole_call;

pub(crate) use self::row::Row;

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
