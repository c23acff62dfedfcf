//! An HTTP/2 server that answers each stream by a script, and keeps account of what it saw.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use fleetward_core::Instance;
use fleetward_core::discovery::FixedInstancer;
use fleetward_grpc::{Channel, ChannelBuilder};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use tonic::Code;

use crate::greet::{GreetRequest, GreetResponse};

/// What a server does next to a stream.
#[derive(Clone, Debug)]
pub(crate) enum Op {
    /// Reads until so many messages are there, counted from the beginning of the stream.
    Read(usize),
    /// Reads to the end of the request.
    ReadAll,
    Sleep(u64),
    /// Sends the head of a response that has not ended.
    Head,
    Say(&'static str),
    /// Ends the response: by trailers, or, if it has no head yet, by a head that is all of it.
    End(Code, Vec<(&'static str, &'static str)>),
    Reset(Reason),
    /// Keeps the stream as it is until the client resets it.
    Hang,
}

/// One stream as the server saw it.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) at: Instant,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
    /// The request has been read to its end.
    pub(crate) ended: bool,
    /// The client reset the stream.
    pub(crate) cancelled: bool,
    /// The script is done.
    pub(crate) done: bool,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The names of the messages that came in.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut body = &self.body[..];
        let mut names = Vec::new();
        while let Some((head, rest)) = body.split_at_checked(5) {
            let length = u32::from_be_bytes(head[1..].try_into().unwrap()) as usize;
            let Some((message, rest)) = rest.split_at_checked(length) else { break };
            names.push(GreetRequest::decode(message).unwrap().name);
            body = rest;
        }
        names
    }
}

#[derive(Clone)]
pub(crate) struct Scripted {
    pub(crate) address: SocketAddr,
    pub(super) seen: Arc<Mutex<Vec<Seen>>>,
}

