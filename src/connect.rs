//! From a URL to a registry.

use std::sync::Arc;

use fleetward_core::discovery::{EmptySetPolicy, FixedInstancer, ReflectorConfig};
use fleetward_core::registry::{Options, RegistryUrl};
use fleetward_core::{
    Balancer, Error, Instance, Instancer, RegisterOptions, Registration, RegistryHandle,
    ServiceName,
};
use fleetward_memory::MemoryRegistry;

use crate::registries::{Backend, Registries};
use crate::scheme::Scheme;
use crate::views::Views;

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
/// | `empty_set` | `hold`, `honour`, or how long to hold: `60s`; see [`EmptySetPolicy`] |
/// | `ttl=5s` | how long the registry keeps the entry of a process that died (10 s by default; from 1 s to 1 day); see [`RegisterOptions`] |
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

/// Opens a registry of the table, whether or not its URL is open already.
pub(crate) async fn open(registries: &Registries, url: &str) -> Result<RegistryHandle, Error> {
    let parsed = RegistryUrl::parse(url)?;
    let backend = registries.backend(parsed.scheme())?;
    // The scheme is a known one here, so it is no secret in the wrong place.
    let shown = match parsed.hosts() {
        [] => format!("{}:…", parsed.scheme()),
        _ => parsed.to_string(),
    };
    // Boxed, for setting up TLS makes a future of 16 KiB.
    let handle: Result<_, Error> = Box::pin(async {
        let mut url = parsed;
        let common = Common::take(&mut url, &backend)?;
        let handle = match backend {
            Backend::Own(open) => open(url).await?,
            Backend::BuiltIn(scheme) => built_in(scheme, url).await?,
        };
        Ok(common.apply(handle))
    })
    .await;
    handle.map_err(|error| {
        let error = error.with_operation("connect").with_context("url", shown);
        match is_torn(url, &error) {
            true => error.with_context("hint", "a balancer's own options are joined by %26, not &"),
            false => error,
        }
    })
}

/// What the URL of any registry may say.
struct Common {
    reflector: ReflectorConfig,
    register: RegisterOptions,
    views: Views,
    service: Option<ServiceName>,
}

impl Common {
    fn take(url: &mut RegistryUrl, backend: &Backend) -> Result<Self, Error> {
        let reflector = reflector_config(url.options())?;
        // For whoever makes a channel of it; a bad one is found here already.
        balancer(url.options())?;
        let views = Views::take(url.options())?;
        // A fixed list takes no registrations.
        let register = match backend {
            Backend::BuiltIn(Scheme::Static) => RegisterOptions::default(),
            _ => RegisterOptions::from_url(url.options())?,
        };
        // Without hosts the path says where the registry is, for a fixed list and for a scheme of the program's own.
        let service = match (backend, url.hosts()) {
            (Backend::BuiltIn(Scheme::Static) | Backend::Own(_), []) => None,
            _ => url.take_service()?,
        };
        Ok(Self { reflector, register, views, service })
    }

    fn apply(self, handle: RegistryHandle) -> RegistryHandle {
        let handle = handle.with_reflector_config(self.reflector);
        let handle = self.views.apply(handle.with_register_options(self.register));
        match self.service {
            Some(service) => handle.with_default_service(service),
            None => handle,
        }
    }
}

/// Whether the error is there because a balancer's own options were joined by `&`, and so taken for the
/// registry's: whether the balancer that the URL names takes what follows it.
fn is_torn(url: &str, error: &Error) -> bool {
    let about =
        error.message().starts_with("unknown option") || error.context("balancer").is_some();
    let mut pairs = url.split_once('?').map_or("", |(_, query)| query).split('&');
    let Some(mut spec) = pairs.find_map(|pair| pair.strip_prefix("balancer=")).map(str::to_owned)
    else {
        return false;
    };
    about
        && spec.contains('?')
        && pairs.take(16).any(|next| {
            spec = format!("{spec}&{next}");
            // As it would be in the URL.
            let joined =
                RegistryUrl::parse(&format!("static:x?balancer={}", spec.replace('&', "%26")));
            joined.is_ok_and(|mut joined| balancer(joined.options()).is_ok())
        })
}

