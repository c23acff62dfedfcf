//! What a failed call says.

use std::error::Error as _;

use fleetward_core::retry::RetryError;
use tonic::Code;

use super::script::*;
use super::*;
use crate::support::*;

fn history(status: &Status) -> &RetryError {
    status.source().unwrap().downcast_ref().unwrap()
}

#[tokio::test]
async fn a_failed_connection_names_service_attempts_instance_and_cause() {
    let server = Scripted::always(vec![Op::Reset(h2::Reason::CANCEL)]).await;
    let policy = policy().with_codes([Code::Cancelled]).with_max_attempts(3);
    let channel = server.builder().retry(policy).build();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Cancelled);
    for part in
        ["service greeter", "3 attempts", &format!("instance {}", server.id()), "no longer needed"]
    {
        assert!(status.message().contains(part), "{part}: {status}");
    }
    let error = history(&status);
    assert_eq!(error.attempts().len(), 3);
    for attempt in error.attempts() {
        assert_eq!(attempt.instance.as_ref().unwrap().to_string(), server.id());
    }
    assert!(!error.is_timeout());
}

#[tokio::test]
async fn a_deadline_names_what_came_before_it() {
    let server = Scripted::start(|n| match n {
        0 => fails(Code::Unavailable),
        _ => hangs(),
    })
    .await;
    let channel = server.builder().retry(policy()).timeout(millis(150)).build();
    ready(&channel, 1).await;
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    for part in ["service greeter", "2 attempts", &server.id(), "Unavailable", "150ms"] {
        assert!(status.message().contains(part), "{part}: {status}");
    }
    let error = history(&status);
    assert!(error.is_timeout());
    assert_eq!(error.attempts().len(), 2);
    assert!(error.attempts()[0].error.to_string().contains("Unavailable"));
}

/// The server's own status is a response: it keeps code and metadata, and its message comes first.
#[tokio::test]
async fn a_servers_last_word_is_handed_on_with_the_number_of_attempts() {
    let said = vec![("grpc-message", "no%20room"), ("x-reason", "full")];
    let server = Scripted::always(vec![Op::End(Code::Unavailable, said)]).await;
    let channel = server.builder().retry(policy()).build();
    let status = morning(&channel, "you").await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let expected = format!("no room (service greeter: 4 attempts, the last on {})", server.id());
    assert_eq!(status.message(), expected);
    assert_eq!(status.metadata().get("x-reason").unwrap(), "full");
}

#[tokio::test]
async fn an_attempt_that_never_was_is_not_counted() {
    let server =
        Scripted::always(vec![Op::Read(2), Op::Sleep(100), Op::Reset(h2::Reason::CANCEL)]).await;
    let hedging = fleetward_grpc::HedgingPolicy::new(millis(20)).with_max_attempts(3);
    // Too large to be kept, so the hedge has nothing to send.
    let channel = server.builder().hedge(hedging).replay_limit(10).build();
    ready(&channel, 1).await;
    let (tell, names) = stream();
    for name in ["one of a few", "and another one"] {
        tell.send(named(name)).await.unwrap();
    }
    drop(tell);
    let status = gather(&channel, names).await.unwrap_err();
    assert_eq!(server.calls(), 1);
    assert_eq!(history(&status).attempts().len(), 1, "{status}");
}
