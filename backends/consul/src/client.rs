//! The one place that speaks HTTP: a thin client of those parts of Consul's API that are needed.
//!
//! It uses the first agent that works, and moves to the next one when an agent fails; every
//! request has a deadline, and an answer a limit. Dropping a call closes its connection.
//!
//! An agent allows a client's address so many connections. Lists and watches share a bounded number
//! of them ([`lane`]), which shrinks while the agent turns connections away ([`room`]); registration
//! has connections of its own.

mod agent;
mod answer;
mod call;
mod connector;
mod cuts;
mod failure;
mod lane;
mod probe;
mod room;
mod silence;
mod wire;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fleetward_backend_common::rotation::Rotation;
use fleetward_core::Error;
use form_urlencoded::Serializer;
use http::{Request, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use self::agent::Agent;
pub(crate) use self::answer::{Answer, Shape};
pub(crate) use self::call::{Call, Cut, Held};
use self::connector::Connector;
use self::failure::Blame;
pub(crate) use self::failure::Failure;
use self::lane::{Errand, Lane, Place};
use self::wire::{Owner, Wire};
use crate::config::{AgentUrl, ConsulConfig};
use crate::pace::Paces;

/// The agents, and the connections to them. Clones share it.
#[derive(Clone)]
pub(crate) struct Client {
    shared: Arc<ClientParts>,
}

struct ClientParts {
    config: Arc<ConsulConfig>,
    connector: Connector,
    peers: Vec<Peer>,
    rotation: Rotation,
    paces: Paces,
}

struct Peer {
    url: AgentUrl,
    agent: Arc<Agent>,
}

impl Client {
    /// Reads the TLS and token files, to find mistakes in them; dials nothing.
    pub(crate) async fn new(config: Arc<ConsulConfig>) -> Result<Self, Error> {
        let connector = Connector::new(config.clone()).await?;
        config.credentials().headers().await?;
        let urls = config.urls()?;
        let rotation = Rotation::new("agent", urls.iter().map(ToString::to_string), 0);
        let peer = |url: AgentUrl| Peer { agent: Agent::of(&url.key()), url };
        let peers = urls.into_iter().map(peer).collect();
        let paces = Paces::default();
        Ok(Self { shared: Arc::new(ClientParts { config, connector, peers, rotation, paces }) })
    }

    pub(crate) fn agents(&self) -> &[String] {
        self.shared.rotation.servers()
    }

    /// The agent that works, as far as is known.
    pub(crate) fn current(&self) -> usize {
        self.shared.rotation.current()
    }

    /// Sends to the current agent, and if that fails to the others, within `limit`.
    pub(crate) async fn send(&self, call: &Call, limit: Duration) -> Result<Answer, Error> {
        self.anywhere(limit, |at| async move { self.attempt(at, call).await }).await
    }

    /// Runs `attempt` for the current agent, and if that fails for the others, within `limit`.
    pub(crate) async fn anywhere<T, F>(
        &self,
        limit: Duration,
        attempt: impl Fn(usize) -> F,
    ) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let attempt = &attempt;
        let one = |at| async move { attempt(at).await.map_err(Into::into) };
        self.shared.rotation.call(limit, one).await
    }

    /// Sends to this agent, and to no other. One that turns connections away is asked again until
    /// `end`: it may have room in a moment.
    pub(crate) async fn send_to(
        &self,
        at: usize,
        call: &Call,
        end: Instant,
    ) -> Result<Answer, Error> {
        let end = end.min(Instant::now() + self.shared.config.request_timeout());
        loop {
            let attempt = timeout_at(end, self.attempt(at, call)).await;
            let failure = match attempt.unwrap_or_else(|_| Err(Failure::timeout())) {
                Ok(answer) => return Ok(answer),
                Err(failure) => failure,
            };
            if failure.is_crowded() && end.saturating_duration_since(Instant::now()) > CROWDED {
                sleep(CROWDED.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
                continue;
            }
            return Err(self.failed(at, failure));
        }
    }

    /// Asks the current agent for an answer that it may hold back.
    pub(crate) async fn hold(&self, call: &Call) -> Result<Held, Error> {
        let at = self.current();
        let end = Instant::now() + PATIENCE;
        let mut looked = Instant::now();
        loop {
            let failure = match self.held_back(at, call).await {
                Ok(held) => return Ok(held),
                Err(failure) => failure,
            };
            if failure.is_crowded() && Instant::now() < end && self.answers(at, &mut looked).await {
                sleep(CROWDED.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
                continue;
            }
            let others = failure.blame == Blame::Agent && self.agents().len() > 1;
            let error = self.failed(at, failure);
            return if others { Ok(Held::Left) } else { Err(error) };
        }
    }

    /// Whether an agent that turns a connection away answers others. It is asked for a sign of life if nobody has had
    /// an answer for too long since it was looked last: a proxy in front of an agent that is gone hangs up as a full
    /// agent does.
    async fn answers(&self, at: usize, looked: &mut Instant) -> bool {
        let silence = self.shared.config.silence();
        if looked.elapsed() < silence {
            return true;
        }
        let (peer, since) = (&self.shared.peers[at], std::mem::replace(looked, Instant::now()));
        if peer.agent.pulse.has_answered_since(since) {
            return true;
        }
        // A refusal is an answer, too. What else it comes to shows in what has been heard.
        let _outcome = self.knock(peer).await;
        peer.agent.pulse.has_answered_since(since)
    }

    /// After this the agent answered as ever: so it was not the agent that ended the query.
    pub(crate) fn learn(&self, cut: &Cut) {
        self.shared.peers[cut.agent].agent.cuts.cut(cut.begun, cut.ended);
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

    fn failed(&self, at: usize, failure: Failure) -> Error {
        if failure.blame == Blame::Agent {
            self.shared.rotation.leave(at);
        }
        failure.error.with_context("agent", &self.shared.peers[at].url)
    }

    /// One attempt at one agent, for an answer that is expected at once.
    pub(crate) async fn attempt(&self, at: usize, call: &Call) -> Result<Answer, Failure> {
        if let Some(service) = &call.service {
            self.shared.paces.take(service).await;
        }
        let peer = &self.shared.peers[at];
        let lane = call.lane(&peer.agent);
        let place = lane.enter(Errand::Short).await;
        let limit = self.shared.config.request_timeout();
        let exchange = timeout(limit, self.exchange(peer, lane, place, call, &call.path));
        let unanswered = Unanswered { agent: &peer.agent, since: Instant::now() };
        let outcome = exchange.await.unwrap_or_else(|_| Err(Failure::timeout()));
        std::mem::forget(unanswered);
        self.judged(peer, outcome).await
    }

    async fn held_back(&self, at: usize, call: &Call) -> Result<Held, Failure> {
        if let Some(service) = &call.service {
            self.shared.paces.take(service).await;
        }
        let (peer, config) = (&self.shared.peers[at], &self.shared.config);
        if peer.agent.kept.open() == 0 {
            // Before the first query there is a connection for registrations and signs of life:
            // later there might be no room for it.
            let knocked = self.knock(peer).await;
            self.judged(peer, knocked).await?;
        }
        let lane = &peer.agent.queries;
        let place = lane.enter(Errand::Long).await;
        let wait = peer.agent.cuts.bound(place.turn(config.wait()));
        let path = format!("{}&wait={}ms", call.path, wait.as_millis());
        let begun = Instant::now();
        // Consul adds up to a sixteenth of its own.
        let longest = wait + wait / 16;
        let limit = longest + config.request_timeout();
        let (mut place, wire) = self.connected(peer, lane, place).await?;
        let fresh = wire.fresh;
        place.asks(longest);
        let outcome = tokio::select! {
            outcome = timeout(limit, self.round(peer, wire, call, &path)) => outcome,
            // A query that is held back is as silent as an agent that hangs.
            failure = peer.agent.pulse.lost(config.silence(), || self.knock(peer)) => Ok(Err(failure)),
            never = self.survey(peer) => match never {},
        };
        match outcome.unwrap_or_else(|_| Err(Failure::timeout())) {
            Ok((answer, wire)) => {
                leave(place, wire);
                Ok(Held::Answer(answer))
            }
            Err(failure) if failure.is_cut() && !(fresh && begun.elapsed() < AT_ONCE) => {
                place.ended();
                Ok(Held::Cut(Cut { agent: at, begun, ended: Instant::now() }))
            }
            Err(failure) => {
                if failure.is_sign_of_life() {
                    place.ended();
                }
                drop(place);
                self.judged(peer, Err(failure)).await
            }
        }
    }

    /// Takes a failure for what it tells of the agent.
    async fn judged<T>(&self, peer: &Peer, outcome: Result<T, Failure>) -> Result<T, Failure> {
        let Err(mut failure) = outcome else { return outcome };
        if failure.is_crowded() {
            peer.agent.queries.crowded();
        }
        if failure.blame == Blame::Agent && !failure.is_sign_of_life() {
            peer.agent.close_idle();
        }
        if failure.is_stranger()
            && let Some(known) = self.identified(peer).await
        {
            failure.error = failure.error.with_context("found", known);
        }
        Err(failure)
    }

    /// Over an idle connection or a new one; again where the idle one turns out to be closed.
    async fn exchange(
        &self,
        peer: &Peer,
        lane: &Arc<Lane<Wire>>,
        mut place: Place<Wire>,
        call: &Call,
        path: &str,
    ) -> Result<Answer, Failure> {
        loop {
            let (same, wire) = self.connected(peer, lane, place).await?;
            place = same;
            let fresh = wire.fresh;
            match self.round(peer, wire, call, path).await {
                Ok((answer, wire)) => {
                    leave(place, wire);
                    return Ok(answer);
                }
                Err(failure) if failure.is_hang_up() && !fresh => {}
                Err(failure) => return Err(failure),
            }
        }
    }

    async fn connected(
        &self,
        peer: &Peer,
        lane: &Arc<Lane<Wire>>,
        place: Place<Wire>,
    ) -> Result<(Place<Wire>, Wire), Failure> {
        let owner = Owner::current(self.shared.config.tls());
        if let Some(wire) = place.take(|idle| idle.serves(&owner)) {
            wire.set_idle(false);
            return Ok((place, wire));
        }
        let stays = Arc::ptr_eq(lane, &peer.agent.kept);
        let wire = Wire::open(&self.shared.connector, &peer.url, owner, stays).await;
        Ok((place, wire.inspect_err(|failure| self.heard(peer, failure))?))
    }

    /// One request and its whole answer, after which the connection can be used again.
    async fn round(
        &self,
        peer: &Peer,
        mut wire: Wire,
        call: &Call,
        path: &str,
    ) -> Result<(Answer, Wire), Failure> {
        let request = self.request(&peer.url, call, path).await?;
        let response = wire.ask(request).await.inspect_err(|failure| self.heard(peer, failure))?;
        peer.agent.pulse.answered();
        let (head, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await.map_err(|why| {
            if why.is::<LengthLimitError>() { Failure::too_long() } else { Failure::cut_off(why) }
        })?;
        peer.agent.pulse.answered();
        let body = body.to_bytes();
        let (shape, status) = (call.shape, head.status);
        let fits = match status.is_success() {
            true => shape.fits(&head, &body),
            false => shape.fits_refusal(&head, &body),
        };
        if !fits {
            let kind = answer::header(&head, "content-type").unwrap_or("of no known type");
            return Err(Failure::stranger(status, kind, &body));
        }
        if status.is_success() || shape == Shape::JsonAlways && shape.fits(&head, &body) {
            return Ok((Answer::new(&head, body), wire));
        }
        Err(Failure::refused(status, &body, &self.shared.config.credentials().shown()))
    }

    async fn request(
        &self,
        agent: &AgentUrl,
        call: &Call,
        path: &str,
    ) -> Result<Request<Full<Bytes>>, Failure> {
        let mut request = Request::new(Full::new(call.body.clone()));
        *request.method_mut() = call.method.clone();
        let path = format!("{}{path}", agent.base());
        *request.uri_mut() = path.parse().map_err(|_| wire::unroutable())?;
        let host = agent.authority().parse().map_err(|_| wire::unroutable())?;
        request.headers_mut().insert(header::HOST, host);
        if call.shape != Shape::Anything {
            let credentials = self.shared.config.credentials().headers().await;
            request.headers_mut().extend(credentials.map_err(Failure::ours)?);
        }
        Ok(request)
    }

    fn heard(&self, peer: &Peer, failure: &Failure) {
        if failure.is_sign_of_life() {
            peer.agent.pulse.heard();
        }
    }
}

/// Drops with a caller that gave up before there was an answer.
struct Unanswered<'a> {
    agent: &'a Agent,
    since: Instant,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        if self.since.elapsed() >= AT_ONCE {
            self.agent.close_idle();
        }
    }
}

fn leave(place: Place<Wire>, wire: Wire) {
    wire.set_idle(true);
    place.leave(wire);
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("agents", &self.agents()).finish_non_exhaustive()
    }
}

/// The longest body that is read.
const MAX_BODY: usize = 64 * 1024 * 1024;
/// The longest pause after a connection was turned away.
const CROWDED: Duration = Duration::from_millis(300);
/// How long a watch is turned away before it is an error.
const PATIENCE: Duration = Duration::from_secs(15);
/// An agent turns a connection away as soon as it is there.
const AT_ONCE: Duration = Duration::from_millis(500);
