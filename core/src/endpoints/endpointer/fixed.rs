//! Endpoints that are given and stay.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::time::Instant;

use super::held::Held;
use super::lists::{Lists, Place};
use super::live::{EndpointerState, Endpoints};
use super::set::{EndpointSet, Facts};
use super::slot::Standing;
use crate::Endpointer;
use crate::endpoints::Member;
use crate::endpoints::endpoint::{EndpointState, Surroundings};
use crate::{Freshness, Instance};

/// Endpoints that no registry lists: in tests, or where the services are made by hand.
///
/// All are ready at once and stay so: nobody connects, checks health or detects outliers here. An instance of
/// weight 0 takes no call; of two with the same id and address the last one counts. It needs no tokio runtime.
/// Named after go-kit's `FixedEndpointer`.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), fleetward_core::BoxError> {
/// use fleetward_core::balancing::{PickContext, ReadySet};
/// use fleetward_core::context::WithContext;
/// use fleetward_core::{Balanced, Balancer, FixedEndpointer, Instance};
/// use tower::{ServiceExt, service_fn};
///
/// #[derive(Debug)]
/// struct First;
/// impl Balancer for First {
///     fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
///         Some(0)
///     }
/// }
///
/// let double = service_fn(|n: u32| async move { Ok::<_, std::io::Error>(2 * n) });
/// let endpointer = FixedEndpointer::new("double", [(Instance::new("10.0.0.1:80")?, double)]);
/// let request = WithContext::from(21);
/// assert_eq!(Balanced::new(endpointer, First).oneshot(request).await?, 42);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct FixedEndpointer<S> {
    endpoints: Endpoints<S>,
}

impl<S: Clone + Send + Sync + 'static> FixedEndpointer<S> {
    /// One endpoint for each pair of an instance and the service that calls it.
    pub fn new(service: &str, endpoints: impl IntoIterator<Item = (Instance, S)>) -> Self {
        let around = Surroundings { service: service.into(), ..Surroundings::default() };
        let shared = Arc::new(EndpointerState::new(around));
        let endpoints = endpoints.into_iter().map(|(instance, service)| {
            let key = instance.id().clone();
            (key, (Arc::new(instance), Held::new(service)))
        });
        let endpoints: BTreeMap<_, _> = endpoints.collect();
        let mut facts = Facts::pending("".into());
        facts.freshness = Freshness::Fresh;
        facts.known = endpoints.len();
        let (now, mut moves) = (Instant::now(), Vec::new());
        for (id, (instance, service)) in endpoints {
            if instance.is_draining() {
                facts.counts.add(Standing::DRAINING);
                continue;
            }
            facts.counts.add(Standing::HEALTHY);
            let state = EndpointState::new(shared.around.clone(), &instance);
            state.set_available_since(now);
            moves.push((id, Place::Ready(Member::new(instance, Arc::new(state)), service)));
        }
        shared.published.publish(EndpointSet::new(Arc::new(Lists::of(&moves)), facts));
        Self { endpoints: Endpoints::new(shared, None) }
    }
}

impl<S> Endpointer<S> for FixedEndpointer<S> {
    fn endpoints(&self) -> &Endpoints<S> {
        &self.endpoints
    }
}
