//! An agent with little memory, and a driver that does what it asks for.

use std::{collections::BTreeSet, net::SocketAddr};

use agent_core::{
    agent::{Agent, Command, Output, Port, Purpose, StreamId, StreamInput},
    config::{Config, PoolConfig},
    dns::Rules,
    local::{CheckDef, CheckKind, ServiceDef},
    pool::MAX_DATAGRAM,
    time::{Duration, Instant},
    wire::{
        crypt::{self, Key, StreamSealer},
        envelope,
        gossip::{Alive, Ping},
        lzw, tags,
    },
};

use super::written;

agent_core::lictor_memory! {
    struct Memory { members: 6, services: 2, checks: 3, connections: 2, queries: 2 }
}

/// Who sends everything.
const STRANGER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(10, 9, 9, 9)), 7);

/// The agent, and what is open.
pub struct Victim<'m> {
    agent: Agent<'m>,
    now: Instant,
    keyed: bool,
    open: BTreeSet<StreamId>,
    answered: bool,
}

impl Victim<'_> {
    /// Runs `attack` on a new agent and pings it afterwards.
    ///
    /// # Panics
    /// When the agent does, does not come to rest, or leaves the ping unanswered.
    pub fn with(keyed: bool, attack: impl FnOnce(&mut Victim<'_>)) {
        let keys = [key()];
        let mut pool = PoolConfig::lan(
            "n1",
            SocketAddr::from(([10, 0, 0, 1], 8301)),
            &[("role", "node"), ("dc", "dc1"), ("id", "6f1e2d3c-0000-4000-8000-000000000001")],
        );
        pool.keys = if keyed { &keys } else { &[] };
        pool.seeds = &["seed.example", "10.0.0.9"];
        let config = Config {
            pool,
            node_id: "6f1e2d3c-0000-4000-8000-000000000001",
            datacenter: "dc1",
            domain: "consul",
            token: "",
            meta: &[("site", "x")],
            tagged_addresses: &[],
            check_update_interval: Duration::from_secs(300),
            sync: true,
            dns: Rules::new("consul", "dc1"),
        };
        let mut memory = Box::new(Memory::new());
        let now = Instant::from_micros(1_000_000);
        let agent = Agent::new(&config, memory.regions(), [5; 32], now).expect("the memory is what the macro makes");
        let mut victim = Victim { agent, now, keyed, open: BTreeSet::new(), answered: false };
        victim.register(0);
        victim.meet_server();
        attack(&mut victim);
        victim.ping();
    }

    /// Gives a datagram.
    pub fn datagram(&mut self, port: Port, mut octets: Vec<u8>) {
        self.agent.handle_datagram(self.now, port, STRANGER, &mut octets);
        self.rest();
    }

    /// Opens a connection to the agent.
    pub fn accept(&mut self) -> Option<StreamId> {
        let id = self.agent.handle_accept(self.now, Port::Gossip, STRANGER)?;
        self.open.insert(id);
        self.rest();
        Some(id)
    }

    /// One of the open streams.
    pub fn open_stream(&self, at: usize) -> Option<StreamId> {
        self.open.iter().nth(at % self.open.len().max(1)).copied()
    }

    /// Something happens on a stream. What the agent does not take is lost, as when the connection breaks.
    pub fn stream(&mut self, id: StreamId, input: StreamInput<'_>) {
        let taken = self.agent.handle_stream(self.now, id, input);
        assert!(matches!(input, StreamInput::Data(data) if taken <= data.len()) || taken == 0);
        if input == StreamInput::Failed {
            self.open.remove(&id);
        }
        self.rest();
    }

    /// Gives a command, which may be refused.
    pub fn command(&mut self, command: Command<'_>) {
        let _ = self.agent.command(self.now, command);
        self.rest();
    }

    /// Registers service `web` with a check of some kind.
    pub fn register(&mut self, kind: u8) {
        let (interval, timeout) = (Duration::from_secs(5), Duration::from_secs(1));
        let kind = match kind % 4 {
            0 => CheckKind::Ttl { ttl: Duration::from_secs(10) },
            1 => CheckKind::Tcp { target: "10.0.0.3:80", interval, timeout },
            2 => CheckKind::Http {
                url: "http://10.0.0.3/health",
                method: "",
                headers: &[("a", "b")],
                body: "",
                tls_skip_verify: false,
                interval,
                timeout,
            },
            _ => CheckKind::Host { key: 1, label: "", interval, timeout },
        };
        let check = CheckDef {
            id: "web",
            name: "",
            notes: "",
            service_id: "",
            token: "",
            status: agent_core::checks::Health::Critical,
            kind,
            deregister_critical_after: Duration::from_secs(60),
            success_before_passing: 0,
            failures_before_critical: 2,
        };
        let service =
            ServiceDef { name: "web", tags: &["a", "b"], port: 80, checks: &[check], ..ServiceDef::default() };
        self.command(Command::Register(&service));
    }

    /// Gossip tells of a server.
    pub fn meet_server(&mut self) {
        let meta = written(|w| tags::emit(w, &[("role", "consul"), ("dc", "dc1"), ("port", "8300"), ("id", "s")]));
        let address = SocketAddr::from(([10, 0, 0, 9], 8301));
        let vsn = Some([1, 5, 2, 2, 5, 4]);
        let alive = written(|w| Alive { node: "s1", address, meta: &meta, incarnation: 1, vsn }.emit(w));
        self.datagram(Port::Gossip, if self.keyed { sealed_datagram(&alive) } else { alive });
    }

    /// Lets time pass, every deadline by itself.
    pub fn time(&mut self, span: Duration) {
        let end = self.now + span;
        for _ in 0..2_000 {
            match self.rest() {
                Some(due) if due <= end => {
                    self.now = self.now.max(due);
                    self.agent.handle_timeout(self.now);
                }
                _ => {
                    self.now = end;
                    return;
                }
            }
        }
        panic!("a deadline stays due");
    }

    /// Does everything the agent asks for; says when it wants to be woken.
    fn rest(&mut self) -> Option<Instant> {
        let (mut buf, mut piece) = ([0; MAX_DATAGRAM], [0; 200]);
        for _ in 0..5_000 {
            match self.agent.poll_output(&mut buf) {
                Output::Wait { until, .. } => return until,
                Output::Transmit { port, to, len } => {
                    assert!(len <= 1472);
                    self.answered |= port == Port::Gossip && to == STRANGER;
                }
                // Gossip and calls find somebody, whose words are the attack's; what is checked is down.
                Output::Connect { id, purpose: Purpose::Gossip | Purpose::Rpc, .. } => {
                    self.open.insert(id);
                    self.agent.handle_stream(self.now, id, StreamInput::Open);
                }
                Output::Connect { id, .. } => {
                    self.agent.handle_stream(self.now, id, StreamInput::Failed);
                }
                Output::Writable { id } => while self.agent.fill_stream(self.now, id, &mut piece) > 0 {},
                Output::Close { id } => drop(self.open.remove(&id)),
                Output::Resolve { ticket, name } => {
                    let found = name.len() % 2 == 0;
                    let addresses = [STRANGER.ip()];
                    self.agent.handle_resolved(self.now, ticket, if found { &addresses } else { &[] });
                }
                Output::RunCheck { id, .. } => {
                    self.agent.handle_check(self.now, id, agent_core::checks::Health::Warning, "hm");
                }
                Output::Resume { .. } | Output::Event(_) => {}
            }
        }
        panic!("the agent never rests");
    }

    fn ping(&mut self) {
        self.rest();
        assert!(self.agent.members().next().is_some_and(|member| member.name == "n1"));
        let ping = written(|w| Ping { node: "n1", seq: 77, source: None, source_node: "" }.emit(w));
        self.answered = false;
        self.datagram(Port::Gossip, if self.keyed { sealed_datagram(&ping) } else { ping });
        assert!(self.answered, "a ping stayed unanswered");
    }
}

