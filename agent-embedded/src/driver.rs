//! The pump: everything that happened goes into the agent, and all work it has comes out.

use core::{
    net::SocketAddr,
    pin::{Pin, pin},
};

use agent_core::{
    agent::{CheckId, Event, HostCheck, Output, Port, Purpose, StreamId, StreamInput, Target, Ticket},
    checks::Health,
    time::Instant,
};
use embassy_futures::{
    join::join5,
    select::{select, select3},
    yield_now,
};
use embassy_net::Stack;
use embassy_time::Timer;
use heapless::String;

use crate::{
    clock::{now, to_embassy},
    fmt::log,
    link::{Destination, Job, Link, MAX_HOST, SLOTS},
    tcp::{self, TcpBuffers},
    udp::{Metadata, Sent, Udp, UdpBuffers},
};

/// Sockets that [`run`] opens: three for datagrams, the rest for streams. The stack needs room for them, for the
/// firmware's own, and for DHCP and the name look-up.
pub const SOCKETS: usize = 3 + SLOTS;

/// Longest text of a check's result, in octets.
pub const OUTPUT: usize = 96;
/// Octets of the longest datagram, in or out.
const DATAGRAM: usize = agent_core::pool::MAX_DATAGRAM;
/// Tries to send a datagram while the queue is full. The network runs between two of them; more would be waiting.
const TRIES: u8 = 4;

