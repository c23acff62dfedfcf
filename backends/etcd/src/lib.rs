//! etcd v3 as a registry for fleetward
