//! Streams: one future per TCP socket. Listeners wait for others, dialers make the connections that the agent asks for.

use core::{
    future::{Future, poll_fn},
    net::IpAddr,
    pin::pin,
    task::Poll,
};

use agent_core::agent::{Port, StreamId, StreamInput};
use embassy_futures::select::{Either, select};
use embassy_net::{
    Stack,
    tcp::{State, TcpSocket},
};
use embassy_time::{Duration, with_deadline, with_timeout};

use crate::{
    clock::{endpoint, socket_addr, to_embassy},
    link::{Destination, Job, Link, Slot},
    udp::GOSSIP_PORT,
};

/// Sockets that wait for others' gossip streams. While it is busy others are refused, and come back: a device has no
/// room for a second. DNS is answered by UDP only.
pub(crate) const LISTENERS: usize = 1;
/// Sockets that connect to others: one for RPC, one for push/pull, pings and checks.
pub(crate) const DIALERS: usize = 2;

/// Octets of a socket's receive queue. Less than a segment works too, with more round trips.
const RX: usize = 768;
/// Octets of a socket's send queue. A device says little: its own state, a registration, a DNS answer.
const TX: usize = 512;
/// A stream whose other side says nothing for this long is dead. Longer than the core's own deadlines.
const SILENCE: Duration = Duration::from_secs(60);
/// The last octets and the goodbye may take this long.
const FAREWELL: Duration = Duration::from_secs(5);

/// Octets lent to one socket.
pub(crate) struct TcpBuffers {
    rx: [u8; RX],
    tx: [u8; TX],
}

impl TcpBuffers {
    pub(crate) const EMPTY: TcpBuffers = TcpBuffers { rx: [0; RX], tx: [0; TX] };
}

/// Runs the socket of `link.slots[number]` for ever.
pub(crate) async fn run(stack: Stack<'_>, link: &Link<'_>, number: usize, buffers: &mut TcpBuffers) -> ! {
    let mut socket = TcpSocket::new(stack, &mut buffers.rx, &mut buffers.tx);
    let slot = &link.slots[number];
    loop {
        let is_open = match number.checked_sub(LISTENERS) {
            None => listen(link, slot, &mut socket).await,
            Some(dialer) => dial(stack, link, slot, &mut socket, dialer).await,
        };
        if let Some(id) = is_open {
            exchange(link, slot, &mut socket, id).await;
        }
        slot.id.set(None);
        socket.abort();
        // The reset, if one is due, must leave before the socket is used again.
        let _ = with_timeout(FAREWELL, socket.flush()).await;
    }
}

/// Waits for a connection that the agent wants.
async fn listen(link: &Link<'_>, slot: &Slot, socket: &mut TcpSocket<'_>) -> Option<StreamId> {
    socket.set_timeout(Some(SILENCE));
    socket.accept(GOSSIP_PORT).await.ok()?;
    let from = socket_addr(socket.remote_endpoint()?);
    let id = link.input(|agent, now| agent.handle_accept(now, Port::Gossip, from))?;
    slot.open(id);
    Some(id)
}

/// Waits for a connection to make, and makes it.
async fn dial(
    stack: Stack<'_>,
    link: &Link<'_>,
    slot: &Slot,
    socket: &mut TcpSocket<'_>,
    dialer: usize,
) -> Option<StreamId> {
    let job = loop {
        if let Some(job) = link.take_job() {
            break job;
        }
        link.dial[dialer].wait().await;
    };
    let id = job.id;
    slot.open(id);
    socket.set_timeout(Some(SILENCE));
    let connecting = with_deadline(to_embassy(job.deadline), connect(stack, socket, &job));
    let closed = async {
        while !slot.close.get() {
            slot.changed.wait().await;
        }
    };
    let is_open = match select(connecting, closed).await {
        Either::First(Ok(is_open)) => is_open,
        Either::First(Err(_)) => false,
        Either::Second(()) => return None,
    };
    if !is_open {
        link.stream(id, StreamInput::Failed);
        return None;
    }
    // A server tells the protocols on its port apart by the first octet; 0 is RPC without a multiplexer.
    if job.is_rpc && socket.write(&[0]).await.is_err() {
        link.stream(id, StreamInput::Failed);
        return None;
    }
    link.stream(id, StreamInput::Open);
    Some(id)
}

