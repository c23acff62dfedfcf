//! Tests of keys that hold several instances.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::table::{Origin, Table};
use crate::discovery::{EmptySetPolicy, Entry, KeyChange};
use crate::{Error, Instance};

const HOLD: EmptySetPolicy = EmptySetPolicy::HoldFor(Duration::from_secs(60));

/// The instances of these ports; 0 is one that cannot be read.
fn group(key: &str, ports: &[u16]) -> Entry {
    let read = |port: &u16| match port {
        0 => Err(Error::invalid_data("no address")),
        port => Instance::new(format!("10.0.0.1:{port}")),
    };
    Entry::several(key, ports.iter().map(read))
}

fn listed(table: &mut Table, entries: Vec<Entry>, origin: Origin) {
    table.replace(entries, origin, HOLD, 1000, Instant::now());
}

fn ports(table: &mut Table) -> Vec<u16> {
    table.render();
    let mut ports: Vec<_> = table.rendered().iter().map(|one| one.address().port()).collect();
    ports.sort_unstable();
    ports
}

#[test]
fn a_put_replaces_all_that_stood_under_the_key_and_a_delete_takes_all_away() {
    let mut table = Table::default();
    listed(&mut table, vec![group("a", &[1, 2, 3]), group("b", &[4])], Origin::First);
    assert_eq!(ports(&mut table), [1, 2, 3, 4]);
    table.apply(KeyChange::Put(group("a", &[2, 5])));
    assert_eq!(ports(&mut table), [2, 4, 5]);
    table.apply(KeyChange::Put(Entry::new("a", Instance::new("10.0.0.1:6"))));
    assert_eq!(ports(&mut table), [4, 6]);
    table.apply(KeyChange::Put(group("a", &[7, 7, 8])));
    assert_eq!(ports(&mut table), [4, 7, 8]);
    table.apply(KeyChange::Put(group("b", &[])));
    assert_eq!(ports(&mut table), [7, 8]);
    table.apply(KeyChange::Delete("a".into()));
    assert_eq!(ports(&mut table), [0; 0]);
    assert!(table.is_empty(), "{table:?}");
}

#[test]
fn what_cannot_be_read_is_counted_and_named_by_its_key() {
    let mut table = Table::default();
    listed(&mut table, vec![group("a", &[1, 0, 0])], Origin::First);
    assert_eq!((ports(&mut table), table.unreadable()), (vec![1], 2));
    assert_eq!(table.fault().unwrap().context("key"), Some("a"));
    assert!(table.take_faults().iter().all(|(key, _)| &**key == "a"));
    table.apply(KeyChange::Put(group("a", &[1])));
    assert_eq!((ports(&mut table), table.unreadable()), (vec![1], 0));
}

#[test]
fn a_bulk_drop_counts_instances_and_holds_them_one_by_one() {
    let mut table = Table::default();
    let all: Vec<u16> = (1..=10).collect();
    listed(&mut table, vec![group("a", &all)], Origin::First);
    listed(&mut table, vec![group("a", &[1, 2])], Origin::Relist);
    assert_eq!((ports(&mut table), table.held()), (all, 8));
    // Seen to go is gone.
    table.apply(KeyChange::Put(group("a", &[2, 3])));
    assert_eq!((ports(&mut table), table.held()), (vec![2, 3], 0));
    listed(&mut table, vec![], Origin::Relist);
    table.apply(KeyChange::Delete("a".into()));
    assert!(ports(&mut table).is_empty() && table.is_empty());
}

#[test]
fn the_size_after_a_change_counts_instances() {
    let mut table = Table::default();
    listed(&mut table, vec![group("a", &[1, 2])], Origin::First);
    let after = |changes: Vec<KeyChange>| table.size_after(&changes);
    assert_eq!(after(vec![KeyChange::Put(group("a", &[1, 2, 3, 4]))]), 4);
    assert_eq!(after(vec![KeyChange::Put(group("b", &[3, 4, 5]))]), 5);
}

#[test]
fn a_key_that_looks_like_a_part_of_another_is_its_own() {
    let mut table = Table::default();
    table.apply(KeyChange::Put(Entry::new("a\0b", Instance::new("10.0.0.1:1"))));
    table.apply(KeyChange::Put(group("a", &[2])));
    table.apply(KeyChange::Delete("a".into()));
    assert_eq!(ports(&mut table), [1]);
}

/// The rows of a group are found by name: the work of a put and of a list is that of what they hold.
#[test]
fn many_under_one_key_and_many_keys_cost_what_they_hold() {
    let many: Vec<u16> = (1..=60_000).collect();
    let mut table = Table::default();
    listed(
        &mut table,
        many.chunks(100).map(|ports| group(&ports[0].to_string(), ports)).collect(),
        Origin::First,
    );
    assert_eq!(ports(&mut table).len(), many.len());
    let puts = [group("a", &many), group("a", &many[1..])];
    let begun = Instant::now();
    puts.into_iter().for_each(|entry| table.apply(KeyChange::Put(entry)));
    let took = begun.elapsed();
    println!("two puts of {} instances under one key: {took:?}", many.len());
    // Each with each took 20 s, unoptimised on two quiet cores.
    assert!(took < Duration::from_secs(10), "{took:?}");
    table.apply(KeyChange::Delete("a".into()));
    assert_eq!(ports(&mut table).len(), many.len(), "those of the other keys");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is put, deleted, listed and rebuilt: what stands is the last word of each key.
    #[test]
    fn a_key_holds_what_was_put_last(
        steps in proptest::collection::vec(
            (0..4_u8, 0..3_usize, proptest::collection::vec(1..9_u16, 0..4)), 1..30,
        ),
    ) {
        let keys = ["a", "b", "c"];
        let mut table = Table::default();
        let mut expected: [Vec<u16>; 3] = Default::default();
        let entries = |held: &[Vec<u16>; 3]| -> Vec<Entry> {
            keys.iter().zip(held).map(|(key, ports)| group(key, ports)).collect()
        };
        for (what, at, ports_now) in steps {
            match what {
                0 => {
                    table.apply(KeyChange::Delete(keys[at].into()));
                    expected[at].clear();
                }
                1 => table.rebuild(),
                // As a list of the same, that a watch told.
                2 => {
                    table.replace(entries(&expected), Origin::First, HOLD, 1000, Instant::now());
                }
                _ => {
                    table.apply(KeyChange::Put(group(keys[at], &ports_now)));
                    expected[at] = ports_now;
                }
            }
            let mut all: Vec<u16> = expected.iter().flatten().copied().collect();
            all.sort_unstable();
            all.dedup();
            prop_assert_eq!(ports(&mut table), all);
        }
    }
}
