//! Load balancing algorithms for fleetward, one module each
