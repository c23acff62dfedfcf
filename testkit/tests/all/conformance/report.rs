//! What is said of all cases together.

use std::net::SocketAddr;

use fleetward_core::{Instance, ServiceName};
use fleetward_testkit::conformance::{
    CASES, Capabilities, Capability, Case, Form, Outcome, ReadOnly, Subject, run_all,
};

use super::broken::{Broken, Fault};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_whole_backend_passes_and_a_broken_one_is_named() {
    let (whole, broken) = tokio::join!(
        run_all(async || Some(Broken::new(Fault::None))),
        run_all(async || Some(Broken::new(Fault::ForgetsMetadata))),
    );
    let whole = whole.expect("it is there");
    whole.assert_passed();
    let forms: usize = CASES.iter().map(|case| case.forms().len()).sum();
    assert_eq!(whole.outcomes().len(), forms);

    let broken = broken.expect("it is there");
    let failed = broken.outcomes().iter().filter(|(.., how)| matches!(how, Outcome::Failed(_)));
    let failed: Vec<_> = failed.map(|(case, form, _)| (case.to_string(), *form)).collect();
    let named = "instances::metadata".to_owned();
    assert_eq!(failed, [(named.clone(), Form::Concrete), (named, Form::Erased)]);
    let text = broken.to_string();
    assert!(text.contains("FAILED  instances::metadata (Concrete): not within"), "{text}");
    assert!(text.contains("SKIPPED faults::connection_cut (Erased): Proxy: the subject"), "{text}");
    let refused = std::panic::catch_unwind(|| broken.assert_passed());
    assert!(refused.is_err());
}

#[tokio::test]
async fn without_a_subject_there_is_no_report() {
    assert!(run_all(async || None::<Broken>).await.is_none());
}

/// The table is discovered only, and fed through the subject's hooks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backend_that_only_reads_is_tested_as_far_as_it_goes() {
    let report = run_all(async || Some(Discovered(Broken::new(Fault::None)))).await;
    let report = report.expect("it is there");
    report.assert_passed();
    let passed = report.outcomes().iter().filter(|(.., how)| *how == Outcome::Passed);
    assert!(passed.clone().any(|(case, ..)| case.to_string() == "discovery::delete"));
    assert!(passed.clone().all(|(case, ..)| !case.needs.contains(&Capability::Register)));
}

#[test]
fn cases_are_told_apart_by_their_names() {
    for case in CASES {
        assert_eq!(Case::named(&case.to_string()), Some(*case));
    }
}

#[tokio::test]
#[should_panic(expected = "capabilities have Proxy, so it must write `address`")]
async fn a_hook_that_was_promised_is_asked_for() {
    let _address: SocketAddr = Broken::new(Fault::None).address();
}

struct Discovered(Broken);

impl Subject for Discovered {
    type Backend = ReadOnly<Broken>;

    fn capabilities(&self) -> Capabilities {
        Capabilities::new().without(Capability::Register, "it only reads")
    }

    async fn open(&self) -> ReadOnly<Broken> {
        ReadOnly(self.0.clone())
    }

    async fn put(&self, service: &ServiceName, instance: &Instance) {
        put(&self.0, service, instance, std::time::Duration::from_secs(300)).await;
    }

    async fn remove(&self, service: &ServiceName, instance: &Instance) {
        put(&self.0, service, instance, std::time::Duration::from_millis(1)).await;
    }
}

async fn put(table: &Broken, service: &ServiceName, instance: &Instance, ttl: std::time::Duration) {
    use fleetward_core::registration::Registry;
    table.register(service, instance, ttl).await.expect("a table takes everything");
}
