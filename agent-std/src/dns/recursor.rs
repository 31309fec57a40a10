//! Names that are not ours: asked of the configured recursors in turn (dns spec §8).

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use agent_core::dns::Transport;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

use super::{Settings, rng};

/// Flag in the third octet of a reply; response code in the fourth.
const QR: u8 = 0x80;
/// "Recursion available" in the fourth octet.
const RA: u8 = 0x80;
/// Response codes that are answers.
const NO_ERROR: u8 = 0;
const NX_DOMAIN: u8 = 3;

/// The first recursor's answer, by the same transport as the query came. `None`: none of them has one.
pub(super) async fn ask(settings: &Settings, query: &[u8], via: Transport) -> Option<Vec<u8>> {
    let mut rng = rng();
    for &recursor in &settings.recursors {
        // A fresh id: the asker's may be known to others.
        let id = (rng.next_u32() as u16).to_be_bytes();
        let mut forwarded = query.to_vec();
        forwarded.get_mut(..2)?.copy_from_slice(&id);
        let exchange = async {
            match via {
                Transport::Udp => by_udp(recursor, &forwarded).await,
                Transport::Tcp => by_tcp(recursor, &forwarded).await,
            }
        };
        match timeout(settings.recursor_timeout, exchange).await {
            Ok(Ok(mut reply)) => {
                if matches!(reply[3] & 0x0f, NO_ERROR | NX_DOMAIN) {
                    reply[..2].copy_from_slice(&query[..2]);
                    reply[3] |= RA;
                    return Some(reply);
                }
                log::debug!("dns: recursor {recursor} answered with code {}", reply[3] & 0x0f);
            }
            Ok(Err(error)) => log::debug!("dns: recursor {recursor}: {error}"),
            Err(_) => log::debug!("dns: recursor {recursor} did not answer in time"),
        }
    }
    None
}

/// From a port of its own, so that answers are hard to forge.
async fn by_udp(recursor: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let any = if recursor.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind(SocketAddr::new(any, 0)).await?;
    socket.connect(recursor).await?;
    socket.send(query).await?;
    let mut buf = vec![0; usize::from(u16::MAX)];
    loop {
        let len = socket.recv(&mut buf).await?;
        if is_reply(query, &buf[..len]) {
            buf.truncate(len);
            return Ok(buf);
        }
    }
}

async fn by_tcp(recursor: SocketAddr, query: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(recursor).await?;
    let length = u16::try_from(query.len()).map_err(io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut reply = vec![0; usize::from(length)];
    stream.read_exact(&mut reply).await?;
    if !is_reply(query, &reply) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not a reply to the query"));
    }
    Ok(reply)
}

/// Same id, QR set, and the same question. The question was parsed before, so it is whole and not compressed.
fn is_reply(query: &[u8], reply: &[u8]) -> bool {
    let question = |message: &[u8]| {
        let mut at = 12;
        while *message.get(at)? != 0 {
            at += 1 + usize::from(*message.get(at)?);
        }
        message.get(12..at + 5).map(<[u8]>::to_ascii_lowercase)
    };
    reply.len() >= 12 && reply[..2] == query[..2] && reply[2] & QR != 0 && question(query) == question(reply)
}
