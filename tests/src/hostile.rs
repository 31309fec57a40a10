//! Bytes that mean harm, and somebody who throws them at an agent and watches whether it still answers.
//!
//! Everything comes from one seed: a run can be had again.

use std::{
    io::{Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

use agent_core::{
    rand::Rng,
    wire::{
        crypt::{self, Key, Nonces},
        envelope,
        gossip::{self, Alive, Claim, IndirectPing, Message, Ping},
        lzw,
        msgpack::Writer,
        push_pull::Header,
        serf::{FLAG_ACK, Filters, Intent, Query, QueryResponse, Relay, UserEvent},
        tags,
    },
};
use serde_json::Value;

use crate::Result;

/// Longest datagram thrown: what an Ethernet carries in one piece.
const LONGEST: usize = 1472;
/// Members that exist only in what is thrown. Few, because a pool believes whoever may speak in it.
const GHOSTS: usize = 64;
/// Longest time for the answer to an honest ping: then a member tries others (gossip spec §7.8).
pub const IN_TIME: Duration = Duration::from_millis(500);

/// The captured and the constructed bytes of one transport, `udp` or `tcp`.
///
/// # Errors
///
/// When the vectors are not where they should be.
pub fn vectors(transport: &str) -> Result<Vec<Vec<u8>>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../agent-core/vectors/gossip");
    let mut files = std::fs::read_dir(folder)?.map(|file| Ok(file?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    let mut all = Vec::new();
    for file in files {
        let list: Value = serde_json::from_slice(&std::fs::read(file)?)?;
        for vector in crate::http::list(&list).iter().filter(|vector| vector["transport"] == transport) {
            let hex = vector["hex"].as_str().ok_or("a vector without octets")?;
            let octets = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16));
            all.push(octets.collect::<std::result::Result<Vec<u8>, _>>()?);
        }
    }
    if all.len() > 10 { Ok(all) } else { Err(format!("only {} vectors of {transport}", all.len()).into()) }
}

/// One of `from`, usually damaged: octets changed, cut off, repeated, or the tail of another.
pub fn spoil(from: &[Vec<u8>], rng: &mut Rng) -> Vec<u8> {
    let mut octets = from[rng.below(from.len())].clone();
    for _ in 0..rng.below(4) {
        let at = rng.below(octets.len());
        match rng.below(5) {
            0 => octets.truncate(at),
            1 => octets.extend_from_within(at..),
            2 => {
                let other = &from[rng.below(from.len())];
                octets.truncate(at);
                octets.extend(&other[rng.below(other.len())..]);
            }
            _ => {
                if let Some(octet) = octets.get_mut(at) {
                    *octet = rng.next_u32() as u8;
                }
            }
        }
    }
    octets.truncate(1400);
    octets
}

/// Whom to harm.
#[derive(Clone)]
pub struct Victim {
    /// Its node name.
    pub name: String,
    /// Its gossip port.
    pub door: SocketAddr,
    /// The pool's key, if it encrypts.
    pub key: Option<Key>,
    /// Datagrams thrown between two honest pings; its socket holds as many.
    pub burst: usize,
    /// Its datacenter, which lets ghosts in.
    pub datacenter: &'static str,
}

/// What an attack came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    /// Datagrams thrown.
    pub datagrams: usize,
    /// Streams thrown.
    pub streams: usize,
    /// Honest pings, and those whose answer took longer than [`IN_TIME`].
    pub pings: usize,
    /// See above.
    pub late: usize,
    /// The slowest answer.
    pub slowest: Duration,
    /// Octets that an innocent address got from the victim, and those that were thrown in its name.
    pub reflected: usize,
    /// See above.
    pub in_its_name: usize,
}

/// Who throws.
pub struct Attacker {
    rng: Rng,
    nonces: Nonces,
    foreign: Key,
    datagrams: Vec<Vec<u8>>,
    streams: Vec<Vec<u8>>,
    socket: UdpSocket,
    honest: UdpSocket,
    innocent: UdpSocket,
    seq: u32,
    kept: Vec<u8>,
}

