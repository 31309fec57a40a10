//! The rules between settings, in Consul's order and words (config spec §5).

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::{Config, Listen, meta};

/// Settings that are checked but not kept.
pub(super) struct Old {
    /// As written.
    pub bootstrap_expect: i64,
    /// Only 2 and 3 exist.
    pub protocol: i64,
    /// Only 3 is left.
    pub raft_protocol: i64,
    /// Only `true`: we have no remote exec.
    pub disable_remote_exec: bool,
}

/// Checks everything and settles bootstrap mode.
pub(super) fn check(config: &mut Config, old: Old) -> Result<(), String> {
    names(config)?;
    if config.data_dir.is_none() && !config.dev {
        return Err("data_dir cannot be empty".to_owned());
    }
    if let Some(path) = config.data_dir.as_ref().filter(|path| path.exists() && !path.is_dir()) {
        return Err(format!("data_dir \"{}\" is not a directory", path.display()));
    }
    if config.advertise_addr.is_unspecified() {
        return Err("Advertise address cannot be 0.0.0.0, :: or [::]".to_owned());
    }
    if config.advertise_addr_wan.is_unspecified() {
        return Err("Advertise WAN address cannot be 0.0.0.0, :: or [::]".to_owned());
    }
    meta::check(&config.node_meta).map_err(|why| format!("node_meta invalid: {why}"))?;
    bootstrap(config, old.bootstrap_expect)?;
    if !(2..=3).contains(&old.protocol) {
        let kind = if old.protocol > 3 { "high" } else { "low" };
        return Err(format!("Protocol version '{}' too {kind}. Must be in range: [2, 3]", old.protocol));
    }
    if old.raft_protocol != 3 {
        return Err(format!("raft_protocol {} is not implemented yet by lictor: use 3", old.raft_protocol));
    }
    if config.serf_only && config.server {
        return Err("lictor.serf_only is for members without a catalog: leave server at false".to_owned());
    }
    if !old.disable_remote_exec {
        return Err("disable_remote_exec = false is not implemented yet by lictor: leave it at true".to_owned());
    }
    let scripts = config.enable_script_checks || config.enable_local_script_checks;
    let mut checks = config.services.iter().flat_map(|service| &service.checks).chain(&config.checks);
    if let Some(check) =
        checks.find(|check| matches!(check.kind, crate::definition::CheckKind::Script { .. }) && !scripts)
    {
        config.warnings.push(format!(
            "check {:?} runs a script, but scripts are disabled: set enable_local_script_checks to true",
            check.id
        ));
    }
    distinct(config)
}

fn names(config: &mut Config) -> Result<(), String> {
    let datacenter = &config.datacenter;
    if datacenter.is_empty() {
        return Err("datacenter cannot be empty".to_owned());
    }
    if !datacenter.bytes().all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_')) {
        return Err(format!("datacenter cannot be {datacenter:?}. Please use only [a-z0-9-_]"));
    }
    let first = config.alt_domain.split('.').next().unwrap_or_default();
    if ["service", "connect", "node", "query", "addr", datacenter].contains(&first) {
        return Err(format!("alt_domain cannot start with {{service,connect,node,query,addr,{datacenter}}}"));
    }
    let name = &config.node_name;
    if name.is_empty() {
        return Err("node_name cannot be empty".to_owned());
    }
    if !name.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'-') {
        config.warnings.push(format!(
            "Node name {name:?} will not be discoverable via DNS due to invalid characters. \
             Valid characters include all alpha-numerics and dashes."
        ));
    } else if name.len() > 63 {
        config.warnings.push(format!(
            "Node name {name:?} will not be discoverable via DNS due to it being too long. \
             Valid lengths are between 1 and 63 bytes."
        ));
    }
    if name.len() > 128 {
        return Err(format!("node_name is {} octets long: gossip carries at most 128", name.len()));
    }
    if let Some(id) = &config.node_id {
        node_id(id).map_err(|why| format!("failed to setup node ID: specified NodeID is invalid: {why}"))?;
    }
    Ok(())
}

/// Checks the form of a UUID, in the words of Consul's library.
pub(super) fn node_id(text: &str) -> Result<(), &'static str> {
    if text.len() != 36 {
        return Err("uuid string is wrong length");
    }
    let shape = text.bytes().enumerate().all(|(at, octet)| match at {
        8 | 13 | 18 | 23 => octet == b'-',
        _ => octet.is_ascii_hexdigit(),
    });
    if shape { Ok(()) } else { Err("uuid is improperly formatted") }
}

