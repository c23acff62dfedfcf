//! Pluggable service discovery and client-side load balancing.
