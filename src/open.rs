//! From a URL to a registry.

use std::sync::Arc;

use fleetward_balancers::Balancers;
use fleetward_core::discovery::{EmptySetPolicy, FixedInstancer, ReflectorConfig};
use fleetward_core::registry::{Options, RegistryUrl};
use fleetward_core::{Balancer, Error, Instance, RegisterOptions, RegistryHandle, ServiceName};
use fleetward_memory::MemoryRegistry;
use futures::future::BoxFuture;

use crate::scheme::Scheme;
use crate::views::Views;

/// What opens a URL.
pub(crate) enum Backend {
    BuiltIn(Scheme),
    Own(Arc<Opener>),
}

/// Opens the URLs of a scheme of the program's own.
pub(crate) type Opener =
    dyn Fn(RegistryUrl) -> BoxFuture<'static, Result<RegistryHandle, Error>> + Send + Sync;

/// Opens a registry; `backend` finds what its scheme stands for.
pub(crate) async fn open(
    url: &str,
    balancers: &Balancers,
    backend: impl FnOnce(&str) -> Result<Backend, Error>,
) -> Result<RegistryHandle, Error> {
    let parsed = RegistryUrl::parse(url)?;
    let backend = backend(parsed.scheme())?;
    // The scheme is a known one here, so it is no secret in the wrong place.
    let shown = match parsed.hosts() {
        [] => format!("{}:…", parsed.scheme()),
        _ => parsed.to_string(),
    };
    // Boxed, for setting up TLS makes a future of 16 KiB.
    let handle: Result<_, Error> = Box::pin(async {
        let mut url = parsed;
        let common = Common::take(&mut url, balancers, &backend)?;
        let handle = match backend {
            Backend::Own(open) => open(url).await?,
            Backend::BuiltIn(scheme) => built_in(scheme, url).await?,
        };
        Ok(common.apply(handle))
    })
    .await;
    handle.map_err(|error| {
        let error = error.with_operation("connect").with_context("url", shown);
        match is_torn(url, balancers, &error) {
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
    fn take(
        url: &mut RegistryUrl,
        balancers: &Balancers,
        backend: &Backend,
    ) -> Result<Self, Error> {
        let reflector = reflector_config(url.options())?;
        // For whoever makes a channel of it; a bad one is found here already.
        balancer(url.options(), balancers)?;
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
fn is_torn(url: &str, balancers: &Balancers, error: &Error) -> bool {
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
            joined.is_ok_and(|mut joined| balancer(joined.options(), balancers).is_ok())
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

/// The balancer that a URL names.
pub(crate) fn balancer(
    options: &mut Options,
    balancers: &Balancers,
) -> Result<Option<Arc<dyn Balancer>>, Error> {
    let spec = options.take("balancer")?;
    spec.map(|spec| balancers.by_name_in_url(&spec)).transpose()
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
