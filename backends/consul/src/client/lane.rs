//! A bounded number of connections to one agent, for those who need one, in turn.
//!
//! Whoever wants to ask enters, waits for a place, and has it until the answer is there. A list is
//! short and goes first. A query that Consul holds back keeps its place until something changes, so
//! where there are many of them each is held back for a short time only, and comes again when the
//! others have had their turn. None is ever cut short to make room: an agent goes on with a query
//! that nobody waits for, and counts its connection, until the time is over that it was to be held
//! back for.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::room::{LEAST, Room};

/// The places, and the idle connections; `C` is a connection.
pub(super) struct Lane<C> {
    state: Mutex<State<C>>,
}

struct State<C> {
    room: Room,
    /// How many have a place.
    short: usize,
    long: usize,
    idle: Vec<C>,
    waiting_short: VecDeque<Waiting<C>>,
    waiting_long: VecDeque<Waiting<C>>,
    /// When the agent will be done with queries that nobody waits for any more.
    abandoned: Vec<Instant>,
    last_id: u64,
}

struct Waiting<C> {
    id: u64,
    place: oneshot::Sender<Place<C>>,
}

/// What a place is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// An answer is expected at once.
    Short,
    /// Consul holds the answer back.
    Long,
}

impl<C> Lane<C> {
    pub(super) fn new(room: Room) -> Arc<Self> {
        let state = State {
            room,
            short: 0,
            long: 0,
            idle: Vec::new(),
            waiting_short: VecDeque::new(),
            waiting_long: VecDeque::new(),
            abandoned: Vec::new(),
            last_id: 0,
        };
        Arc::new(Self { state: Mutex::new(state) })
    }

    /// Waits for a place. Dropping it gives the turn up.
    pub(super) async fn enter(self: &Arc<Self>, errand: Errand) -> Place<C> {
        let (sender, mut place) = oneshot::channel();
        let id = {
            let mut state = self.lock();
            state.last_id += 1;
            let id = state.last_id;
            state.queue(errand).push_back(Waiting { id, place: sender });
            id
        };
        let _waiting = Guard { lane: self, id, errand };
        loop {
            self.admit();
            tokio::select! {
                biased;
                // The lane never drops one that waits.
                Ok(place) = &mut place => return place,
                // What was abandoned ends by itself.
                () = sleep(LOOK) => {}
            }
        }
    }

    /// How many connections are open or being made.
    pub(super) fn open(&self) -> usize {
        self.lock().open()
    }

    pub(super) fn is_shrunk(&self) -> bool {
        self.lock().room.is_shrunk()
    }

    /// The agent turned a connection of this process away.
    pub(super) fn crowded(&self) {
        let closed = {
            let mut state = self.lock();
            let open = state.open();
            state.room.crowded(open);
            state.excess()
        };
        // Wakers and connections are not ours to run under the lock.
        drop(closed);
    }

    pub(super) fn roomy(self: &Arc<Self>) {
        self.lock().room.roomy();
        self.admit();
    }

    /// Closes the idle connections: the way that they lead is in doubt.
    pub(super) fn close_idle(self: &Arc<Self>) {
        let closed = std::mem::take(&mut self.lock().idle);
        drop(closed);
        self.admit();
    }

