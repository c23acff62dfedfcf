//! The traits and shared machinery of fleetward: reflector, keeper, endpointer, retry
