//! What an instance says comes back as it was said.

use fleetward_core::{Instance, Metadata};

use super::bed::{instance, service};
use super::{Bed, Subject};

/// An IPv6 address, short and long.
pub async fn ipv6<S: Subject>(bed: &Bed<S>) {
    let long = "[2001:db8:1111:2222:3333:4444:5555:6666]:65535";
    round_trip(bed, &[at("[2001:db8::1]:8080"), at(long)]).await;
}

/// A host name instead of an address.
pub async fn host_name<S: Subject>(bed: &Bed<S>) {
    round_trip(bed, &[at("greeter-1.internal.example:8080")]).await;
}

/// Weights, from the least that can be written to the most.
pub async fn weights<S: Subject>(bed: &Bed<S>) {
    let (least, most) = bed.capabilities().weights.clone().into_inner();
    let all = [least, Instance::DEFAULT_WEIGHT.clamp(least, most), most];
    let all: Vec<_> =
        (1..).zip(all).map(|(number, weight)| instance(number).with_weight(weight)).collect();
    round_trip(bed, &all).await;
}

/// Metadata: empty values, text that a format may use itself, other scripts.
pub async fn metadata<S: Subject>(bed: &Bed<S>) {
    let pairs = [
        ("protocol", "grpc"),
        ("empty", ""),
        ("quoted", r#"a "b" \c\ {"d": [1]} e=f&g;h,i|j"#),
        ("spaced", "two words"),
        ("script", "Grüße, 世界"),
        ("weight", "not a number"),
        ("A_b-9", "x"),
    ];
    let metadata = Metadata::new(pairs).expect("within the limits");
    round_trip(bed, &[instance(1).with_metadata(metadata), instance(2)]).await;
}

/// The zone.
pub async fn zone<S: Subject>(bed: &Bed<S>) {
    round_trip(bed, &[instance(1).with_zone("eu-central-1a"), instance(2)]).await;
}

/// The version.
pub async fn version<S: Subject>(bed: &Bed<S>) {
    round_trip(bed, &[instance(1).with_version("2.0.1-rc.1+build.5"), instance(2)]).await;
}

/// An id that is not the address.
pub async fn own_id<S: Subject>(bed: &Bed<S>) {
    let own = instance(1).with_id("greeter-7f9c_A.1").expect("a good id");
    round_trip(bed, &[own, instance(2)]).await;
}

/// The scheme in front of an address.
pub async fn scheme<S: Subject>(bed: &Bed<S>) {
    let service = service("greeter");
    let mut watcher = bed.watcher(&service).await;
    let one = at("https://10.1.0.1:8443");
    bed.put(&service, &one).await;
    // Whether the scheme belongs to the id is the backend's business.
    let same = |found: &Instance| found.address() == one.address();
    watcher
        .sees("the address with its scheme", |set| {
            set.instances.len() == 1 && same(&set.instances[0])
        })
        .await;
}

/// Written, seen by a watcher, and listed by one that comes later.
async fn round_trip<S: Subject>(bed: &Bed<S>, instances: &[Instance]) {
    let service = service("greeter");
    let expected: Vec<_> = instances.iter().collect();
    let mut watcher = bed.watcher(&service).await;
    for one in instances {
        bed.put(&service, one).await;
    }
    watcher.sees_exactly(&expected).await;
    bed.watcher(&service).await.sees_exactly(&expected).await;
}

fn at(address: &str) -> Instance {
    Instance::new(address).expect("the suite's addresses are good")
}
