//! DNS answers per second and core, without sockets: `cargo bench -p agent-core --bench dns`.

#![allow(missing_docs)]

use core::{net::Ipv4Addr, ops::ControlFlow};
use std::time::{Duration, Instant};

use agent_core::{
    dns::{Address, Directory, Found, Instance, Kind, Lookup, Outcome, Rules, Transport, respond},
    rand::Rng,
};

/// `svcN` has N instances, and every node exists.
struct Catalog(Vec<String>);

impl Directory for Catalog {
    fn find(&self, lookup: &Lookup, visit: &mut dyn FnMut(Instance<'_>) -> ControlFlow<()>) -> Found {
        let count = match lookup.kind() {
            Kind::Node => 1,
            Kind::Service => lookup.name().strip_prefix("svc").and_then(|digits| digits.parse().ok()).unwrap_or(0),
            _ => 0,
        };
        for (number, node) in self.0.iter().take(count).enumerate() {
            let address = Address::Ip(Ipv4Addr::from_bits(0x0a00_0001 + number as u32).into());
            if visit(Instance { port: 8000, ..Instance::new(node, address) }).is_break() {
                break;
            }
        }
        if count == 0 { Found::No } else { Found::Yes }
    }
}

fn question(name: &str, kind: u8, edns: Option<u16>) -> Vec<u8> {
    let mut out = vec![0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    for label in name.split('.') {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.extend([0, 0, kind, 0, 1]);
    if let Some(size) = edns {
        out.extend([0, 0, 41]);
        out.extend(size.to_be_bytes());
        out.extend([0; 6]);
    }
    out
}

fn main() {
    let catalog = Catalog((0..100).map(|number| format!("node{number}")).collect());
    let rules = Rules::new("consul", "dc1");
    let mut rng = Rng::from_seed(&[1; 32]);
    let mut out = [0; 4096];
    for (label, name, kind, edns) in [
        ("node A", "node7.node.consul", 1, None),
        ("SRV 1", "svc1.service.consul", 33, None),
        ("SRV 10", "svc10.service.consul", 33, None),
        ("SRV 100", "svc100.service.consul", 33, None),
        ("SRV 100 EDNS 4096", "svc100.service.consul", 33, Some(4096)),
        ("A 100", "svc100.service.consul", 1, None),
        ("A 100 EDNS 4096", "svc100.service.consul", 1, Some(4096)),
        ("NXDOMAIN", "nope.service.consul", 1, None),
    ] {
        let query = question(name, kind, edns);
        let (mut count, mut octets, start) = (0u32, 0, Instant::now());
        while start.elapsed() < Duration::from_millis(500) {
            for _ in 0..200 {
                match respond(&rules, &catalog, &query, Transport::Udp, &mut rng, &mut out) {
                    Outcome::Reply(len) => octets = len,
                    other => panic!("{other:?}"),
                }
                count += 1;
            }
        }
        let each = start.elapsed().as_secs_f64() / f64::from(count);
        println!("{label:18} {:9.0} answers/s  {:7.2} µs  {octets} octets", 1.0 / each, each * 1e6);
    }
}
