//! DNS answers for the cluster's zone, as a pure function over a directory.
//!
//! [`respond`] takes a query and a [`Directory`], and writes the reply. It does not know who answers: a device's own
//! tables, a client's look-ups or a server's state store. A directory that has to ask somebody else says
//! [`Found::Ask`]; the caller keeps the query, does the look-up that [`Outcome::Ask`] names, and calls [`respond`]
//! again with the same query and a directory that knows now. Only an answer that follows an alias inside the zone can
//! ask more than once, at most four times.
//!
//! `name.rs` says what a name asks for, `answer.rs` which records that gives; octets are [`crate::wire::dns`]'s.
//! Behaviour is Consul 1.8.7's unless a comment says otherwise (dns spec).

use core::{net::IpAddr, ops::ControlFlow};

use crate::{checks::Health, wire::ip};

mod answer;
mod name;

pub use answer::{fail, respond};
pub use name::{Kind, Lookup};

/// Settings of the answers (Consul `dns_config`, defaults of dns spec §9).
#[derive(Clone, Copy, Debug)]
pub struct Rules<'m> {
    /// Zone without dots at its ends, e.g. `consul`.
    pub domain: &'m str,
    /// A second zone that is answered like the first; empty: none.
    pub alt_domain: &'m str,
    /// This agent's datacenter.
    pub datacenter: &'m str,
    /// TTL in seconds of node, address and NS records.
    pub node_ttl: u32,
    /// TTL in seconds by service name; a name that ends in `*` is a prefix. The exact name wins, then the longest
    /// prefix. None fits: 0.
    pub service_ttl: &'m [(&'m str, u32)],
    /// Leave out instances with a warning.
    pub only_passing: bool,
    /// Set TC when answers were left out, so that the asker comes back by TCP. Consul's default is to say nothing.
    pub enable_truncate: bool,
    /// Answers in a UDP reply of at most 512 octets; more than 8 counts as 8.
    pub udp_answer_limit: u16,
    /// Address answers in any reply; 0: no limit.
    pub a_record_limit: u16,
    /// Add node metadata as TXT records to addresses of nodes.
    pub node_meta_txt: bool,
    /// Compress names. Turned off only for askers that cannot read it.
    pub compress: bool,
    /// Whether the caller forwards what is not ours ([`Outcome::Recurse`]).
    pub recursors: bool,
    /// SOA record.
    pub soa: Soa,
}

impl<'m> Rules<'m> {
    /// Consul's defaults for a zone and a datacenter.
    pub const fn new(domain: &'m str, datacenter: &'m str) -> Self {
        Rules {
            domain,
            alt_domain: "",
            datacenter,
            node_ttl: 0,
            service_ttl: &[],
            only_passing: false,
            enable_truncate: false,
            udp_answer_limit: 3,
            a_record_limit: 0,
            node_meta_txt: true,
            compress: true,
            recursors: false,
            soa: Soa { refresh: 3600, retry: 600, expire: 86_400, min_ttl: 0 },
        }
    }

    /// TTL of a service's records, in seconds.
    pub(crate) fn ttl_of(&self, service: &str) -> u32 {
        let mut best: Option<(usize, u32)> = None;
        for &(pattern, ttl) in self.service_ttl {
            let rank = match pattern.strip_suffix('*') {
                Some(prefix) if service.starts_with(prefix) => prefix.len(),
                None if service == pattern => usize::MAX,
                _ => continue,
            };
            if best.is_none_or(|(known, _)| rank > known) {
                best = Some((rank, ttl));
            }
        }
        best.map_or(0, |(_, ttl)| ttl)
    }
}

/// Times of the SOA record, in seconds (Consul `dns_config.soa`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Soa {
    /// How often a secondary looks for changes.
    pub refresh: u32,
    /// How soon it tries again.
    pub retry: u32,
    /// When it gives up.
    pub expire: u32,
    /// How long an absent name may be remembered; also the record's own TTL.
    pub min_ttl: u32,
}

