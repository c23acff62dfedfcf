//! The one place that speaks HTTP: a thin client of those parts of Consul's API that are needed.
//!
//! It uses the first agent that works, and moves to the next one when an agent fails; every
//! request has a deadline, and an answer a limit. Dropping a call closes its connection.

mod answer;
mod connector;
mod failure;
mod silence;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use fleetward_core::Error;
use form_urlencoded::Serializer;
use http::{HeaderName, Method, Request};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tokio::time::timeout;

pub(crate) use self::answer::Answer;
use self::connector::Connector;
use self::failure::{Blame, Failure};
use self::silence::Pulse;
use crate::config::ConsulConfig;

type Http = hyper_util::client::legacy::Client<Connector, Full<Bytes>>;

/// A pool of connections to the agents. Clones share it.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: Arc<ConsulConfig>,
    http: Http,
    agents: Vec<Agent>,
    current: Mutex<usize>,
}

struct Agent {
    url: String,
    pulse: Pulse,
}

/// One request, but for the agent that it goes to.
pub(crate) struct Call {
    method: Method,
    path: String,
    body: Bytes,
    /// How long Consul may hold the answer back.
    wait: Duration,
}

impl Call {
    pub(crate) fn get(path: String) -> Self {
        Self { method: Method::GET, path, body: Bytes::new(), wait: Duration::ZERO }
    }

    pub(crate) fn put(path: String, body: Vec<u8>) -> Self {
        Self { method: Method::PUT, path, body: body.into(), wait: Duration::ZERO }
    }

    /// Consul adds up to a sixteenth of its own.
    pub(crate) fn held_back(mut self, wait: Duration) -> Self {
        self.wait = wait + wait / 16;
        self
    }
}

impl Client {
    /// Reads the TLS and token files, to find mistakes in them; dials nothing.
    pub(crate) async fn new(config: Arc<ConsulConfig>) -> Result<Self, Error> {
        let connector = Connector::new(config.clone()).await?;
        config.token().header().await?;
        let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(8)
            .build(connector);
        let agents = config.urls()?.into_iter().map(|url| Agent { url, pulse: Pulse::default() });
        let (agents, current) = (agents.collect(), Mutex::default());
        Ok(Self { shared: Arc::new(Shared { config, http, agents, current }) })
    }

    pub(crate) fn agents(&self) -> Vec<&str> {
        self.shared.agents.iter().map(|agent| agent.url.as_str()).collect()
    }

    /// The agent that works, as far as is known.
    pub(crate) fn current(&self) -> usize {
        *self.lock()
    }

    /// Sends to the current agent; after a failure the next call goes to the next one.
    pub(crate) async fn send(&self, call: Call) -> Result<Answer, Error> {
        self.send_to(self.current(), call).await
    }

    /// Sends to this agent, and to no other.
    pub(crate) async fn send_to(&self, at: usize, call: Call) -> Result<Answer, Error> {
        let agent = &self.shared.agents[at];
        let silence = self.shared.config.silence();
        let held_back = !call.wait.is_zero();
        let exchange = self.exchange(agent, call);
        let outcome = if held_back {
            // A query that is held back is as silent as an agent that hangs.
            tokio::select! {
                outcome = exchange => outcome,
                failure = agent.pulse.lost(silence, || self.knock(agent)) => Err(failure),
            }
        } else {
            exchange.await
        };
        outcome.map_err(|failure| {
            if failure.blame == Blame::Agent {
                self.give_up(at);
            }
            failure.error.with_context("agent", &agent.url)
        })
    }

    async fn exchange(&self, agent: &Agent, call: Call) -> Result<Answer, Failure> {
        let limit = call.wait + self.shared.config.request_timeout();
        let exchanged = timeout(limit, async {
            let mut request = Request::new(Full::new(call.body));
            *request.method_mut() = call.method;
            *request.uri_mut() = format!("{}{}", agent.url, call.path).parse().map_err(|_| {
                Failure::ours(Error::invalid_input("the request makes no valid URL"))
            })?;
            if let Some(token) = self.shared.config.token().header().await.map_err(Failure::ours)? {
                request.headers_mut().insert(TOKEN, token);
            }
            self.answer(agent, request).await
        });
        exchanged.await.unwrap_or_else(|_| Err(Failure::timeout()))
    }

    async fn answer(
        &self,
        agent: &Agent,
        request: Request<Full<Bytes>>,
    ) -> Result<Answer, Failure> {
        let response = self.shared.http.request(request).await.map_err(Failure::from)?;
        agent.pulse.heard();
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|why| {
            if why.is::<LengthLimitError>() { Failure::too_long() } else { Failure::cut_off(why) }
        })?;
        agent.pulse.heard();
        let body = body.to_bytes();
        if head.status.is_success() {
            return Ok(Answer::new(&head, body));
        }
        Err(Failure::refused(head.status, &body))
    }

    /// Asks for next to nothing: any answer is a sign of life. It needs no permission, and the
    /// agent answers by itself.
    async fn knock(&self, agent: &Agent) -> Result<(), Failure> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = format!("{}/", agent.url)
            .parse()
            .map_err(|_| Failure::ours(Error::invalid_input("the agent makes no valid URL")))?;
        let answered = timeout(KNOCK, self.shared.http.request(request)).await;
        match answered {
            Ok(answered) => answered.map(drop).map_err(Failure::from),
            Err(_) => Err(Failure::silent()),
        }
    }

    /// Whether an agent other than `at` answers; then it is the current one.
    pub(crate) async fn another_works(&self, at: usize) -> bool {
        let others = (1..self.shared.agents.len()).map(|n| (at + n) % self.shared.agents.len());
        for other in others {
            if self.knock(&self.shared.agents[other]).await.is_ok() {
                *self.lock() = other;
                return true;
            }
        }
        false
    }

    /// A path with the options that every request has.
    pub(crate) fn path(&self, segments: &str, options: &[(&str, &str)]) -> String {
        let mut query = Serializer::new(String::new());
        query.extend_pairs(options);
        self.shared.config.query().write_tenancy(&mut query);
        let query = query.finish();
        let mark = if query.is_empty() { "" } else { "?" };
        format!("/v1/{segments}{mark}{query}")
    }

    /// Moves on from an agent, unless somebody has seen to that already.
    fn give_up(&self, at: usize) {
        let mut current = self.lock();
        if *current == at {
            *current = (at + 1) % self.shared.agents.len();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, usize> {
        // Nothing in here panics half way.
        self.shared.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("agents", &self.agents()).finish_non_exhaustive()
    }
}

const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
/// The longest body that is read.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// How long a connection is kept for the next call.
const IDLE: Duration = Duration::from_secs(60);
/// How long an agent may take to say that it is alive.
const KNOCK: Duration = Duration::from_secs(2);
