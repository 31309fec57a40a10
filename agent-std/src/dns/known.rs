//! The results of look-ups, for as long as one query is answered.

use std::{
    net::IpAddr,
    ops::ControlFlow,
    time::{SystemTime, UNIX_EPOCH},
};

use agent_core::{
    checks::Health,
    dns::{Address, Directory, Found, Instance, Lookup, Pairs},
};

/// One instance or node, owned. Fields as in [`Instance`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Node name.
    pub node: String,
    /// Service name; empty for a node.
    pub service: String,
    /// Datacenter; empty: the one asked for.
    pub datacenter: String,
    /// The node's address.
    pub address: HostAddress,
    /// The service's own address.
    pub service_address: HostAddress,
    /// Port.
    pub port: u16,
    /// SRV weight while passing and while warning.
    pub weights: (u16, u16),
    /// Worst check.
    pub health: Health,
    /// TTL in seconds that overrides the settings.
    pub ttl: Option<u32>,
    /// Node metadata.
    pub meta: Vec<(String, String)>,
}

impl Row {
    /// The row as the core sees it.
    pub fn instance(&self) -> Instance<'_> {
        Instance {
            node: &self.node,
            service: &self.service,
            datacenter: &self.datacenter,
            address: self.address.as_core(),
            service_address: self.service_address.as_core(),
            port: self.port,
            weights: self.weights,
            health: self.health,
            ttl: self.ttl,
            meta: self,
        }
    }
}

impl Pairs for Row {
    fn each(&self, visit: &mut dyn FnMut(&str, &str)) {
        self.meta.iter().for_each(|(key, value)| visit(key, value));
    }
}

/// An address as people register it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HostAddress {
    /// Not given.
    #[default]
    None,
    /// An IP address.
    Ip(IpAddr),
    /// A host name.
    Name(String),
}

impl From<String> for HostAddress {
    fn from(text: String) -> Self {
        match text.parse() {
            Ok(ip) => HostAddress::Ip(ip),
            Err(_) if text.is_empty() => HostAddress::None,
            Err(_) => HostAddress::Name(text),
        }
    }
}

impl HostAddress {
    fn as_core(&self) -> Address<'_> {
        match self {
            HostAddress::None => Address::None,
            HostAddress::Ip(ip) => Address::Ip(*ip),
            HostAddress::Name(name) => Address::Name(name),
        }
    }
}

/// What has been looked up for one query; the rest is the source's.
pub struct Known<'a> {
    rows: Vec<(Lookup, Option<Vec<Row>>)>,
    rest: &'a (dyn Directory + Sync),
}

impl<'a> Known<'a> {
    /// Nothing yet.
    pub fn new(rest: &'a (dyn Directory + Sync)) -> Self {
        Known { rows: Vec::new(), rest }
    }

    /// Remembers a result; `None`: no such name.
    pub fn learn(&mut self, lookup: Lookup, rows: Option<Vec<Row>>) {
        self.rows.push((lookup, rows));
    }
}

impl Directory for Known<'_> {
    fn find(&self, lookup: &Lookup, visit: &mut dyn FnMut(Instance<'_>) -> ControlFlow<()>) -> Found {
        let Some((_, rows)) = self.rows.iter().find(|(known, _)| known == lookup) else {
            return self.rest.find(lookup, visit);
        };
        let Some(rows) = rows else { return Found::No };
        for row in rows {
            if visit(row.instance()).is_break() {
                break;
            }
        }
        Found::Yes
    }

    fn serial(&self) -> u32 {
        // Seconds since 1970; wraps in 2106 as serials may (RFC 1982).
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_secs() as u32)
    }
}
