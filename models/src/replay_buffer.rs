//! The bytes that all calls of a client keep together.

use std::sync::Arc;

use loom::thread;

use self::piece::ReplayBuffer;

#[allow(dead_code, unreachable_pub, missing_docs)]
#[path = "../../client/src/body/buffer.rs"]
mod piece;

/// Two calls want what is there for one: never both get it, and in the end nothing is kept.
pub fn no_more_is_kept_than_there_is_room() {
    loom::model(|| {
        let buffer = Arc::new(ReplayBuffer::new(10_000));
        let other = buffer.clone();
        let call = thread::spawn(move || {
            let mut share = other.empty_share();
            share.grow(6_000).is_ok().then_some(share)
        });
        let mut share = buffer.empty_share();
        let mine = share.grow(6_000).is_ok();
        let its = call.join().expect("no thread fails");
        assert!(!(mine && its.is_some()), "12,000 bytes are kept");
        drop((share, its));
        assert_eq!(buffer.used(), 0);
    });
}
