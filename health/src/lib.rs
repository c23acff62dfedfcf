#![doc = include_str!("../README.md")]

mod http;
mod target;
mod tcp;

pub use self::http::HttpProbe;
pub use self::tcp::TcpProbe;

const _: () = {
    const fn probe<T: fleetward_core::health::Probe<()> + Clone>() {}
    probe::<HttpProbe>();
    probe::<TcpProbe>();
};
