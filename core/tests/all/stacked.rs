//! Layers above one another that share a budget: a call through all of them counts once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fleetward_balancers::RoundRobin;
use fleetward_core::context::WithContext;
use fleetward_core::discovery::FixedInstancer;
use fleetward_core::retry::{Hedge, HedgeDelay, RatioBudget, RetryBudget, Throttle};
use fleetward_core::{Balanced, BoxError, DefaultEndpointer, Error, Instance, Retry};
use futures::future::BoxFuture;
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{AskExt as _, instances, until_ready};

type Request = WithContext<u32>;
type Service = BoxCloneSyncService<Request, (), BoxError>;

const CALLS: usize = 1000;

/// Without anything but the calls' share: a fifth.
fn a_fifth() -> Arc<dyn RetryBudget> {
    Arc::new(RatioBudget::default().with_floor_per_second(0))
}

fn boxed<S>(service: S) -> Service
where
    S: tower::Service<Request, Response = ()> + Clone + Send + Sync + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    BoxCloneSyncService::new(service.map_err(Into::into))
}

fn retry(
    budget: &Arc<dyn RetryBudget>,
) -> Retry<impl fleetward_core::retry::RetryClassifier<Request> + use<>> {
    Retry::new(3, Duration::from_secs(3600)).budget(budget.clone())
}

fn hedge(budget: &Arc<dyn RetryBudget>) -> Hedge<fn(&Request) -> bool> {
    let always: fn(&Request) -> bool = |_| true;
    Hedge::new(HedgeDelay::fixed(Duration::from_millis(10)), always).budget(budget.clone())
}

/// A service that fails after a while, and how often it was called.
fn failing() -> (Service, Arc<AtomicUsize>) {
    let calls = Arc::<AtomicUsize>::default();
    let counted = calls.clone();
    let service = service_fn(move |_: Request| {
        counted.fetch_add(1, Ordering::SeqCst);
        async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Err::<(), _>("fails")
        }
    });
    (boxed(service.map_err(BoxError::from)), calls)
}

/// How many times as many calls arrive as are made.
async fn load(layered: Service, calls: &AtomicUsize) -> f64 {
    for _ in 0..CALLS {
        layered.clone().ask(0).await.unwrap_err();
    }
    calls.load(Ordering::SeqCst) as f64 / CALLS as f64
}

fn near(load: f64, expected: f64) -> bool {
    (load - expected).abs() < 0.01
}

#[tokio::test(start_paused = true)]
async fn a_call_through_layers_with_one_budget_deposits_once() {
    type Stack = fn(Service, &Arc<dyn RetryBudget>) -> Service;
    let stacks: [Stack; 5] = [
        |service, budget| boxed(retry(budget).layer(service)),
        |service, budget| boxed(retry(budget).layer(retry(budget).layer(service))),
        |service, budget| {
            boxed(retry(budget).layer(retry(budget).layer(retry(budget).layer(service))))
        },
        |service, budget| boxed(hedge(budget).layer(retry(budget).layer(service))),
        // Another budget in between, which deposits for itself: its share is not reached.
        |service, budget| {
            let other: Arc<dyn RetryBudget> =
                Arc::new(RatioBudget::default().with_ratio(0.0).with_floor_per_second(0));
            boxed(retry(budget).layer(retry(&other).layer(retry(budget).layer(service))))
        },
    ];
    for (at, stack) in stacks.into_iter().enumerate() {
        let (service, calls) = failing();
        let load = load(stack(service, &a_fifth()), &calls).await;
        assert!(near(load, 1.2), "stack {at}: {load}");
    }
}

/// Budgets of their own, as for two services.
#[tokio::test(start_paused = true)]
async fn layers_with_two_budgets_count_for_themselves() {
    let (service, calls) = failing();
    let layered = retry(&a_fifth()).layer(retry(&a_fifth()).layer(service));
    let load = load(boxed(layered), &calls).await;
    assert!(near(load, 1.2 * 1.2), "{load}");
}

/// What an instance calls in turn is another call.
#[tokio::test(start_paused = true)]
async fn a_call_that_an_instance_makes_deposits_for_itself() {
    let budget = a_fifth();
    let (service, calls) = failing();
    let nested = boxed(retry(&budget).layer(service));
    let factory = move |_: Arc<Instance>| {
        let nested = nested.clone();
        async move {
            Ok::<_, Error>(service_fn(move |request: u32| -> BoxFuture<'static, _> {
                let nested = nested.clone();
                Box::pin(async move {
                    let _ = nested.ask(request).await;
                    Ok::<(), BoxError>(())
                })
            }))
        }
    };
    const A: &str = "10.0.0.1:80";
    let endpointer = DefaultEndpointer::new(FixedInstancer::new("s", instances(&[A])), factory);
    until_ready(&endpointer, &[A]).await;
    let outer = retry(&budget).layer(Balanced::new(endpointer, RoundRobin::new()));
    for _ in 0..CALLS {
        outer.clone().ask(0).await.unwrap();
    }
    // Two calls each, one of which fails: both deposits are there for the one that fails.
    let load = calls.load(Ordering::SeqCst) as f64 / CALLS as f64;
    assert!(near(load, 1.4), "{load}");
}

/// gRPC's throttle counts attempts, so each is told once, and only a call's own attempts.
#[tokio::test(start_paused = true)]
async fn an_attempt_is_told_to_a_shared_throttle_once() {
    let throttle = Arc::new(Throttle::new(1000, 0.5).unwrap());
    let shared: Arc<dyn RetryBudget> = Arc::new(throttle.clone());
    let (service, calls) = failing();
    let layered = retry(&shared).layer(retry(&shared).layer(service));
    layered.ask(0).await.unwrap_err();
    let sent = calls.load(Ordering::SeqCst);
    assert_eq!((sent, throttle.tokens()), (9, 1000.0 - sent as f64));

    let fine = service_fn(|_: Request| async { Ok::<_, BoxError>(()) });
    retry(&shared).layer(retry(&shared).layer(fine)).ask(0).await.unwrap();
    assert_eq!(throttle.tokens(), 1000.0 - sent as f64 + 0.5);
}