async fn built_in(scheme: Scheme, mut url: RegistryUrl) -> Result<RegistryHandle, Error> {
    Ok(match scheme {
        Scheme::Memory => {
            let name = memory_name(&url)?;
            url.options().finish()?;
            RegistryHandle::new(MemoryRegistry::shared(&name))
        }
        Scheme::Static => fixed(url)?,
        #[cfg(feature = "consul")]
        Scheme::Consul => {
            let config = fleetward_consul::ConsulConfig::from_url(url)?;
            RegistryHandle::new(fleetward_consul::ConsulRegistry::connect(config).await?)
        }
        #[cfg(not(feature = "consul"))]
        Scheme::Consul => return Err(Error::invalid_input("built without consul")),
        #[cfg(feature = "etcd")]
        Scheme::Etcd => {
            let config = fleetward_etcd::EtcdConfig::from_url(url)?;
            RegistryHandle::new(fleetward_etcd::EtcdRegistry::connect(config).await?)
        }
        #[cfg(not(feature = "etcd"))]
        Scheme::Etcd => return Err(Error::invalid_input("built without etcd")),
    })
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

/// The balancer that a URL names.
pub(crate) fn balancer(options: &mut Options) -> Result<Option<Arc<dyn Balancer>>, Error> {
    let spec = options.take("balancer")?;
    spec.map(|spec| fleetward_balancers::by_name_in_url(&spec)).transpose()
}

fn reflector_config(options: &mut Options) -> Result<ReflectorConfig, Error> {
    let config = ReflectorConfig::default();
    Ok(match options.take("empty_set")?.as_deref() {
        None => config,
        Some("hold") => config.with_empty_set(EmptySetPolicy::Hold),
        Some("honour" | "honor") => config.with_empty_set(EmptySetPolicy::Honour),
        Some(text) => {
            let hold: humantime::Duration = text.parse().map_err(|_| {
                Error::invalid_input("the option is hold, honour, or how long to hold, as in 60s")
                    .with_context("option", "empty_set")
            })?;
            config.with_empty_set(EmptySetPolicy::HoldFor(hold.into()))
        }
    })
}

/// `memory:` and `memory://name/`: the host part tells registries in one process apart.
fn memory_name(url: &RegistryUrl) -> Result<String, Error> {
    match (url.hosts(), url.path()) {
        ([], "") => Ok(String::new()),
        ([name], "") if url.username().is_none() => Ok(name.clone()),
        _ => Err(Error::invalid_input(
            "a memory URL is memory:, memory:service or memory://name/service",
        )),
    }
}

/// `static:a:1,b:2`, or `static://a:1,b:2/greeter`, whose service's name has been taken.
fn fixed(mut url: RegistryUrl) -> Result<RegistryHandle, Error> {
    url.options().finish()?;
    let addresses = match url.hosts() {
        [] => url.path().split(',').map(str::to_owned).collect(),
        hosts => hosts.to_vec(),
    };
    let mut instances = Vec::new();
    for (place, address) in addresses.iter().enumerate().filter(|(_, a)| !a.is_empty()) {
        let instance = Instance::new(address.as_str());
        instances.push(instance.map_err(|error| error.with_context("no.", place + 1))?);
    }
    if instances.is_empty() {
        return Err(Error::invalid_input(
            "the list is empty; write static:127.0.0.1:3000,127.0.0.1:3001",
        ));
    }
    let service = ServiceName::new("static")?;
    let list = FixedInstancer::new(service.as_str(), instances);
    Ok(RegistryHandle::fixed(Arc::new(list)).with_default_service(service))
}
