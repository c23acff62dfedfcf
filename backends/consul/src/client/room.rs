//! How many connections to an agent there is room for.
//!
//! An agent allows each client address so many connections, and nobody tells a process how many
//! others share its address. So the number is found as TCP finds its rate: it is halved
//! when the agent turns a connection away, and grows in small steps while there is room.

use std::time::Duration;

use tokio::time::Instant;

/// The bound on the connections of one process for one purpose.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    now: usize,
    step: usize,
    shrunk: Option<Instant>,
}

impl Room {
    pub(super) fn of(most: usize) -> Self {
        Self { most, now: most, step: 1, shrunk: None }
    }

    pub(super) fn now(&self) -> usize {
        self.now
    }

    /// The agent turned a connection away while this many were open. Until that shows, for queries
    /// that are held back end in their own time, more of the same are one sign.
    pub(super) fn crowded(&mut self, open: usize) {
        let now = Instant::now();
        if self.shrunk.is_some_and(|shrunk| now < shrunk + ONE_SIGN) {
            return;
        }
        self.shrunk = Some(now);
        self.step = 1;
        self.now = (self.now.min(open) / 2).max(LEAST);
    }

    /// The agent had room for a few connections more.
    pub(super) fn roomy(&mut self) {
        self.now = (self.now + self.step).min(self.most);
        self.step = (self.step * 2).min(LONGEST_STEP);
    }

    pub(super) fn is_shrunk(&self) -> bool {
        self.now < self.most
    }
}

/// With fewer nobody would get on at all.
pub(super) const LEAST: usize = 2;
const LONGEST_STEP: usize = 4;
const ONE_SIGN: Duration = Duration::from_secs(11);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_shrinks_once_a_sign_and_grows_back() {
        let mut room = Room::of(64);
        (0..50).for_each(|_| room.crowded(40));
        assert_eq!(room.now(), 20);
        tokio::time::advance(ONE_SIGN).await;
        room.crowded(80);
        assert_eq!(room.now(), 10);
        (0..9).for_each(|_| room.roomy());
        assert_eq!(room.now(), 41);
        for expected in [45, 49, 53, 57, 61, 64, 64] {
            room.roomy();
            assert_eq!(room.now(), expected);
        }
        assert!(!room.is_shrunk());
        for _ in 0..50 {
            tokio::time::advance(ONE_SIGN).await;
            room.crowded(64);
        }
        assert_eq!(room.now(), LEAST);
    }

    #[tokio::test(start_paused = true)]
    async fn six_who_share_a_limit_come_to_fair_parts() {
        let (mut rooms, limit) = ([60, 60, 60, 20, 4, 2].map(Room::of), 200);
        rooms.iter_mut().for_each(|room| room.most = 60);
        for _ in 0..300 {
            // Each looks whether there is room for two more, in turn.
            for at in 0..rooms.len() {
                tokio::time::advance(ONE_SIGN / 6).await;
                let open: usize = rooms.iter().map(Room::now).sum();
                match open + 2 > limit {
                    true => {
                        let own = rooms[at].now();
                        rooms[at].crowded(own);
                    }
                    false => rooms[at].roomy(),
                }
            }
        }
        let parts: Vec<_> = rooms.iter().map(Room::now).collect();
        let open: usize = parts.iter().sum();
        assert!(open <= limit + 6 * LONGEST_STEP && open >= limit / 3, "{parts:?}");
        assert!(parts.iter().all(|part| (8..=60).contains(part)), "{parts:?}");
    }
}
