//! The embedded registry of fleetward: a process-wide table with leases
