//! Real servers, as child processes of the test.
//!
//! A server handle can do to its process what a bad day does: [`stop`](Etcd::stop) it politely,
//! [`kill`](Etcd::kill) it, [`pause`](Etcd::pause) it (connections stay open, nothing answers),
//! [`wipe`](Etcd::wipe) its data, and [`start_again`](Etcd::start_again) on the same ports and data
//! folder. [`Consul`] can do the same. Dropping the handle ends the process, paused or not, and removes its files.

mod binary;
mod consul;
mod etcd;
mod folder;
mod process;
mod tls;

pub use binary::{Server, require};
pub use consul::{Consul, ConsulBuilder, ConsulCluster};
pub use etcd::{Etcd, EtcdBuilder, EtcdCluster, EtcdVersion};
pub use tls::{Authority, Identity, Tls};
