//! The settings of one registration.

use std::time::Duration;

use crate::Error;
use crate::backoff::Backoff;
use crate::registry::Options;

/// The settings of one registration. The defaults suit a production service.
///
/// ```
/// use std::time::Duration;
/// use fleetward_core::RegisterOptions;
/// let options = RegisterOptions::default()
///     .with_ttl(Duration::from_secs(30))
///     .with_keep_trying(true);
/// ```
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RegisterOptions {
    /// How long the registry keeps the entry of a process that died; renewed every third of it.
    /// Default: 10 s. From 1 s to 1 day.
    pub ttl: Duration,
    /// Whether a first attempt that fails is tried again in the background instead of being an
    /// error. Default: no.
    pub keep_trying: bool,
    /// How long to wait after a failure. Default: from 100 ms to 2 s, so that a registry that
    /// comes back has everybody back within seconds.
    pub backoff: Backoff,
    /// The longest one request may take. Default: for a renewal a third of the time to live, from
    /// 1 s to 5 s, so that one lost request does not cost the lease; for registering, which has no
    /// lease to lose, 5 s.
    pub operation_timeout: Option<Duration>,
    /// The longest that deregistering may take. Default: 5 s.
    pub deregister_timeout: Duration,
    /// The seed of the jitter, for tests that must repeat. Default: none, random.
    pub seed: Option<u64>,
}

impl Default for RegisterOptions {
    fn default() -> Self {
        let (initial, max) = (Duration::from_millis(100), Duration::from_secs(2));
        Self {
            ttl: Duration::from_secs(10),
            keep_trying: false,
            backoff: Backoff::new(initial, max).unwrap_or_default(),
            operation_timeout: None,
            deregister_timeout: Duration::from_secs(5),
            seed: None,
        }
    }
}

impl RegisterOptions {
    /// The shortest time to live.
    pub const MIN_TTL: Duration = Duration::from_secs(1);
    /// The longest time to live.
    pub const MAX_TTL: Duration = Duration::from_secs(24 * 60 * 60);

    /// Takes the options of a registry's URL that are for registering: `ttl`, a length of time, and
    /// `keep_trying`. Every registry that registers has them.
    ///
    /// ```
    /// use std::time::Duration;
    /// use fleetward_core::RegisterOptions;
    /// use fleetward_core::registry::RegistryUrl;
    /// let mut url = RegistryUrl::parse("etcd://127.0.0.1:2379/greeter?ttl=5s&keep_trying")?;
    /// let options = RegisterOptions::from_url(url.options())?;
    /// assert_eq!((options.ttl, options.keep_trying), (Duration::from_secs(5), true));
    /// # Ok::<(), fleetward_core::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a value that cannot be read, or a time
    /// to live out of its bounds.
    pub fn from_url(options: &mut Options) -> Result<Self, Error> {
        let mut register = Self::default();
        if let Some(ttl) = options.take_duration("ttl")? {
            register.ttl = ttl;
            register.validate().map_err(|error| error.with_context("option", "ttl"))?;
        }
        if let Some(keep_trying) = options.take_bool("keep_trying")? {
            register.keep_trying = keep_trying;
        }
        Ok(register)
    }

    /// Sets how long the registry keeps the entry of a process that died.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets whether a first attempt that fails is tried again in the background.
    #[must_use]
    pub fn with_keep_trying(mut self, keep_trying: bool) -> Self {
        self.keep_trying = keep_trying;
        self
    }

    /// Sets how long to wait after a failure.
    #[must_use]
    pub fn with_backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = backoff;
        self
    }

    /// Sets the longest one request may take.
    #[must_use]
    pub fn with_operation_timeout(mut self, operation_timeout: Duration) -> Self {
        self.operation_timeout = Some(operation_timeout);
        self
    }

    /// Sets the longest that deregistering may take.
    #[must_use]
    pub fn with_deregister_timeout(mut self, deregister_timeout: Duration) -> Self {
        self.deregister_timeout = deregister_timeout;
        self
    }

    /// Sets the seed of the jitter.
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    pub(crate) fn validate(&self) -> Result<(), Error> {
        if !(Self::MIN_TTL..=Self::MAX_TTL).contains(&self.ttl) {
            let error = Error::invalid_input("a time to live lies between 1 second and 1 day");
            return Err(error.with_context("ttl", format_args!("{:?}", self.ttl)));
        }
        let zero = Some(Duration::ZERO);
        if self.operation_timeout == zero || self.deregister_timeout.is_zero() {
            return Err(Error::invalid_input("a timeout is longer than zero"));
        }
        Ok(())
    }

    pub(crate) fn register_timeout(&self) -> Duration {
        self.operation_timeout.unwrap_or(LONGEST_REQUEST)
    }

    pub(crate) fn renewal_timeout(&self) -> Duration {
        let third = (self.ttl / 3).clamp(Duration::from_secs(1), LONGEST_REQUEST);
        self.operation_timeout.unwrap_or(third)
    }

    pub(crate) fn rng(&self) -> fastrand::Rng {
        self.seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed)
    }
}

/// Unless it is set.
const LONGEST_REQUEST: Duration = Duration::from_secs(5);
