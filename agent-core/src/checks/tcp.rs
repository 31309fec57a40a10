//! TCP checks: passing when a connection opens.

use core::net::{IpAddr, SocketAddr};

use super::{Health, schedule::finish};
use crate::{
    agent::Target,
    local::{Job, Local},
    rand::Rng,
    time::Instant,
    wire::rpc::Text,
};

/// Room for the target in an output; longer ones are cut.
pub(super) type Name = Text<200>;

/// Reads `host:port`; the host may be an address, `[v6]` in brackets.
pub(crate) fn target(text: &str) -> Option<Target<'_>> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(Target::Address(address));
    }
    let (host, port) = text.rsplit_once(':')?;
    named(host, port.parse().ok()?)
}

/// `host` as an address, if it is one, or as a name.
pub(super) fn named(host: &str, port: u16) -> Option<Target<'_>> {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(ip) => Some(Target::Address(SocketAddr::new(ip, port))),
        Err(_) if host.is_empty() || host.contains(['[', ']']) => None,
        Err(_) => Some(Target::Name(host, port)),
    }
}

/// The connection of the check in slot `index` stands.
pub(crate) fn on_open(now: Instant, rng: &mut Rng, local: &mut Local<'_>, index: usize) {
    let name = name_of(local, index);
    let parts = ["TCP connect ", name.as_str(), ": Success"];
    finish(now, rng, local, index, Health::Passing, |local| local.write_output(index, &parts));
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
    finish(now, rng, local, index, Health::Critical, |local| local.write_output(index, &parts));
}

fn name_of(local: &Local<'_>, index: usize) -> Name {
    match local.check_at(index).map(|check| check.job()) {
        Some(Job::Tcp(target)) => Name::new(target),
        _ => Name::EMPTY,
    }
}
