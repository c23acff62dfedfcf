//! A factory and its services that keep account of what happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_core::context::WithContext;
use fleetward_core::{Endpointer, Instance, InstanceId};
use futures::future::BoxFuture;
use tower::util::Oneshot;
use tower::{Service, ServiceExt};

/// A request of the tests' stacks.
pub(crate) type Ask = WithContext<&'static str>;

/// Calls a stack with a request that has no context yet.
pub(crate) trait AskExt<R>: Service<WithContext<R>> + Sized {
    fn ask(self, request: R) -> Oneshot<Self, WithContext<R>> {
        self.oneshot(request.into())
    }
}

impl<S: Service<WithContext<R>>, R> AskExt<R> for S {}

pub(crate) fn instance(address: &str) -> Instance {
    Instance::new(address).unwrap()
}

pub(crate) fn instances(addresses: &[&str]) -> Vec<Instance> {
    addresses.iter().map(|address| instance(address)).collect()
}

/// What the services answer and how the factory behaves, by address.
#[derive(Clone, Default)]
pub(crate) struct Probe {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    made: BTreeMap<String, usize>,
    live: BTreeMap<String, usize>,
    broken_factories: BTreeSet<String>,
    slow_factories: BTreeMap<String, Duration>,
    failing: BTreeSet<String>,
    slow: BTreeMap<String, Duration>,
    calls: BTreeMap<String, usize>,
}

impl Probe {
    pub(crate) fn factory(
        &self,
    ) -> impl Fn(Arc<Instance>) -> BoxFuture<'static, Result<Probed, String>> + Send + Sync + 'static
    {
        let probe = self.clone();
        move |instance| {
            let probe = probe.clone();
            Box::pin(async move {
                let address = instance.address().to_string();
                let (broken, slow) = {
                    let mut inner = probe.inner.lock().unwrap();
                    *inner.made.entry(address.clone()).or_default() += 1;
                    let broken = inner.broken_factories.contains(&address);
                    (broken, inner.slow_factories.get(&address).copied())
                };
                if let Some(slow) = slow {
                    tokio::time::sleep(slow).await;
                }
                if broken {
                    return Err(format!("the factory of {address} is broken"));
                }
                *probe.inner.lock().unwrap().live.entry(address.clone()).or_default() += 1;
                Ok(Probed { live: Arc::new(Live { probe, address }) })
            })
        }
    }

    pub(crate) fn made(&self, address: &str) -> usize {
        self.inner.lock().unwrap().made.get(address).copied().unwrap_or(0)
    }

    /// The addresses whose service has not been dropped.
    pub(crate) fn live(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap();
        inner.live.iter().filter(|(_, n)| **n > 0).map(|(a, _)| a.clone()).collect()
    }

    pub(crate) fn calls(&self, address: &str) -> usize {
        self.inner.lock().unwrap().calls.get(address).copied().unwrap_or(0)
    }

    pub(crate) fn break_factory(&self, address: &str, broken: bool) {
        let mut inner = self.inner.lock().unwrap();
        if broken {
            inner.broken_factories.insert(address.to_owned());
        } else {
            inner.broken_factories.remove(address);
        }
    }

    pub(crate) fn slow_factory(&self, address: &str, takes: Duration) {
        self.inner.lock().unwrap().slow_factories.insert(address.to_owned(), takes);
    }

    pub(crate) fn fail_calls(&self, address: &str) {
        self.inner.lock().unwrap().failing.insert(address.to_owned());
    }

    pub(crate) fn heal_calls(&self, address: &str) {
        self.inner.lock().unwrap().failing.remove(address);
    }

    pub(crate) fn slow_calls(&self, address: &str, takes: Duration) {
        self.inner.lock().unwrap().slow.insert(address.to_owned(), takes);
    }
}

/// A service that answers with its address.
#[derive(Clone)]
pub(crate) struct Probed {
    live: Arc<Live>,
}

struct Live {
    probe: Probe,
    address: String,
}

impl Drop for Live {
    fn drop(&mut self) {
        *self.probe.inner.lock().unwrap().live.entry(self.address.clone()).or_default() -= 1;
    }
}

impl Service<&'static str> for Probed {
    type Response = String;
    type Error = String;
    type Future = BoxFuture<'static, Result<String, String>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), String>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: &'static str) -> Self::Future {
        // The call holds the service, as a call on a connection does.
        let live = self.live.clone();
        Box::pin(async move {
            let (failing, slow) = {
                let mut inner = live.probe.inner.lock().unwrap();
                *inner.calls.entry(live.address.clone()).or_default() += 1;
                let slow = inner.slow.get(&live.address).copied();
                (inner.failing.contains(&live.address), slow)
            };
            if let Some(slow) = slow {
                tokio::time::sleep(slow).await;
            }
            if failing { Err(format!("{} fails", live.address)) } else { Ok(live.address.clone()) }
        })
    }
}

/// The ids that can be picked.
pub(crate) fn ready<S>(endpointer: &impl Endpointer<S>) -> Vec<InstanceId> {
    endpointer
        .endpoints()
        .load()
        .ready()
        .iter()
        .map(|member| member.instance().id().clone())
        .collect()
}

/// Waits, on the runtime's clock, until exactly these can be picked.
pub(crate) async fn until_ready<S>(endpointer: &impl Endpointer<S>, ids: &[&str]) {
    let wait = endpointer.endpoints().wait_for(|set| {
        let now: Vec<_> = set.ready().iter().map(|m| m.instance().id().to_string()).collect();
        now == ids
    });
    if tokio::time::timeout(Duration::from_secs(5), wait).await.is_err() {
        panic!("waited for {ids:?}, ready are {:?}", ready(endpointer));
    }
}

/// Lets every task that can run do so, without moving a paused clock.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}
