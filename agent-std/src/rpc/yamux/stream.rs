//! One stream: what its owner and the session's task share.

use std::{
    collections::VecDeque,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Shared, WINDOW,
    frame::{FIN, Header, Kind},
};

/// Octets of one data frame at most, so that streams take turns.
const FRAME_OCTETS: usize = 16 * 1024;

pub(super) struct Slot {
    id: u32,
    inner: Mutex<Inner>,
}

struct Inner {
    received: VecDeque<u8>,
    /// Octets the peer may still send.
    window: u32,
    /// Octets read by our owner and not yet given back to the peer's window.
    eaten: u32,
    /// Octets we may still send.
    credit: u32,
    /// The peer sends no more.
    peer_finished: bool,
    /// We send no more.
    finished: bool,
    /// Over at once: reset, or the session ended.
    dead: bool,
    /// The owner is gone: what still arrives is dropped.
    orphan: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Slot {
    pub fn new(id: u32) -> Self {
        Slot {
            id,
            inner: Mutex::new(Inner {
                received: VecDeque::new(),
                window: WINDOW,
                eaten: 0,
                credit: WINDOW,
                peer_finished: false,
                finished: false,
                dead: false,
                orphan: false,
                reader: None,
                writer: None,
            }),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes `octets` off the peer's window; `false`: more than it has.
    pub fn admits(&self, octets: u32) -> bool {
        let mut inner = self.inner();
        let left = inner.window.checked_sub(octets);
        inner.window = left.unwrap_or(0);
        left.is_some()
    }

    pub fn receive(&self, octets: &[u8]) {
        let mut inner = self.inner();
        if !inner.orphan {
            inner.received.extend(octets);
            wake(&mut inner.reader);
        }
    }

    pub fn grant(&self, octets: u32) {
        let mut inner = self.inner();
        inner.credit = inner.credit.saturating_add(octets);
        wake(&mut inner.writer);
    }

    /// `true`: both sides have finished.
    pub fn peer_finished(&self) -> bool {
        let mut inner = self.inner();
        inner.peer_finished = true;
        wake(&mut inner.reader);
        inner.finished
    }

    pub fn reset(&self) {
        let mut inner = self.inner();
        inner.dead = true;
        wake(&mut inner.reader);
        wake(&mut inner.writer);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn reset() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "yamux stream was reset")
}

/// A stream of a session. Dropping it finishes it.
pub struct Stream {
    slot: Arc<Slot>,
    shared: Arc<Shared>,
    forgotten: bool,
}

impl Stream {
    pub(super) fn new(slot: Arc<Slot>, shared: Arc<Shared>) -> Self {
        Stream { slot, shared, forgotten: false }
    }

    /// Drops a stream that the peer does not know.
    pub(super) fn forget(mut self) {
        self.forgotten = true;
    }

    fn control(&self, flags: u16, length: u32) {
        self.shared.send(Header { kind: Kind::Window, flags, stream: self.slot.id, length });
    }

    fn finish(&self) {
        let mut inner = self.slot.inner();
        if inner.finished || inner.dead {
            return;
        }
        inner.finished = true;
        let over = inner.peer_finished;
        drop(inner);
        self.control(FIN, 0);
        if over {
            self.shared.slots().by_id.remove(&self.slot.id);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if self.forgotten {
            return;
        }
        self.finish();
        let mut inner = self.slot.inner();
        inner.orphan = true;
        inner.received = VecDeque::new();
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.slot.inner();
        if inner.received.is_empty() {
            if inner.peer_finished {
                return Poll::Ready(Ok(()));
            }
            if inner.dead {
                return Poll::Ready(Err(reset()));
            }
            inner.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let (front, _) = inner.received.as_slices();
        let len = front.len().min(buf.remaining());
        buf.put_slice(&front[..len]);
        inner.received.drain(..len);
        inner.eaten += len as u32;
        // Half a window at a time, as the reference does: fewer frames, and the peer never runs dry.
        if inner.eaten >= WINDOW / 2 && !inner.peer_finished {
            let eaten = std::mem::take(&mut inner.eaten);
            inner.window += eaten;
            drop(inner);
            self.control(0, eaten);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut inner = self.slot.inner();
        if inner.dead {
            return Poll::Ready(Err(reset()));
        }
        if inner.finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if inner.credit == 0 {
            inner.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let len = data.len().min(inner.credit as usize).min(FRAME_OCTETS);
        inner.credit -= len as u32;
        drop(inner);
        let header = Header { kind: Kind::Data, flags: 0, stream: self.slot.id, length: len as u32 };
        let mut frame = Vec::with_capacity(Header::LEN + len);
        frame.extend_from_slice(&header.emit());
        frame.extend_from_slice(&data[..len]);
        Poll::Ready(self.shared.out.send(frame).map(|()| len).map_err(|_| reset()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.finish();
        Poll::Ready(Ok(()))
    }
}
