//! The one handle of a registry.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::discovery::reflector::WeakReflector;
use crate::discovery::view::Lens;
use crate::discovery::{Reflector, ReflectorConfig, Source, View};
use crate::registration::{Keeper, Registrar, Registry};
use crate::{
    Error, ErrorKind, Instance, Instancer, RegisterOptions, Registration, ServiceName, Subscription,
};

/// A registry, whatever is behind it: services are looked up and registered through it.
///
/// Make one for a registry and clone it freely. **Each service is followed once**, however many
/// ask for it and through however many clones, and no longer than somebody uses it.
///
/// ```
/// # use std::fmt::Debug;
/// use fleetward_core::{Error, Instance, Instancer, RegistryHandle};
/// use fleetward_core::discovery::Source;
/// use fleetward_core::registration::Registry;
/// async fn use_it<B: Source + Registry + Debug>(backend: B) -> Result<(), Error> {
///     let registry = RegistryHandle::new(backend);
///     let greeters = registry.service("greeter")?;
///     let registration = registry.register("greeter", Instance::new("10.0.0.1:8080")?).await?;
///     println!("{} instances", greeters.subscribe().current().instances.len());
///     registration.deregister().await
/// }
/// ```
#[derive(Clone)]
pub struct RegistryHandle {
    shared: Arc<HandleParts>,
    default_service: Option<ServiceName>,
}

/// What all clones of a handle have in common. Every view that was given out keeps it alive, so
/// that a handle found again by [`WeakRegistryHandle`] knows of every view in use.
struct HandleParts {
    discovery: Discovery,
    registrar: Option<Arc<dyn Registrar>>,
    config: Config,
    followed: Mutex<HashMap<ServiceName, (WeakReflector, Arc<Lens>)>>,
    /// What a fixed set is seen through.
    lens: Arc<Lens>,
}

/// What is given out for a service.
type Following = (Reflector, Arc<Lens>);

/// A reflector owns the source and the views, which are the user's: it is never started or dropped under the lock.
impl HandleParts {
    /// The map. Nothing leaves it half changed, so a poisoned lock is whole.
    fn followed(&self) -> MutexGuard<'_, HashMap<ServiceName, (WeakReflector, Arc<Lens>)>> {
        self.followed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Nothing also where one is left whose runtime has ended.
    fn following(&self, name: &ServiceName) -> Option<Following> {
        let known = self.followed().get(name).cloned();
        let (reflector, lens) = known?;
        Some((reflector.upgrade().filter(Reflector::is_running)?, lens))
    }

    /// Of two who ask at once, both get the one that was noted first.
    fn follow(&self, name: ServiceName, reflector: Reflector, lens: Arc<Lens>) -> Following {
        let mut left = Vec::new();
        let mut followed = self.followed();
        let known = followed.get(&name).cloned();
        let earlier = known.and_then(|(known, lens)| Some((known.upgrade()?, lens)));
        let is_running = earlier.as_ref().is_some_and(|(earlier, _)| earlier.is_running());
        if !is_running {
            let gone = followed.extract_if(|_, (known, _)| !known.is_alive());
            left.extend(gone);
            left.extend(
                followed
                    .insert(name.clone(), (reflector.downgrade(), lens.clone()))
                    .map(|replaced| (name, replaced)),
            );
        }
        drop(followed);
        drop(left);
        earlier.filter(|_| is_running).unwrap_or((reflector, lens))
    }
}

/// How services are followed, what is shown of them, and how instances are registered.
#[derive(Clone, Default)]
struct Config {
    reflector: ReflectorConfig,
    register: RegisterOptions,
    views: Vec<Arc<dyn View>>,
}

impl Config {
    fn lens(&self) -> Arc<Lens> {
        Arc::new(Lens::new(Arc::new(self.views.clone())))
    }
}

#[derive(Clone)]
enum Discovery {
    Source(Arc<dyn Reflect>),
    Fixed(Arc<dyn Instancer>),
}

impl RegistryHandle {
    /// A registry that is read and written.
    pub fn new<B: Source + Registry + fmt::Debug>(backend: B) -> Self {
        let backend = Arc::new(backend);
        let registrar: Arc<dyn Registrar> = Arc::new(Keeper::new(backend.clone()));
        Self::over(Discovery::Source(Arc::new(Reflected(backend)))).with_registrar(registrar)
    }

    /// A registry that is only read, such as DNS or a file.
    pub fn discovery_only<S: Source + fmt::Debug>(source: S) -> Self {
        Self::over(Discovery::Source(Arc::new(Reflected(Arc::new(source)))))
    }

