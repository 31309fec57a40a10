//! Packets out: built when polled, filled up with queued gossip, compressed, checksummed and encrypted.

use core::net::SocketAddr;

use super::{Pool, stats::count};
use crate::{
    membership::members::MemberId,
    memory::MailId,
    serf::coordinate::COORDINATES,
    wire::{
        crc, crypt,
        envelope::{self, BUDGET},
        gossip::{Ack, Claim, Ping, SUSPECT, emit_nack},
        msgpack::Writer,
    },
};

/// Longest label, in octets.
pub const MAX_LABEL: usize = 64;
/// Octets of buffer that every datagram fits in, with all its layers.
pub const MAX_DATAGRAM: usize = envelope::MAX_DATAGRAM + 2 + MAX_LABEL + crypt::OVERHEAD;

/// A packet to build at the next poll.
#[derive(Clone, Copy, Debug)]
pub(super) enum Packet {
    /// We are here; with our coordinate when `direct`.
    Ack { to: SocketAddr, seq: u32, direct: bool },
    /// The one you asked about does not answer.
    Nack { to: SocketAddr, seq: u32 },
    /// Probe a member; together with the accusation when it is suspect.
    Ping { member: MemberId, seq: u32 },
    /// Queued gossip for a member.
    Gossip { member: MemberId },
    /// A message that is written already; gossip is added when `filled`.
    Mail { to: SocketAddr, mail: MailId, filled: bool },
}

