//! Streams that are open beyond the server's limit.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering};
use loom::thread;

use self::piece::Owed;

#[allow(dead_code, unreachable_pub)]
#[path = "../../http2/src/owed.rs"]
mod piece;

/// The server takes back two of two while both end: neither makes room for another, and nothing stays owed.
pub fn what_is_taken_back_makes_no_room() {
    loom::model(|| {
        let (owed, room) = (Arc::new(Owed::default()), Arc::new(AtomicUsize::new(0)));
        owed.add(2);
        let ends: Vec<_> = (0..2)
            .map(|_| {
                let (owed, room) = (owed.clone(), room.clone());
                thread::spawn(move || room.fetch_add(owed.pay(1), Ordering::Relaxed))
            })
            .collect();
        for end in ends {
            end.join().expect("no thread fails");
        }
        assert_eq!(room.load(Ordering::Relaxed), 0);
        assert!(owed.is_nothing());
    });
}

/// One is taken back while two end: one of them makes room, whichever is first.
pub fn what_is_not_owed_makes_room() {
    loom::model(|| {
        let owed = Arc::new(Owed::default());
        owed.add(1);
        let other = owed.clone();
        let first = thread::spawn(move || other.pay(1));
        let second = owed.pay(1);
        assert_eq!(first.join().expect("no thread fails") + second, 1);
        assert!(owed.is_nothing());
    });
}