    /// No registry: `instancer` (a [`FixedInstancer`](crate::discovery::FixedInstancer), say) is the answer
    /// for every service.
    pub fn fixed(instancer: Arc<dyn Instancer>) -> Self {
        Self::over(Discovery::Fixed(instancer))
    }

    fn over(discovery: Discovery) -> Self {
        Self::of(discovery, None, Config::default(), None)
    }

    fn of(
        discovery: Discovery,
        registrar: Option<Arc<dyn Registrar>>,
        config: Config,
        default_service: Option<ServiceName>,
    ) -> Self {
        let (lens, followed) = (config.lens(), Mutex::default());
        let shared = HandleParts { discovery, registrar, config, followed, lens };
        Self { shared: Arc::new(shared), default_service }
    }

    /// Registers through `registrar` instead of what the backend offers. The result shares nothing
    /// with older clones.
    #[must_use]
    pub fn with_registrar(self, registrar: Arc<dyn Registrar>) -> Self {
        let config = self.shared.config.clone();
        let discovery = self.shared.discovery.clone();
        Self::of(discovery, Some(registrar), config, self.default_service)
    }

    /// Sets how services are followed. The result shares nothing with older clones.
    #[must_use]
    pub fn with_reflector_config(self, config: ReflectorConfig) -> Self {
        let config = Config { reflector: config, ..self.shared.config.clone() };
        self.with_config(config)
    }

    /// Sets what [`register`](Self::register) registers with. The result shares nothing with older
    /// clones.
    #[must_use]
    pub fn with_register_options(self, options: RegisterOptions) -> Self {
        let config = Config { register: options, ..self.shared.config.clone() };
        self.with_config(config)
    }

    /// What [`register`](Self::register) registers with: the default, or what the URL or
    /// [`with_register_options`](Self::with_register_options) says.
    pub fn register_options(&self) -> RegisterOptions {
        self.shared.config.register.clone()
    }

    /// Shows of each service only the instances that `view` chooses, of those that the views given
    /// before have left. The result shares nothing with older clones. What is registered is not
    /// affected.
    ///
    /// ```
    /// # use std::fmt::Debug;
    /// # use fleetward_core::{Error, RegistryHandle};
    /// # use fleetward_core::discovery::{Filter, Source};
    /// # use fleetward_core::registration::Registry;
    /// # fn use_it<B: Source + Registry + Debug>(backend: B) -> Result<(), Error> {
    /// let registry = RegistryHandle::new(backend).with_view(Filter::zone("eu-1a").or_all());
    /// let greeters = registry.service("greeter")?; // those of this zone, if there are any
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_view(self, view: impl View) -> Self {
        let mut config = self.shared.config.clone();
        config.views.push(Arc::new(view));
        self.with_config(config)
    }

    fn with_config(self, config: Config) -> Self {
        let (discovery, registrar) = (self.shared.discovery.clone(), self.shared.registrar.clone());
        Self::of(discovery, registrar, config, self.default_service)
    }

    /// The same handle, without keeping anything of it in use.
    pub fn downgrade(&self) -> WeakRegistryHandle {
        let default_service = self.default_service.clone();
        WeakRegistryHandle { shared: Arc::downgrade(&self.shared), default_service }
    }

    /// Sets the service that the registry's URL names.
    #[must_use]
    pub fn with_default_service(mut self, service: ServiceName) -> Self {
        self.default_service = Some(service);
        self
    }

    /// The service that the registry's URL names, if any.
    pub fn default_service(&self) -> Option<&ServiceName> {
        self.default_service.as_ref()
    }

    /// The live view of a service. Never waits; the first to ask starts the watch.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a bad name,
    /// [`Unsupported`](ErrorKind::Unsupported) outside a tokio runtime.
    pub fn service<N>(&self, name: N) -> Result<Arc<dyn Instancer>, Error>
    where
        N: TryInto<ServiceName>,
        Error: From<N::Error>,
    {
        let name = name.try_into()?;
        let views = &self.shared.config.views;
        let source = match &self.shared.discovery {
            Discovery::Fixed(instancer) if views.is_empty() => return Ok(instancer.clone()),
            Discovery::Fixed(instancer) => {
                let (inner, lens) = (instancer.clone(), Some(self.shared.lens.clone()));
                return Ok(Arc::new(Followed { inner, lens, _shared: self.shared.clone() }));
            }
            Discovery::Source(source) => source,
        };
        let (inner, lens) = match self.shared.following(&name) {
            Some(known) => known,
            None => {
                let config = &self.shared.config;
                let reflector = source.reflect(name.clone(), config.reflector.clone())?;
                self.shared.follow(name, reflector, config.lens())
            }
        };
        let lens = (!views.is_empty()).then_some(lens);
        Ok(Arc::new(Followed { inner, lens, _shared: self.shared.clone() }))
    }

