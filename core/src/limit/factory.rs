//! A limit for each instance.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;

use super::{ConcurrencyLimit, Limited};
use crate::endpoints::Readiness;
use crate::{Error, Factory, Instance};

/// A factory whose services are limited, each by itself: what
/// [`ConcurrencyLimit::per_instance`] makes.
///
/// An instance keeps its limit, and the calls that wait there, for as long as it keeps its service: a changed
/// weight or metadata change nothing, a changed address starts anew.
#[derive(Clone)]
pub struct LimitedFactory<F> {
    limit: ConcurrencyLimit,
    factory: F,
}

impl ConcurrencyLimit {
    /// Limits each instance's service that `factory` makes, each by itself.
    pub fn per_instance<F>(self, factory: F) -> LimitedFactory<F> {
        LimitedFactory { limit: self, factory }
    }
}

#[async_trait]
impl<S, F: Factory<S>> Factory<Limited<S>> for LimitedFactory<F> {
    async fn make(
        &self,
        instance: &Arc<Instance>,
        readiness: Readiness,
    ) -> Result<Limited<S>, Error> {
        let service = self.factory.make(instance, readiness.clone()).await?;
        Ok(self.limit.limit(service, Some((instance.id().clone(), readiness))))
    }
}

impl<F> fmt::Debug for LimitedFactory<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedFactory").field("limit", &self.limit).finish_non_exhaustive()
    }
}
