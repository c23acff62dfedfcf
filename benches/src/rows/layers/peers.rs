//! tower's own layers, put together as its users do.

use std::future::{Ready, ready};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tower::buffer::Buffer;
use tower::retry::{Policy, Retry};
use tower::timeout::Timeout;
use tower_service::Service;

use super::stack::{BALANCED, DEADLINE, RETRY, Stack};
use crate::calls::Calls;
use crate::error::Result;
use crate::rows::pick::tower_p2c;

/// Each in a runtime of its own, on the caller's thread.
pub(crate) fn stacks<'a>(size: usize) -> Result<Vec<Stack<'a>>> {
    let mut stacks = Vec::new();
    let runtime = Arc::new(tokio::runtime::Builder::new_current_thread().enable_all().build()?);
    let inside = runtime.enter();
    let buffered = || Buffer::new(tower_p2c(size, 0), 1024);
    let retry = || Retry::new(Attempts(2), buffered());
    let deadline = Timeout::new(retry(), Duration::from_secs(1));
    stacks.push(stack("tower Buffer + Balance (Peak EWMA)", BALANCED, &runtime, buffered()));
    stacks.push(stack("tower Retry + Buffer + Balance", RETRY, &runtime, retry()));
    stacks.push(stack("tower Timeout + Retry + Buffer + Balance", DEADLINE, &runtime, deadline));
    drop(inside);
    Ok(stacks)
}

fn stack<'a, S>(
    name: &'static str,
    beside: &'static str,
    runtime: &Arc<Runtime>,
    service: S,
) -> Stack<'a>
where
    S: Service<u64> + Clone + 'a,
{
    let runtime = runtime.clone();
    let calls = move |times| runtime.block_on(Calls::new(service.clone(), times));
    Stack { name, beside: Some(beside), calls: Box::new(calls) }
}

/// The number of further attempts.
#[derive(Clone)]
struct Attempts(usize);

impl<E> Policy<u64, u64, E> for Attempts {
    type Future = Ready<()>;

    fn retry(
        &mut self,
        _: &mut u64,
        result: &mut std::result::Result<u64, E>,
    ) -> Option<Self::Future> {
        if result.is_ok() || self.0 == 0 {
            return None;
        }
        self.0 -= 1;
        Some(ready(()))
    }

    fn clone_request(&mut self, request: &u64) -> Option<u64> {
        Some(*request)
    }
}
