//! A list of instances of one's own: three lines, no backend.
//!
//! `cargo run --example custom_list`

use std::sync::Arc;

use fleetward::discovery::Publisher;
use fleetward::{Error, Instance, RegistryHandle};

#[tokio::main]
async fn main() -> Result<(), Error> {
    let list = Publisher::new("greeter");
    list.publish([Instance::new("10.0.0.1:80")?, Instance::new("10.0.0.2:80")?]);
    let registry = RegistryHandle::fixed(Arc::new(list.clone()));

    let mut greeters = registry.service("greeter")?.subscribe();
    assert_eq!(greeters.current().instances.len(), 2);
    list.publish([Instance::new("10.0.0.3:80")?]);
    let set = greeters.wait_for(|set| set.instances.len() == 1).await?;
    println!("{}", set.instances[0].address());
    Ok(())
}
