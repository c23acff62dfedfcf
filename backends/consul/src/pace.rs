//! How often Consul is asked about one service, whatever it answers.
//!
//! A blocking query that returns at once (an index that does not move, a service that flaps, a
//! proxy that answers by itself) would be asked again without a pause. Lists and watches of one
//! service share a bucket, so that an endless row of failed watches is held back too.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fleetward_core::ServiceName;
use tokio::time::{Instant, sleep_until};

/// Requests that need not wait.
const BURST: u32 = 2;

/// The time between two requests in a long row: with the burst and a probe now and then there are
/// never more than 10 in a second.
const INTERVAL: Duration = Duration::from_millis(150);

/// More buckets than this are looked through for full ones, which need not be kept.
const MANY: usize = 64;

/// A bucket a service, each as the time at which it is full.
#[derive(Debug, Default)]
pub(crate) struct Paces {
    full_at: Mutex<HashMap<ServiceName, Instant>>,
}

impl Paces {
    /// Waits until one more request may be sent. The place in the row is taken at once, so being
    /// dropped costs it.
    pub(crate) async fn take(&self, service: &ServiceName) {
        sleep_until(self.next(service)).await;
    }

    fn next(&self, service: &ServiceName) -> Instant {
        let now = Instant::now();
        // Nothing in here panics half way.
        let mut full_at = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        if full_at.len() > MANY {
            full_at.retain(|_, full| *full > now);
        }
        let full = full_at.get(service).map_or(now, |full| (*full).max(now)) + INTERVAL;
        full_at.insert(service.clone(), full);
        full.checked_sub(INTERVAL * BURST).map_or(now, |start| start.max(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn never_more_than_ten_a_second_and_two_at_once() {
        let (paces, service) = (Paces::default(), ServiceName::new("a").unwrap());
        let begun = Instant::now();
        let mut at = Vec::new();
        for _ in 0..50 {
            paces.take(&service).await;
            at.push(begun.elapsed());
        }
        assert!(at[1].is_zero() && !at[2].is_zero(), "{at:?}");
        for (first, start) in at.iter().enumerate() {
            let second =
                at[first..].iter().take_while(|time| **time - *start < Duration::from_secs(1));
            assert!(second.count() < 10);
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        let again = Instant::now();
        paces.take(&service).await;
        paces.take(&service).await;
        assert!(again.elapsed().is_zero(), "the burst is there again");
    }

    #[tokio::test(start_paused = true)]
    async fn services_do_not_hold_each_other_back_and_are_forgotten() {
        let paces = Paces::default();
        let begun = Instant::now();
        for n in 0..1000 {
            paces.take(&ServiceName::new(&format!("s{n}")).unwrap()).await;
        }
        assert!(begun.elapsed().is_zero());
        tokio::time::sleep(Duration::from_secs(1)).await;
        paces.take(&ServiceName::new("one").unwrap()).await;
        assert_eq!(paces.full_at.lock().unwrap().len(), 1);
    }
}