    /// Gives free places to those who wait.
    fn admit(self: &Arc<Self>) {
        let mut admitted = Vec::new();
        {
            let mut state = self.lock();
            let (now, places) = (Instant::now(), state.places());
            state.abandoned.retain(|end| *end > now);
            while state.short + state.long < places.all {
                let (waiting, errand) = if let Some(waiting) = state.waiting_short.pop_front() {
                    state.short += 1;
                    (waiting, Errand::Short)
                } else if state.long < places.long
                    && let Some(waiting) = state.waiting_long.pop_front()
                {
                    state.long += 1;
                    (waiting, Errand::Long)
                } else {
                    break;
                };
                let place = Place { lane: self.clone(), errand, ends: None };
                admitted.push((waiting.place, place));
            }
        }
        for (waiting, place) in admitted {
            // Where nobody waits any more the place comes back here and is dropped.
            let _gone = waiting.send(place);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<C>> {
        // Nothing in here panics half way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many may be taken.
struct Places {
    all: usize,
    /// By queries that are held back: fewer, so that a list need not wait for one of them.
    long: usize,
}

impl<C> State<C> {
    fn queue(&mut self, errand: Errand) -> &mut VecDeque<Waiting<C>> {
        match errand {
            Errand::Short => &mut self.waiting_short,
            Errand::Long => &mut self.waiting_long,
        }
    }

    fn open(&self) -> usize {
        self.short + self.long + self.idle.len()
    }

    fn places(&self) -> Places {
        let now = Instant::now();
        let abandoned = self.abandoned.iter().filter(|end| **end > now).count();
        let all = self.room.now().saturating_sub(abandoned).max(LEAST);
        Places { all, long: all - (all / 8).max(1) }
    }

    /// Idle connections for which there is no room.
    fn excess(&mut self) -> Vec<C> {
        let excess = self.open().saturating_sub(self.room.now()).min(self.idle.len());
        self.idle.drain(..excess).collect()
    }
}

/// Takes one that no longer waits out of the queue.
struct Guard<'a, C> {
    lane: &'a Lane<C>,
    id: u64,
    errand: Errand,
}

impl<C> Drop for Guard<'_, C> {
    fn drop(&mut self) {
        let gone = {
            let mut state = self.lane.lock();
            let queue = state.queue(self.errand);
            let at = queue.iter().position(|waiting| waiting.id == self.id);
            at.and_then(|at| queue.remove(at))
        };
        drop(gone);
    }
}

/// The right to have one connection. Dropping it gives it to the next one that waits.
pub(super) struct Place<C> {
    lane: Arc<Lane<C>>,
    errand: Errand,
    /// When the agent is done with what was asked, whoever waits for it.
    ends: Option<Instant>,
}

impl<C> Place<C> {
    /// An idle connection that can be used. If there is none, another one may be made; where it
    /// would be one too many, an idle one is closed first. `usable` knows nothing of a closed one.
    pub(super) fn take(&self, usable: impl Fn(&C) -> Option<bool>) -> Option<C> {
        let (found, closed) = {
            let mut state = self.lane.lock();
            let mut closed: Vec<C> =
                state.idle.extract_if(.., |idle| usable(idle).is_none()).collect();
            match state.idle.iter().rposition(|idle| usable(idle) == Some(true)) {
                Some(at) => (Some(state.idle.remove(at)), closed),
                None => {
                    closed.extend(state.excess());
                    (None, closed)
                }
            }
        };
        drop(closed);
        found
    }

    /// Leaves the connection for the next one.
    pub(super) fn leave(mut self, connection: C) {
        self.ends = None;
        self.lane.lock().idle.push(connection);
    }

    /// How long Consul is to hold an answer back that it may hold back for `wait`, so that
    /// everybody has a turn in a round. They begin together, and should not end together.
    pub(super) fn turn(&self, wait: Duration) -> Duration {
        let state = self.lane.lock();
        let (asking, places) = (state.long + state.waiting_long.len(), state.places().long);
        if asking <= FEW && places >= MANY {
            return wait;
        }
        let part = (places as f64 / asking.max(1) as f64).min(1.0);
        let turn = ROUND.mul_f64(part * (0.75 + 0.25 * fastrand::f64()));
        turn.max(SHORTEST_TURN).min(wait)
    }

    /// The agent is asked for something that it may hold back for this time.
    pub(super) fn asks(&mut self, longest: Duration) {
        self.ends = Some(Instant::now() + longest);
    }

    /// The connection is closed at its other end.
    pub(super) fn ended(&mut self) {
        self.ends = None;
    }
}

impl<C> Drop for Place<C> {
    fn drop(&mut self) {
        let closed = {
            let mut state = self.lane.lock();
            match self.errand {
                Errand::Short => state.short -= 1,
                Errand::Long => state.long -= 1,
            }
            state.abandoned.extend(self.ends);
            state.excess()
        };
        drop(closed);
        self.lane.admit();
    }
}

/// In this time everybody is to have had a turn.
const ROUND: Duration = Duration::from_secs(10);
/// Below this the agent would be asked more often than is good for it.
const SHORTEST_TURN: Duration = Duration::from_millis(250);
/// So few, of so many places, may be held back for as long as they like.
const FEW: usize = 4;
const MANY: usize = 32;
const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures::future::join_all;
    use tokio::time::timeout;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    /// Asks for ever, as a watch does; tells the longest time without a place.
    async fn watch(lane: Arc<Lane<()>>, longest: &Mutex<Duration>) {
        loop {
            let begun = Instant::now();
            let record = || {
                let mut longest = longest.lock().unwrap();
                *longest = longest.max(begun.elapsed());
            };
            let mut enter = pin!(lane.enter(Errand::Long));
            let place = loop {
                match timeout(SECOND, &mut enter).await {
                    Ok(place) => break place,
                    Err(_) => record(),
                }
            };
            record();
            sleep(place.turn(60 * SECOND)).await;
        }
    }

    fn is_empty<C>(lane: &Lane<C>) -> bool {
        let state = lane.lock();
        state.open() + state.waiting_short.len() + state.waiting_long.len() == 0
    }

    async fn longest_without_a_place(lane: &Arc<Lane<()>>, watches: usize) -> Duration {
        let longest = Mutex::default();
        let run = join_all((0..watches).map(|_| watch(lane.clone(), &longest)));
        assert!(timeout(200 * SECOND, run).await.is_err());
        assert!(is_empty(lane));
        *longest.lock().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_has_a_turn_in_a_round_or_two() {
        let few = longest_without_a_place(&Lane::new(Room::of(8)), 7).await;
        assert!(few.is_zero(), "those who all have a place need not wait: {few:?}");
        for watches in [8, 12, 20, 100, 300] {
            let longest = longest_without_a_place(&Lane::new(Room::of(8)), watches).await;
            println!("{watches}: {longest:?}");
            assert!(longest <= ROUND * 5 / 2, "{watches}: {longest:?}");
        }
        let many = longest_without_a_place(&Lane::new(Room::of(8)), 1000).await;
        println!("1000: {many:?}");
        // The first seven take their places before anybody waits, for a round.
        assert!(many <= ROUND + SHORTEST_TURN * 1000 / 7 * 11 / 10, "{many:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_short_errand_does_not_wait_for_long_ones() {
        for room in [2, 8] {
            let lane = Lane::<()>::new(Room::of(room));
            let longest = Mutex::default();
            let watches = join_all((0..30).map(|_| watch(lane.clone(), &longest)));
            let errands = async {
                for _ in 0..20 {
                    sleep(SECOND * 7 / 3).await;
                    let begun = Instant::now();
                    drop(lane.enter(Errand::Short).await);
                    assert!(begun.elapsed().is_zero(), "{:?}", begun.elapsed());
                }
            };
            tokio::select! {
                _ = watches => unreachable!(),
                () = errands => {}
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn connections_are_bounded_and_whoever_gives_up_leaves_nothing() {
        let lane = Lane::new(Room::of(2));
        let (one, two) = (lane.enter(Errand::Short).await, lane.enter(Errand::Long).await);
        assert!(timeout(SECOND, lane.enter(Errand::Short)).await.is_err());
        assert!(timeout(SECOND, lane.enter(Errand::Long)).await.is_err());
        one.leave('a');
        assert_eq!(lane.open(), 2, "an idle one counts");
        let three = lane.enter(Errand::Short).await;
        assert_eq!(three.take(|_| Some(false)), None);
        assert_eq!(lane.open(), 2, "the idle one is closed, for it is another's");
        three.leave('b');
        drop(two);
        let four = lane.enter(Errand::Short).await;
        assert_eq!(four.take(|idle| Some(*idle == 'b')), Some('b'));
        four.leave('c');
        assert_eq!(lane.enter(Errand::Short).await.take(|_| None), None);
        assert!(is_empty(&lane));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_abandoned_counts_until_the_agent_is_done_with_it() {
        let lane = Lane::<()>::new(Room::of(9));
        for _ in 0..8 {
            lane.enter(Errand::Long).await.asks(30 * SECOND);
        }
        let one = lane.enter(Errand::Long).await;
        let begun = Instant::now();
        let two = lane.enter(Errand::Long).await;
        let waited = begun.elapsed();
        assert!(waited >= 30 * SECOND && waited <= 32 * SECOND, "{waited:?}");
        let mut closed = lane.enter(Errand::Long).await;
        closed.asks(30 * SECOND);
        closed.ended();
        drop((one, two, closed));
        assert!(lane.lock().places().all == 9 && is_empty(&lane));
    }

    #[tokio::test(start_paused = true)]
    async fn where_there_is_less_room_fewer_are_let_in() {
        let lane = Lane::<()>::new(Room::of(8));
        let mut places = Vec::new();
        for _ in 0..7 {
            places.push(lane.enter(Errand::Long).await);
        }
        lane.crowded();
        let room = lane.lock().room.now();
        assert!(room < 7);
        places.drain(..7 - room + 1);
        assert!(timeout(SECOND / 2, lane.enter(Errand::Long)).await.is_err());
        for _ in 0..3 {
            lane.roomy();
        }
        assert!(timeout(SECOND / 2, lane.enter(Errand::Long)).await.is_ok());
        drop(places);
        assert!(is_empty(&lane));
    }
}