async fn connect(stack: Stack<'_>, socket: &mut TcpSocket<'_>, job: &Job) -> bool {
    let address = match &job.to {
        Destination::Address(address) => endpoint(*address),
        Destination::Name(name, port) => look_up(stack, name).await.map(|ip| (ip, *port).into()).and_then(endpoint),
    };
    match address {
        Some(address) => socket.connect(address).await.is_ok(),
        None => false,
    }
}

/// The address of `name`, if a name server knows one.
#[cfg(feature = "names")]
pub(crate) async fn look_up(stack: Stack<'_>, name: &str) -> Option<IpAddr> {
    use embassy_net::dns::DnsQueryType;
    let found = stack.dns_query(name, DnsQueryType::A).await.ok()?;
    found.first().map(|&embassy_net::IpAddress::Ipv4(ip)| IpAddr::V4(ip))
}

/// Without the DNS client no name has an address.
#[cfg(not(feature = "names"))]
pub(crate) async fn look_up(_stack: Stack<'_>, name: &str) -> Option<IpAddr> {
    crate::fmt::log!(warn, "{=str} is no address, and this firmware cannot look names up", name);
    None
}

/// Carries octets between the agent and an open socket until one side is done.
async fn exchange(link: &Link<'_>, slot: &Slot, socket: &mut TcpSocket<'_>, id: StreamId) {
    let mut told_eof = false;
    loop {
        if slot.writable.get() && !fill(link, slot, socket, id).await {
            return fail(link, id);
        }
        if slot.close.get() {
            // What is in the queue still leaves; then the other side has its time to close.
            socket.close();
            let _ = with_timeout(FAREWELL, socket.flush()).await;
            return;
        }
        if !slot.stalled.get() && socket.can_recv() && !take(link, slot, socket, id).await {
            return fail(link, id);
        }
        if !told_eof && !socket.can_recv() && !socket.may_recv() {
            if socket.state() != State::CloseWait {
                return fail(link, id);
            }
            told_eof = true;
            link.stream(id, StreamInput::Eof);
        }
        wait(slot, socket, told_eof).await;
    }
}

fn fail(link: &Link<'_>, id: StreamId) {
    link.stream(id, StreamInput::Failed);
}

/// Moves octets from the agent to the socket, as long as there are some and room for them.
async fn fill(link: &Link<'_>, slot: &Slot, socket: &mut TcpSocket<'_>, id: StreamId) -> bool {
    while socket.can_send() {
        let filled = socket.write_with(|room| {
            let len = link.input(|agent, now| agent.fill_stream(now, id, room));
            (len, len)
        });
        match filled.await {
            Ok(0) => {
                slot.writable.set(false);
                return true;
            }
            Ok(_) => {}
            Err(_) => return false,
        }
    }
    socket.may_send()
}

/// Moves octets from the socket to the agent. What it does not take stays in the socket, which slows the other side.
async fn take(link: &Link<'_>, slot: &Slot, socket: &mut TcpSocket<'_>, id: StreamId) -> bool {
    let taken = socket.read_with(|data| {
        let len = link.stream(id, StreamInput::Data(data));
        (len, len < data.len())
    });
    match taken.await {
        Ok(stalled) => {
            slot.stalled.set(stalled);
            true
        }
        Err(_) => false,
    }
}

/// Waits until there is something to do on either side.
async fn wait(slot: &Slot, socket: &TcpSocket<'_>, told_eof: bool) {
    let (reads, writes) = (!slot.stalled.get() && !told_eof, slot.writable.get());
    // A socket that ended is ready for nothing and wakes all the same; hence the look at `may_…` first.
    let ready = poll_fn(|cx| {
        if reads && (!socket.may_recv() || pin!(socket.wait_read_ready()).poll(cx).is_ready()) {
            return Poll::Ready(());
        }
        if writes && (!socket.may_send() || pin!(socket.wait_write_ready()).poll(cx).is_ready()) {
            return Poll::Ready(());
        }
        Poll::Pending
    });
    select(slot.changed.wait(), ready).await;
}