    /// Registers an instance with the handle's [`RegisterOptions`].
    ///
    /// # Errors
    /// As [`register_with`](Self::register_with).
    pub async fn register<N>(&self, name: N, instance: Instance) -> Result<Registration, Error>
    where
        N: TryInto<ServiceName>,
        Error: From<N::Error>,
    {
        self.register_with(name, instance, self.register_options()).await
    }

    /// Registers an instance, and keeps it registered until the [`Registration`] is deregistered
    /// or dropped.
    ///
    /// # Errors
    /// [`InvalidInput`](ErrorKind::InvalidInput) for a bad name or option,
    /// [`Unsupported`](ErrorKind::Unsupported) for a registry that is only read, else why the first
    /// attempt failed; see [`Registrar::register`].
    pub async fn register_with<N>(
        &self,
        name: N,
        instance: Instance,
        options: RegisterOptions,
    ) -> Result<Registration, Error>
    where
        N: TryInto<ServiceName>,
        Error: From<N::Error>,
    {
        let name = name.try_into()?;
        let Some(registrar) = &self.shared.registrar else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "this registry is only read; register through one that is written, such as etcd \
                 or memory, or give the handle a registrar",
            )
            .with_operation("register")
            .with_context("service", name));
        };
        registrar.register(&name, instance, options).await
    }
}

impl fmt::Debug for RegistryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("RegistryHandle");
        match &self.shared.discovery {
            Discovery::Source(source) => debug.field("source", source),
            Discovery::Fixed(instancer) => debug.field("fixed", instancer),
        };
        debug
            .field("registers", &self.shared.registrar.is_some())
            .field("views", &self.shared.config.views.len())
            .field("default_service", &self.default_service)
            .finish_non_exhaustive()
    }
}

/// A [`RegistryHandle`] that keeps nothing in use: it can be had back while any clone of the handle,
/// any view from it or any subscription to one lives.
#[derive(Clone)]
pub struct WeakRegistryHandle {
    shared: Weak<HandleParts>,
    default_service: Option<ServiceName>,
}

impl WeakRegistryHandle {
    /// The handle, while anything of it is in use.
    pub fn upgrade(&self) -> Option<RegistryHandle> {
        let default_service = self.default_service.clone();
        self.shared.upgrade().map(|shared| RegistryHandle { shared, default_service })
    }
}

impl WeakRegistryHandle {
    /// Whether [`upgrade`](Self::upgrade) would give the handle.
    pub fn is_alive(&self) -> bool {
        self.shared.strong_count() > 0
    }
}

impl fmt::Debug for WeakRegistryHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("WeakRegistryHandle").field(&self.upgrade()).finish()
    }
}

/// What [`RegistryHandle::service`] gives out.
#[derive(Clone)]
struct Followed<I> {
    inner: I,
    /// The one of all who ask for this service, so that views are computed once for all of them.
    lens: Option<Arc<Lens>>,
    _shared: Arc<HandleParts>,
}

impl<I: Instancer + Clone + 'static> Instancer for Followed<I> {
    fn subscribe(&self) -> Subscription {
        let subscription = self.inner.subscribe();
        let subscription = match &self.lens {
            Some(lens) => lens.over(subscription),
            None => subscription,
        };
        subscription.guarded(Arc::new(self.clone()))
    }
}

impl<I: fmt::Debug> fmt::Debug for Followed<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

/// A source whose cursor type is forgotten.
trait Reflect: Send + Sync + fmt::Debug {
    fn reflect(&self, service: ServiceName, config: ReflectorConfig) -> Result<Reflector, Error>;
}

struct Reflected<S>(Arc<S>);

impl<S: Source + fmt::Debug> Reflect for Reflected<S> {
    fn reflect(&self, service: ServiceName, config: ReflectorConfig) -> Result<Reflector, Error> {
        Reflector::spawn(self.0.clone(), service, config)
    }
}

impl<S: fmt::Debug> fmt::Debug for Reflected<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

const _: () = {
    const fn shared<T: Send + Sync + Clone + 'static>() {}
    shared::<RegistryHandle>();
    shared::<Reflector>();
};
