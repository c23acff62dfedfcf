//! The loop around attempts that run at the same time, on a paused clock.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetward_balancers::Random;
use fleetward_core::backoff::{Backoff, Jitter};
use fleetward_core::balancing::{PickContext, ReadySet};
use fleetward_core::context::{CallContext, ContextCarrier, WithContext};
use fleetward_core::discovery::FixedInstancer;
use fleetward_core::outlier::OutlierDetection;
use fleetward_core::retry::{
    HedgeDelay, RetryBudget, RetryClassifier, RetryError, Throttle, Verdict,
};
use fleetward_core::{Balanced, Balancer, BoxError, DefaultEndpointer, Endpointer, Retry};
use futures::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tower::{Layer, Service, service_fn};

use crate::support::{AskExt as _, Probe, instances, settle, until_ready};

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
const C: &str = "10.0.0.3:80";

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// What an attempt does: so long, then an answer or the verdict on its error.
type Script = fn(usize) -> (u64, Result<(), &'static str>);

/// A service that follows a script by the number of the attempt, and when each came.
#[derive(Clone)]
struct Scripted {
    script: Script,
    began: Instant,
    times: Arc<Mutex<Vec<u64>>>,
    /// What each was told of those before.
    marks: Arc<Mutex<Vec<u32>>>,
    running: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Scripted {
    fn new(script: Script) -> Self {
        let began = Instant::now();
        Self {
            script,
            began,
            times: Arc::default(),
            marks: Arc::default(),
            running: Arc::default(),
        }
    }

    async fn call(self, request: WithContext<()>) -> Result<usize, BoxError> {
        let mark = request.context().map_or(0, CallContext::previous_attempts);
        let n = {
            let mut times = self.times.lock().unwrap();
            times.push(self.began.elapsed().as_millis() as u64);
            self.marks.lock().unwrap().push(mark);
            times.len() - 1
        };
        self.running.fetch_add(1, Ordering::SeqCst);
        let _running = Running(self.running.clone());
        let (takes, outcome) = (self.script)(n);
        sleep(millis(takes)).await;
        outcome.map(|()| n).map_err(Into::into)
    }

    async fn by<P: RetryClassifier<WithContext<()>> + 'static>(
        &self,
        retry: &Retry<P>,
    ) -> Result<usize, RetryError> {
        let this = self.clone();
        retry.layer(service_fn(move |request| this.clone().call(request))).ask(()).await
    }

    fn times(&self) -> Vec<u64> {
        self.times.lock().unwrap().clone()
    }

    fn marks(&self) -> Vec<u32> {
        self.marks.lock().unwrap().clone()
    }

    fn running(&self) -> usize {
        self.running.load(Ordering::SeqCst)
    }
}

/// Judges an error by its words.
struct ByWord;

impl RetryClassifier<WithContext<()>> for ByWord {
    fn copy(&self, request: &WithContext<()>) -> Option<WithContext<()>> {
        Some(request.clone())
    }

    fn judge(&self, _: u32, error: &BoxError) -> Verdict {
        match error.to_string().as_str() {
            "fatal" => Verdict::Return,
            "stop" => Verdict::Stop,
            "discard" => Verdict::Discard,
            "unsent" => Verdict::Transparent,
            "later" => Verdict::RetryAfter(millis(500)),
            "other" => Verdict::ReturnError("another error".into()),
            _ => Verdict::Retry,
        }
    }
}

/// Without jitter: 10 ms, 20, 40.
fn retry() -> Retry<ByWord> {
    let backoff = Backoff::new(millis(10), Duration::from_secs(60)).unwrap();
    let backoff = backoff.with_multiplier(2.0).unwrap().with_jitter(Jitter::Fraction(0.0)).unwrap();
    Retry::with_policy(ByWord).max_attempts(4).backoff(backoff)
}

fn hedged() -> Retry<ByWord> {
    retry().hedge(HedgeDelay::fixed(millis(100)))
}

#[tokio::test(start_paused = true)]
async fn hedges_come_one_delay_after_the_other() {
    let service = Scripted::new(|_| (1000, Ok(())));
    assert_eq!(service.by(&hedged()).await.unwrap(), 0);
    assert_eq!(service.times(), [0, 100, 200, 300]);
    assert_eq!(service.marks(), [0, 1, 2, 3]);
    assert_eq!(service.began.elapsed(), millis(1000));
    assert_eq!(service.running(), 0, "the others were dropped");
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_wins_whoever_it_is_from() {
    let service = Scripted::new(|n| (if n == 2 { 30 } else { 1000 }, Ok(())));
    assert_eq!(service.by(&hedged()).await.unwrap(), 2);
    assert_eq!(service.began.elapsed(), millis(230));
    assert_eq!(service.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_future_that_is_over_holds_no_attempt() {
    let service = Scripted::new(|n| (if n == 2 { 30 } else { 1000 }, Ok(())));
    let scripted = service.clone();
    let inner = service_fn(move |request| scripted.clone().call(request));
    let mut call = std::pin::pin!(hedged().layer(inner).call(().into()));
    assert_eq!(call.as_mut().await.unwrap(), 2);
    assert_eq!(service.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_delay_of_zero_sends_all_at_once() {
    let service = Scripted::new(|_| (10, Ok(())));
    let retry = retry().hedge(HedgeDelay::fixed(Duration::ZERO));
    service.by(&retry).await.unwrap();
    assert_eq!(service.times(), [0; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_failure_sends_the_next_at_once_and_the_delay_begins_there() {
    let service = Scripted::new(|n| match n {
        0 => (40, Err("fails")),
        _ => (1000, Ok(())),
    });
    service.by(&hedged()).await.unwrap();
    assert_eq!(service.times(), [0, 40, 140, 240]);
}

#[tokio::test(start_paused = true)]
async fn all_failing_is_the_last_error_with_all_of_them() {
    let service = Scripted::new(|_| (150, Err("fails")));
    let error = service.by(&hedged()).await.unwrap_err();
    // The first fails at 150 and brings the third; the second at 250 the fourth.
    assert_eq!(service.times(), [0, 100, 150, 250]);
    assert_eq!(error.attempts().len(), 4);
    assert_eq!(service.began.elapsed(), millis(400));
}

#[tokio::test(start_paused = true)]
async fn a_final_error_ends_those_under_way() {
    for (word, said) in [("fatal", "fatal"), ("other", "another error")] {
        let service = Scripted::new(match word {
            "fatal" => |n| if n == 1 { (10, Err("fatal")) } else { (1000, Ok(())) },
            _ => |n| if n == 1 { (10, Err("other")) } else { (1000, Ok(())) },
        });
        let error = service.by(&hedged()).await.unwrap_err();
        assert_eq!(error.final_error().to_string(), said);
        assert_eq!((service.times(), service.running()), (vec![0, 100], 0));
        assert_eq!(service.began.elapsed(), millis(110));
    }
}

#[tokio::test(start_paused = true)]
async fn stop_and_discard_let_those_under_way_finish_and_send_no_more() {
    for (stops, tokens) in [(true, 9.0), (false, 10.0)] {
        let throttle = Arc::new(Throttle::new(10, 0.001).unwrap());
        let service = Scripted::new(if stops {
            |n| if n == 1 { (10, Err("stop")) } else { (700, Ok(())) }
        } else {
            |n| if n == 1 { (10, Err("discard")) } else { (700, Ok(())) }
        });
        assert_eq!(service.by(&hedged().budget(throttle.clone())).await.unwrap(), 0);
        assert_eq!(service.times(), [0, 100]);
        // A success has given nothing to a full bucket, or a thousandth to one that is not.
        assert!((throttle.tokens() - tokens).abs() < 0.01, "{}", throttle.tokens());
    }
}

#[tokio::test(start_paused = true)]
async fn stop_and_discard_end_a_call_that_has_nothing_under_way() {
    for script in [
        (|_| (10, Err("stop"))) as Script,
        |_| (10, Err("discard")),
        |n| if n == 0 { (150, Err("stop")) } else { (150, Err("fails")) },
        |n| if n == 0 { (150, Err("stop")) } else { (150, Err("unsent")) },
    ] {
        let service = Scripted::new(script);
        let error = service.by(&hedged()).await.unwrap_err();
        assert!(service.began.elapsed() <= millis(250), "{error}");
        let service = Scripted::new(script);
        let error = tokio::time::timeout(Duration::from_secs(60), service.by(&retry())).await;
        assert!(error.unwrap().is_err());
    }
}

#[tokio::test(start_paused = true)]
async fn the_server_puts_the_next_hedge_off() {
    let service = Scripted::new(|n| match n {
        0 => (20, Err("later")),
        _ => (1000, Ok(())),
    });
    service.by(&hedged()).await.unwrap();
    assert_eq!(service.times(), [0, 520, 620, 720]);
}

/// What never left is replaced at once, and told the same as the one it replaces.
#[tokio::test(start_paused = true)]
async fn what_never_left_is_not_counted() {
    let script: Script = |n| match n {
        0 | 2 => (5, Err("unsent")),
        1 => (10, Err("fails")),
        _ => (30, Ok(())),
    };
    let service = Scripted::new(script);
    service.by(&retry().max_attempts(2)).await.unwrap();
    assert_eq!((service.times(), service.marks()), (vec![0, 5, 25, 30], vec![0, 0, 1, 1]));
    let service = Scripted::new(script);
    service.by(&hedged().max_attempts(2)).await.unwrap();
    assert_eq!((service.times(), service.marks()), (vec![0, 5, 15, 20], vec![0, 0, 1, 1]));
}

#[tokio::test(start_paused = true)]
async fn what_never_left_takes_nothing_from_the_budget() {
    let throttle = Arc::new(Throttle::new(10, 0.1).unwrap());
    let service = Scripted::new(|n| match n {
        0..3 => (5, Err("unsent")),
        _ => (5, Ok(())),
    });
    service.by(&retry().budget(throttle.clone())).await.unwrap();
    assert_eq!(throttle.tokens(), 10.0);
}

/// Allows so many, and counts who asks.
#[derive(Debug, Default)]
struct Counted {
    left: AtomicUsize,
    calls: AtomicUsize,
    succeeded: AtomicUsize,
    failed: AtomicUsize,
    asked: AtomicUsize,
}

impl Counted {
    fn new(left: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(left), ..Self::default() })
    }

    /// Calls, successes, failures, and further attempts asked for.
    fn told(&self) -> [usize; 4] {
        [&self.calls, &self.succeeded, &self.failed, &self.asked]
            .map(|count| count.load(Ordering::SeqCst))
    }
}

impl RetryBudget for Counted {
    fn call(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
    }

    fn succeeded(&self) {
        self.succeeded.fetch_add(1, Ordering::SeqCst);
    }

    fn failed(&self) {
        self.failed.fetch_add(1, Ordering::SeqCst);
    }

    fn allows(&self) -> bool {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let take = |left: usize| left.checked_sub(1);
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take).is_ok()
    }
}

#[tokio::test(start_paused = true)]
async fn a_spent_budget_ends_a_retry_at_once() {
    let budget = Counted::new(1);
    let service = Scripted::new(|_| (0, Err("fails")));
    service.by(&retry().budget(budget.clone())).await.unwrap_err();
    assert_eq!(service.times(), [0, 10], "no wait after the second");
    assert_eq!(service.began.elapsed(), millis(10));
    assert_eq!(budget.told(), [1, 0, 2, 2]);
    // The last attempt asks for none.
    let budget = Counted::new(100);
    let service = Scripted::new(|_| (0, Err("fails")));
    service.by(&retry().budget(budget.clone())).await.unwrap_err();
    assert_eq!(budget.told(), [1, 0, 4, 3]);
}

#[tokio::test(start_paused = true)]
async fn each_hedge_is_paid_for_once_and_when_it_is_sent() {
    let budget = Counted::new(100);
    let service = Scripted::new(|_| (250, Ok(())));
    service.by(&hedged().budget(budget.clone())).await.unwrap();
    assert_eq!(budget.told(), [1, 1, 0, 2], "the fourth was not due yet");

    let budget = Counted::new(1);
    let service = Scripted::new(|_| (1000, Ok(())));
    service.by(&hedged().budget(budget.clone())).await.unwrap();
    assert_eq!(service.times(), [0, 100]);
    assert_eq!(budget.told(), [1, 1, 0, 2], "asked no more after a refusal");

    // All by failures, with none under way in between.
    let budget = Counted::new(100);
    let service = Scripted::new(|_| (10, Err("fails")));
    service.by(&hedged().budget(budget.clone())).await.unwrap_err();
    assert_eq!(budget.told(), [1, 0, 4, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_hedge_that_the_budget_refuses_is_not_waited_for() {
    for word in ["fails", "later"] {
        let service = Scripted::new(match word {
            "fails" => |_| (10, Err("fails")),
            _ => |_| (10, Err("later")),
        });
        service.by(&hedged().budget(Counted::new(0))).await.unwrap_err();
        assert_eq!((service.times(), service.began.elapsed()), (vec![0], millis(10)), "{word}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_takes_too_long_is_replaced_while_others_go_on() {
    let service = Scripted::new(|n| (if n == 3 { 20 } else { 1000 }, Ok(())));
    let retry = hedged().per_attempt_timeout(millis(130));
    assert_eq!(service.by(&retry).await.unwrap(), 3);
    // At 130 the first is over and the third comes; at 230 the fourth, for the second.
    assert_eq!(service.times(), [0, 100, 130, 230]);
    assert_eq!(service.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_run_out_together_are_all_named() {
    let service = Scripted::new(|_| (1000, Ok(())));
    let retry = retry().hedge(HedgeDelay::fixed(Duration::ZERO)).per_attempt_timeout(millis(50));
    let error = service.by(&retry).await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!((error.attempts().len(), service.times().len()), (4, 4));
    assert_eq!(service.began.elapsed(), millis(50));
}

#[tokio::test(start_paused = true)]
async fn a_quantile_is_that_of_the_calls_before() {
    let retry = retry().max_attempts(2).hedge(HedgeDelay::quantile(0.9));
    // Nothing is known: a second.
    let service = Scripted::new(|_| (5000, Ok(())));
    service.by(&retry).await.unwrap();
    assert_eq!(service.times(), [0, 1000]);
    for n in 0..1000 {
        let service = Scripted::new(match n % 20 {
            0 => |_| (200, Ok(())),
            _ => |_| (10, Ok(())),
        });
        service.by(&retry).await.unwrap();
    }
    let service = Scripted::new(|_| (5000, Ok(())));
    service.by(&retry).await.unwrap();
    let delay = service.times()[1];
    assert!((9..=13).contains(&delay), "{delay}");
}

#[tokio::test(start_paused = true)]
async fn concurrent_attempts_go_to_different_instances() {
    let probe = Probe::default();
    for address in [A, B, C] {
        probe.slow_calls(address, Duration::from_secs(1));
    }
    let list = FixedInstancer::new("s", instances(&[A, B, C]));
    let endpointer = DefaultEndpointer::new(list, probe.factory());
    until_ready(&endpointer, &[A, B, C]).await;
    let retry = Retry::new(3, Duration::from_secs(60)).hedge(HedgeDelay::fixed(millis(10)));
    let client = retry.layer(Balanced::new(endpointer.clone(), Random::with_seed(1)));
    for round in 1..=50 {
        client.clone().ask("").await.unwrap();
        assert_eq!([A, B, C].map(|address| probe.calls(address)), [round; 3]);
    }
    assert!(endpointer.endpoints().load().ready().iter().all(|member| member.in_flight() == 0));
}

/// The first that this call has not tried.
#[derive(Debug)]
struct InOrder;

impl Balancer for InOrder {
    fn pick(&self, set: &ReadySet<'_>, context: &PickContext<'_>) -> Option<usize> {
        set.iter().position(|member| !context.excludes(member))
    }
}

/// All took too long, so all are named, and all their instances hear of it.
#[tokio::test(start_paused = true)]
async fn the_deadline_is_a_failure_of_every_instance_that_had_not_answered() {
    // Enough of them that half are left.
    let all = [A, B, C, "10.0.0.4:80", "10.0.0.5:80"];
    let probe = Probe::default();
    for address in [A, B] {
        probe.slow_calls(address, Duration::from_secs(60));
    }
    let list = FixedInstancer::new("s", instances(&all));
    let detection = OutlierDetection::default().with_max_ejected(1.0);
    let endpointer =
        DefaultEndpointer::builder().outlier_detection(detection).build(list, probe.factory());
    until_ready(&endpointer, &all).await;
    let retry = Retry::new(2, millis(500)).hedge(HedgeDelay::fixed(millis(100)));
    let client = retry.layer(Balanced::new(endpointer.clone(), InOrder));
    for _ in 0..5 {
        let error = client.clone().ask("").await.unwrap_err();
        assert!(error.is_timeout());
        let took: Vec<_> = error
            .attempts()
            .iter()
            .map(|a| (a.instance.as_ref().unwrap().as_str(), a.elapsed))
            .collect();
        assert_eq!(took, [(A, millis(500)), (B, millis(400))]);
        assert!(endpointer.endpoints().load().ready().iter().all(|member| member.in_flight() == 0));
    }
    until_ready(&endpointer, &all[2..]).await;
    assert_eq!(client.ask("").await.unwrap(), C);
}

#[tokio::test(start_paused = true)]
async fn dropping_the_call_drops_every_attempt() {
    let service = Scripted::new(|_| (60_000, Ok(())));
    let call = tokio::spawn({
        let service = service.clone();
        async move { service.by(&hedged()).await }
    });
    sleep(millis(250)).await;
    assert_eq!(service.running(), 3);
    call.abort();
    settle().await;
    assert_eq!(service.running(), 0);
    sleep(Duration::from_secs(1)).await;
    assert_eq!(service.times().len(), 3, "and none follows");
}

/// Can be copied so often.
struct Copies(AtomicUsize);

impl RetryClassifier<WithContext<()>> for Copies {
    fn copy(&self, request: &WithContext<()>) -> Option<WithContext<()>> {
        let take = |left: usize| left.checked_sub(1);
        let left = self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, take);
        left.ok().map(|_| request.clone())
    }

    fn judge(&self, _: u32, _: &BoxError) -> Verdict {
        Verdict::Retry
    }
}

/// The request itself goes out last.
#[tokio::test(start_paused = true)]
async fn a_request_is_sent_once_more_than_it_can_be_copied() {
    for copies in 0..3 {
        for hedge in [false, true] {
            let service = Scripted::new(|_| (10, Err("fails")));
            let retry = Retry::with_policy(Copies(AtomicUsize::new(copies))).max_attempts(5);
            let retry = if hedge { retry.hedge(HedgeDelay::fixed(millis(5))) } else { retry };
            let error = service.by(&retry).await.unwrap_err();
            assert_eq!((service.times().len(), error.attempts().len()), (copies + 1, copies + 1));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_sends_nothing() {
    let service = Scripted::new(|_| (0, Ok(())));
    let error = service.by(&hedged().timeout(Duration::ZERO)).await.unwrap_err();
    assert!(error.is_timeout());
    assert_eq!((service.times().len(), error.attempts().len()), (0, 0));
}

/// A service that is not ready is waited for, within the deadline.
#[tokio::test(start_paused = true)]
async fn an_attempt_waits_for_its_service_to_be_ready() {
    #[derive(Clone)]
    struct Sleepy(Arc<AtomicBool>);
    impl tower::Service<WithContext<()>> for Sleepy {
        type Response = ();
        type Error = BoxError;
        type Future = BoxFuture<'static, Result<(), BoxError>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), BoxError>> {
            self.0.store(true, Ordering::SeqCst);
            std::task::Poll::Pending
        }
        fn call(&mut self, _: WithContext<()>) -> Self::Future {
            unreachable!()
        }
    }
    let polled = Arc::new(AtomicBool::new(false));
    let began = Instant::now();
    let retry = hedged().timeout(millis(350));
    let error = retry.layer(Sleepy(polled.clone())).ask(()).await.unwrap_err();
    assert!(error.is_timeout() && polled.load(Ordering::SeqCst));
    assert_eq!((began.elapsed(), error.attempts().len()), (millis(350), 4));
}

/// The time of a hedge that wins is not that of its call: else each of them would bring the next ones
/// forward, until far more calls are hedged than the quantile says.
#[tokio::test(start_paused = true)]
async fn hedges_that_win_do_not_bring_the_next_ones_forward() {
    let retry = retry().max_attempts(2).hedge(HedgeDelay::quantile(0.9));
    let (rng, sent) = (Arc::new(Mutex::new(fastrand::Rng::with_seed(7))), Arc::new(Mutex::new(0)));
    let attempts = sent.clone();
    let service = retry.layer(service_fn(move |_: WithContext<()>| {
        *attempts.lock().unwrap() += 1;
        let takes = -50.0 * rng.lock().unwrap().f64().max(1e-9).ln();
        async move {
            sleep(Duration::from_secs_f64(takes / 1000.0)).await;
            Ok::<_, BoxError>(())
        }
    }));
    for _ in 0..3000 {
        service.clone().ask(()).await.unwrap();
    }
    *sent.lock().unwrap() = 0;
    for _ in 0..2000 {
        service.clone().ask(()).await.unwrap();
    }
    let hedges = *sent.lock().unwrap() - 2000;
    assert!((100..=230).contains(&hedges), "{hedges} of 2000, not about a tenth");
}

#[tokio::test(start_paused = true)]
async fn what_the_deadline_would_cut_short_costs_no_budget() {
    for retry in [retry(), hedged()] {
        let budget = Counted::new(100);
        let service = Scripted::new(|_| (10, Err("later")));
        let retry = retry.timeout(millis(90)).budget(budget.clone());
        service.by(&retry).await.unwrap_err();
        assert_eq!(service.times(), [0]);
        assert_eq!(budget.told(), [1, 0, 1, 0], "nothing more was sent, so nothing is paid");
    }
}

/// The count of attempts is full, but one of them was none.
#[tokio::test(start_paused = true)]
async fn what_never_left_is_replaced_after_the_last_attempt_has_failed() {
    let service = Scripted::new(|n| match n {
        0 => (110, Err("fails")),
        1 => (20, Err("unsent")),
        _ => (10, Ok(())),
    });
    assert_eq!(service.by(&hedged().max_attempts(2)).await.unwrap(), 2);
    assert_eq!(service.times(), [0, 100, 120]);
    assert_eq!(service.marks(), [0, 1, 1]);
}
