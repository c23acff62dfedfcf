//! Whom a deadline blames: the instance that the attempt went to, and nobody whom that one called.

use std::future::pending;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use fleetward_balancers::RoundRobin;
use fleetward_core::balancing::{Picked, WaitForReady};
use fleetward_core::context::{CallContext, WithContext};
use fleetward_core::discovery::FixedInstancer;
use fleetward_core::retry::{Hedge, HedgeDelay, RetryClassifier, Verdict};
use fleetward_core::{Balanced, BoxError, DefaultEndpointer, Endpointer, Error, Instance, Retry};
use futures::future::BoxFuture;
use futures::{FutureExt, TryFutureExt};
use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::support::{Ask, AskExt as _, Probe, Probed, instances, until_ready};

const OUTER: &str = "10.0.0.1:80";
const INNER: &str = "10.0.0.2:80";
const OTHER: &str = "10.0.0.3:80";
const DEADLINE: Duration = Duration::from_millis(100);
const WAIT: Duration = Duration::from_secs(1);
/// What a failure counts as.
const PENALTY: f32 = 5.0;

/// A service of one instance that never answers.
async fn silent(name: &'static str, address: &str) -> Balanced<Probed> {
    let probe = Probe::default();
    probe.slow_calls(address, Duration::from_secs(3600));
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new(name, instances(&[address])), probe.factory());
    until_ready(&endpointer, &[address]).await;
    Balanced::new(endpointer, RoundRobin::new())
}

fn latency<S>(endpointer: &impl Endpointer<S>) -> f32 {
    endpointer.endpoints().load().ready()[0].latency(Instant::now()).unwrap_or_default()
}

fn is_blamed<S>(endpointer: &impl Endpointer<S>) -> bool {
    latency(endpointer) >= PENALTY
}

fn call<S>(service: S, request: Ask) -> BoxFuture<'static, Result<String, BoxError>>
where
    S: Service<Ask, Response = String> + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
{
    Box::pin(service.oneshot(request).map_err(Into::into))
}

/// Several ways of calling a service with a request.
fn ways(
    inner: &Balanced<Probed>,
    request: &Ask,
) -> Vec<BoxFuture<'static, Result<String, BoxError>>> {
    let retry = Retry::new(3, Duration::from_secs(60));
    let hedge = Hedge::new(HedgeDelay::fixed(Duration::from_millis(10)), |_: &Ask| true);
    vec![
        call(inner.clone(), request.clone()),
        call(retry.layer(inner.clone()), request.clone()),
        call(hedge.layer(inner.clone()), request.clone()),
        Box::pin(
            tokio::time::timeout(Duration::from_secs(60), call(inner.clone(), request.clone()))
                .map(|_| Err("not in time".into())),
        ),
    ]
}

type Made<R> = BoxFuture<'static, Result<R, BoxError>>;

#[tokio::test(start_paused = true)]
async fn a_deadline_says_nothing_of_the_calls_that_an_instance_makes() {
    for way in 0..4 {
        let inner = silent("inner", INNER).await;
        let nested = inner.clone();
        let factory = move |_: Arc<Instance>| {
            let nested = nested.clone();
            async move {
                let serve = move |name: &'static str| -> Made<String> {
                    ways(&nested, &name.into()).remove(way)
                };
                Ok::<_, Error>(service_fn(serve))
            }
        };
        let outer =
            DefaultEndpointer::new(FixedInstancer::new("outer", instances(&[OUTER])), factory);
        until_ready(&outer, &[OUTER]).await;
        let balanced = Balanced::new(outer.clone(), RoundRobin::new());
        let per_attempt = Retry::new(2, Duration::from_secs(1)).per_attempt_timeout(DEADLINE);
        for retry in [Retry::new(1, DEADLINE), per_attempt] {
            retry.layer(balanced.clone()).ask("").await.unwrap_err();
        }
        let (context, request) = expires();
        let mut own = Box::pin(balanced.oneshot(request));
        assert!(own.as_mut().now_or_never().is_none());
        context.expire();
        drop(own);
        assert!(is_blamed(&outer) && !is_blamed(inner.endpoints()), "way {way}");
        assert!(latency(inner.endpoints()) > 0.0, "it took at least as long as was waited for it");
        assert_eq!(inner.endpoints().load().ready()[0].in_flight(), 0);
    }
}

/// Above no balancer of its own, a deadline reaches the calls below it; those with attempts of their own have
/// deadlines of their own.
#[tokio::test(start_paused = true)]
async fn a_deadline_says_nothing_of_calls_with_attempts_of_their_own() {
    for (way, blamed) in [(0, true), (1, false), (2, false)] {
        let inner = silent("inner", INNER).await;
        let nested = inner.clone();
        let service = service_fn(move |request: Ask| ways(&nested, &request).remove(way));
        Retry::new(1, DEADLINE).layer(service).ask("").await.unwrap_err();
        assert_eq!(is_blamed(inner.endpoints()), blamed, "way {way}");
    }
}

