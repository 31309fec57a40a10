//! A network between servers that can be cut, without privileges.
//!
//! Every server has a second address that only this proxy listens on, and advertises that one. What server A sends to
//! server B's second address is passed on to B *from A's second address*, so that B sees the A that it knows: with
//! datagrams, with connections, and in answers. Between two servers that are cut off from each other datagrams are lost;
//! connections stand still, and new ones come about no earlier than the cut ends, as with a cable that is unplugged.

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::{Result, ports::Network};

/// Added to a host's number for its second address.
const BESIDE: u8 = 100;
/// How often an idle thread looks whether the proxy has ended.
const LOOK: Duration = Duration::from_millis(200);
/// Longer than any datagram of gossip.
const DATAGRAM: usize = 65_536;

/// The network between hosts 1 to `hosts`. It ends with this value.
#[derive(Debug)]
pub struct Proxy {
    network: Network,
    hosts: u8,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    /// Pairs (from, to) that are cut.
    cut: Mutex<HashSet<(u8, u8)>>,
    changed: Condvar,
    ended: AtomicBool,
}

impl Shared {
    fn is_cut(&self, from: u8, to: u8) -> bool {
        self.cut.lock().unwrap_or_else(PoisonError::into_inner).contains(&(from, to))
    }

    fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Waits until `from` reaches `to`; false: the proxy has ended.
    fn wait(&self, from: u8, to: u8) -> bool {
        let cut = self.cut.lock().unwrap_or_else(PoisonError::into_inner);
        let waiting = |cut: &mut HashSet<(u8, u8)>| cut.contains(&(from, to)) && !self.ended();
        drop(self.changed.wait_while(cut, waiting).unwrap_or_else(PoisonError::into_inner));
        !self.ended()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        self.heal();
    }
}

impl Proxy {
    /// Starts it for hosts 1 to `hosts` of a network.
    ///
    /// # Errors
    ///
    /// When an address is not free.
    pub fn start(network: Network, hosts: u8) -> Result<Self> {
        let proxy = Proxy { network, hosts, shared: Arc::default() };
        let mut gossip = Vec::new();
        for host in 1..=hosts {
            let socket = UdpSocket::bind((proxy.address(host), network.ports.serf_lan))?;
            socket.set_read_timeout(Some(LOOK))?;
            gossip.push(socket);
        }
        let gossip = Arc::new(gossip);
        for host in 1..=hosts {
            let (shared, gossip) = (Arc::clone(&proxy.shared), Arc::clone(&gossip));
            thread::spawn(move || datagrams(network, host, &gossip, &shared));
            for port in [network.ports.serf_lan, network.ports.server] {
                let listener = TcpListener::bind((proxy.address(host), port))?;
                listener.set_nonblocking(false)?;
                let shared = Arc::clone(&proxy.shared);
                thread::spawn(move || connections(network, host, &listener, &shared));
            }
        }
        Ok(proxy)
    }

    /// What host `host` advertises.
    pub fn address(&self, host: u8) -> IpAddr {
        self.network.address(host + BESIDE)
    }

    /// Cuts the network in two: `side`, and the others.
    pub fn part(&self, side: &[u8]) {
        let apart = |from: u8, to: u8| side.contains(&from) != side.contains(&to);
        self.cut(apart);
    }

    /// Cuts one direction only: nobody hears `host`, which hears everybody.
    pub fn mute(&self, host: u8) {
        self.cut(|from, _| from == host);
    }

    /// Ends all cuts.
    pub fn heal(&self) {
        self.cut(|_, _| false);
    }

    fn cut(&self, apart: impl Fn(u8, u8) -> bool) {
        let pairs = (0..=self.hosts).flat_map(|from| (1..=self.hosts).map(move |to| (from, to)));
        *self.shared.cut.lock().unwrap_or_else(PoisonError::into_inner) =
            pairs.filter(|(from, to)| from != to && apart(*from, *to)).collect();
        self.shared.changed.notify_all();
    }
}

/// The host whose own address this is; 0: nobody's. Connections of gossip, which agents open without choosing an address,
/// come from there. They are cut as if they came from the larger side.
fn host_of(network: Network, address: IpAddr) -> u8 {
    (1..BESIDE).find(|host| network.address(*host) == address).unwrap_or(0)
}

/// Passes on what comes to the second address of `to`.
fn datagrams(network: Network, to: u8, gossip: &[UdpSocket], shared: &Shared) {
    let mut buffer = vec![0; DATAGRAM];
    let target = SocketAddr::from((network.address(to), network.ports.serf_lan));
    while !shared.ended() {
        let Ok((octets, source)) = gossip[usize::from(to) - 1].recv_from(&mut buffer) else { continue };
        let from = host_of(network, source.ip());
        if shared.is_cut(from, to) {
            continue;
        }
        if let Some(socket) = usize::from(from).checked_sub(1).and_then(|n| gossip.get(n)) {
            // Lost, as datagrams may be, while nobody listens.
            let _ = socket.send_to(&buffer[..octets], target);
        }
    }
}

fn connections(network: Network, to: u8, listener: &TcpListener, shared: &Arc<Shared>) {
    // Its thread ends with the program: nothing connects to it any more.
    while let Ok((stream, source)) = listener.accept() {
        if shared.ended() {
            return;
        }
        let (from, Ok(address)) = (host_of(network, source.ip()), listener.local_addr()) else { continue };
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            let target = SocketAddr::from((network.address(to), address.port()));
            if shared.wait(from, to)
                && shared.wait(to, from)
                && let Ok(onward) =
                    connect(Some(from).filter(|from| *from > 0).map(|from| network.address(from + BESIDE)), target)
            {
                carry(stream, onward, (from, to), &shared);
            }
        });
    }
}

/// A connection to `target` whose other end is `from`.
fn connect(from: Option<IpAddr>, target: SocketAddr) -> Result<TcpStream> {
    let socket = rustix::net::socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    if let Some(from) = from {
        rustix::net::bind(&socket, &SocketAddr::from((from, 0)))?;
    }
    rustix::net::connect(&socket, &target)?;
    Ok(TcpStream::from(socket))
}

fn carry(one: TcpStream, other: TcpStream, (from, to): (u8, u8), shared: &Arc<Shared>) {
    let (Ok(one_too), Ok(other_too)) = (one.try_clone(), other.try_clone()) else { return };
    let back = Arc::clone(shared);
    let answers = thread::spawn(move || copy(&other_too, &one_too, to, from, &back));
    copy(&one, &other, from, to, shared);
    let _ = answers.join();
}

fn copy(mut source: &TcpStream, mut target: &TcpStream, from: u8, to: u8, shared: &Shared) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(octets @ 1..) = source.read(&mut buffer) {
        if !shared.wait(from, to) || target.write_all(&buffer[..octets]).is_err() {
            break;
        }
    }
    // The end of a connection travels as its octets do. One whose end was an error ends on both sides.
    if shared.wait(from, to) {
        let _ = target.shutdown(Shutdown::Both);
        let _ = source.shutdown(Shutdown::Both);
    }
}
