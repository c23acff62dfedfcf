//! A server that answers as the test says, for what a real Consul does rarely or not in this
//! version; and that counts what it is asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fleetward_consul::ConsulConfig;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// What to answer one request with.
#[derive(Clone, Debug)]
pub(crate) enum Say {
    /// Status, more header lines, body.
    Answer(u16, Vec<String>, String),
    /// The service as it was last registered, and well.
    Stands,
    /// Close without a word.
    Hangup,
    /// Half of an answer, then close.
    Half,
    /// Nothing, for ever.
    Silence,
}

impl Say {
    /// An answer of the health endpoint.
    pub(crate) fn health(index: &str, body: &str) -> Self {
        Self::Answer(200, vec![format!("X-Consul-Index: {index}")], body.to_owned())
    }

    /// Nothing is registered under an id.
    pub(crate) fn nobody() -> Self {
        let found = r#"{"AggregatedStatus":"critical","Service":null,"Checks":null}"#;
        Self::Answer(404, Vec::new(), found.to_owned())
    }

    pub(crate) fn with(mut self, line: &str) -> Self {
        if let Self::Answer(_, lines, _) = &mut self {
            lines.push(line.to_owned());
        }
        self
    }
}

/// One entry of the health endpoint.
pub(crate) fn entry(id: &str, address: &str) -> String {
    format!(
        r#"{{"Node":{{"Node":"n","Address":"10.9.9.9"}},"Service":{{"ID":"{id}","Service":"a","Address":"{address}","Port":80}},"Checks":[]}}"#
    )
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Say>,
    /// When the script is at its end.
    after: Option<Say>,
    /// To who asks for a sign of life; else nothing at all, with 200.
    knocks: Option<Say>,
    requests: Vec<(Instant, String)>,
    registered: String,
    heads: String,
    open: usize,
}

/// The server; it ends when it is dropped.
pub(crate) struct Scripted {
    state: Arc<Mutex<State>>,
    endpoint: String,
    _task: JoinSet<()>,
}

impl Scripted {
    /// Says these one after the other, then `after` for ever.
    pub(crate) async fn start(script: impl IntoIterator<Item = Say>, after: Say) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = listener.local_addr().unwrap().to_string();
        let script = script.into_iter().collect();
        let state = State { script, after: Some(after), ..State::default() };
        let state = Arc::new(Mutex::new(state));
        let (mut task, shared) = (JoinSet::new(), state.clone());
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let state = shared.clone();
                state.lock().unwrap().open += 1;
                connections.spawn(async move {
                    serve(stream, &state).await;
                    state.lock().unwrap().open -= 1;
                });
            }
        });
        Self { state, endpoint, _task: task }
    }

    /// What to say from now on to who asks for a sign of life.
    pub(crate) fn say_to_knocks(&self, say: Say) {
        self.state.lock().unwrap().knocks = Some(say);
    }

    pub(crate) fn config(&self) -> ConsulConfig {
        ConsulConfig::new([self.endpoint.clone()])
    }

    pub(crate) fn endpoint(&self) -> String {
        self.endpoint.clone()
    }

    /// The paths of the requests so far, without knocks.
    pub(crate) fn paths(&self) -> Vec<String> {
        let state = self.state.lock().unwrap();
        let paths = state.requests.iter().map(|(_, path)| path.clone());
        paths.filter(|path| path != "/").collect()
    }

    /// The heads of all requests.
    pub(crate) fn heads(&self) -> String {
        self.state.lock().unwrap().heads.clone()
    }

    /// The most requests, knocks too, in any second.
    pub(crate) fn most_in_a_second(&self) -> usize {
        let state = self.state.lock().unwrap();
        let within = |start: Instant| {
            let second = start..start + Duration::from_secs(1);
            state.requests.iter().filter(|(at, _)| second.contains(at)).count()
        };
        state.requests.iter().map(|(at, _)| within(*at)).max().unwrap_or_default()
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.state.lock().unwrap().open
    }
}

async fn serve(stream: TcpStream, state: &Mutex<State>) {
    let mut stream = BufReader::new(stream);
    while let Some((path, body)) = request(&mut stream, state).await {
        let say = {
            let mut state = state.lock().unwrap();
            if path.contains("/register") {
                state.registered = body;
            }
            state.requests.push((Instant::now(), path.clone()));
            match path.as_str() {
                "/" => {
                    let nothing = Say::Answer(200, Vec::new(), String::new());
                    state.knocks.clone().unwrap_or(nothing)
                }
                _ => match state.script.pop_front().or_else(|| state.after.clone()).unwrap() {
                    Say::Stands => {
                        let found = format!(r#"{{"Service":{},"Checks":[]}}"#, state.registered);
                        Say::Answer(200, Vec::new(), found)
                    }
                    other => other,
                },
            }
        };
        match say {
            Say::Answer(status, lines, body) => {
                let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
                let length = body.len();
                let text =
                    format!("HTTP/1.1 {status} X\r\n{lines}Content-Length: {length}\r\n\r\n{body}");
                if stream.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Say::Hangup | Say::Stands => return,
            Say::Half => {
                let text = "HTTP/1.1 200 OK\r\nX-Consul-Index: 7\r\nContent-Length: 9999\r\n\r\n[{";
                let _gone = stream.write_all(text.as_bytes()).await;
                return;
            }
            Say::Silence => {
                // Until the other side closes.
                let _closed = stream.read_u8().await;
                return;
            }
        }
    }
}

/// The path and body of one request; `None` at the end of the connection.
async fn request(
    stream: &mut BufReader<TcpStream>,
    state: &Mutex<State>,
) -> Option<(String, String)> {
    let (mut path, mut length, mut line) = (None, 0, String::new());
    loop {
        line.clear();
        if stream.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        state.lock().unwrap().heads.push_str(&line);
        let text = line.trim_end().to_ascii_lowercase();
        if path.is_none() {
            path = line.split(' ').nth(1).map(str::to_owned);
        } else if let Some(value) = text.strip_prefix("content-length: ") {
            length = value.parse().ok()?;
        } else if text.is_empty() {
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
            return Some((path?, String::from_utf8_lossy(&body).into_owned()));
        }
    }
}