fn bootstrap(config: &mut Config, expect: i64) -> Result<(), String> {
    if expect < 0 {
        return Err(format!("bootstrap_expect cannot be {expect}. Must be greater than or equal to zero"));
    }
    // One expected server is bootstrap mode under another name, also beside `bootstrap`.
    let mut warnings = Vec::new();
    let expect = if expect == 1 {
        warnings.push("BootstrapExpect is set to 1; this is the same as Bootstrap mode.".to_owned());
        config.bootstrap = true;
        0
    } else {
        expect
    };
    if config.dev && expect > 0 {
        return Err("'bootstrap_expect > 0' not allowed in dev mode".to_owned());
    }
    if config.bootstrap && expect > 0 {
        return Err("'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive".to_owned());
    }
    if expect > 0 && !config.server {
        return Err("'bootstrap_expect > 0' requires 'server = true'".to_owned());
    }
    if config.bootstrap && !config.server {
        return Err("'bootstrap = true' requires 'server = true'".to_owned());
    }
    config.bootstrap_expect = u16::try_from(expect).map_err(|_| format!("bootstrap_expect {expect} is too large"))?;
    const TABLE: &str = "See https://www.consul.io/docs/internals/consensus.html#deployment-table";
    if expect == 2 {
        warnings
            .push(format!("bootstrap_expect = 2: A cluster with 2 servers will provide no failure tolerance. {TABLE}"));
    } else if expect > 2 && expect % 2 == 0 {
        warnings.push(format!(
            "bootstrap_expect is even number: A cluster with an even number of servers does not achieve optimum \
             fault tolerance. {TABLE}"
        ));
    }
    if expect > 0 {
        warnings.push(format!("bootstrap_expect > 0: expecting {expect} servers"));
    }
    if config.bootstrap {
        warnings.push("bootstrap = true: do not enable unless necessary".to_owned());
    }
    config.warnings.extend(warnings);
    Ok(())
}

/// No two listeners on one address.
fn distinct(config: &Config) -> Result<(), String> {
    let mut taken: BTreeMap<String, &str> = BTreeMap::new();
    let mut claim = |name: &'static str, address: String| match taken.insert(address.clone(), name) {
        None => Ok(()),
        Some(other) => Err(format!("{name} address {address} already configured for {other}")),
    };
    for address in &config.dns {
        claim("DNS", address.to_string())?;
    }
    for listen in &config.http {
        match listen {
            Listen::Tcp(address) => claim("HTTP", address.to_string())?,
            Listen::Unix(path) => claim("HTTP", path.display().to_string())?,
        }
    }
    let at = |ip: IpAddr, port: u16| SocketAddr::new(ip, port).to_string();
    if let Some(port) = config.ports.server {
        claim("RPC Advertise", at(config.advertise_addr, port))?;
    }
    if let Some(port) = config.ports.serf_lan {
        claim("Serf Advertise LAN", at(config.advertise_addr, port))?;
    }
    if let Some(port) = config.ports.serf_wan {
        claim("Serf Advertise WAN", at(config.advertise_addr_wan, port))?;
    }
    Ok(())
}

/// The host's name, the default of `node_name`.
pub(super) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The one private address of this host in the family of `bind`, the default of `advertise_addr`.
pub(super) fn private_address(bind: IpAddr) -> Result<IpAddr, String> {
    let interfaces = if_addrs::get_if_addrs().map_err(|error| format!("cannot list this host's addresses: {error}"))?;
    let family = if bind.is_ipv4() { "IPv4" } else { "IPv6" };
    let mut found: Vec<IpAddr> = interfaces
        .iter()
        .map(if_addrs::Interface::ip)
        .filter(|ip| match (bind, ip) {
            (IpAddr::V4(_), IpAddr::V4(ip)) => ip.is_private(),
            // Any global or unique local address; link-local ones need a zone.
            (IpAddr::V6(_), IpAddr::V6(ip)) => !ip.is_loopback() && !ip.is_unicast_link_local(),
            _ => false,
        })
        .collect();
    found.dedup();
    match found[..] {
        [one] => Ok(one),
        [] => Err(format!("No private {family} address found. Please configure one with 'bind' and/or 'advertise'.")),
        _ => Err(format!(
            "Multiple private {family} addresses found. Please configure one with 'bind' and/or 'advertise'."
        )),
    }
}