/// What the firmware does for its agent.
pub trait Host {
    /// Runs the check that was registered with `check.key`, and may write a line about the result. Must not wait: the
    /// agent stands still meanwhile.
    fn check(&mut self, check: HostCheck<'_>, output: &mut String<OUTPUT>) -> Health;

    /// Hears of an event. The agent is borrowed meanwhile: using the [`Link`] from here panics.
    fn event(&mut self, event: &Event<'_>) {
        let _ = event;
    }
}

/// Octets lent to [`run`]. All zero, so that a static lies in .bss:
/// `static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::EMPTY);`
pub struct Buffers {
    packet: [u8; DATAGRAM],
    udp: UdpBuffers,
    tcp: [TcpBuffers; SLOTS],
}

impl Buffers {
    /// Buffers for one agent.
    pub const EMPTY: Buffers =
        Buffers { packet: [0; DATAGRAM], udp: UdpBuffers::EMPTY, tcp: [const { TcpBuffers::EMPTY }; SLOTS] };
}

/// Runs the agent of `link` on `stack` for ever. Wrap it in a task; the network's own runner is another.
///
/// The stack must have its address by now, because the agent was told what to advertise.
///
/// # Panics
/// When the stack has no room for [`SOCKETS`] sockets, or when called twice for one link.
pub async fn run(stack: Stack<'_>, link: &Link<'_>, buffers: &mut Buffers, host: &mut impl Host) -> ! {
    let Buffers { packet, udp, tcp } = buffers;
    let mut meta = Metadata::EMPTY;
    let udp = Udp::new(stack, udp, &mut meta);
    let [a, b, c] = tcp;
    let (a, b, c) =
        (pin!(tcp::run(stack, link, 0, a)), pin!(tcp::run(stack, link, 1, b)), pin!(tcp::run(stack, link, 2, c)));
    let mut pump = Pump { link, udp, packet, host };
    let (pump, names) = (pin!(pump.run()), pin!(resolve(stack, link)));
    let (never, ..) = join5(apart(pump), apart(a), apart(b), apart(c), apart(names)).await;
    never
}

/// Hides what a future is, so that its code is not inlined into its owner's: inlined, the stack frames of all that run
/// by turns would add up.
fn apart<'a, T>(future: Pin<&'a mut (impl Future<Output = T> + 'a)>) -> Pin<&'a mut (dyn Future<Output = T> + 'a)> {
    future
}

/// Looks names up, one after the other.
async fn resolve(stack: Stack<'_>, link: &Link<'_>) -> ! {
    loop {
        let (ticket, name) = link.names.receive().await;
        let address = tcp::look_up(stack, &name).await;
        link.input(|agent, now| agent.handle_resolved(now, ticket, address.as_slice()));
    }
}

struct Pump<'a, 'm, H> {
    link: &'a Link<'m>,
    udp: Udp<'a>,
    packet: &'a mut [u8; DATAGRAM],
    host: &'a mut H,
}

/// What is left to do with a piece of work once the agent is free again.
enum Step {
    Send(Port, SocketAddr, usize),
    /// A stream that never came to be.
    Refuse(StreamId),
    /// A name that nobody has time to look up.
    Unresolved(Ticket),
    Checked(CheckId, Health, String<OUTPUT>),
    Next,
    Wait(Option<Instant>),
}

impl<H: Host> Pump<'_, '_, H> {
    async fn run(&mut self) -> ! {
        loop {
            self.link.with(|agent| agent.handle_timeout(now()));
            let mut until = self.drain().await;
            while self.receive() {
                until = self.drain().await;
            }
            self.udp.unstick(self.link);
            self.sleep(until).await;
        }
    }

    /// Hands one waiting datagram to the agent.
    fn receive(&mut self) -> bool {
        for (port, socket) in [(Port::Gossip, &self.udp.gossip), (Port::Dns, &self.udp.dns)] {
            if let Some((len, from)) = self.udp.receive(socket, self.packet) {
                let data = &mut self.packet[..len];
                self.link.with(|agent| agent.handle_datagram(now(), port, from, data));
                return true;
            }
        }
        false
    }

    /// Does all work that the agent has now, and tells until when it can be left alone.
    async fn drain(&mut self) -> Option<Instant> {
        loop {
            match self.next() {
                Step::Send(port, to, len) => self.send(port, to, len).await,
                Step::Refuse(id) => {
                    self.link.count(|counters| counters.refused += 1);
                    self.link.stream(id, StreamInput::Failed);
                }
                Step::Unresolved(ticket) => self.link.with(|agent| agent.handle_resolved(now(), ticket, &[])),
                Step::Checked(id, health, output) => {
                    self.link.with(|agent| agent.handle_check(now(), id, health, &output));
                }
                Step::Next => {}
                Step::Wait(until) => return until,
            }
        }
    }

    fn next(&mut self) -> Step {
        let Pump { link, packet, host, .. } = self;
        link.with(|agent| match agent.poll_output(&mut packet[..]) {
            Output::Transmit { port, to, len } => Step::Send(port, to, len),
            Output::Connect { id, to, purpose, timeout } => {
                match destination(to).filter(|_| !matches!(purpose, Purpose::Check { tls: Some(_), .. })) {
                    Some(to) => {
                        let job = Job { id, to, is_rpc: purpose == Purpose::Rpc, deadline: now() + timeout };
                        if link.queue(job) { Step::Next } else { Step::Refuse(id) }
                    }
                    None => Step::Refuse(id),
                }
            }
            Output::Writable { id } => {
                link.touch(id, |slot| slot.writable.set(true));
                Step::Next
            }
            Output::Resume { id } => {
                link.touch(id, |slot| slot.stalled.set(false));
                Step::Next
            }
            Output::Close { id } => {
                link.close(id);
                Step::Next
            }
            Output::Resolve { ticket, name } => {
                let name = String::try_from(name).ok();
                match name.map(|name| link.names.try_send((ticket, name))) {
                    Some(Ok(())) => Step::Next,
                    _ => Step::Unresolved(ticket),
                }
            }
            Output::RunCheck { id, check, timeout: _ } => {
                let mut output = String::new();
                let health = host.check(check, &mut output);
                Step::Checked(id, health, output)
            }
            Output::Event(event) => {
                host.event(&event);
                Step::Next
            }
            Output::Wait { until, why: _ } => Step::Wait(until),
        })
    }

    /// Sends what `poll_output` has left in the packet buffer, or drops and counts it.
    async fn send(&mut self, port: Port, to: SocketAddr, len: usize) {
        let data = &self.packet[..len];
        for _ in 0..TRIES {
            let sent = match port {
                Port::Gossip => self.udp.send_gossip(self.link, to, data),
                Port::Dns => self.udp.send_dns(to, data),
            };
            match sent {
                Sent::Yes => return,
                Sent::Never => return self.link.count(|counters| counters.unsendable += 1),
                // Lets the network empty the queue.
                Sent::Full => yield_now().await,
            }
        }
        self.link.count(|counters| counters.dropped += 1);
        log!(debug, "a datagram was dropped: the queue is full");
    }

    /// Sleeps until a datagram, a stream, the firmware or a deadline has something for the agent.
    async fn sleep(&self, until: Option<Instant>) {
        let deadline = async {
            match until {
                Some(until) => Timer::at(to_embassy(until)).await,
                None => core::future::pending().await,
            }
        };
        let datagram = select(self.udp.gossip.wait_recv_ready(), self.udp.dns.wait_recv_ready());
        select3(datagram, self.link.kick.wait(), deadline).await;
    }
}

fn destination(to: Target<'_>) -> Option<Destination> {
    match to {
        Target::Address(address) => Some(Destination::Address(address)),
        Target::Name(name, port) => Some(Destination::Name(String::<MAX_HOST>::try_from(name).ok()?, port)),
    }
}
