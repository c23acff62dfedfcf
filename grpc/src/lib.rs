//! A load-balanced, retrying channel for tonic clients
