//! Balanced and Retry as a caller meets them: waiting, deadlines, cancellation, cost.

use std::sync::Arc;
use std::time::Duration;

use fleetward_balancers::{Random, RoundRobin};
use fleetward_core::balancing::{PickContext, ReadySet, WaitForReady};
use fleetward_core::context::WithContext;
use fleetward_core::discovery::{FixedInstancer, Publisher};
use fleetward_core::endpoints::Member;
use fleetward_core::retry::{RetryClassifier, RetryError, Retrying, Verdict};
use fleetward_core::{
    Balanced, Balancer, BoxError, DefaultEndpointer, Endpointer, Error, ErrorKind, Instance, Retry,
};
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::time::Instant;
use tower::{Layer, Service, ServiceBuilder, service_fn};

use crate::support::{Ask, AskExt as _, Probe, Probed, instance, instances, settle, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";

/// What the public types promise, at compile time.
#[allow(dead_code)]
fn the_services_can_be_shared() {
    fn shared<T: Clone + Send + Sync + 'static>() {}
    shared::<Balanced<Probed>>();
    shared::<Retrying<Balanced<Probed>>>();
    shared::<DefaultEndpointer<Probed>>();
    fn object_safe(_: &dyn fleetward_core::Balancer, _: &dyn fleetward_core::Instancer) {}
}

#[tokio::test(start_paused = true)]
async fn a_random_balancer_with_retry_is_one_line() {
    let probe = Probe::default();
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = DefaultEndpointer::new(list, probe.factory());
    let client =
        Retry::new(3, Duration::from_millis(500)).layer(Balanced::new(endpointer, Random::new()));
    assert!([A, B].contains(&client.ask("").await.unwrap().as_str()));
}

#[tokio::test(start_paused = true)]
async fn exclusion_works_through_layers_in_between() {
    let probe = Probe::default();
    probe.fail_calls(A);
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = DefaultEndpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let service = ServiceBuilder::new()
        .layer(Retry::new(2, Duration::from_secs(5)))
        .timeout(Duration::from_secs(1))
        .concurrency_limit(100)
        .service(Balanced::new(endpointer, Random::new()));
    for _ in 0..200 {
        assert_eq!(service.clone().ask("").await.unwrap(), B);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_waits_for_the_first_endpoint() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    let call = tokio::spawn(Balanced::new(endpointer, RoundRobin::new()).ask(""));
    tokio::time::sleep(Duration::from_secs(2)).await;
    list.publish(instances(&[A]));
    assert_eq!(call.await.unwrap().unwrap(), A);
}

#[tokio::test(start_paused = true)]
async fn waiting_is_bounded_and_the_error_names_service_and_cause() {
    let list = Publisher::new("greeter");
    list.publish_stale(Error::new(ErrorKind::Unavailable, "connection refused by etcd"));
    let endpointer = DefaultEndpointer::new(list, Probe::default().factory());
    let balanced = Balanced::new(endpointer, RoundRobin::new());
    let started = Instant::now();
    let error = balanced.clone().ask("").await.unwrap_err();
    assert_eq!(started.elapsed().as_secs(), 3, "the default bound");
    let text = error.to_string();
    assert!(text.contains("greeter") && text.contains("connection refused by etcd"), "{text}");
    let started = Instant::now();
    let fast = balanced.wait_for_ready(WaitForReady::FailFast);
    assert!(fast.ask("").await.is_err());
    assert_eq!(started.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn poll_ready_never_fails_and_never_waits() {
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new("s", []), Probe::default().factory());
    let mut balanced = Balanced::new(endpointer, RoundRobin::new());
    let ready = std::future::poll_fn(|cx| Service::<Ask>::poll_ready(&mut balanced, cx));
    assert!(futures::FutureExt::now_or_never(ready).unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_tried_elsewhere() {
    let probe = Probe::default();
    probe.slow_calls(A, Duration::from_secs(60));
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = DefaultEndpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let retry =
        Retry::new(2, Duration::from_secs(5)).per_attempt_timeout(Duration::from_millis(200));
    let client = retry.layer(Balanced::new(endpointer.clone(), RoundRobin::starting_at(0)));
    assert_eq!(client.ask("").await.unwrap(), B);
    assert!(endpointer.endpoints().load().ready().iter().all(|member| member.in_flight() == 0));
}

#[tokio::test(start_paused = true)]
async fn the_deadline_names_where_every_attempt_went() {
    let probe = Probe::default();
    probe.fail_calls(A);
    probe.slow_calls(B, Duration::from_secs(60));
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = DefaultEndpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let balanced = Balanced::new(endpointer, RoundRobin::starting_at(0));
    let started = Instant::now();
    let error =
        Retry::new(9, Duration::from_millis(500)).layer(balanced).ask("").await.unwrap_err();
    assert!(started.elapsed() <= Duration::from_millis(520));
    assert!(error.is_timeout());
    let went: Vec<_> = error.attempts().iter().map(|a| a.instance.clone().unwrap()).collect();
    assert_eq!(went.iter().map(fleetward_core::InstanceId::as_str).collect::<Vec<_>>(), [A, B]);
    assert!(error.to_string().contains("after 2 failed attempts"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_backoff_beyond_the_deadline_returns_the_last_error_at_once() {
    let probe = Probe::default();
    probe.fail_calls(A);
    let list = FixedInstancer::new("s", instances(&[A]));
    let endpointer = DefaultEndpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A]).await;
    let backoff =
        fleetward_core::backoff::Backoff::new(Duration::from_secs(9), Duration::from_secs(9))
            .unwrap();
    // The shortest wait is a tenth of the step: 0.9 s.
    let retry = Retry::new(5, Duration::from_millis(800)).backoff(backoff);
    let started = Instant::now();
    let error: RetryError =
        retry.layer(Balanced::new(endpointer, RoundRobin::new())).ask("").await.unwrap_err();
    assert_eq!(started.elapsed(), Duration::ZERO);
    assert_eq!(error.final_error().to_string(), format!("{A} fails"));
}

#[tokio::test(start_paused = true)]
async fn dropping_a_call_at_any_await_leaves_nothing_in_flight() {
    let probe = Probe::default();
    probe.slow_calls(A, Duration::from_millis(50));
    probe.fail_calls(A);
    probe.slow_calls(B, Duration::from_millis(70));
    let list = Publisher::new("s");
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    let balanced = Balanced::new(endpointer.clone(), Random::new());
    let client = Retry::new(3, Duration::from_secs(1)).layer(balanced);
    let mut rng = fastrand::Rng::with_seed(3);
    let mut calls = Vec::new();
    for i in 0..2000 {
        if i == 1000 {
            list.publish(instances(&[A, B]));
        }
        let call = client.clone().ask("");
        let most = Duration::from_millis(rng.u64(0..200));
        calls.push(tokio::spawn(tokio::time::timeout(most, call)));
    }
    for call in calls {
        let _ = call.await.unwrap();
    }
    settle().await;
    assert!(endpointer.endpoints().load().ready().iter().all(|member| member.in_flight() == 0));
    let metrics = tokio::runtime::Handle::current().metrics();
    assert!(metrics.num_alive_tasks() <= 2, "only the endpointer's: {}", metrics.num_alive_tasks());
}

#[test]
fn a_pick_allocates_nothing() {
    let members: Vec<_> =
        (1..=100).map(|i| Member::detached(instance(&format!("10.0.0.{i}:80")))).collect();
    let balancers: [Arc<dyn fleetward_core::Balancer>; 3] =
        [Arc::new(RoundRobin::new()), Arc::new(Random::new()), Arc::new(Random::with_seed(7))];
    for balancer in balancers {
        // The thread's own generator is set up by its first use.
        balancer.pick(&ReadySet::new(&members), &PickContext::new());
        let allocated = allocation_counter::measure(|| {
            for _ in 0..1000 {
                std::hint::black_box(balancer.pick(&ReadySet::new(&members), &PickContext::new()));
            }
        });
        assert_eq!(allocated.count_total, 0, "{balancer:?}");
    }
}

#[tokio::test]
async fn a_pick_through_the_whole_path_allocates_nothing() {
    let probe = Probe::default();
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let endpointer = DefaultEndpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A, B]).await;
    let balanced = Balanced::new(endpointer, RoundRobin::new());
    drop(balanced.pick(&"warm up"));
    let allocated = allocation_counter::measure(|| {
        for _ in 0..1000 {
            drop(std::hint::black_box(balanced.pick(&"request")));
        }
    });
    assert_eq!(allocated.count_total, 0, "set, pick, clone of the service, in-flight guard");
}

#[tokio::test]
async fn a_call_that_does_not_fail_allocates_the_context_of_its_attempt() {
    let list = FixedInstancer::new("s", instances(&[A, B]));
    let echo = |_: Arc<Instance>| async {
        Ok::<_, Error>(service_fn(|n: u64| std::future::ready(Ok::<_, Error>(n))))
    };
    let endpointer = DefaultEndpointer::new(list, echo);
    endpointer.endpoints().wait_for(|set| set.ready().len() == 2).await;
    let retry = Retry::new(3, Duration::from_secs(5)).per_attempt_timeout(Duration::from_secs(1));
    let mut client = retry.layer(Balanced::new(endpointer, RoundRobin::new()));
    let mut call = |n: u64| client.call(WithContext::from(n)).now_or_never().unwrap().unwrap();
    call(0);
    let allocated = allocation_counter::measure(|| {
        (0..1000).for_each(|n| assert_eq!(call(n), n));
    });
    assert_eq!(allocated.count_total, 1000, "the context of the attempt, and nothing else");
}

#[tokio::test(start_paused = true)]
async fn times_without_end_never_panic() {
    let (list, probe) = (Publisher::new("s"), Probe::default());
    probe.fail_calls(A);
    let endpointer = DefaultEndpointer::new(list.clone(), probe.factory());
    let balanced = Balanced::new(endpointer, RoundRobin::starting_at(0))
        .wait_for_ready(WaitForReady::AtMost(Duration::MAX));
    let retry = Retry::new(2, Duration::MAX).per_attempt_timeout(Duration::MAX);
    let call = tokio::spawn(retry.layer(balanced).ask(""));
    tokio::time::sleep(Duration::from_secs(86_400)).await;
    list.publish(instances(&[A, B]));
    assert_eq!(call.await.unwrap().unwrap(), B);
}

/// Says the same to every failure.
struct Always(fn() -> Verdict);

impl<Req: Clone> RetryClassifier<Req> for Always {
    fn copy(&self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }

    fn judge(&self, _: u32, _: &BoxError) -> Verdict {
        (self.0)()
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_without_end_that_the_server_asks_for_never_panics() {
    let service = service_fn(|_: WithContext<()>| async { Err::<(), _>("come back never") });
    let retry = Retry::with_policy(Always(|| Verdict::RetryAfter(Duration::MAX)));
    let error = retry.timeout(Duration::from_secs(1)).layer(service).ask(()).await.unwrap_err();
    assert_eq!(error.final_error().to_string(), "come back never");
}

#[tokio::test(start_paused = true)]
async fn what_never_left_is_tried_again_at_once_uncounted_and_not_for_ever() {
    let service = service_fn(|_: WithContext<()>| async { Err::<(), _>("not sent") });
    let retry = Retry::with_policy(Always(|| Verdict::Transparent)).max_attempts(1);
    let started = Instant::now();
    let error = retry.layer(service).ask(()).await.unwrap_err();
    assert_eq!((error.attempts().len(), started.elapsed()), (6, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn the_backoff_begins_with_its_first_step() {
    let service = service_fn(|_: WithContext<()>| async { Err::<(), _>("fails") });
    let steps =
        fleetward_core::backoff::Backoff::new(Duration::from_millis(10), Duration::from_secs(60));
    let retry = Retry::new(2, Duration::from_secs(600)).seed(1);
    let retry = retry.backoff(steps.unwrap().with_multiplier(100.0).unwrap());
    let started = Instant::now();
    assert!(retry.layer(service).ask(()).await.is_err());
    assert!(started.elapsed() <= Duration::from_millis(11), "{:?}", started.elapsed());
}

/// What an instance calls while it works on a request is no attempt of the caller's.
#[tokio::test(start_paused = true)]
async fn a_call_that_an_instance_makes_is_not_taken_for_an_attempt_of_its_caller() {
    const INNER: &str = "10.0.0.9:80";
    let inner = Probe::default();
    let inner_list = FixedInstancer::new("inner", instances(&[A, INNER]));
    let inner_endpointer = DefaultEndpointer::new(inner_list, inner.factory());
    until_ready(&inner_endpointer, &[A, INNER]).await;
    // Always takes the first, so that an exclusion would show.
    let nested = Balanced::new(inner_endpointer, First);

    let factory = move |instance: Arc<Instance>| {
        let nested = nested.clone();
        async move {
            Ok::<_, Error>(service_fn(move |(): ()| {
                let (nested, instance) = (nested.clone(), instance.clone());
                async move {
                    let answer = call(nested).await?;
                    if instance.address().to_string() == A {
                        return Err(BoxError::from(format!("{A} fails after {answer}")));
                    }
                    Ok(answer)
                }
            }))
        }
    };
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new("outer", instances(&[A, B])), factory);
    until_ready(&endpointer, &[A, B]).await;
    let balanced = Balanced::new(endpointer, First);
    let answer = Retry::new(2, Duration::from_secs(5)).layer(balanced.clone()).ask(()).await;
    assert_eq!(answer.unwrap(), A, "the second attempt goes to B, whose own call goes to A");
    let error = Retry::new(1, Duration::from_secs(5)).layer(balanced).ask(()).await;
    assert_eq!(error.unwrap_err().attempts()[0].instance.as_ref().unwrap().as_str(), A);
    assert_eq!(inner.calls(INNER), 0);
}

/// Boxed, for the compiler does not see that `&'static str` is the only request here.
fn call(balanced: Balanced<Probed>) -> BoxFuture<'static, Result<String, BoxError>> {
    Box::pin(balanced.ask(""))
}

#[derive(Debug)]
pub(crate) struct First;

impl Balancer for First {
    fn pick(&self, _: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        Some(0)
    }
}

/// A layer above, say one that fetches a token, may pick an instance of another service first.
#[tokio::test(start_paused = true)]
async fn an_attempt_that_finds_no_endpoint_names_no_instance() {
    let tokens = DefaultEndpointer::new(
        FixedInstancer::new("tokens", instances(&[A])),
        Probe::default().factory(),
    );
    until_ready(&tokens, &[A]).await;
    let tokens = Balanced::new(tokens, First);
    let empty = DefaultEndpointer::new(FixedInstancer::new("s", []), Probe::default().factory());
    let empty = Balanced::new(empty, First).wait_for_ready(WaitForReady::FailFast);
    let service = service_fn(move |_: WithContext<()>| {
        let (tokens, empty) = (tokens.clone(), empty.clone());
        async move {
            call(tokens).await?;
            call(empty).await
        }
    });
    let error = Retry::new(1, Duration::from_secs(5)).layer(service).ask(()).await;
    assert_eq!(error.unwrap_err().attempts()[0].instance, None);
}

#[tokio::test]
async fn failing_fast_does_not_wait_for_the_clock_to_tick() {
    let endpointer =
        DefaultEndpointer::new(FixedInstancer::new("s", []), Probe::default().factory());
    let balanced = Balanced::new(endpointer, First).wait_for_ready(WaitForReady::FailFast);
    let outcome = futures::FutureExt::now_or_never(balanced.ask(""));
    assert!(outcome.is_some_and(|outcome| outcome.is_err()), "it waited");
}

#[tokio::test(start_paused = true)]
async fn a_classifier_may_be_shared_and_chosen_at_run_time() {
    let service = service_fn(|_: WithContext<()>| async { Err::<(), _>("fails") });
    for (classifier, expected) in [
        (Arc::new(Always(|| Verdict::Retry)) as Arc<dyn RetryClassifier<WithContext<()>>>, 3),
        (Arc::new(Always(|| Verdict::Return)), 1),
    ] {
        let retried = Retry::with_policy(classifier).layer(service);
        let error = retried.ask(()).await.unwrap_err();
        assert_eq!(error.attempts().len(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pause_without_end_is_no_pause_of_nothing() {
    let service = service_fn(|_: WithContext<()>| async { Err::<(), _>("come back never") });
    let retry = Retry::with_policy(Always(|| Verdict::RetryAfter(Duration::MAX)));
    let error = retry.layer(service).ask(()).await.unwrap_err();
    assert_eq!(error.attempts().len(), 1);
}

/// Notes the number of each attempt.
#[derive(Clone, Debug, Default)]
struct Numbers(Arc<std::sync::Mutex<Vec<u32>>>);

impl Balancer for Numbers {
    fn pick(&self, _: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        self.0.lock().unwrap().push(context.attempt());
        Some(0)
    }
}

#[tokio::test(start_paused = true)]
async fn a_pick_is_told_how_many_attempts_went_before_whether_or_not_they_count() {
    let (list, probe, numbers) = (Publisher::new("s"), Probe::default(), Numbers::default());
    list.publish(instances(&[A]));
    probe.fail_calls(A);
    let balanced = Balanced::new(DefaultEndpointer::new(list, probe.factory()), numbers.clone());
    until_ready(balanced.endpoints(), &[A]).await;
    let retry = Retry::with_policy(Always(|| Verdict::Transparent)).max_attempts(2);
    retry.layer(balanced).ask("").await.unwrap_err();
    let mut numbers = numbers.0.lock().unwrap().clone();
    // A pick that is tried already is asked for again.
    numbers.dedup();
    assert!(numbers.iter().copied().eq(0..numbers.len() as u32), "{numbers:?}");
    assert!(numbers.len() > 5, "{numbers:?}");
}
