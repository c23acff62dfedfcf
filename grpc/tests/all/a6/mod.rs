//! gRFC A6, rule by rule, against servers that misbehave as a script says.
//!
//! Times are real, as the connections are, and are the server's: a wait may seem longer by [`SLACK`] on
//! a busy machine, or shorter by [`EARLY`] if the stream it began with came late. To the millisecond the
//! same waits are tested in the core, on a paused clock.
//!
//! Where grpc-go tests the same rule in its `test/retry_test.go`, this is where it is here:
//!
//! | grpc-go | here |
//! |---|---|
//! | TestRetryUnary | `attempts::the_sequence_of_grpc_go_for_unary_calls` |
//! | TestRetryThrottling | `throttling::the_sequence_of_grpc_go` |
//! | Non-retryable error code | `attempts::a_code_that_is_not_retryable_is_final` |
//! | One retry necessary; Retry via ClientStream.Header() | `attempts::all_four_kinds_of_calls_are_retried` |
//! | Exceed max attempts (4); check attempts header | `attempts::the_attempts_before_are_counted_in_a_header` |
//! | Multiple requests; Multiple successive requests | `replay::messages_between_attempts_reach_every_attempt_from_the_first_on` |
//! | Replaying close send | `replay::the_end_of_the_request_is_replayed_too` |
//! | No retry after receiving; No retry after header | `attempts::a_head_commits_a_call_of_any_kind` |
//! | Negative, non-numeric, multiple server pushback | `pushback::what_forbids_or_cannot_be_read_stops_the_call` |
//! | 1s server pushback | `pushback::the_wait_is_the_servers_and_the_backoff_begins_anew` |
//! | Overflowing buffer | `replay::more_than_the_limit_commits_the_call` |
//! | TestRetryTransparentWhenCommitted | `transparent::a_refused_call_that_is_committed_fails` |
//! | No retry after context | no counterpart: a call here is retried before its response is handed out |
//! | TestRetryStats, TestMaxCallAttempts | no counterpart: no stats handler, no option above 5 |

mod attempts;
mod cancellation;
mod config;
mod deadline;
mod errors;
mod hedging;
mod hedging_streams;
mod pushback;
mod replay;
pub(crate) mod script;
mod throttling;
mod transparent;

use std::time::Duration;

use fleetward_core::backoff::Backoff;
use fleetward_grpc::{Channel, RetryPolicy};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use crate::greet::greet_client::GreetClient;
use crate::greet::{GreetRequest, GreetResponse};

/// What a busy machine may add to a wait.
const SLACK: Duration = Duration::from_millis(250);
const EARLY: Duration = Duration::from_millis(40);

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Four attempts, almost at once.
fn policy() -> RetryPolicy {
    let quick = Backoff::new(millis(1), millis(5)).unwrap();
    RetryPolicy::default().with_max_attempts(4).with_backoff(quick)
}

/// A request that comes in over time.
fn stream() -> (mpsc::Sender<GreetRequest>, ReceiverStream<GreetRequest>) {
    let (tell, told) = mpsc::channel(64);
    (tell, ReceiverStream::new(told))
}

async fn gather(
    channel: &Channel,
    names: ReceiverStream<GreetRequest>,
) -> Result<Response<GreetResponse>, Status> {
    GreetClient::new(channel.clone()).gather(names).await
}

/// The bytes that the channel keeps for further attempts.
fn kept(channel: &Channel) -> usize {
    let text = format!("{channel:?}");
    let used = text.split("replay_bytes: ").nth(1).unwrap();
    used.split(|c: char| !c.is_ascii_digit()).next().unwrap().parse().unwrap()
}
