//! Calls that wait at an instance which leaves the set of those that take calls.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use fleetward_balancers::RoundRobin;
use fleetward_core::discovery::Publisher;
use fleetward_core::endpoints::{Outcome, Readiness};
use fleetward_core::limit::ConcurrencyLimit;
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::{
    Balanced, BoxError, DefaultEndpointer, Endpointer, Error, ErrorKind, Factory, Instance, Retry,
};
use tokio::time::timeout;
use tower::{Layer, Service};

use crate::support::{AskExt as _, Probe, Probed, instance, instances, settle, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
/// In virtual time.
const SOON: Duration = Duration::from_secs(10);
const LATE: Duration = Duration::from_secs(3600);

/// The factory of a probe, and what its endpoints are told.
#[derive(Clone)]
pub(crate) struct Told {
    probe: Probe,
    said: Arc<Mutex<BTreeMap<String, Readiness>>>,
}

impl Told {
    pub(crate) fn new(probe: &Probe) -> Self {
        Self { probe: probe.clone(), said: Arc::default() }
    }

    pub(crate) fn readiness(&self, address: &str) -> Readiness {
        self.said.lock().unwrap()[address].clone()
    }
}

#[async_trait]
impl Factory<Probed> for Told {
    async fn make(&self, instance: &Arc<Instance>, said: Readiness) -> Result<Probed, Error> {
        self.said.lock().unwrap().insert(instance.address().to_string(), said.clone());
        self.probe.factory().make(instance, said).await
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Cause {
    Removed,
    Draining,
    Unhealthy,
    Disconnected,
    Ejected,
}

pub(crate) const CAUSES: [Cause; 5] =
    [Cause::Removed, Cause::Draining, Cause::Unhealthy, Cause::Disconnected, Cause::Ejected];

impl Cause {
    pub(crate) fn strike<S>(
        self,
        list: &Publisher,
        said: &Readiness,
        endpointer: &impl Endpointer<S>,
    ) {
        let error = || Error::new(ErrorKind::Unavailable, "on purpose");
        match self {
            Self::Removed => list.publish(instances(&[B])),
            Self::Draining => list.publish([instance(A).with_weight(0), instance(B)]),
            Self::Unhealthy => said.health().unhealthy(error()),
            Self::Disconnected => said.set_failed(error()),
            Self::Ejected => {
                let set = endpointer.endpoints().load();
                let member = set.ready().iter().find(|m| m.instance().id().as_str() == A);
                member.unwrap().begin().finish(Outcome::FAILURE);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_in_the_queue_of_an_instance_that_leaves_goes_elsewhere() {
    for cause in CAUSES {
        let probe = Probe::default();
        probe.slow_calls(A, LATE);
        let list = Publisher::new("s");
        list.publish(instances(&[A]));
        let told = Told::new(&probe);
        let limit = ConcurrencyLimit::new(1).queue(10);
        let endpointer = DefaultEndpointer::builder()
            .outlier_detection(OutlierDetection::default().with_consecutive_failures(Some(1)))
            .build(list.clone(), limit.per_instance(told.clone()));
        until_ready(&endpointer, &[A]).await;
        let balanced = Balanced::new(endpointer.clone(), RoundRobin::starting_at(0));
        let client = Retry::new(2, LATE).layer(balanced);
        let running = tokio::spawn(client.clone().ask(""));
        settle().await;
        let waits: Vec<_> = (0..5).map(|_| tokio::spawn(client.clone().ask(""))).collect();
        settle().await;
        list.publish(instances(&[A, B]));
        until_ready(&endpointer, &[A, B]).await;

        cause.strike(&list, &told.readiness(A), &endpointer);
        for waits in waits {
            let answer = timeout(SOON, waits).await;
            let answer = answer.unwrap_or_else(|_| panic!("{cause:?}: still waiting"));
            assert_eq!(answer.unwrap().unwrap(), B, "{cause:?}");
        }
        assert_eq!(probe.calls(A), 1, "{cause:?}");
        assert!(!running.is_finished(), "{cause:?}: what has been sent goes on");
        running.abort();
    }
}

#[tokio::test(start_paused = true)]
async fn an_instance_that_serves_for_want_of_better_ones_keeps_its_queue() {
    let probe = Probe::default();
    probe.slow_calls(A, Duration::from_secs(1));
    let list = Publisher::new("s");
    list.publish(instances(&[A]));
    let told = Told::new(&probe);
    let limit = ConcurrencyLimit::new(1).queue(10);
    let endpointer = DefaultEndpointer::new(list, limit.per_instance(told.clone()));
    until_ready(&endpointer, &[A]).await;
    let balanced = Balanced::new(endpointer.clone(), RoundRobin::starting_at(0));
    let calls: Vec<_> = (0..5).map(|_| tokio::spawn(balanced.clone().ask(""))).collect();
    settle().await;
    let health = told.readiness(A).health();
    health.unhealthy(Error::new(ErrorKind::Unavailable, "on purpose"));
    settle().await;
    assert!(endpointer.endpoints().load().is_panicking());
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), A);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_back_is_waited_for_again() {
    let probe = Probe::default();
    let list = Publisher::new("s");
    list.publish(instances(&[A]));
    let told = Told::new(&probe);
    let endpointer = DefaultEndpointer::new(list.clone(), told.clone());
    until_ready(&endpointer, &[A]).await;
    let said = told.readiness(A);
    for _ in 0..3 {
        assert!(!said.is_withdrawn());
        let mut waits = Box::pin(said.withdrawn());
        assert!(timeout(Duration::from_millis(1), &mut waits).await.is_err());
        said.set_connecting();
        timeout(SOON, waits).await.unwrap();
        assert_eq!(endpointer.endpoints().load().ready().len(), 0, "first it leaves the set");
        said.set_ready();
        until_ready(&endpointer, &[A]).await;
    }
    // Also when nobody publishes any more.
    drop(endpointer);
    timeout(SOON, said.withdrawn()).await.unwrap();
}

/// A probe whose service at one address is never ready.
#[derive(Clone)]
struct Unready {
    inner: Probed,
    at: Arc<str>,
}

impl Service<&'static str> for Unready {
    type Response = String;
    type Error = String;
    type Future = <Probed as Service<&'static str>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), String>> {
        if &*self.at == A { Poll::Pending } else { self.inner.poll_ready(cx) }
    }

    fn call(&mut self, request: &'static str) -> Self::Future {
        self.inner.call(request)
    }
}

/// Makes them.
#[derive(Clone)]
struct Never(Told);

#[async_trait]
impl Factory<Unready> for Never {
    async fn make(&self, instance: &Arc<Instance>, said: Readiness) -> Result<Unready, Error> {
        let inner = self.0.make(instance, said).await?;
        Ok(Unready { inner, at: instance.address().to_string().into() })
    }
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_service_that_is_not_ready_leaves_it_with_its_instance() {
    for (cause, limited) in CAUSES.into_iter().flat_map(|cause| [(cause, false), (cause, true)]) {
        let probe = Probe::default();
        let list = Publisher::new("s");
        list.publish(instances(&[A]));
        let told = Told::new(&probe);
        let builder = DefaultEndpointer::builder()
            .outlier_detection(OutlierDetection::default().with_consecutive_failures(Some(1)));
        let never = Never(told.clone());
        if limited {
            let limit = ConcurrencyLimit::new(9);
            let endpointer = builder.build(list.clone(), limit.per_instance(never));
            leaves(&list, &told, endpointer, cause).await;
        } else {
            leaves(&list, &told, builder.build(list.clone(), never), cause).await;
        }
        assert_eq!(probe.calls(A), 0, "{cause:?}");
    }
}

async fn leaves<S>(list: &Publisher, told: &Told, endpointer: DefaultEndpointer<S>, cause: Cause)
where
    S: Service<&'static str, Response = String> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    until_ready(&endpointer, &[A]).await;
    // In a limit it is an error that says that nothing was sent, which the retry sees.
    let balanced = Balanced::new(endpointer.clone(), RoundRobin::starting_at(0));
    let client = Retry::new(2, LATE).layer(balanced);
    let waits: Vec<_> = (0..5).map(|_| tokio::spawn(client.clone().ask(""))).collect();
    settle().await;
    list.publish(instances(&[A, B]));
    until_ready(&endpointer, &[A, B]).await;
    cause.strike(list, &told.readiness(A), &endpointer);
    for waits in waits {
        let answer = timeout(SOON, waits).await;
        let answer = answer.unwrap_or_else(|_| panic!("{cause:?}: still waiting"));
        assert_eq!(answer.unwrap().unwrap(), B, "{cause:?}");
    }
}
