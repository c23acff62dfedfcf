//! Whole fleets of clients: how even the load is and how much moves.

use std::collections::{BTreeMap, BTreeSet};

use fleetward_core::InstanceId;

use super::*;

type Sets = Vec<BTreeSet<InstanceId>>;

fn instance(n: usize) -> Arc<Instance> {
    Arc::new(Instance::new(format!("10.0.{}.{}:80", n / 256, n % 256).as_str()).unwrap())
}

fn fleet(n: usize) -> Vec<Arc<Instance>> {
    (0..n).map(instance).collect()
}

fn by_index(size: usize, clients: usize) -> Vec<Subset> {
    (0..clients).map(|i| Subset::of(size).with_client_index(i as u64)).collect()
}

fn by_id(size: usize, clients: usize) -> Vec<Subset> {
    (0..clients).map(|i| Subset::of(size).with_client_id(&format!("shop-{i}"))).collect()
}

fn sets(clients: &[Subset], all: &[Arc<Instance>]) -> Sets {
    let ids = |subset: &Subset| subset.choose(all).iter().map(|i| i.id().clone()).collect();
    clients.iter().map(ids).collect()
}

/// The least and the most loaded instance, as shares of the mean.
fn spread(sets: &Sets, all: &[Arc<Instance>]) -> (f64, f64) {
    let mut load: BTreeMap<_, usize> = all.iter().map(|i| (i.id().clone(), 0)).collect();
    for id in sets.iter().flatten() {
        *load.get_mut(id).unwrap() += 1;
    }
    let mean = sets.iter().map(BTreeSet::len).sum::<usize>() as f64 / all.len() as f64;
    let (min, max) = (load.values().min().unwrap(), load.values().max().unwrap());
    (*min as f64 / mean, *max as f64 / mean)
}

/// The share of connections that end.
fn churn(before: &Sets, after: &Sets) -> f64 {
    let ended: usize = before.iter().zip(after).map(|(old, new)| old.difference(new).count()).sum();
    ended as f64 / before.iter().map(BTreeSet::len).sum::<usize>() as f64
}

/// The mean churn when one goes, over several that go from anywhere.
fn churn_of_removals(clients: &[Subset], all: &[Arc<Instance>]) -> f64 {
    let before = sets(clients, all);
    let gone = [0, all.len() / 3, all.len() / 2, all.len() - 1];
    let churns = gone.map(|gone| {
        let mut left = all.to_vec();
        left.remove(gone);
        churn(&before, &sets(clients, &left))
    });
    churns.iter().sum::<f64>() / churns.len() as f64
}

#[test]
fn by_index_the_load_is_even_and_one_instance_more_or_less_moves_under_one_percent() {
    let (all, clients) = (fleet(300), by_index(30, 300));
    let before = sets(&clients, &all);
    assert!(before.iter().all(|set| set.len() == 30));
    assert_eq!(spread(&before, &all), (1.0, 1.0));
    let removed = churn_of_removals(&clients, &all);
    let added = churn(&before, &sets(&clients, &fleet(301)));
    println!("by index: removed {removed:.4}, added {added:.4}");
    assert!((0.0033..0.011).contains(&removed), "{removed}");
    assert!((0.0001..0.013).contains(&added), "{added}");
    let left = &all[1..];
    let (min, max) = spread(&sets(&clients, left), left);
    println!("by index: load at 299 {min:.3}-{max:.3}");
    assert!(min > 0.95 && max < 1.05, "{min}-{max}");
}

#[test]
fn by_name_only_the_connections_to_what_is_gone_move() {
    let (all, clients) = (fleet(300), by_id(30, 300));
    let before = sets(&clients, &all);
    assert!(before.iter().all(|set| set.len() == 30));
    let (min, max) = spread(&before, &all);
    println!("by name: load {min:.2}-{max:.2}");
    assert!(min > 0.4 && max < 1.7, "{min}-{max}");
    let after = sets(&clients, &all[1..]);
    for (old, new) in before.iter().zip(&after) {
        assert!(old.difference(new).all(|id| id == all[0].id()));
    }
    let removed = churn_of_removals(&clients, &all);
    let added = churn(&before, &sets(&clients, &fleet(301)));
    println!("by name: removed {removed:.4}, added {added:.4}");
    assert!((0.002..0.005).contains(&removed), "{removed}");
    assert!((0.002..0.005).contains(&added), "{added}");
}

#[test]
fn the_load_is_off_by_few_connections_whatever_the_numbers() {
    for (clients, instances, size) in
        [(300, 1000, 20), (100, 40, 20), (1000, 37, 20), (57, 100, 30), (200, 101, 100)]
    {
        let (all, subsets) = (fleet(instances), by_index(size, clients));
        let sets = sets(&subsets, &all);
        assert!(sets.iter().all(|set| set.len() == size));
        let mean = (clients * size) as f64 / instances as f64;
        let (min, max) = spread(&sets, &all);
        let removed = churn_of_removals(&subsets, &all) * instances as f64;
        println!(
            "{clients} x {size} of {instances}: {min:.2}-{max:.2} of {mean:.1}, {removed:.1} times the least churn"
        );
        let (below, above) = ((1.0 - min) * mean, (max - 1.0) * mean);
        let few = 3.0 + 0.02 * mean;
        assert!(below < few && above < few, "-{below} +{above}");
        assert!(removed < 5.0, "{removed}");
    }
}

#[test]
fn a_client_more_changes_no_other_clients_subset() {
    let all = fleet(300);
    for subsets in [by_index(30, 25), by_id(30, 25)] {
        let before = sets(&subsets[..24], &all);
        assert_eq!(before, sets(&subsets, &all)[..24]);
    }
    let lots = sets(&by_index(30, 10), &all);
    let covered: BTreeSet<_> = lots.iter().flatten().collect();
    assert_eq!(covered.len(), 300, "one lot of ten shares out all three hundred");
}

#[test]
fn the_order_of_the_instances_does_not_matter() {
    let all = fleet(300);
    let reversed: Vec<_> = all.iter().rev().cloned().collect();
    for subsets in [by_index(30, 12), by_id(30, 12)] {
        assert_eq!(sets(&subsets, &all), sets(&subsets, &reversed));
    }
}

#[test]
fn a_subset_as_large_as_the_set_is_the_set() {
    for size in [5, 6, usize::MAX] {
        for subset in [Subset::of(size), Subset::of(size).with_client_index(u64::MAX)] {
            assert_eq!(subset.choose(&fleet(5)).len(), 5);
            assert!(subset.choose(&[]).is_empty());
        }
    }
    assert_eq!(Subset::of(0).choose(&fleet(5)).len(), 1, "0 is taken for 1");
    assert_eq!(Subset::of(4).with_client_index(u64::MAX).choose(&fleet(5)).len(), 4);
}

#[test]
fn what_is_draining_takes_no_place_unless_there_is_nothing_else() {
    let drain = |i: &Arc<Instance>| Arc::new(Instance::clone(i).with_weight(0));
    let draining: Vec<_> = fleet(10).iter().map(drain).collect();
    let mixed = [&draining[..5], &fleet(10)[5..]].concat();
    for subset in [Subset::of(5), Subset::of(5).with_client_index(0)] {
        assert!(subset.choose(&mixed).iter().all(|instance| !instance.is_draining()));
        assert_eq!(subset.choose(&draining).len(), 5);
    }
}

#[test]
fn all_subsets_of_a_process_are_of_the_same_client() {
    let all = fleet(300);
    let (one, other) = (Subset::of(20).choose(&all), Subset::of(20).choose(&all));
    assert_eq!(one, other);
}
