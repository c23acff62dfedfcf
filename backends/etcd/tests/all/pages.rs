//! Many instances, and large values: pages of a list, fragments of a watch.

use etcd_client::{Client, PutOptions, Txn, TxnOp, WatchOptions};
use fleetward_core::discovery::Source;
use fleetward_testkit::servers::Etcd;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::*;

async fn client(etcd: &Etcd) -> Client {
    Client::connect([etcd.client_url()], None).await.unwrap()
}

/// A value that is read, and takes about as much as one may.
fn large(n: u32) -> String {
    let filler = "x".repeat(60_000);
    format!(r#"{{"Op":0,"Addr":"{}","Metadata":"{filler}"}}"#, instance(n).address())
}

async fn put_many(etcd: &Etcd, count: u32) {
    let mut client = client(etcd).await;
    for first in (0..count).step_by(100) {
        let puts = (first..count.min(first + 100)).map(|n| {
            let address = instance(n).address().to_string();
            TxnOp::put(format!("a/{address}"), value(&address), None)
        });
        client.txn(Txn::new().and_then(puts.collect::<Vec<_>>())).await.unwrap();
    }
}

#[tokio::test]
async fn a_thousand_instances_in_pages() {
    for etcd in versions().await {
        put_many(&etcd, 1000).await;
        for page_size in [1, 99, 100, 1000, 5000] {
            let registry = connect(config(&etcd).with_page_size(page_size)).await;
            let begun = Instant::now();
            let (mut found, _) = ids(&registry, "a").await;
            println!("pages of {page_size}: {:?}", begun.elapsed());
            found.dedup();
            assert_eq!(found.len(), 1000);
        }
    }
}

#[tokio::test]
async fn pages_are_of_one_revision() {
    for etcd in versions().await {
        put_many(&etcd, 100).await;
        let registry = connect(config(&etcd).with_page_size(7)).await;
        // One instance that is always registered, sometimes under the first key, sometimes under
        // the last: a list that mixes revisions sees it never or twice.
        let mut client = client(&etcd).await;
        let wanderer = value("10.9.9.9:80");
        client.put("a/!", wanderer.clone(), None).await.unwrap();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            for (from, to) in [("a/!", "a/~"), ("a/~", "a/!")].into_iter().cycle() {
                let put = TxnOp::put(to, wanderer.clone(), None);
                client.txn(Txn::new().and_then([put, TxnOp::delete(from, None)])).await.unwrap();
            }
        });
        for _ in 0..50 {
            let (found, _) = ids(&registry, "a").await;
            assert_eq!(found.iter().filter(|id| *id == "10.9.9.9:80").count(), 1);
            assert_eq!(found.len(), 101);
        }
    }
}

#[tokio::test]
async fn pitfall_compaction_between_two_pages_is_said() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    put_many(&etcd, 100).await;
    let registry = connect(config(&etcd).with_page_size(1)).await;
    let mut client = client(&etcd).await;
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let put = client.put("elsewhere", "x", None).await.unwrap();
            client.compact(put.header().unwrap().revision(), None).await.unwrap();
        }
    });
    let mut lost = 0;
    for _ in 0..20 {
        match registry.list(&service("a")).await {
            Ok(listing) => assert_eq!(listing.entries.len(), 100),
            Err(error) => {
                assert!(error.is_cursor_lost(), "{error}");
                lost += 1;
            }
        }
    }
    assert!(lost > 0, "nothing was tested");
    drop(tasks);
    assert_eq!(ids(&registry, "a").await.0.len(), 100);
}

#[tokio::test]
async fn pitfall_large_list_over_4_mib() {
    for etcd in versions().await {
        let mut client = client(&etcd).await;
        for n in 0..100 {
            client.put(format!("a/{n:03}"), large(n), None).await.unwrap();
        }
        assert_eq!(ids(&registry(&etcd).await, "a").await.0.len(), 100);
    }
}

#[tokio::test]
async fn pitfall_values_that_do_not_fit_into_one_page_are_skipped_one_by_one() {
    let Some(etcd) = Etcd::start_or_skip().await else { return };
    let mut client = client(&etcd).await;
    let megabyte = "x".repeat(1_000_000);
    for n in 0..70 {
        client.put(format!("a/{n}"), megabyte.clone(), None).await.unwrap();
    }
    put(&etcd, "a/~", &value("10.0.0.1:80")).await;
    let listing = registry(&etcd).await.list(&service("a")).await.unwrap();
    assert_eq!(listing.entries.len(), 71);
    assert!(listing.entries[70].readable().count() == 1);
}

#[tokio::test]
async fn pitfall_fragments_are_one_change() {
    for args in [["--max-request-bytes", "65536"], ["--max-request-bytes", "4194304"]] {
        let Some(etcd) = Etcd::builder().with_args(args).start_or_skip().await else { return };
        let registry = registry(&etcd).await;
        let (_, cursor) = ids(&registry, "a").await;
        let mut client = client(&etcd).await;
        if args[1] == "65536" {
            // Many revisions that a watch has to catch up with come in one response.
            for n in 0..60 {
                client.put(format!("a/{n}"), large(n), None).await.unwrap();
            }
        } else {
            // One transaction of almost 4 MiB, and another one: together more than a message.
            for first in [0, 60] {
                let puts =
                    (first..first + 60).map(|n| TxnOp::put(format!("a/{n}"), large(n), None));
                let puts: Vec<_> = puts.collect();
                client.txn(Txn::new().and_then(puts)).await.unwrap();
            }
        }
        let fragments = fragments(&mut client, cursor.revision() + 1).await;
        assert!(fragments > 1, "nothing was tested");
        let (_, newest) = ids(&registry, "a").await;
        let mut watch = Watch::open(&registry, "a", cursor).await;
        let (changes, at) = watch.changes(5 * SECOND).await;
        println!("{fragments} fragments, {} changes", changes.len());
        assert_eq!(changes.len(), if args[1] == "65536" { 60 } else { 120 });
        assert_eq!(at, newest);
        client.put("a/~", value("10.0.0.1:80"), Some(PutOptions::new())).await.unwrap();
        assert_eq!(watch.change().await, Seen::Put("10.0.0.1:80".into()));
    }
}

/// In how many messages the server tells what happened since a revision.
async fn fragments(client: &mut Client, revision: i64) -> usize {
    let options = WatchOptions::new().with_prefix().with_fragment().with_start_revision(revision);
    let watch = client.watch_client().max_decoding_message_size(usize::MAX);
    let mut stream = { watch }.watch("a/", Some(options)).await.unwrap();
    let mut messages = 0;
    loop {
        let message = stream.message().await.unwrap().unwrap();
        messages += usize::from(!message.events().is_empty());
        if !message.events().is_empty() && !message.0.fragment {
            return messages;
        }
    }
}
