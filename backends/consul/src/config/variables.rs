//! The variables of the environment.

use fleetward_core::Error;

/// Where variables are looked up; the process's, but for tests.
pub(crate) struct Environment<'a>(pub(crate) &'a dyn Fn(&str) -> Option<String>);

impl Environment<'_> {
    /// A variable that is set, and not to nothing.
    pub(super) fn get(&self, name: &str) -> Option<String> {
        (self.0)(name).filter(|text| !text.is_empty())
    }

    pub(super) fn flag(&self, name: &'static str) -> Result<Option<bool>, Error> {
        match self.get(name).as_deref() {
            None => Ok(None),
            Some("1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(_) => Err(Error::invalid_input("the variable is true or false")
                .with_context("variable", name)),
        }
    }
}

/// The process's own.
pub(crate) fn process(name: &str) -> Option<String> {
    std::env::var(name).ok()
}