impl Scripted {
    /// Stream number n, from 0, gets what `script(n)` says.
    pub(crate) async fn start(script: impl Fn(usize) -> Vec<Op> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::new(Mutex::new(Vec::new())),
        };
        let script: Arc<dyn Fn(usize) -> Vec<Op> + Send + Sync> = Arc::new(script);
        let accepting = server.clone();
        tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                socket.set_nodelay(true).unwrap();
                tokio::spawn(accepting.clone().serve(socket, script.clone()));
            }
        });
        server
    }

    /// All streams get the same.
    pub(crate) async fn always(ops: Vec<Op>) -> Self {
        Self::start(move |_| ops.clone()).await
    }

    async fn serve(self, socket: TcpStream, script: Arc<dyn Fn(usize) -> Vec<Op> + Send + Sync>) {
        let Ok(mut connection) = h2::server::handshake(socket).await else { return };
        while let Some(Ok((request, respond))) = connection.accept().await {
            let (head, body) = request.into_parts();
            let n = {
                let mut seen = self.seen();
                seen.push(Seen {
                    at: Instant::now(),
                    headers: head.headers,
                    body: Vec::new(),
                    ended: false,
                    cancelled: false,
                    done: false,
                });
                seen.len() - 1
            };
            tokio::spawn(self.clone().play(n, script(n), body, respond));
        }
    }

    async fn play(
        self,
        n: usize,
        ops: Vec<Op>,
        mut body: RecvStream,
        mut respond: SendResponse<Bytes>,
    ) {
        let mut sending: Option<SendStream<Bytes>> = None;
        for op in ops {
            match op {
                Op::Read(messages) => {
                    while self.seen()[n].names().len() < messages {
                        if !self.read(n, &mut body).await {
                            break;
                        }
                    }
                }
                Op::ReadAll => while self.read(n, &mut body).await {},
                Op::Sleep(millis) => sleep(Duration::from_millis(millis)).await,
                Op::Head => sending = respond.send_response(head(), false).ok(),
                Op::Say(message) => {
                    // Nothing if the client has cancelled the call before its head.
                    if let Some(sending) = &mut sending {
                        let _ = sending.send_data(framed(message), false);
                    }
                }
                Op::End(code, more) => {
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from(code as i32));
                    for (name, value) in more {
                        trailers.append(HeaderName::from_static(name), value.parse().unwrap());
                    }
                    match &mut sending {
                        Some(sending) => {
                            let _ = sending.send_trailers(trailers);
                        }
                        None => {
                            let mut only = head();
                            only.headers_mut().extend(trailers);
                            sending = respond.send_response(only, true).ok();
                        }
                    }
                }
                Op::Reset(reason) => respond.send_reset(reason),
                Op::Hang => {
                    let reset = match &mut sending {
                        Some(sending) => poll_fn(|cx| sending.poll_reset(cx)).await,
                        None => poll_fn(|cx| respond.poll_reset(cx)).await,
                    };
                    self.seen()[n].cancelled = reset.is_ok();
                }
            }
        }
        self.seen()[n].done = true;
    }

    async fn read(&self, n: usize, body: &mut RecvStream) -> bool {
        match body.data().await {
            Some(Ok(data)) => {
                let _ = body.flow_control().release_capacity(data.len());
                self.seen()[n].body.extend_from_slice(&data);
                true
            }
            Some(Err(_)) => {
                self.seen()[n].cancelled = true;
                false
            }
            None => {
                self.seen()[n].ended = true;
                false
            }
        }
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.seen.lock().unwrap()
    }

    pub(crate) fn calls(&self) -> usize {
        self.seen().len()
    }

    /// How many streams the client reset.
    pub(crate) fn cancelled(&self) -> usize {
        self.seen().iter().filter(|seen| seen.cancelled).count()
    }

    /// How long after the first stream each one came.
    pub(crate) fn times(&self) -> Vec<Duration> {
        let seen = self.seen();
        seen.iter().map(|stream| stream.at - seen[0].at).collect()
    }

    /// The time between each stream and the one before.
    pub(crate) fn gaps(&self) -> Vec<Duration> {
        self.times().windows(2).map(|pair| pair[1] - pair[0]).collect()
    }

    pub(crate) fn headers(&self, name: &str) -> Vec<Option<String>> {
        self.seen().iter().map(|seen| seen.header(name).map(str::to_owned)).collect()
    }

    pub(crate) fn instance(&self) -> Instance {
        Instance::new(self.address).unwrap()
    }

    pub(crate) fn id(&self) -> String {
        self.address.to_string()
    }

    /// A channel to this server alone.
    pub(crate) fn builder(&self) -> ChannelBuilder<FixedInstancer> {
        to([self])
    }
}

/// A channel to these servers, in turn from the first.
pub(crate) fn to<'a>(
    servers: impl IntoIterator<Item = &'a Scripted>,
) -> ChannelBuilder<FixedInstancer> {
    let instances = servers.into_iter().map(Scripted::instance);
    Channel::builder(FixedInstancer::new("greeter", instances))
        .balancer(fleetward_balancers::RoundRobin::starting_at(0))
}

fn head() -> http::Response<()> {
    http::Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

fn framed(message: &str) -> Bytes {
    let message = GreetResponse { message: message.into() }.encode_to_vec();
    let mut framed = BytesMut::new();
    framed.put_u8(0);
    framed.put_u32(message.len() as u32);
    framed.put_slice(&message);
    framed.freeze()
}

/// Answers when it has read the whole request.
pub(crate) fn answers() -> Vec<Op> {
    vec![Op::ReadAll, Op::Head, Op::Say("fine"), Op::End(Code::Ok, vec![])]
}

/// As [`answers`], so many milliseconds later.
pub(crate) fn answers_after(millis: u64) -> Vec<Op> {
    [vec![Op::Sleep(millis)], answers()].concat()
}

/// Fails in the head, without a look at the request's body.
pub(crate) fn fails(code: Code) -> Vec<Op> {
    vec![Op::End(code, vec![])]
}

/// As [`fails`], with these values of `grpc-retry-pushback-ms`.
pub(crate) fn pushes_back(code: Code, values: &[&'static str]) -> Vec<Op> {
    let name = "grpc-retry-pushback-ms";
    vec![Op::End(code, values.iter().map(|value| (name, *value)).collect())]
}

/// Reads everything and says nothing.
pub(crate) fn hangs() -> Vec<Op> {
    vec![Op::Hang]
}
