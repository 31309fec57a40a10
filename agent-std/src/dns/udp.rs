//! Queries over UDP: one task per socket, look-ups beside it.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
};

use agent_core::dns::{self, Outcome, Transport};
use tokio::net::UdpSocket;

use super::{Known, MAX_UDP, Shared, Source, resolve, rng, servfail};

/// A socket that shares its port with the other workers'.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, Some(socket2::Protocol::UDP))?;
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

/// Answers until the socket is dropped.
pub(super) async fn worker<S: Source>(mut shared: Shared<S>, socket: Arc<UdpSocket>) {
    let mut rng = rng();
    // No query is longer than its name and one or two extra records.
    let (mut buf, mut out) = (vec![0; MAX_UDP], vec![0; MAX_UDP]);
    let mut settings = shared.settings.borrow_and_update().clone();
    loop {
        let (len, from) = match socket.recv_from(&mut buf).await {
            Ok(received) => received,
            // An asker that is gone (ICMP) shows up here; the socket itself is fine.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => continue,
            Err(error) => {
                log::warn!("dns: receiving failed: {error}");
                tokio::task::yield_now().await;
                continue;
            }
        };
        shared.stats.queries.fetch_add(1, Ordering::Relaxed);
        if shared.settings.has_changed().unwrap_or(false) {
            settings = shared.settings.borrow_and_update().clone();
        }
        let query = &buf[..len];
        let now = shared.source.now();
        let known = Known::new(&now);
        let outcome =
            settings.with_rules(|rules| dns::respond(rules, &known, query, Transport::Udp, &mut rng, &mut out));
        match outcome {
            Outcome::Reply(len) => send(&shared, &socket, &out[..len], from),
            Outcome::Drop => {}
            Outcome::Ask(_) | Outcome::Recurse => {
                let Ok(slot) = shared.slots.clone().try_acquire_owned() else {
                    shared.stats.busy.fetch_add(1, Ordering::Relaxed);
                    if let Some(reply) = servfail(&settings, query, Vec::new()) {
                        send(&shared, &socket, &reply, from);
                    }
                    continue;
                };
                let (shared, settings, socket, query) =
                    (shared.clone(), settings.clone(), socket.clone(), query.to_vec());
                tokio::spawn(async move {
                    let _slot = slot;
                    let reply = resolve(&*shared.source, &settings, &shared.stats, &query, Transport::Udp).await;
                    if let Some(reply) = reply {
                        send(&shared, &socket, &reply, from);
                    }
                });
            }
        }
    }
}

/// A reply never waits: an asker that loses one asks again.
fn send<S>(shared: &Shared<S>, socket: &UdpSocket, reply: &[u8], to: SocketAddr) {
    if socket.try_send_to(reply, to).is_err() {
        shared.stats.dropped.fetch_add(1, Ordering::Relaxed);
    }
}