impl Attacker {
    /// An attacker on `ip`.
    ///
    /// # Errors
    ///
    /// When it has no sockets or no vectors.
    pub fn new(seed: u8, ip: IpAddr) -> Result<Self> {
        let open = || UdpSocket::bind((ip, 0));
        let (honest, innocent) = (open()?, open()?);
        honest.set_read_timeout(Some(IN_TIME))?;
        innocent.set_nonblocking(true)?;
        Ok(Attacker {
            rng: Rng::from_seed(&[seed; 32]),
            nonces: Nonces::new(&[seed; 32]),
            foreign: Key::new(&[seed; 16]).ok_or("16 octets")?,
            datagrams: vectors("udp")?,
            streams: vectors("tcp")?,
            socket: open()?,
            honest,
            innocent,
            seq: 0,
            kept: Vec::new(),
        })
    }

    /// Throws `count` datagrams and, one for every 200, streams; asks after each burst whether the victim is well.
    ///
    /// # Errors
    ///
    /// When it answers no ping any more.
    pub fn attack(&mut self, victim: &Victim, count: usize) -> Result<Report> {
        let mut report = Report::default();
        while report.datagrams < count {
            for _ in 0..victim.burst {
                let (datagram, in_its_name) = self.datagram(victim);
                report.in_its_name += if in_its_name { datagram.len() } else { 0 };
                // A full buffer is the attacker's trouble.
                let _ = self.socket.send_to(&datagram, victim.door);
                report.datagrams += 1;
                if report.datagrams % 200 == 0 {
                    self.stream(victim);
                    report.streams += 1;
                }
            }
            self.ping(victim, &mut report)?;
            let mut buf = [0; LONGEST];
            while let Ok((len, from)) = self.innocent.recv_from(&mut buf) {
                report.reflected += if from == victim.door { len } else { 0 };
            }
        }
        Ok(report)
    }

    /// An honest ping; one that is lost on the way is asked again.
    fn ping(&mut self, victim: &Victim, report: &mut Report) -> Result<()> {
        for _ in 0..20 {
            self.seq += 1;
            let seq = self.seq;
            let ping = message(|w| Ping { node: &victim.name, seq, source: None, source_node: "" }.emit(w));
            let sealed = self.seal_for(victim, ping);
            let asked = Instant::now();
            self.honest.send_to(&sealed, victim.door)?;
            report.pings += 1;
            let mut buf = [0; LONGEST];
            while let Ok((len, _)) = self.honest.recv_from(&mut buf) {
                if is_ack(victim, &mut buf[..len], seq) {
                    let took = asked.elapsed();
                    report.slowest = report.slowest.max(took);
                    report.late += usize::from(took > IN_TIME);
                    return Ok(());
                }
            }
            report.late += 1;
        }
        Err(format!("{} answers no ping any more, after {report:?}", victim.name).into())
    }

    /// The next datagram, and whether it pretends to come from the innocent.
    fn datagram(&mut self, victim: &Victim) -> (Vec<u8>, bool) {
        let mut in_its_name = false;
        let plain = match self.rng.below(16) {
            0..4 => spoil(&self.datagrams, &mut self.rng),
            4 => self.noise(),
            5 => bomb(&vec![0; 1 << (10 + self.rng.below(10))]),
            // Bombs in a bomb, to the end of anybody's patience.
            6 => (0..1 + self.rng.below(40)).fold(self.noise(), |inner, _| bomb(&inner)),
            7 => self.huge_counts(),
            8 => return (self.seal(self.foreign, spoil(&self.datagrams, &mut self.rng.clone())), false),
            9 if !self.kept.is_empty() => return (self.kept.clone(), false),
            9..12 => {
                in_its_name = true;
                self.reflection(victim)
            }
            _ => self.lie(victim),
        };
        // Now and then without the key, and now and then kept for later.
        let sealed = if self.rng.below(8) == 0 { plain } else { self.seal_for(victim, plain) };
        if self.rng.below(50) == 0 && !in_its_name {
            self.kept.clone_from(&sealed);
        }
        (sealed, in_its_name)
    }

