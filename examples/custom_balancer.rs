//! A balancer of one's own: about twenty lines, one method.
//!
//! `cargo run --example custom_balancer`

use std::sync::Arc;

use fleetward::balancing::{PickContext, ReadySet};
use fleetward::context::WithContext;
use fleetward::{Balanced, Balancer, DefaultEndpointer, Endpointer, Error, Instance};
use tower::{ServiceExt, service_fn};

// The balancer begins here …

/// Prefers the instances in the caller's own zone; takes the one with the fewest calls under way.
#[derive(Debug)]
struct NearestLeastLoaded {
    zone: &'static str,
}

impl Balancer for NearestLeastLoaded {
    fn pick(&self, endpoints: &ReadySet<'_>, _: &PickContext<'_>) -> Option<usize> {
        (0..endpoints.len()).min_by_key(|&position| {
            let endpoint = &endpoints[position];
            let elsewhere = endpoint.instance().zone() != Some(self.zone);
            (elsewhere, endpoint.in_flight())
        })
    }
}

// … and ends here.

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let registry = fleetward::connect("memory:").await?;
    let mut registrations = Vec::new();
    for (address, zone) in
        [("10.0.0.1:80", "north"), ("10.0.0.2:80", "south"), ("10.0.0.3:80", "south")]
    {
        let instance = Instance::new(address)?.with_zone(zone);
        registrations.push(registry.register("greeter", instance).await?);
    }

    // What a factory makes is any tower service; here one that only says who it is.
    let factory = |instance: Arc<Instance>| async move {
        Ok::<_, Error>(service_fn(move |name: &'static str| {
            let answer = format!("{} greets {name}", instance.address());
            async move { Ok::<_, Error>(answer) }
        }))
    };
    let endpointer = DefaultEndpointer::new(registry.service("greeter")?, factory);
    endpointer.endpoints().wait_for(|set| set.ready().len() == 3).await;
    let service = Balanced::new(endpointer, NearestLeastLoaded { zone: "south" });

    for name in ["Ada", "Grace", "Edsger"] {
        let answer = service.clone().oneshot(WithContext::from(name)).await?;
        println!("{answer}");
        assert!(!answer.starts_with("10.0.0.1"), "that one is in the north");
    }
    Ok(())
}
