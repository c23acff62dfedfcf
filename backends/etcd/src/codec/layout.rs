//! What a layout says.

use std::fmt;

use fleetward_core::{Error, Instance, ServiceName};

/// One layout.
pub(crate) trait Codec: fmt::Debug + Send + Sync {
    /// As the option `codec` has it.
    fn name(&self) -> &'static str;

    /// What all keys of a service start with, up to and including the last `/`.
    fn root(&self, service: &ServiceName) -> String;

    /// The value of an instance.
    fn encode(&self, instance: &Instance) -> Result<Vec<u8>, Error>;

    /// The instance in a value; `tail` is the key after the root. `None`: the value says that the
    /// instance is gone.
    fn decode(&self, tail: &str, value: &[u8]) -> Result<Option<Instance>, Error>;
}
