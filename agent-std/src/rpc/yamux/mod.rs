//! yamux as Consul's peers speak it (rpc spec §2): many streams over one connection.
//!
//! Our own because the `yamux` crate acknowledges a stream only with its first answer: a blocking query answers after
//! minutes, while newer Go peers give up a session whose stream is not acknowledged within 75 s. It also neither
//! notices a silent peer nor closes a stream without its data.
//!
//! One task per session reads, writes and pings; [`Stream`]s share their state with it under short locks. Memory is
//! bounded by the windows: 256 KiB received and not yet read per stream.

mod frame;
mod stream;

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    sync::mpsc,
    task::AbortHandle,
    time::timeout,
};

use frame::{ACK, FIN, Header, Kind, RST, SYN};
use stream::Slot;
pub use stream::Stream;

/// Octets a peer may send before we read them; fixed by the protocol.
const WINDOW: u32 = 256 * 1024;
/// Pings of both sides; the reference's default.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Longest wait for a ping's answer and for the connection to take our octets; the reference's default.
const STALL: Duration = Duration::from_secs(10);
/// Streams of one session at once, including those whose end the peer has not confirmed.
const MAX_STREAMS: usize = 4096;
/// Answers to a peer that never reads them: some 87,000 unanswered pings.
const MAX_CONTROL_OCTETS: usize = 1 << 20;
/// A frame without octets: nothing follows.
const LAST: [u8; 0] = [];
/// Longest wait for the last octets of a session that is over.
const FAREWELL: Duration = Duration::from_secs(1);
/// Octets collected for one write to the connection.
const WRITE_OCTETS: usize = 64 * 1024;

/// Which end of the connection we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// We connected: our streams are odd.
    Client,
    /// We accepted: our streams would be even.
    Server,
}

/// A session. Dropping the last clone ends it and all its streams.
#[derive(Clone)]
pub struct Session {
    shared: Arc<Shared>,
    _task: Arc<Task>,
}

struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

struct Shared {
    slots: Mutex<Slots>,
    out: mpsc::UnboundedSender<Vec<u8>>,
    /// Control frames waiting in `out`, in octets.
    control: AtomicUsize,
    next_id: AtomicU32,
}

#[derive(Default)]
struct Slots {
    by_id: HashMap<u32, Arc<Slot>>,
    ended: bool,
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, Slots> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, header: Header) {
        self.control.fetch_add(Header::LEN, Ordering::Relaxed);
        // Without a receiver the session is over, and nobody waits for this frame.
        let _ = self.out.send(header.emit().to_vec());
    }
}

/// Marks every stream as dead when the session's task ends, however it ends.
struct Ending(Arc<Shared>);

impl Drop for Ending {
    fn drop(&mut self) {
        let mut slots = self.0.slots();
        slots.ended = true;
        slots.by_id.drain().for_each(|(_, slot)| slot.reset());
    }
}

impl Session {
    /// Starts a session over `connection`; streams that the peer opens arrive at the receiver.
    pub fn start<C>(connection: C, side: Side) -> (Self, mpsc::UnboundedReceiver<Stream>)
    where
        C: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (out, outbox) = mpsc::unbounded_channel();
        let (opened, accept) = mpsc::unbounded_channel();
        let next_id = AtomicU32::new(if side == Side::Client { 1 } else { 2 });
        let shared = Arc::new(Shared { slots: Mutex::default(), out, control: AtomicUsize::new(0), next_id });
        let ending = Ending(Arc::clone(&shared));
        let task = tokio::spawn(async move {
            let (read, write) = tokio::io::split(connection);
            let (pong, pongs) = mpsc::unbounded_channel();
            let mut writer = std::pin::pin!(write_frames(&ending.0, write, outbox));
            let written = tokio::select! {
                _ = read_frames(&ending.0, BufReader::new(read), opened, pong) => false,
                _ = &mut writer => true,
                () = keep_alive(&ending.0, pongs) => false,
            };
            if !written && ending.0.out.send(LAST.into()).is_ok() {
                // The reason why we go away should still arrive, but nobody waits for it.
                let _ = timeout(FAREWELL, writer).await;
            }
        });
        (Session { shared, _task: Arc::new(Task(task.abort_handle())) }, accept)
    }

    /// Opens a stream. Costs no round trip.
    ///
    /// # Errors
    /// When the session has ended, or has no more numbers or room for streams.
    pub fn open(&self) -> io::Result<Stream> {
        let id = self.shared.next_id.fetch_add(2, Ordering::Relaxed);
        let mut slots = self.shared.slots();
        if slots.ended || id > u32::MAX - 4 || slots.by_id.len() >= MAX_STREAMS {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "yamux session is over or full"));
        }
        let slot = Arc::new(Slot::new(id));
        slots.by_id.insert(id, Arc::clone(&slot));
        self.shared.send(Header { kind: Kind::Window, flags: SYN, stream: id, length: 0 });
        Ok(Stream::new(slot, Arc::clone(&self.shared)))
    }

    /// Whether nothing can be opened any more.
    pub fn is_ended(&self) -> bool {
        self.shared.slots().ended
    }
}