/// How the query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Limits depend on the query's EDNS.
    Udp,
    /// Up to 65,523 octets.
    Tcp,
}

/// Who knows which instances stand behind a name.
pub trait Directory {
    /// Calls `visit` for every instance that `lookup` names until it says `Break`. Health and choice are not the
    /// directory's business, with one exception: a prepared query's instances come filtered and in the order wanted.
    ///
    /// [`respond`] may look the same thing up several times; the order must not change in between. It begins at a
    /// random instance, so every instance is first equally often; a directory that can shuffle cheaply does better.
    fn find(&self, lookup: &Lookup, visit: &mut dyn FnMut(Instance<'_>) -> ControlFlow<()>) -> Found;

    /// Serial of the zone's SOA record; grows with changes. Consul gives the time in seconds since 1970.
    fn serial(&self) -> u32 {
        1
    }
}

/// What a directory says about a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// All instances were visited, or `visit` stopped it.
    Yes,
    /// There is no such name, or no such datacenter.
    No,
    /// Somebody else must be asked first.
    Ask,
}

/// One instance of a service, or a node.
#[derive(Clone, Copy)]
pub struct Instance<'a> {
    /// Node name.
    pub node: &'a str,
    /// Service name; empty for a node. Decides the TTL of a prepared query and what a reverse look-up names.
    pub service: &'a str,
    /// Datacenter; empty: the one asked for.
    pub datacenter: &'a str,
    /// The node's address.
    pub address: Address<'a>,
    /// The service's own address.
    pub service_address: Address<'a>,
    /// The service's port.
    pub port: u16,
    /// SRV weight while passing and while warning.
    pub weights: (u16, u16),
    /// The worst of the node's and the service's checks.
    pub health: Health,
    /// TTL in seconds that overrides the rules (a prepared query's).
    pub ttl: Option<u32>,
    /// Node metadata.
    pub meta: &'a dyn Pairs,
}

impl<'a> Instance<'a> {
    /// A passing node or instance with nothing but a name and an address.
    pub const fn new(node: &'a str, address: Address<'a>) -> Self {
        Instance {
            node,
            service: "",
            datacenter: "",
            address,
            service_address: Address::None,
            port: 0,
            weights: (1, 1),
            health: Health::Passing,
            ttl: None,
            meta: &NO_PAIRS,
        }
    }

    /// Where the instance is reached: its service's address, or else its node's.
    pub fn reach(&self) -> Address<'a> {
        match self.service_address {
            Address::None => self.address,
            own => own,
        }
    }
}

/// An address as people register it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address<'a> {
    /// Not given.
    None,
    /// An IP address.
    Ip(IpAddr),
    /// A host name.
    Name(&'a str),
}

impl<'a> Address<'a> {
    /// Reads a registered address.
    pub fn parse(text: &'a str) -> Self {
        match ip::parse(text) {
            Some(ip) => Address::Ip(ip),
            None if text.is_empty() => Address::None,
            None => Address::Name(text),
        }
    }
}

/// Key and value texts, however they are stored.
pub trait Pairs {
    /// Visits all pairs.
    fn each(&self, visit: &mut dyn FnMut(&str, &str));
}

impl Pairs for &[(&str, &str)] {
    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        self.iter().for_each(|&(key, value)| visit(key, value));
    }
}

/// No metadata.
pub const NO_PAIRS: &[(&str, &str)] = &[];

/// What became of a query.
#[derive(Clone, Debug)]
#[must_use]
#[allow(clippy::large_enum_variant)] // no heap to box it on, and it lives for one call
pub enum Outcome {
    /// The reply is the first octets of the buffer.
    Reply(usize),
    /// The directory must first look this up.
    Ask(Lookup),
    /// Not ours: a recursor's business. Only when [`Rules::recursors`] is set.
    Recurse,
    /// Say nothing.
    Drop,
}
