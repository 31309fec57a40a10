//! What is wrong in the cluster and would otherwise only look strange: names and node ids that two members claim, links
//! that work in one direction, and we ourselves when we stood still.

use core::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::{Event, Member, Pool, stats::count};
use crate::{
    agent::{self, Trouble},
    membership::members::{Detour, MemberId, State},
    memory::MailId,
    time::{Duration, Instant},
};

/// The same conflict is told once in this time. Every alive message of the second one repeats it.
const SAME: Duration = Duration::from_secs(60);
/// Conflicts of others than the last one are told once in this time.
const OTHER: Duration = Duration::from_secs(1);
/// Octets of an address in the mail of a conflict.
const ADDRESS: usize = 18;

/// The conflict that was told last.
#[derive(Clone, Copy, Debug)]
pub(super) struct LastConflict {
    hash: u32,
    at: Instant,
}

impl Pool<'_> {
    /// Somebody at `address` claims the name of `holder`, or as `name` its node id. The first keeps it; who is second is
    /// counted, and told at a bounded rate, as its claims may be many.
    #[inline(never)] // its stack frame is not for those who never get here
    pub(super) fn on_conflict(&mut self, now: Instant, holder: MemberId, name: &str, address: SocketAddr) {
        let is_id = self.members.name(holder) != name;
        count(if is_id { &mut self.stats.id_conflicts } else { &mut self.stats.conflicts });
        let hash = self.members.hash(name) ^ u32::from(address.port());
        if let Some(last) = self.conflict
            && now.saturating_since(last.at) < if last.hash == hash { SAME } else { OTHER }
        {
            return;
        }
        self.conflict = Some(LastConflict { hash, at: now });
        if is_id {
            warn!("{} has the node id of another member, as a copied disk image has: delete its node-id file", name);
        } else {
            warn!("another address claims the name {}, whose first holder keeps it: rename the second one", name);
        }
        if let Some(mail) = self.mail.put(ADDRESS + name.len()) {
            let ip = match address.ip() {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            let octets = self.mail.get_mut(mail);
            octets[..16].copy_from_slice(&ip.octets());
            octets[16..ADDRESS].copy_from_slice(&address.port().to_be_bytes());
            octets[ADDRESS..].copy_from_slice(name.as_bytes());
            self.tell(Event::Conflict { holder, mail });
        }
    }

    /// A conflict as its owner sees it.
    pub(super) fn conflict(&self, holder: MemberId, mail: MailId) -> agent::Event<'_> {
        let (address, name) = self.mail.get(mail).split_at(ADDRESS);
        let mut ip = [0; 16];
        ip.copy_from_slice(&address[..16]);
        let port = u16::from_be_bytes([address[16], address[17]]);
        let address = SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), port);
        let name = core::str::from_utf8(name).unwrap_or("");
        let holder = self.members.view(holder);
        agent::Event::Trouble(if holder.name == name {
            Trouble::SameName { holder, address }
        } else {
            Trouble::SameId { holder, name, address }
        })
    }

    /// A member answered a probe, to us or only to those whom we asked to try. Twice in a row is no loss any more.
    pub(super) fn on_reached(&mut self, id: MemberId, directly: bool) {
        let slot = self.members.get_mut(id);
        let before = slot.detour();
        let now = match (directly, before) {
            (true, _) => Detour::No,
            (false, Detour::No) => Detour::Once,
            (false, Detour::Once | Detour::Told) => Detour::Told,
        };
        slot.set_detour(now);
        if now == Detour::Told && before != Detour::Told {
            count(&mut self.stats.one_way);
            warn!(
                "{} is reached by others and not by us: our datagrams to it or its to us are lost",
                self.members.name(id)
            );
            self.tell(Event::OneWay(id));
        }
    }

    /// Timers that come late tell that we stood still: stopped, or without a processor. What ran out meanwhile says
    /// nothing of others, so it gets the time that we have missed, and we think less of our own health.
    pub(super) fn on_lateness(&mut self, now: Instant) {
        // What is judged by the clock is due when somebody else has not answered: there lateness would do harm.
        let due = self.probe_due().into_iter().chain(self.spread.suspicion).min();
        let late = due.map_or(Duration::ZERO, |due| now.saturating_since(due));
        if late < self.config.timing.probe_timeout {
            return;
        }
        count(&mut self.stats.late);
        warn!("timers came {} ms late: this process stood still, or its host is overloaded", late.as_millis());
        self.awareness.change(1);
        self.delay_probe(late);
        for at in 1..self.members.high() {
            let slot = self.members.get_mut(MemberId(at));
            if slot.state == State::Suspect {
                slot.changed = slot.changed + late;
            }
        }
        self.spread.suspicion = self.spread.suspicion.map(|at| at + late);
    }
}

impl core::fmt::Display for Trouble<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Trouble::SameName { holder: Member { name, address: first, .. }, address } => write!(
                f,
                "{address} claims the name {name}, which {first} has and keeps until it has failed or left: rename the \
                 agent at {address}"
            ),
            Trouble::SameId { holder: Member { name: first, .. }, name, address } => write!(
                f,
                "{name} at {address} has the node id of {first}, as a copied disk image has: delete its node-id file, or \
                 set another node_id, and restart it"
            ),
            Trouble::OneWay { member: Member { name, address, .. } } => write!(
                f,
                "{name} at {address} answers others and not us: datagrams to it, or from it to us, are lost on the way"
            ),
        }
    }
}
