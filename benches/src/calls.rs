//! Calls in a row.

use std::hint::black_box;
use std::pin::Pin;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// Makes so many calls one after the other, of which none may fail; ends with how many succeeded.
    ///
    /// By hand, for an `async` block over a service of a service of tower's is not seen to be `Send`.
    pub(crate) struct Calls<S: Service<u64>> {
        service: S,
        left: u64,
        succeeded: u64,
        #[pin]
        response: Option<S::Future>,
    }
}

impl<S: Service<u64>> Calls<S> {
    pub(crate) fn new(service: S, times: u64) -> Self {
        Self { service, left: times, succeeded: 0, response: None }
    }
}

impl<S: Service<u64>> Future for Calls<S> {
    type Output = u64;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<u64> {
        let mut this = self.project();
        loop {
            if let Some(response) = this.response.as_mut().as_pin_mut() {
                let Poll::Ready(result) = response.poll(cx) else { return Poll::Pending };
                *this.succeeded += u64::from(black_box(result).is_ok());
                this.response.set(None);
            }
            if *this.left == 0 {
                return Poll::Ready(*this.succeeded);
            }
            let Poll::Ready(ready) = this.service.poll_ready(cx) else { return Poll::Pending };
            if ready.is_err() {
                return Poll::Ready(*this.succeeded);
            }
            *this.left -= 1;
            this.response.set(Some(this.service.call(*this.left)));
        }
    }
}
