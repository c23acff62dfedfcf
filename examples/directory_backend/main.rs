//! A registry backend of one's own: a directory with a file an instance. docs/write-a-backend.md
//! builds it step by step.
//!
//! `cargo run --example directory_backend`

use std::time::Duration;

use fleetward::{Instance, RegistryHandle};

#[allow(unreachable_pub, reason = "in a crate of its own it is public")]
mod directory;

use directory::Directory;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = tempfile::tempdir()?;
    let poll_interval = Duration::from_millis(100);
    let registry = RegistryHandle::new(Directory { root: root.path().to_owned(), poll_interval });

    let mut greeters = registry.service("greeter")?.subscribe();
    let registration = registry.register("greeter", Instance::new("10.0.0.1:8080")?).await?;
    let set = greeters.wait_for(|set| set.instances.len() == 1).await?;
    println!("registered: {:?}", set.instances[0].id());
    registration.deregister().await?;
    greeters.wait_for(|set| set.instances.is_empty()).await?;
    println!("deregistered");
    Ok(())
}