    fn noise(&mut self) -> Vec<u8> {
        (0..self.rng.below(1400)).map(|_| self.rng.next_u32() as u8).collect()
    }

    /// Claims of more than there is, in every place that counts something.
    fn huge_counts(&mut self) -> Vec<u8> {
        let kind = self.rng.below(13) as u8;
        let count = [0xff; 4];
        let mut octets = match self.rng.below(6) {
            0 => vec![envelope::COMPOUND, 255, 0xff, 0xff],
            1 => [&[kind, 0xdf], &count[..]].concat(),
            2 => [&[kind, 0x81, 0xa4][..], b"Node", &[0xdb], &count].concat(),
            3 => [&[envelope::USER, kind, 0x81, 0xa7][..], b"Filters", &[0xdd], &count].concat(),
            4 => [&[envelope::LABEL, 255][..], b"x"].concat(),
            _ => [&[0x91; 1300][..], &[0xc0]].concat(),
        };
        octets.extend(self.noise().into_iter().take(64));
        octets
    }

    /// Questions whose answers are for somebody who never asked.
    fn reflection(&mut self, victim: &Victim) -> Vec<u8> {
        let Ok(innocent) = self.innocent.local_addr() else { return Vec::new() };
        let seq = self.rng.next_u32();
        let node = &victim.name;
        let source = Some(innocent);
        match self.rng.below(4) {
            0 => message(|w| Ping { node, seq, source, source_node: "ghost" }.emit(w)),
            1 => message(|w| {
                let node = "nobody";
                IndirectPing { node, target: innocent, seq, nack: true, source, source_node: "ghost" }.emit(w);
            }),
            2 => message(|w| {
                w.byte(envelope::USER);
                let query = Query {
                    address: innocent,
                    filters: Filters::NONE,
                    flags: FLAG_ACK,
                    id: seq,
                    ltime: u64::from(seq) % 1000,
                    name: "_serf_list-keys",
                    payload: &[7, 0x81, 0xa3, b'K', b'e', b'y', 0xa0],
                    relay_factor: 255,
                    source_node: "ghost",
                    timeout_ns: u64::MAX / 2,
                };
                query.emit(w);
            }),
            _ => message(|w| {
                w.byte(envelope::USER);
                Relay { to: innocent, name: "ghost", message: &[] }.emit(w);
                QueryResponse { flags: 0, from: "ghost", id: seq, ltime: 1, payload: &[b'x'; 900] }.emit(w);
            }),
        }
    }

    /// Well-formed messages that are not true.
    fn lie(&mut self, victim: &Victim) -> Vec<u8> {
        let ghost = format!("ghost-{}", self.rng.below(GHOSTS));
        let about = [ghost.as_str(), &victim.name, "nobody"][self.rng.below(3)];
        let number = self.rng.next_u32();
        let (ltime, long) = (u64::from(number) << self.rng.below(33), "x".repeat(self.rng.below(600)));
        let claim = Claim { node: about, incarnation: number >> self.rng.below(32), from: &ghost };
        match self.rng.below(8) {
            0 => message(|w| claim.emit(w, gossip::SUSPECT)),
            1 => message(|w| claim.emit(w, gossip::DEAD)),
            2 => {
                let mut meta = [0; 600];
                let mut writer = Writer::new(&mut meta);
                tags::emit(&mut writer, &[("role", "node"), ("dc", victim.datacenter), ("id", &ghost), ("x", &long)]);
                let len = writer.finish().unwrap_or(0);
                let alive = Alive {
                    node: about,
                    address: SocketAddr::new(victim.door.ip(), number as u16),
                    meta: &meta[..len],
                    incarnation: claim.incarnation,
                    vsn: Some([1, 5, 2, 2, 5, 4]),
                };
                message(|w| alive.emit(w))
            }
            3 => message(|w| gossip::emit_nack(w, number)),
            4 => message(|w| gossip::Ack { seq: number, payload: long.as_bytes() }.emit(w)),
            5 => message(|w| {
                w.byte(envelope::USER);
                Intent { ltime, node: about, prune: number.is_multiple_of(2) }.emit_leave(w);
            }),
            6 => message(|w| {
                w.byte(envelope::USER);
                UserEvent { coalesce: false, ltime, name: &ghost, payload: long.as_bytes() }.emit(w);
            }),
            _ => message(|w| {
                w.byte(envelope::USER);
                let from = &ghost;
                QueryResponse { flags: number % 4, from, id: number, ltime, payload: long.as_bytes() }.emit(w);
            }),
        }
    }

