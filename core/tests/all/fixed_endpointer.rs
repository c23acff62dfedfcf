//! Endpoints that are given, and what takes any endpointer.

use std::sync::Arc;
use std::time::Duration;

use fleetward_core::{Balanced, BoxError, Endpointer, FixedEndpointer, InstanceId, Retry};
use tower::util::BoxCloneSyncService;
use tower::{ServiceBuilder, service_fn};

use crate::calls::First;
use crate::support::*;

const A: &str = "10.0.0.1:80";
const B: &str = "10.0.0.2:80";
const C: &str = "10.0.0.3:80";

type Says = BoxCloneSyncService<&'static str, String, BoxError>;

fn says(text: &'static str) -> Says {
    BoxCloneSyncService::new(service_fn(move |_| async move { Ok(text.to_owned()) }))
}

fn fails() -> Says {
    BoxCloneSyncService::new(service_fn(|_| async { Err("no".into()) }))
}

#[test]
fn what_was_given_is_ready_at_once_and_without_a_runtime() {
    let drains = instance(C).with_weight(0);
    let endpoints = [(instance(B), 1), (instance(A), 2), (instance(A), 3), (drains, 4)];
    let endpointer = FixedEndpointer::new("s", endpoints);
    assert_eq!(ready(&endpointer).iter().map(InstanceId::as_str).collect::<Vec<_>>(), [A, B]);
    let set = endpointer.endpoints().load();
    assert_eq!((set.service(0), set.service(1), set.known()), (Some(&3), Some(&1), 3));
    assert!(!set.freshness().is_pending() && !set.freshness().is_stale());
    assert_eq!(&**endpointer.endpoints().service(), "s");
}

#[tokio::test]
async fn what_fails_is_tried_elsewhere() {
    let endpointer = FixedEndpointer::new("s", [(instance(A), fails()), (instance(B), says("b"))]);
    let service = ServiceBuilder::new()
        .layer(Retry::new(2, Duration::from_secs(10)))
        .service(Balanced::new(endpointer.clone(), First));
    assert_eq!(service.ask("x").await.unwrap(), "b");
    let (set, now) = (endpointer.endpoints().load(), tokio::time::Instant::now());
    assert!(set.ready()[1].latency(now).is_some(), "endpoints learn from their calls");
}

#[tokio::test(start_paused = true)]
async fn an_empty_one_says_why() {
    let drains = instance(A).with_weight(0);
    for (endpoints, why) in [
        (vec![], "no instance is registered"),
        (vec![(drains, says("a"))], "no instance is ready: 1 draining"),
    ] {
        let balanced = Balanced::new(FixedEndpointer::new("s", endpoints), First);
        let error = balanced.ask("x").await.unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn whoever_takes_an_endpointer_takes_any() {
    let fixed = FixedEndpointer::new("s", [(instance(A), says("a"))]);
    let erased: Arc<dyn Endpointer<Says>> = Arc::new(fixed.clone());
    for balanced in [
        Balanced::new(fixed.endpoints().clone(), First),
        Balanced::new(fixed, First),
        Balanced::new(erased, First),
    ] {
        assert!(balanced.pick(&"x").is_some());
    }
}
