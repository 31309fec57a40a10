//! Queries over TCP (RFC 7766): two octets of length before each message, answered one after the other.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use agent_core::dns::Transport;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Shared, Source, resolve, servfail};

/// Connections at once; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;

/// An asker that says nothing for this long is gone; also the time for one message to come or go.
const IDLE: Duration = Duration::from_secs(8);

/// Longer queries are none: a name has 255 octets.
const MAX_QUERY: usize = 4096;

/// Pause when the system refuses connections, e.g. for want of file descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Accepts until dropped; its connections end with it.
pub(super) async fn accept<S: Source>(shared: Shared<S>, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        let (stream, from) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                log::warn!("dns: accepting failed: {error}");
                sleep(BREATH).await;
                continue;
            }
        };
        while connections.try_join_next().is_some() {}
        let shared = shared.clone();
        connections.spawn(async move {
            if let Err(error) = serve(shared, stream).await {
                log::debug!("dns: connection from {}: {error}", SocketAddr::ip(&from));
            }
            drop(slot);
        });
    }
}

async fn serve<S: Source>(mut shared: Shared<S>, mut stream: TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut query = Vec::new();
    loop {
        match timeout(IDLE, receive(&mut stream, &mut query)).await {
            Ok(Ok(true)) => {}
            Ok(Ok(false)) | Err(_) => return Ok(()),
            Ok(Err(error)) => return Err(error),
        }
        shared.stats.queries.fetch_add(1, Ordering::Relaxed);
        let settings = shared.settings.borrow_and_update().clone();
        let reply = match shared.slots.clone().try_acquire_owned() {
            Ok(_slot) => resolve(&*shared.source, &settings, &shared.stats, &query, Transport::Tcp).await,
            Err(_) => {
                shared.stats.busy.fetch_add(1, Ordering::Relaxed);
                servfail(&settings, &query, Vec::new())
            }
        };
        // A message without an answer is no DNS: nothing more is expected from here.
        let Some(reply) = reply else { return Ok(()) };
        let length = u16::try_from(reply.len()).map_err(io::Error::other)?;
        let framed = [&length.to_be_bytes()[..], &reply].concat();
        timeout(IDLE, stream.write_all(&framed)).await??;
    }
}

/// One message; `false` at the end of the stream.
async fn receive(stream: &mut TcpStream, query: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 2];
    match stream.read_exact(&mut length).await {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
        result => result?,
    };
    let length = usize::from(u16::from_be_bytes(length));
    if length > MAX_QUERY {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "query too long"));
    }
    query.resize(length, 0);
    stream.read_exact(query).await?;
    Ok(true)
}
