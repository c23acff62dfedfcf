//! Real servers started for a test, and helpers that wait for a condition
