//! Datagrams. None ever waits for its destination: it is sent now, or dropped and counted.
//!
//! A smoltcp UDP socket stops at a datagram whose next hop does not answer ARP: everything behind it waits, for a
//! minute and more. One dead neighbour would silence the board. So the gossip socket sends only to next hops that were
//! heard from lately; everything else leaves through a spare socket that receives nothing, and is closed and bound anew
//! as soon as a datagram is stuck in it. Its port is another, which is why the agent's pings name the address to answer.

use core::{
    cell::{Cell, RefCell},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    pin::pin,
    task::{Context, Poll, Waker},
};

use embassy_net::{
    Stack,
    udp::{PacketMetadata, SendError, UdpSocket},
};
use embassy_time::{Duration, Instant};

use crate::{clock::endpoint, fmt::log, link::Link};

/// LAN gossip, Consul's number.
pub(crate) const GOSSIP_PORT: u16 = 8301;
/// DNS, Consul's number.
pub(crate) const DNS_PORT: u16 = 8600;

/// A next hop heard from within this time is in the neighbour cache, or answers ARP. smoltcp forgets after 60 s.
const HEARD: Duration = Duration::from_secs(30);
/// Next hops remembered; the one heard from longest ago gives way.
const HOPS: usize = 16;
/// A datagram unsent for this long is stuck: ARP takes a few milliseconds on a LAN.
const STUCK: Duration = Duration::from_millis(200);

/// Octets of the queues. A gossip datagram has 1,407 octets at most, a question far fewer.
const GOSSIP_RX: usize = 1440;
const GOSSIP_TX: usize = 1440;
const SPARE_TX: usize = 1440;
const DNS_RX: usize = 512;
const DNS_TX: usize = 768;

/// Octets lent to the datagram sockets.
pub(crate) struct UdpBuffers {
    gossip_rx: [u8; GOSSIP_RX],
    gossip_tx: [u8; GOSSIP_TX],
    spare_tx: [u8; SPARE_TX],
    dns_rx: [u8; DNS_RX],
    dns_tx: [u8; DNS_TX],
}

impl UdpBuffers {
    pub(crate) const EMPTY: UdpBuffers = UdpBuffers {
        gossip_rx: [0; GOSSIP_RX],
        gossip_tx: [0; GOSSIP_TX],
        spare_tx: [0; SPARE_TX],
        dns_rx: [0; DNS_RX],
        dns_tx: [0; DNS_TX],
    };
}

/// Datagrams that may queue in each direction of a socket.
#[derive(Clone, Copy)]
pub(crate) struct Metadata {
    gossip_rx: [PacketMetadata; 6],
    gossip_tx: [PacketMetadata; 6],
    spare_tx: [PacketMetadata; 4],
    dns_rx: [PacketMetadata; 4],
    dns_tx: [PacketMetadata; 4],
}

impl Metadata {
    pub(crate) const EMPTY: Metadata = Metadata {
        gossip_rx: [PacketMetadata::EMPTY; 6],
        gossip_tx: [PacketMetadata::EMPTY; 6],
        spare_tx: [PacketMetadata::EMPTY; 4],
        dns_rx: [PacketMetadata::EMPTY; 4],
        dns_tx: [PacketMetadata::EMPTY; 4],
    };
}

/// The board's UDP sockets.
pub(crate) struct Udp<'a> {
    stack: Stack<'a>,
    pub(crate) gossip: UdpSocket<'a>,
    spare: RefCell<UdpSocket<'a>>,
    /// Since when the spare socket has not been empty.
    spare_busy: Cell<Option<Instant>>,
    pub(crate) dns: UdpSocket<'a>,
    heard: RefCell<[(Ipv4Addr, Instant); HOPS]>,
}

/// What became of a datagram.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    Yes,
    /// The queue is full; it drains as soon as the network runs.
    Full,
    /// It can never be sent.
    Never,
}

