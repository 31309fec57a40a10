//! Calls, written into a slice. Zero fields are left out; the rest keeps Go's sorted key order (rpc spec §4).

use core::net::IpAddr;

use super::Method;
use crate::wire::{coordinate::Coordinate, ip, msgpack::Writer};

/// 2 s: the staleness a real agent allows for its anti-entropy reads (rpc spec §7).
const MAX_STALE_NS: u64 = 2_000_000_000;

/// What every call carries.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Datacenter; mandatory with servers before 1.15.
    pub datacenter: &'a str,
    /// ACL token; empty: anonymous.
    pub token: &'a str,
}

/// Our node as Catalog.Register describes it.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// UUID.
    pub id: &'a str,
    /// Name.
    pub name: &'a str,
    /// The address we gossip; anything else is overwritten by the leader again and again (rpc spec §8).
    pub address: IpAddr,
    /// Named addresses.
    pub tagged_addresses: &'a [(&'a str, &'a str)],
    /// Metadata.
    pub meta: &'a [(&'a str, &'a str)],
}

/// What Catalog.Deregister removes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal<'a> {
    /// A service and its checks.
    Service(&'a str),
    /// One check.
    Check(&'a str),
}

/// A check as Catalog.Register carries it.
#[derive(Clone, Copy, Debug)]
pub struct CheckRecord<'a> {
    /// msgpack map of the constant fields.
    pub fixed: &'a [u8],
    /// The catalog's word for its state.
    pub status: &'a str,
    /// Output.
    pub output: &'a [u8],
}

/// The first value of a call.
pub fn header(w: &mut Writer<'_>, seq: u64, method: Method) {
    w.map(2);
    w.text("Seq");
    w.uint(seq);
    w.text("ServiceMethod");
    w.text(method.name());
}

/// Arguments of Status.Ping.
pub fn ping(w: &mut Writer<'_>) {
    w.map(0);
}

/// Arguments of Catalog.NodeServiceList, Catalog.NodeServices and Health.NodeChecks for anti-entropy and look-ups.
pub fn of_node(w: &mut Writer<'_>, scope: Scope<'_>, node: &str) {
    w.map(4 + token_entries(scope));
    w.text("AllowStale");
    w.bool(true);
    w.text("Datacenter");
    w.text(scope.datacenter);
    w.text("MaxStaleDuration");
    w.uint(MAX_STALE_NS);
    w.text("Node");
    w.text(node);
    token(w, scope);
}

/// Arguments of Health.ServiceNodes. An empty tag means any.
pub fn service_nodes(w: &mut Writer<'_>, scope: Scope<'_>, service: &str, tag: &str) {
    let tagged = !tag.is_empty();
    w.map(3 + 2 * usize::from(tagged) + token_entries(scope));
    w.text("AllowStale");
    w.bool(true);
    w.text("Datacenter");
    w.text(scope.datacenter);
    w.text("ServiceName");
    w.text(service);
    if tagged {
        w.text("ServiceTags");
        w.array(1);
        w.text(tag);
        w.text("TagFilter");
        w.bool(true);
    }
    token(w, scope);
}

/// Arguments of PreparedQuery.ExecuteRemote with an inline query: at most `limit` healthy instances, chosen by the server,
/// so that the reply is bounded (rpc spec §9 "Bounded lookup").
pub fn execute_remote(w: &mut Writer<'_>, scope: Scope<'_>, service: &str, tag: &str, only_passing: bool, limit: u16) {
    w.map(4 + token_entries(scope));
    w.text("AllowStale");
    w.bool(true);
    w.text("Datacenter");
    w.text(scope.datacenter);
    w.text("Limit");
    w.uint(limit.into());
    w.text("Query");
    w.map(1);
    w.text("Service");
    w.map(1 + usize::from(only_passing) + usize::from(!tag.is_empty()));
    if only_passing {
        w.text("OnlyPassing");
        w.bool(true);
    }
    w.text("Service");
    w.text(service);
    if !tag.is_empty() {
        w.text("Tags");
        w.array(1);
        w.text(tag);
    }
    token(w, scope);
}

/// Arguments of Catalog.Deregister.
pub fn deregister(w: &mut Writer<'_>, scope: Scope<'_>, node: &str, removal: Removal<'_>) {
    w.map(3 + token_entries(scope));
    if let Removal::Check(id) = removal {
        w.text("CheckID");
        w.text(id);
    }
    w.text("Datacenter");
    w.text(scope.datacenter);
    w.text("Node");
    w.text(node);
    if let Removal::Service(id) = removal {
        w.text("ServiceID");
        w.text(id);
    }
    token(w, scope);
}

/// Arguments of Catalog.Register. `service` is a whole record; `skip_node` leaves the node's own fields as the catalog has
/// them, otherwise they are replaced.
pub fn register<'c>(
    w: &mut Writer<'_>,
    scope: Scope<'_>,
    node: Node<'_>,
    skip_node: bool,
    service: Option<&[u8]>,
    checks: impl Iterator<Item = CheckRecord<'c>> + Clone,
) {
    let count = checks.clone().count();
    let entries = 5 + usize::from(count > 0) + usize::from(service.is_some()) + if skip_node { 0 } else { 1 };
    w.map(entries + token_entries(scope));
    w.text("Address");
    w.text(ip::text(node.address).as_str());
    if count > 0 {
        w.text(if count == 1 { "Check" } else { "Checks" });
        if count > 1 {
            w.array(count);
        }
        checks.for_each(|record| check(w, node.name, record));
    }
    w.text("Datacenter");
    w.text(scope.datacenter);
    w.text("ID");
    w.text(node.id);
    w.text("Node");
    w.text(node.name);
    if !skip_node {
        w.text("NodeMeta");
        pairs(w, node.meta);
    }
    if let Some(record) = service {
        w.text("Service");
        w.octets(record);
    }
    if skip_node {
        w.text("SkipNodeUpdate");
        w.bool(true);
    } else {
        w.text("TaggedAddresses");
        pairs(w, node.tagged_addresses);
    }
    token(w, scope);
}

/// One check: its constant fields, then what changes.
fn check(w: &mut Writer<'_>, node: &str, check: CheckRecord<'_>) {
    // A constant map has at most 15 entries, so its head is one octet.
    let (count, fields) = match check.fixed.split_first() {
        Some((&head @ 0x80..=0x8f, fields)) => (usize::from(head & 0x0f), fields),
        _ => (0, &[][..]),
    };
    w.map(count + 3);
    w.octets(fields);
    w.text("Node");
    w.text(node);
    w.text("Output");
    w.raw(check.output);
    w.text("Status");
    w.text(check.status);
}

/// Arguments of Coordinate.Update.
pub fn coordinate(w: &mut Writer<'_>, scope: Scope<'_>, node: &str, at: &Coordinate) {
    w.map(3 + token_entries(scope));
    w.text("Coord");
    at.emit_map(w);
    w.text("Datacenter");
    w.text(scope.datacenter);
    w.text("Node");
    w.text(node);
    token(w, scope);
}

fn pairs(w: &mut Writer<'_>, pairs: &[(&str, &str)]) {
    w.map(pairs.len());
    for (key, value) in pairs {
        w.text(key);
        w.text(value);
    }
}

fn token_entries(scope: Scope<'_>) -> usize {
    usize::from(!scope.token.is_empty())
}

fn token(w: &mut Writer<'_>, scope: Scope<'_>) {
    if !scope.token.is_empty() {
        w.text("Token");
        w.text(scope.token);
    }
}
