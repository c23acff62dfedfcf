//! From a URL to a registry, by the built-in schemes.

use std::sync::Arc;

use fleetward_core::{Error, Instance, Instancer, Registration, RegistryHandle};

use crate::registries::Registries;

/// Opens a registry by its URL. Nothing is awaited from the network: a registry that is down does
/// not keep a program from starting. Who connects to the same URL while a handle to it, or anything
/// that came from one, is in use gets that same handle, so that each service is watched once.
///
/// | URL | registry |
/// |---|---|
/// | `memory:`, `memory:greeter`, `memory://name/greeter` | the embedded one, shared by the whole process (by name) |
/// | `static:10.0.0.1:80,10.0.0.2:80` | a fixed list, the same for every service |
/// | `consul://[user:password@]host[:8500][,host…][/base…]/greeter?…` | Consul; `consuls:` with TLS (feature `consul`) |
/// | `consul:greeter` | the agent that `CONSUL_HTTP_ADDR` names, with what else Consul's own variables say, or the one on this machine |
/// | `etcd://[user:password@]host:2379[,host:2379…][/prefix…]/greeter?…` | etcd v3; `etcds:` with TLS (feature `etcd`) |
///
/// The last segment of the path names a service: then [`discover`] and [`register`] need nothing
/// but the URL. Every registry takes these options; the others are in the backend's own
/// documentation.
///
/// | option | meaning |
/// |---|---|
/// | `empty_set` | `hold`, `honour`, or how long to hold: `60s`; see [`EmptySetPolicy`](crate::discovery::EmptySetPolicy) |
/// | `ttl=5s` | how long the registry keeps the entry of a process that died (10 s by default; from 1 s to 1 day); see [`RegisterOptions`](crate::RegisterOptions) |
/// | `keep_trying` | registering succeeds although the registry cannot be reached, and goes on in the background; see [`register`] |
/// | `balancer=peak_ewma` | the [balancer](crate::balancers::by_name) of a channel to the service, with its own options behind a `?` |
/// | `only=version=v2` | sees only the instances that fulfil the [`Filter`](crate::discovery::Filter): `version`, `zone`, `tag` or `meta.KEY`, with `=` or `!=`. Given several times, all must hold |
/// | `prefer=zone=eu-1a` | the same, but if no instance fulfils all that is preferred, sees the others |
/// | `subset=20` | connects to no more than 20 of the instances that are left; see [`Subset`](crate::balancers::Subset) |
/// | `client_index=7` | the number of this client among all, from 0: its subset is one of an even distribution |
/// | `client_id=shop-b2x` | a name of its own: its subset is the same after a restart. Without either the subset is random, and the same for the whole process |
///
/// They hold for all services of the registry. `ttl` and `keep_trying` are for who registers, and every
/// registry that registers has them; the others are for who discovers. (Consul filters too, before it answers, by its own `tag` and `filter`.) A filter that
/// matches nothing makes an empty set, and calls then fail or wait as with any other.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// let registry = fleetward::connect("memory:").await?;
/// let registration = registry.register("greeter", fleetward::Instance::new("10.0.0.1:80")?).await?;
/// let mut greeters = registry.service("greeter")?.subscribe();
/// let now = greeters.wait_for(|snapshot| !snapshot.instances.is_empty()).await?;
/// assert_eq!(now.instances[0].address().port(), 80);
/// # Ok::<(), fleetward::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`InvalidInput`](crate::ErrorKind::InvalidInput) for a bad URL, an unknown scheme or an unknown
/// option (the known ones are listed), [`Unsupported`](crate::ErrorKind::Unsupported) for a scheme
/// whose feature is off. No error repeats a part of the URL that may be a secret, or a piece of one
/// that was not escaped: it says where the mistake stands. In a user's name or password `/`, `?`,
/// `#`, `@`, `%` and `,` are written `%2F`, `%3F`, `%23`, `%40`, `%25` and `%2C`.
pub async fn connect(url: &str) -> Result<RegistryHandle, Error> {
    Registries::built_in().connect(url).await
}

/// The live view of the service that the URL names: short for [`connect`] and
/// [`service`](RegistryHandle::service).
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use fleetward::Instancer;
/// let list = fleetward::discover("static:127.0.0.1:3000,127.0.0.1:3001").await?;
/// assert_eq!(list.subscribe().current().instances.len(), 2);
/// # Ok::<(), fleetward::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`connect`]; and [`InvalidInput`](crate::ErrorKind::InvalidInput) if the URL names no
/// service.
pub async fn discover(url: &str) -> Result<Arc<dyn Instancer>, Error> {
    Registries::built_in().discover(url).await
}

/// Registers an instance of the service that the URL names: short for [`connect`] and
/// [`register`](RegistryHandle::register).
///
/// With `keep_trying` in the URL a registry that is down is waited for in the background. Whoever has to
/// wait for it asks the registration:
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().build()?.block_on(async {
/// use fleetward::Instance;
/// use fleetward::registration::Status;
/// let me = Instance::new("10.0.0.1:80")?;
/// let registration = fleetward::register("memory:greeter?ttl=5s&keep_trying", me).await?;
/// registration.watch_status().wait_for(Status::is_registered).await?;
/// # Ok::<(), fleetward::Error>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// As [`discover`], and why the first attempt to register failed; with `keep_trying` only if it can never
/// succeed.
pub async fn register(url: &str, instance: Instance) -> Result<Registration, Error> {
    Registries::built_in().register(url, instance).await
}