impl<'a> Udp<'a> {
    pub(crate) fn new(stack: Stack<'a>, buffers: &'a mut UdpBuffers, meta: &'a mut Metadata) -> Self {
        let UdpBuffers { gossip_rx, gossip_tx, spare_tx, dns_rx, dns_tx } = buffers;
        let mut gossip = UdpSocket::new(stack, &mut meta.gossip_rx, gossip_rx, &mut meta.gossip_tx, gossip_tx);
        let mut spare = UdpSocket::new(stack, &mut [], &mut [], &mut meta.spare_tx, spare_tx);
        let mut dns = UdpSocket::new(stack, &mut meta.dns_rx, dns_rx, &mut meta.dns_tx, dns_tx);
        gossip.bind(GOSSIP_PORT).expect("a fresh socket binds to a port that is not zero");
        spare.bind(0).expect("zero asks for a port of the stack's choice");
        dns.bind(DNS_PORT).expect("a fresh socket binds to a port that is not zero");
        let heard = RefCell::new([(Ipv4Addr::UNSPECIFIED, Instant::MIN); HOPS]);
        Udp { stack, gossip, spare: RefCell::new(spare), spare_busy: Cell::new(None), dns, heard }
    }

    /// Takes one waiting datagram of `socket` into `buf`.
    pub(crate) fn receive(&self, socket: &UdpSocket<'a>, buf: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let mut cx = Context::from_waker(Waker::noop());
        loop {
            match socket.poll_recv_from(buf, &mut cx) {
                Poll::Ready(Ok((len, meta))) => {
                    let from = crate::clock::socket_addr(meta.endpoint);
                    self.hear(from);
                    return Some((len, from));
                }
                // Longer than any we accept: gone, look at the next.
                Poll::Ready(Err(_)) => {}
                Poll::Pending => return None,
            }
        }
    }

    /// Sends gossip through the socket that its next hop has earned.
    pub(crate) fn send_gossip(&self, link: &Link<'_>, to: SocketAddr, data: &[u8]) -> Sent {
        if self.is_heard(to) {
            return send(&self.gossip, to, data);
        }
        self.unstick(link);
        let spare = self.spare.borrow();
        let sent = send(&spare, to, data);
        if sent == Sent::Yes && self.spare_busy.get().is_none() {
            self.spare_busy.set(Some(Instant::now()));
        }
        sent
    }

    /// Answers a DNS question: whoever asked was heard a moment ago.
    pub(crate) fn send_dns(&self, to: SocketAddr, data: &[u8]) -> Sent {
        send(&self.dns, to, data)
    }

    /// Empties the spare socket when a datagram is stuck in it. Called whenever the pump runs, at least every probe.
    pub(crate) fn unstick(&self, link: &Link<'_>) {
        let Some(since) = self.spare_busy.get() else { return };
        let mut spare = self.spare.borrow_mut();
        let mut cx = Context::from_waker(Waker::noop());
        if pin!(spare.flush()).poll(&mut cx).is_ready() {
            self.spare_busy.set(None);
        } else if since.elapsed() >= STUCK {
            spare.close();
            spare.bind(0).expect("a closed socket binds to a port of the stack's choice");
            self.spare_busy.set(None);
            link.count(|counters| counters.stuck += 1);
            log!(debug, "a next hop does not answer; dropped what waited for it");
        }
    }

    /// The neighbour that a packet to `to` is handed to: itself on our network, else the router.
    fn next_hop(&self, to: SocketAddr) -> Option<Ipv4Addr> {
        let IpAddr::V4(to) = to.ip() else { return None };
        let config = self.stack.config_v4()?;
        if config.address.contains_addr(&to) { Some(to) } else { config.gateway }
    }

    fn hear(&self, from: SocketAddr) {
        let Some(hop) = self.next_hop(from) else { return };
        let mut heard = self.heard.borrow_mut();
        let known = heard.iter().position(|&(address, _)| address == hop);
        let place = known.or_else(|| (0..HOPS).min_by_key(|&i| heard[i].1)).unwrap_or(0);
        heard[place] = (hop, Instant::now());
    }

    fn is_heard(&self, to: SocketAddr) -> bool {
        let now = Instant::now();
        self.next_hop(to).is_some_and(|hop| {
            self.heard.borrow().iter().any(|&(address, at)| address == hop && at != Instant::MIN && now - at < HEARD)
        })
    }
}

fn send(socket: &UdpSocket<'_>, to: SocketAddr, data: &[u8]) -> Sent {
    let Some(to) = endpoint(to) else { return Sent::Never };
    match socket.poll_send_to(data, to, &mut Context::from_waker(Waker::noop())) {
        Poll::Ready(Ok(())) => Sent::Yes,
        Poll::Pending => Sent::Full,
        Poll::Ready(Err(SendError::NoRoute | SendError::SocketNotBound | SendError::PacketTooLarge)) => Sent::Never,
    }
}