/// A layer may make other calls beside the one that it hands on.
#[tokio::test(start_paused = true)]
async fn a_deadline_blames_one_instance() {
    let (other, main) = (silent("other", OTHER).await, silent("main", INNER).await);
    let (beside, through) = (other.clone(), main.clone());
    let service = service_fn(move |request: Ask| {
        // Both carry the attempt's context. The one picked last is blamed.
        let beside = call(beside.clone(), request.clone());
        let through = call(through.clone(), request);
        async move { futures::future::select(beside, through).await.factor_first().0 }
    });
    Retry::new(1, DEADLINE).layer(service).ask("").await.unwrap_err();
    assert!(is_blamed(main.endpoints()) && !is_blamed(other.endpoints()));
}

/// A request that holds a call, as a body does that streams another call's response.
struct Holds(#[expect(dead_code, reason = "held to be dropped")] Picked<Probed>);

/// No request can be copied.
struct GoesOut;

impl<Req> RetryClassifier<Req> for GoesOut {
    fn copy(&self, _: &Req) -> Option<Req> {
        None
    }

    fn judge(&self, _: u32, _: &BoxError) -> Verdict {
        Verdict::Retry
    }
}

/// Ready or not, it never answers.
#[derive(Clone)]
struct Silent {
    ready: bool,
}

impl Service<Holds> for Silent {
    type Response = ();
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<(), BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        if self.ready { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, request: Holds) -> Self::Future {
        Box::pin(async move {
            let _held = request;
            pending().await
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_says_nothing_of_a_call_in_the_request() {
    for (ready, addresses) in [(true, &[OUTER][..]), (false, &[OUTER]), (true, &[])] {
        let inner = silent("inner", INNER).await;
        let factory = move |_: Arc<Instance>| async move { Ok::<_, Error>(Silent { ready }) };
        let outer =
            DefaultEndpointer::new(FixedInstancer::new("outer", instances(addresses)), factory);
        until_ready(&outer, addresses).await;
        let balanced = Balanced::new(outer, RoundRobin::new())
            .wait_for_ready(WaitForReady::AtMost(Duration::from_secs(60)));
        let retry = || Retry::with_policy(GoesOut);
        for retry in
            [retry().timeout(DEADLINE), retry().per_attempt_timeout(DEADLINE).timeout(WAIT)]
        {
            let request = Holds(inner.pick(&"").unwrap());
            retry.layer(balanced.clone()).ask(request).await.unwrap_err();
        }
        // Within a retry, before any balancer.
        let request = Holds(inner.pick(&"").unwrap());
        let unready =
            || Silent { ready: false }.map_request(|request: WithContext<Holds>| request.request);
        retry().timeout(DEADLINE).layer(unready()).ask(request).await.unwrap_err();
        let context = CallContext::new();
        let holds = || WithContext::within(context.clone(), Holds(inner.pick(&"").unwrap()));
        let dropped: [BoxFuture<'static, ()>; 3] = [
            Box::pin(balanced.clone().oneshot(holds()).map(drop)),
            Box::pin(retry().layer(balanced).oneshot(holds()).map(drop)),
            Box::pin(retry().layer(unready()).oneshot(holds()).map(drop)),
        ];
        for mut own in dropped {
            assert!(own.as_mut().now_or_never().is_none());
            context.expire();
            drop(own);
        }
        assert!(!is_blamed(inner.endpoints()), "ready {ready}, {addresses:?}");
        assert_eq!(inner.endpoints().load().ready()[0].in_flight(), 0);
    }
}

fn expires() -> (CallContext, Ask) {
    let context = CallContext::new();
    (context.clone(), WithContext::within(context, ""))
}

/// A timeout of one's own says what it wants, also around layers that make attempts.
#[tokio::test(start_paused = true)]
async fn who_says_that_a_call_expires_is_believed() {
    for way in 0..3 {
        let service = silent("s", INNER).await;
        let mut dropped = ways(&service, &"".into()).remove(way);
        assert!(dropped.as_mut().now_or_never().is_none());
        drop(dropped);
        assert!(!is_blamed(service.endpoints()), "way {way}");
        let service = silent("s", INNER).await;
        let (context, request) = expires();
        let mut expired = ways(&service, &request).remove(way);
        assert!(expired.as_mut().now_or_never().is_none());
        context.expire();
        drop(expired);
        assert!(is_blamed(service.endpoints()), "way {way}");
        assert_eq!(service.endpoints().load().ready()[0].in_flight(), 0);
    }
}
