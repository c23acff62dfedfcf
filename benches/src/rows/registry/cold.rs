//! A client that starts: from nothing to the answer to its first call.

use std::time::Instant;

use bytes::Bytes;
use fleetward::grpc::{Channel, Connect};
use http::uri::PathAndQuery;
use tonic::Request;
use tonic::client::Grpc;
use tonic_prost::ProstCodec;

use crate::error::Result;
use crate::measure::figure;
use crate::rows::whole_call::echo::{Message, PATH};
use crate::section::Table;

pub(crate) fn table() -> Table {
    Table::new(
        "A cold client: from `connect(url)` to the answer to its first call, ms",
        ["registry", "clients", "time"],
    )
}

pub(crate) async fn measure(url: &str, rounds: usize) -> Result<[String; 3]> {
    let mut took = Vec::new();
    for round in 0..rounds {
        // Handles are shared by URL while anything holds them: another URL each time, so that each client opens
        // the registry anew.
        let url = format!("{url}?empty_set={}s", 60 + round);
        let begun = Instant::now();
        let channel = Channel::builder(url).connect().await?;
        let mut client = Grpc::new(channel);
        client.ready().await?;
        let request = Request::new(Message { payload: Bytes::from_static(b"hello") });
        let path = PathAndQuery::from_static(PATH);
        let codec = ProstCodec::<Message, Message>::default();
        let answer = client.unary(request, path, codec).await?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        if answer.get_ref().payload.len() != 5 {
            return Err("the echo is not what was sent".into());
        }
    }
    Ok(["etcd".to_owned(), took.len().to_string(), figure("", took).with_spread()])
}
