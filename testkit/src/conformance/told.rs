//! What a watch may tell: each change once, in order, from where it was told to begin.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use fleetward_core::discovery::{Change, Entry, KeyChange, Source};
use fleetward_core::{Error, Instance, ServiceName};
use futures::{Stream, StreamExt};
use tokio::time::timeout;

use super::bed::{instance, ok, service};
use super::{Bed, Subject};

/// A key stands once in a list, and once in each set that a watch tells.
pub async fn a_key_is_listed_once<S: Subject>(bed: &Bed<S>) {
    let (service, all) = (service("greeter"), [instance(1), instance(2), instance(3)]);
    let backend = bed.subject().open().await;
    let begin = ok("list", backend.list(&service).await).cursor;
    for one in &all {
        bed.put(&service, one).await;
    }
    let entries = ok("list", backend.list(&service).await).entries;
    once_each("list", &entries);
    assert_eq!(entries.len(), 3, "list must give three entries; it gave {entries:?}");
    for (news, _) in told(bed, &backend, &service, begin, &all[2]).await {
        if let News::Set(entries) = news {
            once_each("the watch", &entries);
        }
    }
}

/// A change is told once. A source that tells complete sets tells none that is over already.
pub async fn each_change_is_told_once<S: Subject>(bed: &Bed<S>) {
    let (service, backend) = (service("greeter"), bed.subject().open().await);
    let begin = ok("list", backend.list(&service).await).cursor;
    let states = some_changes(bed, &service).await;
    let all = told(bed, &backend, &service, begin, &instance(3)).await;
    in_order(all.iter().map(|(news, _)| news), &states);
}

/// Who watches from where a change was told hears nothing of it, or of what was before it, again.
pub async fn a_cursor_never_goes_back<S: Subject>(bed: &Bed<S>) {
    let (service, backend) = (service("greeter"), bed.subject().open().await);
    let begin = ok("list", backend.list(&service).await).cursor;
    let states = some_changes(bed, &service).await;
    let all = told(bed, &backend, &service, begin, &instance(3)).await;
    for (place, (_, cursor)) in all.iter().enumerate() {
        let Some(cursor) = cursor else { continue };
        let last = bed.put_last(&service).await;
        let later = told(bed, &backend, &service, cursor.clone(), &last).await;
        in_order(all[..=place].iter().chain(&later).map(|(news, _)| news), &states);
    }
}

/// Three come and one goes; the last one is instance 3. The ids in the registry after each step.
async fn some_changes<S: Subject>(bed: &Bed<S>, service: &ServiceName) -> Vec<Vec<String>> {
    let [one, two, three] = [instance(1), instance(2), instance(3)];
    bed.put(service, &one).await;
    bed.put(service, &two).await;
    bed.remove(service, &one).await;
    bed.put(service, &three).await;
    let ids = |set: &[&Instance]| set.iter().map(|one| one.id().to_string()).collect();
    vec![ids(&[]), ids(&[&one]), ids(&[&one, &two]), ids(&[&two]), ids(&[&two, &three])]
}

/// What a watch told.
enum News {
    Put(Arc<str>, Entry),
    Gone(Arc<str>),
    Set(Vec<Entry>),
}

type Told<S> = Vec<(News, Option<<<S as Subject>::Backend as Source>::Cursor>)>;

/// All that a watch tells until it tells of `last`, and of one that is put after that; each with the
/// cursor after it.
async fn told<S: Subject>(
    bed: &Bed<S>,
    backend: &S::Backend,
    service: &ServiceName,
    from: <S::Backend as Source>::Cursor,
    last: &Instance,
) -> Told<S> {
    let mut changes = pin!(backend.watch(service, from));
    let mut all = Told::<S>::new();
    until::<S>(bed, changes.as_mut(), &mut all, last).await;
    // What is told once more is told by now.
    let end = bed.put_last(service).await;
    until::<S>(bed, changes, &mut all, &end).await;
    all
}

async fn until<S: Subject>(
    bed: &Bed<S>,
    mut changes: impl Stream<Item = Result<Change<<S::Backend as Source>::Cursor>, Error>> + Unpin,
    all: &mut Told<S>,
    last: &Instance,
) {
    let heard = async {
        loop {
            let Some(change) = changes.next().await else {
                panic!("the watch must tell what came after its cursor; it ended")
            };
            let before = all.len();
            match ok("watch", change) {
                Change::Keys { changes, cursor } => {
                    all.extend(changes.into_iter().filter_map(|change| match change {
                        KeyChange::Put(entry) => {
                            Some((News::Put(entry.key().clone(), entry), None))
                        }
                        KeyChange::Delete(key) => Some((News::Gone(key), None)),
                        _ => None,
                    }));
                    // The cursor stands after all of them.
                    if let Some((_, after)) = all[before..].last_mut() {
                        *after = Some(cursor);
                    }
                }
                Change::Full(listing) => {
                    all.push((News::Set(listing.entries), Some(listing.cursor)));
                }
                _ => {}
            }
            if all[before..].iter().any(|(news, _)| tells(news, last.id().as_str())) {
                return;
            }
        }
    };
    let patience = bed.capabilities().patience;
    let heard = timeout(patience, heard).await;
    assert!(heard.is_ok(), "the watch must tell of {}; it did not within {patience:?}", last.id());
}

fn tells(news: &News, id: &str) -> bool {
    let is = |entry: &Entry| entry.readable().any(|one| one.id().as_str() == id);
    match news {
        News::Put(_, entry) => is(entry),
        News::Set(entries) => entries.iter().any(is),
        News::Gone(_) => false,
    }
}

fn once_each(who: &str, entries: &[Entry]) {
    let mut seen = BTreeSet::new();
    for entry in entries {
        let key = entry.key();
        assert!(seen.insert(key), "{who} must give a key once; it gave {key} twice");
    }
}

/// Changes of a key differ from what was told of it last; sets are those of `states`, in their order.
fn in_order<'a>(all: impl Iterator<Item = &'a News>, states: &[Vec<String>]) {
    let mut known: BTreeMap<Arc<str>, Option<Arc<Instance>>> = BTreeMap::new();
    let mut at = 0;
    for news in all {
        match news {
            News::Put(key, entry) => {
                // Of a key with several instances their order is no news.
                let [Ok(now)] = entry.instances() else { continue };
                let before = known.insert(key.clone(), Some(now.clone()));
                // Who removes by hand may write once more.
                let stays =
                    states.last().is_some_and(|last| last.iter().any(|id| id == now.id().as_str()));
                let again = stays && before.flatten().is_some_and(|before| before == *now);
                assert!(!again, "a change must be told once; {key} was put twice, as {now:?}");
            }
            News::Gone(key) => {
                let again = known.insert(key.clone(), None) == Some(None);
                assert!(!again, "a change must be told once; {key} was deleted twice");
            }
            News::Set(entries) => {
                let ids = ids(entries, states);
                let found = states[at..].iter().position(|state| *state == ids);
                let Some(further) = found else {
                    panic!(
                        "a set must not be told when it is over; it was {ids:?} after {:?}",
                        states[at]
                    )
                };
                at += further;
            }
        }
    }
}

/// Of those that the states are made of.
fn ids(entries: &[Entry], states: &[Vec<String>]) -> Vec<String> {
    let readable = entries.iter().flat_map(Entry::readable);
    let ids = readable.map(|instance| instance.id().to_string());
    let ids: BTreeSet<_> =
        ids.filter(|id| states.iter().flatten().any(|known| known == id)).collect();
    ids.into_iter().collect()
}
