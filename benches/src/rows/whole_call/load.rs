//! A number of callers at once, each with one call after the other.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::PathAndQuery;
use tonic::Request;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic_prost::ProstCodec;

use super::echo::{Message, PATH};
use crate::cpu;
use crate::error::{Error, Result};

/// What is sent at a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Load {
    pub(crate) in_flight: usize,
    /// Bytes each way.
    pub(crate) payload: usize,
    pub(crate) time: Duration,
    /// Ends it after so many calls instead.
    pub(crate) calls: Option<usize>,
}

/// How it went.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) calls_per_second: f64,
    /// Microseconds of this process, for each call.
    pub(crate) cpu: f64,
    /// Microseconds.
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
}

/// What a generated client takes.
pub(crate) trait Callable:
    GrpcService<
        Body,
        ResponseBody: http_body::Body<Data = Bytes, Error: Into<Error>> + Send + 'static,
        Error: Into<Error>,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Callable for T where
    T: GrpcService<
            Body,
            ResponseBody: http_body::Body<Data = Bytes, Error: Into<Error>> + Send + 'static,
            Error: Into<Error>,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// Sends the load, to each of the clients in turn.
pub(crate) async fn run<T: Callable>(in_turn: Vec<Grpc<T>>, load: Load) -> Result<Sample> {
    let payload = Bytes::from(vec![b'x'; load.payload]);
    let stop = Arc::new(AtomicBool::new(false));
    let (start, before) = (Instant::now(), cpu::used());
    let each = load.calls.map_or(usize::MAX, |calls| calls.div_ceil(load.in_flight));
    let callers: Vec<_> = (0..load.in_flight)
        .map(|first| (in_turn.clone(), first, payload.clone(), stop.clone()))
        .map(|(clients, first, payload, stop)| caller(clients, first, payload, each, stop))
        .map(tokio::spawn)
        .collect();
    if load.calls.is_none() {
        tokio::time::sleep(load.time).await;
        stop.store(true, Ordering::Relaxed);
    }
    let mut took = Vec::new();
    for caller in callers {
        took.append(&mut caller.await??);
    }
    let (elapsed, used) = (start.elapsed(), cpu::used() - before);
    took.sort_unstable();
    let at = |share: f64| {
        let position = (took.len().saturating_sub(1) as f64 * share).round() as usize;
        took.get(position).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6)
    };
    let calls = took.len() as f64;
    Ok(Sample {
        calls_per_second: calls / elapsed.as_secs_f64(),
        cpu: used.as_secs_f64() * 1e6 / calls,
        p50: at(0.5),
        p99: at(0.99),
        p999: at(0.999),
    })
}

async fn caller<T: Callable>(
    mut in_turn: Vec<Grpc<T>>,
    first: usize,
    payload: Bytes,
    most: usize,
    stop: Arc<AtomicBool>,
) -> Result<Vec<Duration>> {
    let mut took = Vec::new();
    let mut turn = first % in_turn.len();
    while took.len() < most && !stop.load(Ordering::Relaxed) {
        let client = &mut in_turn[turn];
        let begun = Instant::now();
        client.ready().await.map_err(Into::into)?;
        let request = Request::new(Message { payload: payload.clone() });
        let path = PathAndQuery::from_static(PATH);
        let codec = ProstCodec::<Message, Message>::default();
        let answer = client.unary(request, path, codec).await?;
        took.push(begun.elapsed());
        if answer.get_ref().payload.len() != payload.len() {
            return Err("the echo is not what was sent".into());
        }
        turn = (turn + 1) % in_turn.len();
    }
    Ok(took)
}
