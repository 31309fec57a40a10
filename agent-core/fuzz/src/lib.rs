//! What the fuzz targets do with their input. A fuzzer looks for new inputs (`cargo xtask fuzz MINUTES`); the ones found
//! before are run again by an ordinary test, `agent-core/tests/corpus.rs`, on any compiler.
//!
//! Each target gives an agent with little memory what a peer could send, and expects three things: no panic, coming to
//! rest, and an answer to a ping afterwards.

mod victim;

use agent_core::{
    agent::{Command, Port, StreamInput},
    checks::Health,
    time::Duration,
    wire::{
        msgpack::Writer,
        rpc::{Method, Reply},
    },
};
use victim::{Victim, compressed, sealed_datagram, sealed_stream};

/// What is done with an input.
pub type Target = fn(&[u8]);

/// Every target by name.
pub const TARGETS: [(&str, Target); 5] =
    [("datagram", datagram), ("stream", stream), ("rpc_reply", rpc_reply), ("dns", dns), ("operations", operations)];

/// The options in front of an input.
const KEYED: u8 = 1;
const SEALED: u8 = 2;
const COMPRESSED: u8 = 4;

/// One gossip datagram. The first octet says whether the agent has a key, and whether the rest is sealed with it.
pub fn datagram(data: &[u8]) {
    let Some((&options, octets)) = data.split_first() else { return };
    Victim::with(options & KEYED != 0, |victim| {
        let octets = if options & COMPRESSED != 0 { compressed(octets) } else { octets.to_vec() };
        victim.datagram(Port::Gossip, if options & SEALED != 0 { sealed_datagram(&octets) } else { octets });
        victim.time(Duration::from_millis(700));
        victim.time(Duration::from_secs(40));
    });
}

/// One gossip stream that somebody opened. The first octet is as a datagram's, the second is the length of the pieces.
pub fn stream(data: &[u8]) {
    let Some((&[options, piece], octets)) = data.split_first_chunk() else { return };
    Victim::with(options & KEYED != 0, |victim| {
        let octets = if options & COMPRESSED != 0 { compressed(octets) } else { octets.to_vec() };
        let octets = if options & SEALED != 0 { sealed_stream(&octets) } else { octets };
        if let Some(id) = victim.accept() {
            for piece in octets.chunks(usize::from(piece).max(1)) {
                victim.stream(id, StreamInput::Data(piece));
            }
            victim.stream(id, StreamInput::Eof);
        }
        victim.time(Duration::from_secs(40));
    });
}

/// A server's reply, in pieces of the second octet's length, to the method that the first one says.
pub fn rpc_reply(data: &[u8]) {
    let Some((&[method, piece], octets)) = data.split_first_chunk() else { return };
    let method = Method::ALL[usize::from(method) % Method::ALL.len()];
    let read = |piece: usize| {
        let (mut reply, mut items) = (Reply::new(method), Vec::new());
        for mut part in octets.chunks(piece.max(1)) {
            while !part.is_empty() {
                match reply.feed(part, &mut |item| items.push(format!("{item:?}"))) {
                    // What follows the reply belongs to the next one.
                    Ok(0) | Err(_) => return items,
                    Ok(taken) => part = &part[taken..],
                }
            }
        }
        items
    };
    assert_eq!(read(octets.len()), read(piece.into()), "pieces make a difference");
}

/// DNS queries, each with its length in front, and a second for what they ask of servers.
pub fn dns(data: &[u8]) {
    Victim::with(false, |victim| {
        let mut input = Input(data);
        while !input.0.is_empty() {
            let len = input.octet().into();
            victim.datagram(Port::Dns, input.take(len).to_vec());
        }
        victim.time(Duration::from_secs(1));
        victim.time(Duration::from_secs(10));
    });
}

/// Inputs of every kind in any order, chosen by the octets of `data`.
pub fn operations(data: &[u8]) {
    let mut input = Input(data);
    Victim::with(input.octet() & 1 != 0, |victim| {
        // So many that everything can happen, and few enough that an input takes milliseconds.
        for _ in 0..64 {
            if input.0.is_empty() {
                break;
            }
            operation(victim, &mut input);
        }
    });
}

fn operation(victim: &mut Victim<'_>, input: &mut Input<'_>) {
    const NAMES: [&str; 4] = ["n2", "s1", "srv1", "web"];
    match input.octet() % 16 {
        0 => victim.time(Duration::from_millis(input.short().into())),
        1 => victim.time(Duration::from_secs(input.octet().into())),
        2 => {
            let len = input.short() % 2048;
            victim.datagram(Port::Gossip, input.take(len.into()).to_vec());
        }
        3 => {
            let len = input.short() % 2048;
            victim.datagram(Port::Gossip, sealed_datagram(input.take(len.into())));
        }
        4 => {
            let len = input.octet();
            victim.datagram(Port::Dns, input.take(len.into()).to_vec());
        }
        5 => drop(victim.accept()),
        6 | 7 => {
            let (at, len) = (input.octet(), input.short() % 4096);
            let octets = input.take(len.into());
            if let Some(id) = victim.open_stream(at.into()) {
                victim.stream(id, StreamInput::Data(octets));
            }
        }
        8 => {
            let (at, how) = (input.octet(), input.octet());
            if let Some(id) = victim.open_stream(at.into()) {
                let how = [StreamInput::Open, StreamInput::Eof, StreamInput::Failed][usize::from(how) % 3];
                victim.stream(id, how);
            }
        }
        9 => {
            let at = usize::from(input.octet());
            let seed = ["10.0.0.9", "nowhere", "10.0.0.9:1", "n1:8301", "[fd00::1]:5", ""][at % 6];
            victim.command(Command::Join { seed, ignore_old: at & 8 != 0 });
        }
        10 => {
            let len = input.octet();
            let payload = input.take(len.into());
            victim.command(Command::UserEvent { name: "deploy", payload, coalesce: len & 1 != 0 });
        }
        11 => {
            let at = usize::from(input.octet());
            victim.command(Command::ForceLeave { node: NAMES[at % 4], prune: at & 4 != 0 });
        }
        12 => victim.register(input.octet()),
        13 => {
            let (id, len) = (NAMES[usize::from(input.octet()) % 4], input.octet());
            let health = [Health::Passing, Health::Warning, Health::Critical][usize::from(len) % 3];
            let output = String::from_utf8_lossy(input.take(len.into())).into_owned();
            victim.command(Command::UpdateTtl { id, health, output: &output });
        }
        14 => {
            let value = ["a", "b"][usize::from(input.octet()) % 2];
            victim.command(Command::SetTags(&[("role", "node"), ("dc", "dc1"), ("id", "x"), ("v", value)]));
        }
        _ => match input.octet() % 8 {
            0 => victim.command(Command::Leave),
            1 => victim.command(Command::Deregister { id: "web" }),
            2 => victim.command(Command::DeregisterCheck { id: "web" }),
            3 => victim.meet_server(),
            _ => victim.command(Command::Sync),
        },
    }
}

/// Octets to decide by; zeros when they are used up.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn octet(&mut self) -> u8 {
        let Some((&first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        first
    }

    fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.octet(), self.octet()])
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// What `emit` writes.
fn written(emit: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = vec![0; Writer::measure(&emit)];
    emit(&mut Writer::new(&mut out));
    out
}
