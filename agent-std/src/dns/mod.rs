//! The DNS port: sockets around [`agent_core::dns::respond`].
//!
//! ```text
//! UDP workers ─┐             ┌─ Reply ──────────────> back to the asker
//! TCP accept ──┴─ respond ───┼─ Ask ── Source::look_up ── respond again
//!                            └─ Recurse ── recursors in turn
//! ```
//!
//! A [`Source`] answers what it has at hand (a server: its state) on the spot and looks up the rest (a client: by RPC,
//! `lookup.rs`). Look-ups run beside the workers, at most [`Settings::lookups`] at once; beyond that the asker is told
//! SERVFAIL, which makes it try another agent. Settings can be replaced while the port is open.

mod known;
mod lookup;
mod recursor;
mod store;
mod tcp;
mod udp;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use agent_core::{
    dns::{self, Directory, Lookup, Outcome, Rules, Soa, Transport},
    rand::Rng,
};
use tokio::{
    net::{TcpListener, UdpSocket},
    sync::{Semaphore, watch},
    task::JoinSet,
};

pub use known::{HostAddress, Known, Row};
pub use lookup::{AskAll, LookupOptions, RpcSource};
pub use store::{StoreSource, StoreView};

/// Largest UDP reply, whatever an asker advertises: larger ones are fragments that networks lose.
const MAX_UDP: usize = 4096;

/// Look-ups per query: the name itself and the aliases it may lead to.
const MAX_ASKS: usize = 5;

/// Where answers come from.
pub trait Source: Send + Sync + 'static {
    /// What is at hand at one moment; see [`Source::now`].
    type Now<'a>: Directory + Send + Sync;

    /// What is at hand now. It must not change while one query is answered.
    fn now(&self) -> Self::Now<'_>;

    /// Looks up what [`Directory::find`] answered with [`dns::Found::Ask`]. `None`: no such name.
    fn look_up<'a>(&'a self, lookup: &'a Lookup) -> LookUp<'a>;
}

/// A look-up under way.
pub type LookUp<'a> = Pin<Box<dyn Future<Output = Result<Option<Vec<Row>>, Failed>> + Send + 'a>>;

/// Nobody could be asked; the asker is told SERVFAIL. The reason is logged where it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the look-up failed")]
pub struct Failed;

/// Settings of the port. [`Settings::default`] has Consul's defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Zone, without dots at its ends.
    pub domain: String,
    /// Second zone; empty: none.
    pub alt_domain: String,
    /// Our datacenter.
    pub datacenter: String,
    /// See [`Rules::node_ttl`]; seconds.
    pub node_ttl: u32,
    /// See [`Rules::service_ttl`]; seconds.
    pub service_ttl: Vec<(String, u32)>,
    /// See [`Rules::only_passing`].
    pub only_passing: bool,
    /// See [`Rules::enable_truncate`].
    pub enable_truncate: bool,
    /// See [`Rules::udp_answer_limit`].
    pub udp_answer_limit: u16,
    /// See [`Rules::a_record_limit`].
    pub a_record_limit: u16,
    /// See [`Rules::node_meta_txt`].
    pub node_meta_txt: bool,
    /// See [`Rules::compress`].
    pub compress: bool,
    /// SOA record.
    pub soa: Soa,
    /// Asked in this order for what is not ours.
    pub recursors: Vec<SocketAddr>,
    /// Time for each of them.
    pub recursor_timeout: Duration,
    /// Look-ups and recursions at once.
    pub lookups: usize,
}

impl Default for Settings {
    fn default() -> Self {
        let rules = Rules::new("consul", "dc1");
        Settings {
            domain: rules.domain.into(),
            alt_domain: String::new(),
            datacenter: rules.datacenter.into(),
            node_ttl: rules.node_ttl,
            service_ttl: Vec::new(),
            only_passing: rules.only_passing,
            enable_truncate: rules.enable_truncate,
            udp_answer_limit: rules.udp_answer_limit,
            a_record_limit: rules.a_record_limit,
            node_meta_txt: rules.node_meta_txt,
            compress: rules.compress,
            soa: rules.soa,
            recursors: Vec::new(),
            recursor_timeout: Duration::from_secs(2),
            lookups: 1024,
        }
    }
}