fn key() -> Key {
    Key::new(&std::array::from_fn::<u8, 32, _>(|i| i as u8)).expect("32 octets are a key")
}

/// A datagram sealed with the agent's key.
pub fn sealed_datagram(octets: &[u8]) -> Vec<u8> {
    let mut buf = vec![0; octets.len() + 2 * crypt::OVERHEAD];
    buf[1 + crypt::NONCE..][..octets.len()].copy_from_slice(octets);
    let len = crypt::seal(&key(), [9; 12], b"", &mut buf, octets.len()).expect("there is room for the tag");
    buf.truncate(len);
    buf
}

/// A stream's frame sealed with the agent's key.
pub fn sealed_stream(octets: &[u8]) -> Vec<u8> {
    let mut frame = vec![envelope::ENCRYPT];
    frame.extend(((octets.len() + crypt::OVERHEAD) as u32).to_be_bytes());
    let mut sealer = StreamSealer::new(&key(), [9; 12], &[&frame, b""]);
    frame.extend(sealer.head());
    let start = frame.len();
    frame.extend(octets);
    sealer.update(&mut frame[start..]);
    frame.extend(sealer.finish());
    frame
}

/// A message, compressed.
pub fn compressed(octets: &[u8]) -> Vec<u8> {
    let (mut memory, mut packed) = (vec![0; lzw::DEFLATE_MEMORY], vec![0; 2 * octets.len() + 16]);
    let len = lzw::deflate(octets, true, &mut memory, &mut packed).expect("a code takes twelve bits at most");
    written(|w| {
        w.byte(envelope::COMPRESS);
        w.map(2);
        w.text("Algo");
        w.uint(0);
        w.text("Buf");
        w.raw(&packed[..len]);
    })
}