fn protocol_error(shared: &Shared, what: &'static str) -> io::Error {
    shared.send(Header { kind: Kind::GoAway, flags: 0, stream: 0, length: 1 });
    io::Error::new(io::ErrorKind::InvalidData, what)
}

async fn read_frames(
    shared: &Arc<Shared>,
    mut from: impl AsyncRead + Unpin,
    opened: mpsc::UnboundedSender<Stream>,
    pong: mpsc::UnboundedSender<u32>,
) -> io::Result<()> {
    let mut head = [0; Header::LEN];
    let mut chunk = vec![0; 16 * 1024];
    loop {
        from.read_exact(&mut head).await?;
        let Some(header) = Header::parse(&head) else { return Err(protocol_error(shared, "unknown yamux frame")) };
        if shared.control.load(Ordering::Relaxed) > MAX_CONTROL_OCTETS {
            return Err(io::Error::other("the peer does not read our answers"));
        }
        match header.kind {
            Kind::Data | Kind::Window => {
                let slot = find(shared, &header, &opened);
                if header.kind == Kind::Window {
                    slot.iter().for_each(|slot| slot.grant(header.length));
                } else {
                    if slot.as_ref().is_some_and(|slot| !slot.admits(header.length)) {
                        return Err(protocol_error(shared, "more octets than the window allows"));
                    }
                    let mut left = header.length as usize;
                    while left > 0 {
                        let part = left.min(chunk.len());
                        let part = &mut chunk[..part];
                        from.read_exact(part).await?;
                        left -= part.len();
                        slot.iter().for_each(|slot| slot.receive(part));
                    }
                }
                if header.flags & (FIN | RST) != 0 {
                    end(shared, &header, slot);
                }
            }
            Kind::Ping if header.flags & SYN != 0 => shared.send(Header { flags: ACK, ..header }),
            Kind::Ping => drop(pong.send(header.length)),
            Kind::GoAway => return Ok(()),
        }
    }
}

/// The stream a frame is for; a new one when the frame opens it. Frames for streams that are gone are ignored.
fn find(shared: &Arc<Shared>, header: &Header, opened: &mpsc::UnboundedSender<Stream>) -> Option<Arc<Slot>> {
    let mut slots = shared.slots();
    if header.flags & SYN == 0 || slots.by_id.contains_key(&header.stream) {
        return slots.by_id.get(&header.stream).cloned();
    }
    let answer = Header { kind: Kind::Window, flags: ACK, stream: header.stream, length: 0 };
    let slot = Arc::new(Slot::new(header.stream));
    let stream = Stream::new(Arc::clone(&slot), Arc::clone(shared));
    if slots.by_id.len() >= MAX_STREAMS || opened.is_closed() {
        stream.forget();
        shared.send(Header { flags: RST, ..answer });
        return None;
    }
    slots.by_id.insert(header.stream, Arc::clone(&slot));
    shared.send(answer);
    drop(slots);
    let _ = opened.send(stream);
    Some(slot)
}

fn end(shared: &Shared, header: &Header, slot: Option<Arc<Slot>>) {
    let Some(slot) = slot else { return };
    if header.flags & RST != 0 {
        shared.slots().by_id.remove(&header.stream);
        slot.reset();
    } else if slot.peer_finished() {
        shared.slots().by_id.remove(&header.stream);
    }
}

async fn write_frames(
    shared: &Shared,
    mut to: impl AsyncWrite + Unpin,
    mut outbox: mpsc::UnboundedReceiver<Vec<u8>>,
) -> io::Result<()> {
    let mut batch = Vec::new();
    while let Some(frame) = outbox.recv().await {
        batch.clear();
        let (mut control, mut last) = (0, false);
        let mut next = Some(frame);
        while let Some(frame) = next {
            last |= frame.is_empty();
            control += if frame.len() == Header::LEN { Header::LEN } else { 0 };
            batch.extend_from_slice(&frame);
            next = if batch.len() < WRITE_OCTETS { outbox.try_recv().ok() } else { None };
        }
        timeout(STALL, async {
            to.write_all(&batch).await?;
            to.flush().await
        })
        .await
        .map_err(io::Error::from)??;
        shared.control.fetch_sub(control, Ordering::Relaxed);
        if last {
            break;
        }
    }
    Ok(())
}

/// Pings for ever; returns when the peer does not answer.
async fn keep_alive(shared: &Shared, mut pongs: mpsc::UnboundedReceiver<u32>) {
    for value in 0.. {
        tokio::time::sleep(PING_EVERY).await;
        shared.send(Header { kind: Kind::Ping, flags: SYN, stream: 0, length: value });
        let answered = async {
            while let Some(seen) = pongs.recv().await {
                if seen == value {
                    return;
                }
            }
        };
        if timeout(STALL, answered).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
