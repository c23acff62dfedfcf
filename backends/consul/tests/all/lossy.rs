//! A way to an agent on which answers can get lost, and a proxy that is not patient.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetward_testkit::servers::Consul;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// The way; it ends when it is dropped.
pub(crate) struct Lossy {
    endpoint: String,
    state: Arc<State>,
    _task: JoinSet<()>,
}

#[derive(Default)]
struct State {
    losing: AtomicBool,
    /// How long an answer may take, and whether there is an answer then.
    patience: Option<(Duration, bool)>,
    paths: Mutex<Vec<String>>,
}

impl Lossy {
    pub(crate) async fn start(consul: &Consul) -> Self {
        Self::with(consul, None).await
    }

    /// A proxy that gives up after a time, and then says 504 or nothing.
    pub(crate) async fn impatient(consul: &Consul, patience: Duration, says_so: bool) -> Self {
        Self::with(consul, Some((patience, says_so))).await
    }

    async fn with(consul: &Consul, patience: Option<(Duration, bool)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State { patience, ..State::default() });
        let (mut task, shared, agent) = (JoinSet::new(), state.clone(), consul.endpoint());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (agent, state) = (agent.clone(), shared.clone());
                connections.spawn(async move { carry(stream, &agent, &state).await });
            }
        });
        Self { endpoint, state, _task: task }
    }

    pub(crate) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// Registrations arrive, and are not answered.
    pub(crate) fn lose_answers(&self, losing: bool) {
        self.state.losing.store(losing, Ordering::Relaxed);
    }

    /// The paths of the requests so far.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.state.paths.lock().unwrap().clone()
    }
}

/// One request of a connection; the agent closes its own after the answer.
async fn carry(stream: TcpStream, agent: &str, state: &State) -> Option<()> {
    let mut stream = BufReader::new(stream);
    let (mut head, mut length, mut line) = (String::new(), 0, String::new());
    while line != "\r\n" {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().ok()?;
        }
        head.push_str(&line);
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await.ok()?;
    let path = head.split(' ').nth(1)?.to_owned();
    state.paths.lock().unwrap().push(path);
    let registers = head.contains("/agent/service/register");
    let mut server = TcpStream::connect(agent).await.ok()?;
    server.write_all(head.replacen("HTTP/1.1", "HTTP/1.0", 1).as_bytes()).await.ok()?;
    server.write_all(&body).await.ok()?;
    let mut answer = Vec::new();
    let read = server.read_to_end(&mut answer);
    match state.patience {
        None => drop(read.await.ok()?),
        Some((patience, says_so)) => {
            if let Ok(read) = timeout(patience, read).await {
                read.ok()?;
            } else if says_so {
                answer = b"HTTP/1.0 504 Gateway Time-out\r\nContent-Type: text/html\r\n\r\n<html>"
                    .into();
            } else {
                return None;
            }
        }
    }
    if registers && state.losing.load(Ordering::Relaxed) {
        // Until the other side closes.
        stream.read_u8().await.ok()?;
        return None;
    }
    stream.write_all(&answer).await.ok()
}
