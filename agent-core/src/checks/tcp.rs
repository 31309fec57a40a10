//! TCP checks: passing when a connection opens.

use core::net::{IpAddr, SocketAddr, SocketAddrV6};

use super::{
    Health,
    schedule::{Output, finish},
};
use crate::{
    agent::Target,
    local::{Job, Local},
    rand::Rng,
    time::Instant,
    wire::{ip, rpc::Text},
};

/// Room for the target in an output; longer ones are cut.
pub(super) type Name = Text<200>;

/// Reads `host:port`; the host may be an address, `[v6]` in brackets.
pub(crate) fn target(text: &str) -> Option<Target<'_>> {
    let (host, port) = text.rsplit_once(':')?;
    named(host, port.parse().ok()?)
}

/// `host` as an address, if it is one, or as a name.
pub(super) fn named(host: &str, port: u16) -> Option<Target<'_>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    if let Some(ip) = ip::parse(bare) {
        return Some(Target::Address(SocketAddr::new(ip, port)));
    }
    // `[fe80::1%2]`: an address of one link, and the link's number.
    if let (Some((bare, zone)), true) = (bare.split_once('%'), host.len() > bare.len())
        && let (Some(IpAddr::V6(ip)), Ok(zone)) = (ip::parse(bare), zone.parse())
    {
        return Some(Target::Address(SocketAddrV6::new(ip, port, 0, zone).into()));
    }
    let is_name = !host.is_empty() && !host.contains(['[', ']']);
    is_name.then_some(Target::Name(host, port))
}

/// The connection of the check in slot `index` stands.
pub(crate) fn on_open(now: Instant, rng: &mut Rng, local: &mut Local<'_>, index: usize) {
    let name = name_of(local, index);
    let parts = ["TCP connect ", name.as_str(), ": Success"];
    finish(now, rng, local, index, Health::Passing, Output::Parts(&parts));
}

/// The connection of the check in slot `index` did not come about.
pub(crate) fn on_failed(now: Instant, rng: &mut Rng, local: &mut Local<'_>, index: usize) {
    failed(now, rng, local, index, "connect: connection refused");
}

/// The run in slot `index` took too long.
pub(super) fn overrun(now: Instant, rng: &mut Rng, local: &mut Local<'_>, index: usize) {
    failed(now, rng, local, index, "i/o timeout");
}

fn failed(now: Instant, rng: &mut Rng, local: &mut Local<'_>, index: usize, why: &str) {
    let name = name_of(local, index);
    let parts = ["dial tcp ", name.as_str(), ": ", why];
    finish(now, rng, local, index, Health::Critical, Output::Parts(&parts));
}

fn name_of(local: &Local<'_>, index: usize) -> Name {
    match local.check_at(index).map(|check| check.job()) {
        Some(Job::Tcp(target)) => Name::new(target),
        _ => Name::EMPTY,
    }
}
