//! embassy's clock as the core sees it, and addresses of the two sides.

use core::net::{IpAddr, SocketAddr};

use agent_core::time::Instant;
use embassy_net::{IpAddress, IpEndpoint};

/// Now, for the agent. Starts near zero with the board.
pub fn now() -> Instant {
    Instant::from_micros(embassy_time::Instant::now().as_micros())
}

/// The same point in embassy's clock.
pub(crate) fn to_embassy(at: Instant) -> embassy_time::Instant {
    embassy_time::Instant::from_micros(at.as_micros())
}

/// The same address for embassy-net; `None` for IPv6, which these boards do not speak.
pub(crate) fn endpoint(address: SocketAddr) -> Option<IpEndpoint> {
    match address.ip() {
        IpAddr::V4(ip) => Some(IpEndpoint::new(IpAddress::Ipv4(ip), address.port())),
        IpAddr::V6(_) => None,
    }
}

/// The same address for the core.
pub(crate) fn socket_addr(endpoint: IpEndpoint) -> SocketAddr {
    let IpAddress::Ipv4(ip) = endpoint.addr;
    SocketAddr::new(IpAddr::V4(ip), endpoint.port)
}
