//! What a retry budget holds: a balance, calls and a time in one word.

use loom::sync::Arc;
use loom::thread;

use self::saved::{ATTEMPT, Saved};
use self::word::Word;

#[allow(dead_code, unreachable_pub)]
#[path = "../../core/src/retry/budget/saved.rs"]
mod saved;
#[allow(dead_code, unreachable_pub)]
#[path = "../../core/src/retry/budget/word.rs"]
mod word;

fn spend(word: &Word) -> bool {
    word.change(|mut saved| {
        saved.balance = saved.balance.checked_sub(ATTEMPT)?;
        Some(saved)
    })
}

/// Two retries want what is left for one while a call pays in: one of them gets it, and the call is not lost.
pub fn what_is_left_for_one_goes_to_one() {
    loom::model(|| {
        let word = Arc::new(Word::new(Saved { balance: ATTEMPT, unaged: 0, stamp: 7 }));
        let (one, other) = (word.clone(), word.clone());
        let retry = thread::spawn(move || spend(&one));
        let call = thread::spawn(move || {
            other.change(|mut saved| {
                saved.unaged += 1;
                Some(saved)
            })
        });
        let mine = spend(&word);
        let its = retry.join().expect("no thread fails");
        assert!(call.join().expect("no thread fails"));
        assert!(mine != its, "one of them, and not both");
        assert_eq!(word.get(), Saved { balance: 0, unaged: 1, stamp: 7 });
    });
}
