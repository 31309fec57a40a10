//! Two msgpack values back to back per call, two per reply, over any stream of octets (rpc spec §3).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{RpcError, codec, codec::Boundary, header};

/// 8 MiB: the largest request. Real servers take any; 600 KiB values were seen, and a transaction of 64 of Consul's
/// largest HTTP body is far below.
pub(super) const MAX_REQUEST: usize = 8 << 20;
/// 512 MiB: the largest reply we take from a server, e.g. every instance of a service of 100,000.
pub(super) const MAX_REPLY: usize = 512 << 20;
/// Octets read ahead while a call is under way; enough to notice that its caller went.
const MAX_AHEAD: usize = 64 << 10;

/// A connection or stream that carries calls, one after the other.
pub(super) struct Exchange<S> {
    stream: S,
    /// Received and not yet used.
    buffer: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Exchange<S> {
    pub fn new(stream: S) -> Self {
        Exchange { stream, buffer: Vec::new() }
    }

    /// The next value's octets; `None` at the end of the stream.
    ///
    /// # Errors
    /// When it is no msgpack, longer than `limit`, or cut off.
    pub async fn value(&mut self, limit: usize) -> io::Result<Option<Vec<u8>>> {
        let mut boundary = Boundary::default();
        loop {
            let found =
                boundary.find(&self.buffer).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
            if let Some(len) = found {
                let rest = self.buffer.split_off(len);
                return Ok(Some(std::mem::replace(&mut self.buffer, rest)));
            }
            if self.buffer.len() > limit {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("message longer than {limit} octets")));
            }
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                let clean = self.buffer.is_empty();
                return if clean { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// Everything up to the end of the stream.
    ///
    /// # Errors
    /// When it is longer than `limit`.
    pub async fn rest(&mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut octets = std::mem::take(&mut self.buffer);
        while octets.len() <= limit {
            if self.stream.read_buf(&mut octets).await? == 0 {
                return Ok(octets);
            }
        }
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {limit} octets")))
    }

    /// Waits until the other side closes, while a call is under way. What it sends meanwhile is kept.
    pub async fn closed(&mut self) {
        while self.buffer.len() < MAX_AHEAD {
            if !matches!(self.stream.read_buf(&mut self.buffer).await, Ok(1..)) {
                return;
            }
        }
        std::future::pending().await
    }

    /// Sends a header and its value.
    pub async fn send<H: serde::Serialize>(&mut self, header: &H, value: &[u8]) -> io::Result<()> {
        let mut message = codec::to_vec(header).map_err(io::Error::other)?;
        message.extend_from_slice(value);
        self.send_raw(&message).await
    }

    /// Sends octets as they are.
    pub async fn send_raw(&mut self, octets: &[u8]) -> io::Result<()> {
        self.stream.write_all(octets).await?;
        self.stream.flush().await
    }

    /// Says that nothing follows.
    pub async fn finish(&mut self) {
        // The other side may have gone first, which is just as well.
        let _ = self.stream.shutdown().await;
    }

    /// One call as its caller: the reply's octets.
    ///
    /// # Errors
    /// [`RpcError::Endpoint`] with the server's text: the exchange goes on. Others: it is over.
    pub async fn call(&mut self, seq: u64, method: &str, args: &[u8]) -> Result<Vec<u8>, RpcError> {
        let broken = |error: io::Error| RpcError::Broken(error.to_string());
        let eof = || RpcError::Broken("EOF".into());
        let request = header::Request { seq, service_method: method.to_owned() };
        self.send(&request, args).await.map_err(broken)?;
        let head = self.value(MAX_REPLY).await.map_err(broken)?.ok_or_else(eof)?;
        let head: header::Response = codec::from_slice(&head)?;
        let reply = self.value(MAX_REPLY).await.map_err(broken)?.ok_or_else(eof)?;
        if head.seq != seq {
            return Err(RpcError::Broken(format!("reply {} to call {seq}", head.seq)));
        }
        if head.error.is_empty() { Ok(reply) } else { Err(RpcError::Endpoint(head.error)) }
    }
}
