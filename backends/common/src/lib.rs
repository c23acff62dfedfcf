#![doc = include_str!("../README.md")]

pub mod clear_text;
pub mod rotation;
pub mod tls;
