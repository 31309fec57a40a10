//! Loopback addresses and ports that nobody uses.
//!
//! Linux answers on all of 127.0.0.0/8. A cluster takes one /24 of its own, gives every agent an address in it, and
//! uses the same ports on all of them, because Consul agents expect each other's ports to be alike.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::atomic::{AtomicU32, Ordering},
};

use crate::Result;

/// The ports of an agent, Consul's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// HTTP API.
    pub http: u16,
    /// DNS, UDP and TCP.
    pub dns: u16,
    /// RPC and raft.
    pub server: u16,
    /// LAN gossip, UDP and TCP.
    pub serf_lan: u16,
    /// WAN gossip of servers.
    pub serf_wan: u16,
}

/// A /24 of loopback addresses with five free ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    prefix: [u8; 3],
    /// Free on all addresses that were asked for.
    pub ports: Ports,
}

impl Network {
    /// A network whose addresses 1 to `hosts` are free.
    ///
    /// # Errors
    ///
    /// When no tried network is free, which a machine with working loopback does not show.
    pub fn free(hosts: u8) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let mut problem = None;
        for _ in 0..100 {
            // Spread by process, so that test programs that run at the same time start at different places.
            let n = std::process::id().wrapping_mul(241).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
            let prefix = [127, 10 + (n / 250 % 200) as u8, (n % 250) as u8];
            match Ports::free(prefix, hosts) {
                Ok(ports) => return Ok(Network { prefix, ports }),
                Err(error) => problem = Some(error),
            }
        }
        Err(format!("no free loopback network: {problem:?}").into())
    }

    /// The address of host `n`, from 1.
    pub fn address(&self, n: u8) -> IpAddr {
        let [a, b, c] = self.prefix;
        IpAddr::V4(Ipv4Addr::new(a, b, c, n))
    }
}

impl Ports {
    fn free(prefix: [u8; 3], hosts: u8) -> std::io::Result<Self> {
        let [a, b, c] = prefix;
        // Kept open until all five are found, so that no port is found twice.
        let mut open = Vec::new();
        let mut found = [0u16; 5];
        for port in &mut found {
            let first = TcpListener::bind((Ipv4Addr::new(a, b, c, 1), 0))?;
            *port = first.local_addr()?.port();
            open.push(first);
            for host in 1..=hosts {
                let address = SocketAddr::from((Ipv4Addr::new(a, b, c, host), *port));
                UdpSocket::bind(address)?;
                if host > 1 {
                    TcpListener::bind(address)?;
                }
            }
        }
        let [http, dns, server, serf_lan, serf_wan] = found;
        Ok(Ports { http, dns, server, serf_lan, serf_wan })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_networks_share_no_address_and_five_ports_differ() {
        let (one, two) = (Network::free(3).unwrap(), Network::free(3).unwrap());
        assert_ne!(one.address(1), two.address(1));
        let Ports { http, dns, server, serf_lan, serf_wan } = one.ports;
        let mut all = [http, dns, server, serf_lan, serf_wan];
        all.sort_unstable();
        assert!(all.windows(2).all(|pair| pair[0] != pair[1]), "{all:?}");
        assert!(one.address(3).is_loopback());
    }
}
