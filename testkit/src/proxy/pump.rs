//! The bytes of one direction.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::network::{Conditions, Fate};

/// What was read, and when it may arrive.
type Chunk = (Instant, Vec<u8>);

/// Carries one direction until its end, which is passed on. An error is a reset.
pub(super) async fn pump(
    from: ReadHalf<'_>,
    to: WriteHalf<'_>,
    fate: watch::Receiver<Fate>,
    conditions: watch::Receiver<Conditions>,
) -> io::Result<()> {
    // A line with latency holds what is on its way; a full one makes the sender wait.
    let (sender, receiver) = mpsc::channel(ON_THE_WAY);
    let read = read(from, sender, fate.clone(), conditions.clone());
    let write = write(to, receiver, fate, conditions);
    tokio::try_join!(read, write)?;
    Ok(())
}

async fn read(
    mut from: ReadHalf<'_>,
    sender: mpsc::Sender<Chunk>,
    fate: watch::Receiver<Fate>,
    conditions: watch::Receiver<Conditions>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        if is_silent(&fate) {
            match read {
                Ok(read) if read > 0 => continue,
                // Nobody hears of the end either.
                _ => std::future::pending().await,
            }
        }
        let read = read?;
        if read == 0 {
            return Ok(());
        }
        let due = Instant::now() + conditions.borrow().latency;
        if sender.send((due, buffer[..read].to_vec())).await.is_err() {
            return Ok(());
        }
    }
}

async fn write(
    mut to: WriteHalf<'_>,
    mut chunks: mpsc::Receiver<Chunk>,
    fate: watch::Receiver<Fate>,
    conditions: watch::Receiver<Conditions>,
) -> io::Result<()> {
    while let Some((due, chunk)) = chunks.recv().await {
        sleep_until(due).await;
        let mut rest = &chunk[..];
        while !rest.is_empty() && !is_silent(&fate) {
            let now = *conditions.borrow();
            let (piece, later) = rest.split_at(now.piece(rest.len()));
            to.write_all(piece).await?;
            rest = later;
            sleep(now.pause(piece.len())).await;
        }
    }
    if is_silent(&fate) {
        return std::future::pending().await;
    }
    to.shutdown().await
}

impl Conditions {
    /// How much of what is there goes out at once.
    fn piece(&self, available: usize) -> usize {
        // A tenth of a second's worth, so that a change of the bandwidth is soon felt.
        let paced = self.bandwidth.map_or(usize::MAX, |bandwidth| {
            usize::try_from(bandwidth.get() / 10).unwrap_or(usize::MAX).max(1)
        });
        let sliced = self.slices.map_or(usize::MAX, std::num::NonZeroUsize::get);
        available.min(paced).min(sliced)
    }

    /// How long the line is busy with a piece.
    fn pause(&self, bytes: usize) -> Duration {
        let paced = self.bandwidth.map_or(Duration::ZERO, |bandwidth| {
            Duration::from_secs_f64(bytes as f64 / bandwidth.get() as f64)
        });
        // A reader shall have the chance to see each slice alone.
        let sliced = if self.slices.is_some() { Duration::from_millis(1) } else { Duration::ZERO };
        paced.max(sliced)
    }
}

fn is_silent(fate: &watch::Receiver<Fate>) -> bool {
    *fate.borrow() == Fate::Silent
}

const ON_THE_WAY: usize = 64;
