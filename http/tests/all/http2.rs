//! A server that speaks HTTP/2 by the frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fleetward_core::Instance;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(crate) const REFUSED_STREAM: u32 = 7;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

pub(crate) fn reset(stream: u32, reason: u32) -> Vec<u8> {
    frame(RST_STREAM, 0, stream, &reason.to_be_bytes())
}

pub(crate) fn go_away(last: u32) -> Vec<u8> {
    frame(GOAWAY, 0, 0, &[last.to_be_bytes(), 0u32.to_be_bytes()].concat())
}

/// `:status: 200`, and no body.
pub(crate) fn ok(stream: u32) -> Vec<u8> {
    frame(HEADERS, 5, stream, &[0x88])
}

/// What to do with the request that a stream begins with.
pub(crate) enum Step {
    Write(Vec<u8>),
    /// Writes it, closes the connection, and takes no other one.
    Last(Vec<u8>),
}

/// Takes at most `streams` at once; counts the requests.
pub(crate) async fn scripted(
    streams: u32,
    script: impl Fn(u32) -> Step + Send + Sync + 'static,
) -> (Instance, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let instance = Instance::new(listener.local_addr().unwrap()).unwrap();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = requests.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if serve(stream, streams, &script, &counted).await.is_none() {
                return;
            }
        }
    });
    (instance, requests)
}

/// `None` after the last step.
async fn serve(
    mut stream: TcpStream,
    streams: u32,
    script: &impl Fn(u32) -> Step,
    counted: &AtomicUsize,
) -> Option<()> {
    let settings = [&3u16.to_be_bytes()[..], &streams.to_be_bytes()].concat();
    stream.write_all(&frame(SETTINGS, 0, 0, &settings)).await.ok();
    let mut preface = [0; 24];
    if stream.read_exact(&mut preface).await.is_err() {
        return Some(());
    }
    loop {
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return Some(());
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; length];
        stream.read_exact(&mut payload).await.ok()?;
        match (head[3], head[4]) {
            (SETTINGS, 0) => stream.write_all(&frame(SETTINGS, 1, 0, &[])).await.ok()?,
            (HEADERS, _) => {
                counted.fetch_add(1, Ordering::SeqCst);
                match script(id) {
                    Step::Write(frames) => stream.write_all(&frames).await.ok()?,
                    Step::Last(frames) => {
                        stream.write_all(&frames).await.ok()?;
                        stream.shutdown().await.ok()?;
                        // Read to the end: what is closed with bytes unread is reset, and takes with it
                        // what was written.
                        while stream.read(&mut [0; 1024]).await.ok()? > 0 {}
                        return None;
                    }
                }
            }
            _ => {}
        }
    }
}
