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
    (Fault::NeverTellsLoss, &["contract::loss_is_told_without_asking"]),
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
    (Fault::ListsAKeyTwice, &["told::a_key_is_listed_once"]),
    (Fault::TellsAChangeTwice, &["told::each_change_is_told_once"]),
    (Fault::RepeatsAMessage, &["told::each_change_is_told_once"]),
    (Fault::CursorGoesBack, &["told::a_cursor_never_goes_back"]),
    (Fault::TellsOldSets, &["told::each_change_is_told_once"]),
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

/// What a backend does wrong is said in a sentence: what must be, and what was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_is_a_sentence() {
    for (fault, case, sentence) in [
        (
            Fault::NeverNoticesLoss,
            "contract::lost_lease_is_told",
            "keep_alive must say Lost; it said Alive { ttl: ",
        ),
        (
            Fault::ListFailsWhenEmpty,
            "contract::list_then_watch_without_a_gap",
            "list must succeed; it failed: not found: there is no such service",
        ),
        (
            Fault::WatchesFromNow,
            "contract::list_then_watch_without_a_gap",
            "the watch must tell what came after the list; it said nothing of it",
        ),
        (
            Fault::ListsAKeyTwice,
            "told::a_key_is_listed_once",
            "list must give a key once; it gave 10.1.0.1:8080 twice",
        ),
        (
            Fault::TellsAChangeTwice,
            "told::each_change_is_told_once",
            "a change must be told once; 10.1.0.2:8080 was put twice, as Instance {",
        ),
        (
            Fault::TellsOldSets,
            "told::each_change_is_told_once",
            "a set must not be told when it is over; it was [",
        ),
    ] {
        let failure = failure(Case::named(case).expect("there is such a case"), fault).await;
        let said = failure.unwrap_or_default();
        assert!(said.starts_with(sentence), "{fault:?}: {said}");
    }
}

async fn fails(case: Case, fault: Fault) -> bool {
    failure(case, fault).await.is_some()
}

async fn failure(case: Case, fault: Fault) -> Option<String> {
    let subject = async || Some(Broken::new(fault));
    let run = AssertUnwindSafe(run(case, Form::Concrete, subject)).catch_unwind().await;
    let panic = run.err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| Some(panic.downcast_ref::<&str>()?.to_string())).unwrap_or_default())
}
