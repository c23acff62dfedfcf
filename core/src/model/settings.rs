//! What a registry says of a service as a whole.

/// How the owner of a service wants it to be called: what some registries hold beside the instances.
///
/// A [`Source`](crate::discovery::Source) hands it along in its [`Listing`](crate::discovery::Listing); readers find it
/// in the [`Snapshot`](crate::Snapshot). It is data: nothing applies it by itself.
///
/// ```
/// use fleetward_core::model::ServiceSettings;
/// let settings = ServiceSettings::default().with_balancer("ring_hash?key=user").with_max_concurrency(100);
/// assert_eq!(settings.balancer.as_deref(), Some("ring_hash?key=user"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServiceSettings {
    /// The balancer, by name and with its options, as a registry's URL names one.
    pub balancer: Option<String>,
    /// The most calls that a client has at one instance at once.
    pub max_concurrency: Option<usize>,
}

impl ServiceSettings {
    /// Sets the balancer.
    #[must_use]
    pub fn with_balancer(mut self, balancer: impl Into<String>) -> Self {
        self.balancer = Some(balancer.into());
        self
    }

    /// Sets the most calls that a client has at one instance at once.
    #[must_use]
    pub fn with_max_concurrency(mut self, calls: usize) -> Self {
        self.max_concurrency = Some(calls);
        self
    }
}
