//! One task per stream: opens it, moves octets both ways, closes it.

use std::{fmt, io, net::SocketAddr, pin::Pin, time::Duration};

use agent_core::agent::{Port, Purpose, StreamId, Target};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{Input, Order, PIECE};

/// Pause when the system refuses connections, e.g. for want of file descriptors.
const BREATH: Duration = Duration::from_millis(100);
/// What was written gets this long to leave when a stream is closed.
const LINGER: Duration = Duration::from_secs(10);
/// First octet of a connection for RPC without multiplexing (rpc spec §1).
const RPC_PLAIN: u8 = 0;

/// Anything octets go through: TCP, TLS, or a pipe inside the process.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

/// Some wire.
pub type BoxWire = Box<dyn Wire>;

/// Where a connection goes, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address.
    Address(SocketAddr),
    /// A name to look up, and a port.
    Name(String, u16),
}

impl From<Target<'_>> for Destination {
    fn from(target: Target<'_>) -> Self {
        match target {
            Target::Address(address) => Destination::Address(address),
            Target::Name(name, port) => Destination::Name(name.into(), port),
        }
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Address(address) => address.fmt(f),
            Destination::Name(name, port) => write!(f, "{name}:{port}"),
        }
    }
}

/// What a connection is for, owned; see [`Purpose`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Gossip: never TLS.
    Gossip,
    /// RPC to a server: TLS if that is configured, then the first octet.
    Rpc,
    /// A check; the server name when it wants TLS.
    Check(Option<String>),
}

impl From<Purpose<'_>> for Why {
    fn from(purpose: Purpose<'_>) -> Self {
        match purpose {
            Purpose::Gossip => Why::Gossip,
            Purpose::Rpc => Why::Rpc,
            Purpose::Check { tls, .. } => Why::Check(tls.map(Into::into)),
        }
    }
}

/// Opens connections. The loop limits the time; dropping the future gives up.
pub trait Dial: Send + Sync + 'static {
    /// A connection to `to`, ready for the machine's first octet.
    fn dial(&self, to: Destination, why: Why) -> Pin<Box<dyn Future<Output = io::Result<BoxWire>> + Send>>;
}

/// Connections without TLS.
#[derive(Clone, Copy, Debug, Default)]
pub struct PlainDial;

impl Dial for PlainDial {
    fn dial(&self, to: Destination, why: Why) -> Pin<Box<dyn Future<Output = io::Result<BoxWire>> + Send>> {
        Box::pin(async move {
            if matches!(why, Why::Check(Some(_))) {
                return Err(io::Error::new(io::ErrorKind::Unsupported, "this agent was set up without TLS"));
            }
            let mut stream = match to {
                Destination::Address(address) => TcpStream::connect(address).await?,
                Destination::Name(name, port) => TcpStream::connect((name.as_str(), port)).await?,
            };
            stream.set_nodelay(true)?;
            if why == Why::Rpc {
                stream.write_u8(RPC_PLAIN).await?;
            }
            Ok(Box::new(stream) as BoxWire)
        })
    }
}

/// Passes connections on until the loop ends.
pub(super) async fn accept(listener: TcpListener, port: Port, inputs: mpsc::Sender<Input>) {
    loop {
        match listener.accept().await {
            Ok((socket, from)) => {
                // Small messages back and forth: never wait to fill a segment.
                let _ = socket.set_nodelay(true);
                if inputs.send(Input::Accepted(port, from, socket)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                log::warn!("accepting connections: {error}");
                sleep(BREATH).await;
            }
        }
    }
}

/// Drives one stream until either side ends it. At most one piece is under way in each direction: the next is read on
/// [`Order::More`], and [`Input::Room`] asks for the next to write.
pub(super) async fn pump(
    id: StreamId,
    open: impl Future<Output = io::Result<BoxWire>>,
    announce: bool,
    mut orders: mpsc::Receiver<Order>,
    inputs: mpsc::Sender<Input>,
) {
    let opened = tokio::select! {
        opened = open => opened,
        // No order can come before the stream is open: the loop has closed it.
        _ = orders.recv() => return,
    };
    let failed = match opened {
        Ok(wire) => {
            if announce && inputs.send(Input::Opened(id)).await.is_err() {
                return;
            }
            transfer(id, wire, orders, &inputs).await.is_err()
        }
        Err(_) => true,
    };
    if failed {
        let _ = inputs.send(Input::Failed(id)).await;
    }
}

/// Moves octets. `Ok` when the loop closed the stream, an error when the connection broke.
async fn transfer(
    id: StreamId,
    wire: BoxWire,
    mut orders: mpsc::Receiver<Order>,
    inputs: &mpsc::Sender<Input>,
) -> io::Result<()> {
    let (mut reader, mut writer) = split(wire);
    let mut writing: Vec<u8> = Vec::new();
    let mut written = 0;
    let mut may_read = true;
    loop {
        let mut piece = Vec::new();
        tokio::select! {
            order = orders.recv() => match order {
                Some(Order::Write(octets)) => (writing, written) = (octets, 0),
                Some(Order::More) => may_read = true,
                None => {
                    let goodbye = async {
                        writer.write_all(writing.get(written..).unwrap_or(&[])).await?;
                        writer.shutdown().await
                    };
                    // The loop has forgotten the stream: nobody wants to know how this went.
                    let _ = timeout(LINGER, goodbye).await;
                    return Ok(());
                }
            },
            read = async {
                piece.reserve(PIECE);
                (&mut reader).take(PIECE as u64).read_buf(&mut piece).await
            }, if may_read => {
                may_read = false;
                let input = if read? == 0 { Input::Eof(id) } else { Input::Data(id, piece) };
                if inputs.send(input).await.is_err() {
                    return Ok(());
                }
            }
            wrote = writer.write(&writing[written..]), if written < writing.len() => {
                written += wrote?;
                if written == writing.len() {
                    // Some wires (TLS) keep octets back until they are told.
                    writer.flush().await?;
                    if inputs.send(Input::Room(id)).await.is_err() {
                        return Ok(());
                    }
                }
            }
        }
    }
}
