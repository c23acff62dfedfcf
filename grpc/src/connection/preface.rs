//! The moment at which a server has shown that it speaks HTTP/2.
//!
//! A client's handshake is done when the client's own preface is written: a black hole that only
//! accepts TCP connections would count as connected. A server's first frame must be SETTINGS (RFC
//! 9113, 3.4), so its header is watched for as it passes.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::oneshot;

const FRAME_HEADER: usize = 9;
const SETTINGS: u8 = 4;

/// Passes everything on and tells whether the first nine bytes are the header of a SETTINGS frame.
pub(super) struct Preface<T> {
    inner: T,
    header: [u8; FRAME_HEADER],
    seen: usize,
    told: Option<oneshot::Sender<bool>>,
}

impl<T> Preface<T> {
    pub(super) fn watch(inner: T) -> (Self, oneshot::Receiver<bool>) {
        let (told, receiver) = oneshot::channel();
        (Self { inner, header: [0; FRAME_HEADER], seen: 0, told: Some(told) }, receiver)
    }

    fn look(&mut self, bytes: &[u8]) {
        let take = bytes.len().min(FRAME_HEADER - self.seen);
        self.header[self.seen..self.seen + take].copy_from_slice(&bytes[..take]);
        self.seen += take;
        if self.seen == FRAME_HEADER
            && let Some(told) = self.told.take()
        {
            let [_, _, _, kind, _, stream @ ..] = self.header;
            // Nobody listens any more if the dial was given up.
            let _ = told.send(kind == SETTINGS && stream == [0; 4]);
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Preface<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.inner).poll_read(cx, buffer);
        if self.told.is_some() {
            self.look(&buffer.filled()[before..]);
        }
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Preface<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
