//! Datagrams in: layers off, then one function per message.

use core::net::SocketAddr;

use super::{Pool, memory::RelaySlot, stats::count, transmit::Packet};
use crate::{
    time::Instant,
    wire::{
        Error, crypt, envelope,
        gossip::{self, Ack, IndirectPing, Message, Ping},
    },
};

impl Pool<'_> {
    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, data: &mut [u8]) {
        count(&mut self.stats.datagrams_in);
        let Ok((label, payload)) = envelope::label(data) else { return count(&mut self.stats.malformed) };
        if label != self.config.label.as_bytes() {
            return count(&mut self.stats.foreign_label);
        }
        let plain = match self.keyring.keys() {
            [] => payload,
            keys => {
                // Who does not verify takes plaintext too; an opened payload is never mistaken, its tag proves it.
                let opened = crypt::open(keys, &[label], payload).map(|(_, plain)| plain.len());
                match opened {
                    Some(len) => &mut payload[1 + crypt::NONCE..1 + crypt::NONCE + len],
                    None if !self.config.verify_incoming => payload,
                    None => return count(&mut self.stats.undecryptable),
                }
            }
        };
        // The scratch is taken out while the messages, which may lie in it, are handled.
        let scratch = core::mem::take(&mut self.datagram);
        let walked = envelope::walk(plain, scratch, &mut |message| {
            if self.on_message(now, from, message).is_err() {
                count(&mut self.stats.malformed);
            }
        });
        self.datagram = scratch;
        if walked.is_err() {
            count(&mut self.stats.malformed);
        }
    }

    fn on_message(&mut self, now: Instant, from: SocketAddr, message: &[u8]) -> Result<(), Error> {
        match gossip::parse(message)? {
            Message::Ping(ping) => self.on_ping(from, &ping),
            Message::IndirectPing(ping) => self.on_indirect_ping(now, from, &ping),
            Message::Ack(ack) => self.on_ack(now, from, &ack),
            Message::Nack { seq } => self.on_nack(now, seq),
            Message::Suspect(claim) => self.on_suspect(now, &claim),
            Message::Alive(alive) => self.on_alive(now, &alive),
            Message::Dead(claim) => self.on_dead(now, &claim),
            Message::User(inner) => self.on_serf_message(now, inner)?,
        }
        Ok(())
    }

    fn on_ping(&mut self, from: SocketAddr, ping: &Ping<'_>) {
        // A ping for another name at our address is for whoever was here before: silence is the true answer.
        if ping.node.is_empty() || ping.node == self.config.name {
            self.send(Packet::Ack { to: ping.source.unwrap_or(from), seq: ping.seq, direct: true });
        }
    }

    fn on_indirect_ping(&mut self, now: Instant, from: SocketAddr, ask: &IndirectPing<'_>) {
        let seq = self.next_seq();
        let Some(slot) = self.relays.iter_mut().find(|slot| !slot.used) else {
            count(&mut self.stats.relays_refused);
            // Said at once: who hears nothing thinks ill of its own health.
            if ask.nack {
                self.send(Packet::Nack { to: ask.source.unwrap_or(from), seq: ask.seq });
            }
            return;
        };
        *slot = RelaySlot {
            used: true,
            nack: ask.nack,
            ours: seq,
            theirs: ask.seq,
            to: ask.source.unwrap_or(from),
            deadline: now + self.config.timing.probe_timeout,
        };
        let target = self.with_port(ask.target);
        let source = self.config.advertise_in_pings.then_some(self.config.advertise);
        let source_node = if source.is_some() { self.config.name } else { "" };
        let node = ask.node;
        self.send_written(target, true, &|w| Ping { node, seq, source, source_node }.emit(w));
    }

    fn on_ack(&mut self, now: Instant, from: SocketAddr, ack: &Ack<'_>) {
        if let Some(slot) = self.relays.iter_mut().find(|slot| slot.used && slot.ours == ack.seq) {
            slot.used = false;
            let packet = Packet::Ack { to: slot.to, seq: slot.theirs, direct: false };
            self.send(packet);
            return;
        }
        self.on_probe_ack(now, from, ack);
    }

    /// Answers for others that are overdue.
    pub(super) fn on_relay_time(&mut self, now: Instant) {
        for at in 0..self.relays.len() {
            let slot = self.relays[at];
            if slot.used && slot.deadline <= now {
                self.relays[at].used = false;
                if slot.nack {
                    self.send(Packet::Nack { to: slot.to, seq: slot.theirs });
                }
            }
        }
    }

    /// Port 0 means the port that we use ourselves (spec §7.1).
    pub(super) fn with_port(&self, address: SocketAddr) -> SocketAddr {
        match address.port() {
            0 => SocketAddr::new(address.ip(), self.config.advertise.port()),
            _ => address,
        }
    }
}