    /// One stream; whatever becomes of it.
    fn stream(&mut self, victim: &Victim) {
        let octets = match self.rng.below(4) {
            0 => [&[envelope::ENCRYPT, 0xff, 0xff, 0xff, 0xff][..], &self.noise()].concat(),
            1 => {
                let header = Header { join: true, nodes: u32::MAX, user_state_len: u32::MAX };
                [message(|w| header.emit(w)), self.noise()].concat()
            }
            2 => bomb(&vec![0; 1 << 20]),
            _ => spoil(&self.streams, &mut self.rng),
        };
        // Refusing or resetting the connection is an answer too.
        let Ok(mut stream) = TcpStream::connect_timeout(&victim.door, Duration::from_secs(5)) else { return };
        let _ = stream.set_read_timeout(Some(Duration::from_millis(100)));
        let _ = stream.write_all(&octets).and_then(|()| stream.shutdown(Shutdown::Write));
        let _ = stream.read(&mut [0; 256]);
    }

    fn seal_for(&mut self, victim: &Victim, plain: Vec<u8>) -> Vec<u8> {
        if let Some(key) = victim.key { self.seal(key, plain) } else { plain }
    }

    fn seal(&mut self, key: Key, plain: Vec<u8>) -> Vec<u8> {
        let mut buf = [&[0; 1 + crypt::NONCE][..], &plain, &[0; crypt::TAG]].concat();
        let len = crypt::seal(&key, self.nonces.fresh(), &[], &mut buf, plain.len()).unwrap_or(0);
        buf.truncate(len);
        buf
    }
}

/// What `emit` writes.
fn message(emit: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
    let mut octets = vec![0; Writer::measure(&emit)];
    emit(&mut Writer::new(&mut octets));
    octets
}

/// `inner` compressed, which is a bomb when it says little.
fn bomb(inner: &[u8]) -> Vec<u8> {
    let (mut memory, mut out) = (vec![0; lzw::DEFLATE_MEMORY], vec![0; inner.len() * 2 + 16]);
    let len = lzw::deflate(inner, true, &mut memory, &mut out).unwrap_or(0);
    message(|w| {
        w.byte(envelope::COMPRESS);
        w.map(2);
        w.text("Algo");
        w.uint(0);
        w.text("Buf");
        w.raw(&out[..len]);
    })
}

/// Whether a datagram of the victim has the ack for ping `seq` in it.
fn is_ack(victim: &Victim, datagram: &mut [u8], seq: u32) -> bool {
    let plain: &[u8] = match &victim.key {
        Some(key) => match crypt::open(std::slice::from_ref(key), &[], datagram) {
            Some((_, plain)) => plain,
            None => return false,
        },
        None => datagram,
    };
    let (mut scratch, mut found) = (vec![0; envelope::scratch_for(envelope::MAX_PLAIN)], false);
    let _ = envelope::walk(plain, &mut scratch, &mut |message| {
        found |= matches!(gossip::parse(message), Ok(Message::Ack(ack)) if ack.seq == seq);
    });
    found
}