impl Settings {
    /// Calls `f` with the core's view of the settings.
    fn with_rules<T>(&self, f: impl FnOnce(&Rules<'_>) -> T) -> T {
        let ttls: Vec<_> = self.service_ttl.iter().map(|(name, ttl)| (name.as_str(), *ttl)).collect();
        f(&Rules {
            domain: &self.domain,
            alt_domain: &self.alt_domain,
            datacenter: &self.datacenter,
            node_ttl: self.node_ttl,
            service_ttl: &ttls,
            only_passing: self.only_passing,
            enable_truncate: self.enable_truncate,
            udp_answer_limit: self.udp_answer_limit,
            a_record_limit: self.a_record_limit,
            node_meta_txt: self.node_meta_txt,
            compress: self.compress,
            recursors: !self.recursors.is_empty(),
            soa: self.soa,
        })
    }
}

/// Counters since start; read with `Relaxed`.
#[derive(Debug, Default)]
pub struct Stats {
    /// Queries that arrived.
    pub queries: AtomicU64,
    /// Queries refused because too many look-ups were under way.
    pub busy: AtomicU64,
    /// Look-ups or recursions that failed.
    pub failed: AtomicU64,
    /// Replies that the socket did not take.
    pub dropped: AtomicU64,
}

/// The open DNS port. Closes when dropped.
pub struct Server {
    address: SocketAddr,
    stats: Arc<Stats>,
    _tasks: JoinSet<()>,
}

impl Server {
    /// Opens UDP and TCP at `ip`:`port` (0: any free port) and answers from `source`.
    ///
    /// `workers` UDP sockets share the port; the kernel spreads askers over them. One per core is plenty.
    ///
    /// # Errors
    /// The port is taken or may not be used.
    pub fn open(
        ip: IpAddr,
        port: u16,
        workers: usize,
        source: Arc<impl Source>,
        settings: watch::Receiver<Arc<Settings>>,
    ) -> io::Result<Self> {
        let (udp, tcp) = bind(ip, port, workers.max(1))?;
        let address = tcp.local_addr()?;
        let stats = Arc::new(Stats::default());
        let slots = Arc::new(Semaphore::new(settings.borrow().lookups));
        let shared = Shared { source, settings, slots, stats: stats.clone() };
        let mut tasks = JoinSet::new();
        for socket in udp {
            tasks.spawn(udp::worker(shared.clone(), Arc::new(socket)));
        }
        tasks.spawn(tcp::accept(shared, tcp));
        Ok(Server { address, stats, _tasks: tasks })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }
}

/// All sockets of one address. With port 0 the kernel chooses a UDP port whose TCP twin may be taken: then again.
fn bind(ip: IpAddr, port: u16, workers: usize) -> io::Result<(Vec<UdpSocket>, TcpListener)> {
    const TRIES: usize = 16;
    let mut last = None;
    for _ in 0..if port == 0 { TRIES } else { 1 } {
        let first = udp::bind(SocketAddr::new(ip, port))?;
        let address = first.local_addr()?;
        let tcp = match std::net::TcpListener::bind(address) {
            Ok(tcp) => tcp,
            Err(error) => {
                last = Some(error);
                continue;
            }
        };
        tcp.set_nonblocking(true)?;
        let mut udp = vec![first];
        for _ in 1..workers {
            udp.push(udp::bind(address)?);
        }
        return Ok((udp, TcpListener::from_std(tcp)?));
    }
    Err(last.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// What every worker and connection needs.
struct Shared<S> {
    source: Arc<S>,
    settings: watch::Receiver<Arc<Settings>>,
    slots: Arc<Semaphore>,
    stats: Arc<Stats>,
}

impl<S> Clone for Shared<S> {
    fn clone(&self) -> Self {
        Shared {
            source: self.source.clone(),
            settings: self.settings.clone(),
            slots: self.slots.clone(),
            stats: self.stats.clone(),
        }
    }
}

/// Answers `query` however long it takes; `None`: say nothing.
async fn resolve(
    source: &impl Source,
    settings: &Settings,
    stats: &Stats,
    query: &[u8],
    via: Transport,
) -> Option<Vec<u8>> {
    let mut out = vec![0; if via == Transport::Tcp { usize::from(u16::MAX) } else { MAX_UDP }];
    let mut rng = rng();
    let now = source.now();
    let mut known = Known::new(&now);
    for _ in 0..MAX_ASKS {
        match settings.with_rules(|rules| dns::respond(rules, &known, query, via, &mut rng, &mut out)) {
            Outcome::Reply(len) => {
                out.truncate(len);
                return Some(out);
            }
            Outcome::Drop => return None,
            Outcome::Recurse => match recursor::ask(settings, query, via).await {
                Some(reply) => return Some(reply),
                None => break,
            },
            Outcome::Ask(lookup) => match source.look_up(&lookup).await {
                Ok(mut rows) => {
                    if let Some(rows) = rows.as_mut().filter(|_| lookup.kind() != dns::Kind::Query) {
                        shuffle(rows, &mut rng);
                    }
                    known.learn(lookup, rows);
                }
                Err(Failed) => break,
            },
        }
    }
    stats.failed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    servfail(settings, query, out)
}

/// The reply that says that we could not find out.
fn servfail(settings: &Settings, query: &[u8], mut out: Vec<u8>) -> Option<Vec<u8>> {
    out.resize(MAX_UDP, 0);
    match settings.with_rules(|rules| dns::fail(rules, query, &mut out)) {
        Outcome::Reply(len) => {
            out.truncate(len);
            Some(out)
        }
        _ => None,
    }
}

fn shuffle(rows: &mut [Row], rng: &mut Rng) {
    for last in (1..rows.len()).rev() {
        rows.swap(last, rng.below(last + 1));
    }
}

/// A generator for choices, seeded by the hasher that the standard library seeds from the system.
fn rng() -> Rng {
    use std::hash::{BuildHasher, RandomState};
    let state = RandomState::new();
    let mut seed = [0; 32];
    for (number, chunk) in seed.chunks_exact_mut(8).enumerate() {
        chunk.copy_from_slice(&state.hash_one(number).to_le_bytes());
    }
    Rng::from_seed(&seed)
}

#[cfg(test)]
mod tests;
