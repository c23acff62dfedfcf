//! Discovery: a list, and queries that Consul holds back until something changes.

use fleetward_core::discovery::{Change, Listing, Source};
use fleetward_core::{Error, ErrorKind, ServiceName};
use form_urlencoded::Serializer;
use futures::{Stream, stream};

use crate::ConsulRegistry;
use crate::client::{Answer, Call, Held};
use crate::codec;

/// An index of Consul's history of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsulCursor {
    index: u64,
}

impl ConsulCursor {
    /// The index, as `X-Consul-Index` gave it.
    pub fn index(&self) -> u64 {
        self.index
    }
}

impl Source for ConsulRegistry {
    type Cursor = ConsulCursor;

    async fn list(&self, service: &ServiceName) -> Result<Listing<ConsulCursor>, Error> {
        let named = |error: Error| error.with_operation("list").with_context("service", service);
        let answer = self.ask(service).await.map_err(named)?;
        self.listing(answer).map_err(named)
    }

    fn watch(
        &self,
        service: &ServiceName,
        from: ConsulCursor,
    ) -> impl Stream<Item = Result<Change<ConsulCursor>, Error>> + Send {
        let start = (self.clone(), service.clone(), from);
        stream::unfold(Some(start), |state| async move {
            let (registry, service, from) = state?;
            match registry.change(&service, from).await {
                Ok((change, cursor)) => Some((Ok(change), Some((registry, service, cursor)))),
                Err(error) => {
                    let error = error.with_operation("watch").with_context("service", service);
                    Some((Err(error), None))
                }
            }
        })
    }

    fn describe(&self, service: &ServiceName) -> String {
        let agents = self.client.agents().join(",");
        format!("Consul at {agents}, {}", self.health(service, None))
    }
}

impl ConsulRegistry {
    /// What Consul knows of a service now.
    async fn ask(&self, service: &ServiceName) -> Result<Answer, Error> {
        let call = Call::query(service, self.health(service, None));
        self.client.send(&call, self.config.request_timeout()).await
    }

    /// The next answer, and whether it was asked for in place of one that was held back. A query
    /// that ends without an answer is no error while Consul answers another one: something on the
    /// way, or an agent among several, is to blame.
    async fn next(
        &self,
        service: &ServiceName,
        from: ConsulCursor,
    ) -> Result<(Answer, bool), Error> {
        let call = Call::query(service, self.health(service, Some(from)));
        match self.client.hold(&call).await? {
            Held::Answer(answer) => Ok((answer, false)),
            Held::Left => Ok((self.ask(service).await?, true)),
            Held::Cut(cut) => {
                tracing::debug!(%service, after = ?cut.age(), "a query was cut off");
                let answer = self.ask(service).await;
                if answer.is_ok() {
                    self.client.learn(&cut);
                }
                let hint = "where something on the way ends quiet requests, set wait to less than its timeout";
                let answer = answer.map_err(|error| {
                    error
                        .with_context("cut off after", format_args!("{:.1?}", cut.age()))
                        .with_context("hint", hint)
                });
                Ok((answer?, true))
            }
        }
    }

    /// One change, or a sign of life. Dropping it closes the connection.
    async fn change(
        &self,
        service: &ServiceName,
        from: ConsulCursor,
    ) -> Result<(Change<ConsulCursor>, ConsulCursor), Error> {
        let (answer, again) = self.next(service, from).await?;
        let cursor = cursor(&answer)?;
        // Where the servers' history began anew, or an agent was started again, what is said now is
        // no change seen: it is for the reflector, which lists again, to decide what to believe.
        let lost = match cursor.index < from.index {
            true => Some("Consul's index went backwards"),
            false => (again && cursor != from).then_some("a query was cut off"),
        };
        if let Some(why) = lost {
            return Err(Error::new(ErrorKind::CursorLost, why)
                .with_context("from", from.index)
                .with_context("to", cursor.index));
        }
        if cursor == from {
            return Ok((Change::Progress, cursor));
        }
        Ok((Change::Full(self.listing(answer)?), cursor))
    }

    fn listing(&self, answer: Answer) -> Result<Listing<ConsulCursor>, Error> {
        let cursor = cursor(&answer)?;
        let entries = codec::entries(&answer.body, self.config.query())?;
        if entries.is_empty() && answer.leaderless {
            return Err(Error::new(
                ErrorKind::Unavailable,
                "Consul knows no leader, so an empty list tells nothing",
            ));
        }
        if entries.is_empty() && answer.filtered {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                "Consul left out everything that the token may not see; it needs service:read and node:read",
            ));
        }
        if entries.len() > MAX_ENTRIES {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                "a service has at most 100,000 instances",
            ));
        }
        Ok(Listing::new(entries, cursor))
    }

    fn health(&self, service: &ServiceName, from: Option<ConsulCursor>) -> String {
        let mut query = Serializer::new(String::new());
        self.config.query().write(&mut query);
        if let Some(from) = from {
            query.append_pair("index", &from.index.to_string());
        }
        // A service's name stands for itself in a path.
        format!("/v1/health/service/{service}?{}", query.finish())
    }
}

/// An index of 0 would not be held back: Consul's own advice is to take it for 1.
fn cursor(answer: &Answer) -> Result<ConsulCursor, Error> {
    let index = answer.index.ok_or_else(|| {
        Error::new(
            ErrorKind::InvalidData,
            "the answer has no X-Consul-Index; is it Consul that answers there?",
        )
    })?;
    Ok(ConsulCursor { index: index.max(1) })
}

const MAX_ENTRIES: usize = 100_000;
