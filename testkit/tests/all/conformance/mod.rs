//! The suite on itself: what is broken fails it, what is not passes, what is missing is said.

mod broken;
mod report;

use std::panic::AssertUnwindSafe;

use fleetward_testkit::conformance::{Case, Form, run};
use futures::FutureExt;

use self::broken::{Broken, Fault};

/// The cases that find each fault, at the least.
const FOUND_BY: &[(Fault, &[&str])] = &[
    (Fault::LeaksSiblings, &["discovery::sibling_names_apart"]),
    (Fault::NeverTellsDeletes, &["discovery::delete", "discovery::last_one_removed"]),
    (Fault::ForgetsMetadata, &["instances::metadata"]),
    (Fault::ForgetsWeights, &["instances::weights", "discovery::change"]),
    (Fault::ListsFirstPageOnly, &["discovery::a_thousand_instances"]),
    (Fault::WatchesFromNow, &["contract::list_then_watch_without_a_gap"]),
    (Fault::ListFailsWhenEmpty, &["discovery::an_unknown_service_is_empty"]),
    (
        Fault::RemovesSuccessors,
        &["registration::deregisters_only_its_own", "contract::successor_is_told"],
    ),
    (Fault::ForgetsToRenew, &["registration::renewed_past_three_ttls"]),
    (
        Fault::NeverNoticesLoss,
        &["registration::lost_lease_registered_again", "contract::lost_lease_is_told"],
    ),
    (Fault::NewKeyEachTime, &["registration::exactly_one_key"]),
    (
        Fault::LeasesForEver,
        &["contract::lease_ends_by_itself", "contract::deregister_of_what_is_gone"],
    ),
    (Fault::GoneIsAnError, &["contract::deregister_of_what_is_gone"]),
    (Fault::RegistersInTwoSteps, &["contract::writes_dropped_at_every_await"]),
    (Fault::DeregistersNothing, &["registration::visible_to_a_watcher"]),
    (Fault::StaysLockedWhenDropped, &["contract::reads_dropped_at_every_await"]),
    (Fault::OneBadValueFailsTheList, &["discovery::bad_value_skipped"]),
    (Fault::HangsWhenKilled, &["faults::watch_killed"]),
    (Fault::OutageLooksLikeDeletes, &["faults::server_stopped_and_started"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_fault_is_found() {
    let all = FOUND_BY.iter().flat_map(|(fault, cases)| cases.iter().map(|case| (*fault, *case)));
    futures::future::join_all(all.map(|(fault, name)| async move {
        let case = Case::named(name).expect("there is such a case");
        assert!(fails(case, fault).await, "{name} does not find {fault:?}");
        assert!(!fails(case, Fault::None).await, "{name} fails without a fault");
    }))
    .await;
}

async fn fails(case: Case, fault: Fault) -> bool {
    let subject = async || Some(Broken::new(fault));
    AssertUnwindSafe(run(case, Form::Concrete, subject)).catch_unwind().await.is_err()
}