impl Pool<'_> {
    pub(super) fn send(&mut self, packet: Packet) {
        if self.queues.packets.push_back(packet).is_err() {
            count(&mut self.stats.packets_dropped);
            if let Packet::Mail { mail, .. } = packet {
                self.mail.free(mail);
            }
        }
    }

    /// Writes a message now, to be sent to one address at the next poll.
    pub(super) fn send_written(&mut self, to: SocketAddr, filled: bool, emit: &dyn Fn(&mut Writer<'_>)) {
        let len = Writer::measure(emit);
        let Some(mail) = (len <= BUDGET).then(|| self.mail.put(len)).flatten() else {
            count(&mut self.stats.packets_dropped);
            return;
        };
        emit(&mut Writer::new(self.mail.get_mut(mail)));
        self.send(Packet::Mail { to, mail, filled });
    }

    /// Builds the next queued packet into `buf`.
    pub(super) fn next_packet(&mut self, buf: &mut [u8]) -> Option<(SocketAddr, usize)> {
        while let Some(packet) = self.queues.packets.pop_front() {
            let built = self.build(packet, buf);
            if let Packet::Mail { mail, .. } = packet {
                self.mail.free(mail);
            }
            if let Some(built) = built {
                count(&mut self.stats.datagrams_out);
                return Some(built);
            }
        }
        None
    }

    fn build(&mut self, packet: Packet, buf: &mut [u8]) -> Option<(SocketAddr, usize)> {
        let body = self.body_start();
        // The message is written behind room for a compound's head with one length, and moved to the front if it stays
        // alone.
        let first = body + crc::HEADER + 2 + 2;
        let mut writer = Writer::new(buf.get_mut(first..)?);
        let (mut checked, mut filled) = (false, true);
        let to = match packet {
            Packet::Ack { to, seq, direct } => {
                let mut payload = [0; crate::wire::coordinate::PAYLOAD];
                let mut coordinate = Writer::new(&mut payload);
                if COORDINATES && direct {
                    self.vivaldi.place().emit(&mut coordinate);
                }
                let len = coordinate.len();
                Ack { seq, payload: &payload[..len] }.emit(&mut writer);
                to
            }
            Packet::Nack { to, seq } => {
                emit_nack(&mut writer, seq);
                to
            }
            Packet::Ping { member, seq } => {
                let slot = self.members.get(member);
                let source = self.config.advertise_in_pings.then_some(self.config.advertise);
                let source_node = if source.is_some() { self.config.name } else { "" };
                Ping { node: self.members.name(member), seq, source, source_node }.emit(&mut writer);
                if slot.state == crate::membership::members::State::Suspect {
                    checked = slot.vsn[1] >= 5;
                    filled = false;
                }
                slot.address()
            }
            Packet::Gossip { member } => {
                let slot = self.members.get(member);
                checked = slot.vsn[1] >= 5;
                slot.address()
            }
            Packet::Mail { to, mail, filled: fill } => {
                filled = fill;
                writer.octets(self.mail.get(mail));
                to
            }
        };
        let first_len = writer.finish()?;
        let (mut parts, mut lens, mut end) =
            (usize::from(first_len > 0), [0u16; envelope::MAX_PARTS], first + first_len);
        lens[0] = first_len as u16;
        if let Packet::Ping { member, .. } = packet
            && !filled
        {
            // A suspect hears of it in the same packet, so that it can refute at once (spec §7.4).
            let slot = self.members.get(member);
            let claim =
                Claim { node: self.members.name(member), incarnation: slot.incarnation, from: self.config.name };
            let mut writer = Writer::new(buf.get_mut(end..)?);
            claim.emit(&mut writer, SUSPECT);
            let len = writer.finish()?;
            (lens[1], parts, end) = (len as u16, 2, end + len);
        }
        if filled {
            let room = BUDGET
                .saturating_sub(first_len + 2 + self.encryption_overhead() + self.label_len())
                .min(buf.len().saturating_sub(end));
            let limit = self.transmit_limit();
            let (parts, end) = (&mut parts, &mut end);
            let (lens, buf) = (&mut lens, &mut *buf);
            self.queue.fill(&mut self.outbox, room, 2, envelope::MAX_PARTS - *parts, limit, &mut |message| {
                buf[*end..*end + message.len()].copy_from_slice(message);
                lens[*parts] = message.len() as u16;
                *parts += 1;
                *end += message.len();
            });
        }
        let start = body + crc::HEADER;
        let len = match parts {
            0 => return None,
            1 => {
                buf.copy_within(first..end, start);
                end - first
            }
            _ => {
                let head = 2 + 2 * parts;
                buf.copy_within(first..end, start + head);
                buf[start] = envelope::COMPOUND;
                buf[start + 1] = parts as u8;
                for (i, len) in lens[..parts].iter().enumerate() {
                    buf[start + 2 + 2 * i..start + 4 + 2 * i].copy_from_slice(&len.to_be_bytes());
                }
                head + end - first
            }
        };
        let len = self.compress_packet(buf, start, len);
        self.seal_packet(buf, start, len, checked).map(|len| (to, len))
    }

    /// Where the checksummed or plain message begins in a packet: behind label, version and nonce.
    fn body_start(&self) -> usize {
        let nonce = if self.encrypts() { 1 + crypt::NONCE } else { 0 };
        self.label_len() + nonce
    }

    /// Octets of the label header.
    pub(super) fn label_len(&self) -> usize {
        if self.config.label.is_empty() { 0 } else { 2 + self.config.label.len() }
    }

    /// True when what we send is encrypted.
    pub(super) fn encrypts(&self) -> bool {
        self.config.verify_outgoing && self.keyring.primary().is_some()
    }

    fn encryption_overhead(&self) -> usize {
        if self.encrypts() { crypt::OVERHEAD } else { 0 }
    }

    /// Compresses `len` octets at `start` in place when that makes them fewer.
    #[cfg(feature = "compress")]
    fn compress_packet(&mut self, buf: &mut [u8], start: usize, len: usize) -> usize {
        use crate::wire::lzw;
        // Below this nothing is ever gained, and small packets are the frequent ones.
        const WORTH_TRYING: usize = 96;
        if self.deflate.len() < lzw::DEFLATE_MEMORY || len < WORTH_TRYING || self.datagram.len() < len {
            return len;
        }
        // `datagram` is free while we send: nothing is received in the middle of a poll.
        let Some(packed) = lzw::deflate(&buf[start..start + len], true, self.deflate, &mut self.datagram[..len]) else {
            return len;
        };
        let packed = &self.datagram[..packed];
        let emit = |w: &mut Writer<'_>| emit_compressed(w, packed);
        let total = Writer::measure(emit);
        if total < len {
            emit(&mut Writer::new(&mut buf[start..start + total]));
            total
        } else {
            len
        }
    }

    #[cfg(not(feature = "compress"))]
    fn compress_packet(&mut self, _: &mut [u8], _: usize, len: usize) -> usize {
        len
    }

    /// Puts checksum, encryption and label around `len` octets at `start` and returns the datagram's length, its first
    /// octet being the first of `buf`.
    fn seal_packet(&mut self, buf: &mut [u8], start: usize, len: usize, checked: bool) -> Option<usize> {
        let body = self.body_start();
        let len = if checked {
            let sum = crc::checksum(&buf[start..start + len]);
            buf[body] = envelope::CRC;
            buf[body + 1..body + crc::HEADER].copy_from_slice(&sum.to_be_bytes());
            len + crc::HEADER
        } else {
            buf.copy_within(start..start + len, body);
            len
        };
        let label_len = self.label_len();
        let label = self.config.label.as_bytes();
        if label_len > 0 {
            buf[0] = envelope::LABEL;
            buf[1] = label.len() as u8;
            buf[2..label_len].copy_from_slice(label);
        }
        match self.keyring.primary().filter(|_| self.config.verify_outgoing) {
            Some(key) => {
                let sealed = crypt::seal(key, self.nonces.fresh(), label, &mut buf[label_len..], len)?;
                Some(label_len + sealed)
            }
            None => Some(label_len + len),
        }
    }
}

/// Writes compressed octets with their head.
#[cfg(feature = "compress")]
pub(super) fn emit_compressed(w: &mut Writer<'_>, packed: &[u8]) {
    w.byte(envelope::COMPRESS);
    w.map(2);
    w.text("Algo");
    w.uint(0);
    w.text("Buf");
    w.raw(packed);
}
