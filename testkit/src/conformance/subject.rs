//! What the suite has to be told about a backend.

use std::fmt;
use std::net::SocketAddr;

use fleetward_core::discovery::Source;
use fleetward_core::registration::Registry;
use fleetward_core::{Instance, InstanceId, ServiceName};

use super::{Capabilities, Capability};

/// A backend under test, in a namespace of its own: each case gets a new subject.
///
/// The first two methods are all that a backend needs to be tested. The others are hooks: what a
/// test can only do with help. Each goes with a [`Capability`], and is called only if
/// [`capabilities`](Self::capabilities) has that.
///
/// Whatever fails in a hook may panic: it fails the test.
pub trait Subject: Send + Sync + 'static {
    /// The backend. One that only reads is put into a [`ReadOnly`](super::ReadOnly).
    type Backend: Source + Registry + fmt::Debug;

    /// What the backend can do.
    fn capabilities(&self) -> Capabilities;

    /// A new client, with nothing in common with earlier ones but the registry it talks to.
    fn open(&self) -> impl Future<Output = Self::Backend> + Send;

    /// Puts an instance into the registry, or changes it, where the backend cannot register:
    /// without [`Capability::Register`].
    fn put(&self, service: &ServiceName, instance: &Instance) -> impl Future<Output = ()> + Send {
        let _ = (service, instance);
        missing("put", None)
    }

    /// Takes an instance out of the registry: without [`Capability::Register`].
    fn remove(
        &self,
        service: &ServiceName,
        instance: &Instance,
    ) -> impl Future<Output = ()> + Send {
        let _ = (service, instance);
        missing("remove", None)
    }

    /// Writes an entry of the service past the backend, as somebody would by hand. The key is one
    /// of `a` to `z`; write below it, or with it in the name. [`Capability::RawWrites`].
    fn write_raw(
        &self,
        service: &ServiceName,
        key: &str,
        value: &[u8],
    ) -> impl Future<Output = ()> + Send {
        let _ = (service, key, value);
        missing("write_raw", Some(Capability::RawWrites))
    }

    /// Deletes what [`write_raw`](Self::write_raw) wrote. [`Capability::RawWrites`].
    fn delete_raw(&self, service: &ServiceName, key: &str) -> impl Future<Output = ()> + Send {
        let _ = (service, key);
        missing("delete_raw", Some(Capability::RawWrites))
    }

    /// The value that somebody would write by hand for an instance. [`Capability::RawWrites`].
    fn encoded(&self, instance: &Instance) -> Vec<u8> {
        let _ = instance;
        panic!("{}", message("encoded", Some(Capability::RawWrites)))
    }

    /// The service's keys in the registry, asked past the backend. [`Capability::Keys`].
    fn keys(&self, service: &ServiceName) -> impl Future<Output = Vec<String>> + Send {
        let _ = service;
        async { panic!("{}", message("keys", Some(Capability::Keys))) }
    }

    /// Takes the lease away behind the backend's back: when this returns the instance is not in
    /// the registry any more, and whoever renews the lease is told so.
    /// [`Capability::LoseLease`].
    fn lose_lease(
        &self,
        service: &ServiceName,
        id: &InstanceId,
    ) -> impl Future<Output = ()> + Send {
        let _ = (service, id);
        missing("lose_lease", Some(Capability::LoseLease))
    }

    /// Ends every watch that is open, and lets new ones begin; connections may end with them.
    /// [`Capability::KillWatches`].
    fn kill_watches(&self) -> impl Future<Output = ()> + Send {
        missing("kill_watches", Some(Capability::KillWatches))
    }

    /// Stops the server. [`Capability::Restart`].
    fn stop(&self) -> impl Future<Output = ()> + Send {
        missing("stop", Some(Capability::Restart))
    }

    /// Starts the server again, and waits until it answers. [`Capability::Restart`].
    fn start(&self) -> impl Future<Output = ()> + Send {
        missing("start", Some(Capability::Restart))
    }

    /// Where the server listens. [`Capability::Proxy`].
    fn address(&self) -> SocketAddr {
        panic!("{}", message("address", Some(Capability::Proxy)))
    }

    /// As [`open`](Self::open), but with all connections to `address` instead.
    /// [`Capability::Proxy`].
    fn open_at(&self, address: SocketAddr) -> impl Future<Output = Self::Backend> + Send {
        let _ = address;
        async { panic!("{}", message("open_at", Some(Capability::Proxy))) }
    }
}

async fn missing(hook: &'static str, capability: Option<Capability>) {
    panic!("{}", message(hook, capability))
}

fn message(hook: &str, capability: Option<Capability>) -> String {
    match capability {
        Some(capability) => {
            format!("the subject's capabilities have {capability:?}, so it must write `{hook}`")
        }
        None => format!("a backend that does not register needs the subject's `{hook}`"),
    }
}
