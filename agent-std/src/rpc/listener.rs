//! Port 8300: the first octet decides, then calls are served one by one (rpc spec §1, §3).

use std::{io, net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use super::{
    codec,
    exchange::{Exchange, MAX_REQUEST},
    header,
    pool::YAMUX,
    server::{CallError, Server},
    snapshot::{self, SNAPSHOT},
    yamux::{Session, Side},
};
use crate::connections::Clients;

/// Calls directly on the connection.
const PLAIN: u8 = 0;
/// Raft between servers.
const RAFT: u8 = 1;
/// A caller that closed its side may still read the reply of a call that ends soon; a blocking query is dropped.
const AFTER_CLOSE: Duration = Duration::from_secs(10);
/// The Go runtime's keepalive: time before the first probe and between probes.
const KEEPALIVE: Duration = Duration::from_secs(15);
/// An accept that fails for want of descriptors fails again at once; wait a little.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What one source may do before it has said anything.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time from one address (`limits.rpc_max_conns_per_client`).
    pub connections: usize,
    /// How long a connection may wait with its first octet (`limits.rpc_handshake_timeout`).
    pub handshake: Duration,
}

impl Default for Limits {
    /// Consul's.
    fn default() -> Self {
        Limits { connections: 100, handshake: Duration::from_secs(5) }
    }
}

/// Serves connections until the future is dropped; with it, all connections end.
pub async fn serve(listener: TcpListener, server: Server, limits: Limits) {
    let clients = Clients::default();
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    // The surplus is closed at once, as Consul does.
                    let Some(place) = clients.admit(peer.ip(), limits.connections) else { continue };
                    let server = server.clone();
                    connections.spawn(async move {
                        // Errors are the peer's: the connection is over, and nothing else happens.
                        let _ = connection(server, stream, peer, limits.handshake).await;
                        drop(place);
                    });
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(server: Server, mut stream: TcpStream, peer: SocketAddr, handshake: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    socket2::SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    let first = timeout(handshake, stream.read_u8()).await??;
    match first {
        PLAIN => calls(&server, stream).await,
        RAFT => {
            server.consensus().accept(stream, peer);
            Ok(())
        }
        YAMUX => {
            let (session, mut accept) = Session::start(stream, Side::Server);
            let mut streams = tokio::task::JoinSet::new();
            loop {
                tokio::select! {
                    stream = accept.recv() => {
                        let Some(stream) = stream else { break };
                        let server = server.clone();
                        streams.spawn(async move { calls(&server, stream).await });
                    }
                    Some(_) = streams.join_next() => {}
                }
            }
            drop(session);
            Ok(())
        }
        SNAPSHOT => snapshot::serve(&server, stream).await,
        _ => Ok(()),
    }
}

/// Serves the calls of one connection or stream, strictly one after the other.
async fn calls<S: AsyncRead + AsyncWrite + Unpin>(server: &Server, stream: S) -> io::Result<()> {
    let mut exchange = Exchange::new(stream);
    loop {
        let Some(head) = exchange.value(MAX_REQUEST).await? else { return Ok(()) };
        // A header that cannot be read: closed without a reply, as Consul does.
        let head: header::Request = codec::from_request(&head).map_err(io::Error::other)?;
        let Some(args) = exchange.value(MAX_REQUEST).await? else { return Ok(()) };
        let result = {
            let mut call = std::pin::pin!(server.dispatch(&head.service_method, &args));
            tokio::select! {
                biased;
                result = &mut call => result,
                () = exchange.closed() => timeout(AFTER_CLOSE, call).await?,
            }
        };
        let mut response =
            header::Response { error: String::new(), seq: head.seq, service_method: head.service_method };
        match result {
            Ok(reply) => exchange.send(&response, &reply).await?,
            Err(error) => {
                response.error = error.to_string();
                exchange.send(&response, &codec::EMPTY_MAP).await?;
                if matches!(error, CallError::Fatal(_)) {
                    exchange.finish().await;
                    return Ok(());
                }
            }
        }
    }
}
