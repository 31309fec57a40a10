//! The connection to a server and the call on it.

use core::net::SocketAddr;

use super::Task;
use crate::{
    time::{Duration, Instant},
    wire::rpc::{Item, Method, Reply},
};

/// 15 s: a server holds a call for up to 7 s while there is no leader.
const ANSWER: Duration = Duration::from_secs(15);
/// 10 s: a real agent's dial timeout.
pub(crate) const DIAL: Duration = Duration::from_secs(10);
/// 127 s: a real agent closes an unused connection after this.
const UNUSED: Duration = Duration::from_secs(127);

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Connecting,
    Open,
}

/// What came of octets or events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Nothing yet.
    Nothing,
    /// The call is answered.
    Answered(Task),
    /// The call failed; the connection is of no more use.
    Failed(Task),
    /// The connection was closed while nobody used it.
    Closed,
    /// The call must be made again on a new connection: the old one was stale.
    Again,
}

/// The one connection.
pub(crate) struct Session<'m> {
    request: &'m mut [u8],
    len: usize,
    sent: usize,
    state: State,
    task: Option<Task>,
    /// Answer of the current call, dial, or the end of an unused connection.
    deadline: Instant,
    /// The connection has not carried a whole call yet.
    fresh: bool,
    answered: bool,
    reply: Reply,
    seq: u32,
    /// Slot of the connection's stream.
    pub(crate) stream: Option<u16>,
    pub(crate) server: SocketAddr,
}

impl<'m> Session<'m> {
    /// No connection. `request` holds one call.
    pub(crate) fn new(request: &'m mut [u8]) -> Self {
        Session {
            request,
            len: 0,
            sent: 0,
            state: State::Closed,
            task: None,
            deadline: Instant::ZERO,
            fresh: true,
            answered: false,
            reply: Reply::new(Method::Ping),
            seq: 0,
            stream: None,
            server: crate::pool::NOWHERE,
        }
    }

    /// True when a call may be made.
    pub(crate) fn is_free(&self) -> bool {
        self.task.is_none()
    }

    pub(crate) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// When something happens by itself.
    pub(crate) fn due(&self) -> Option<Instant> {
        (self.state != State::Closed).then_some(self.deadline)
    }

    /// Where to write the next call, and its number.
    pub(crate) fn slate(&mut self) -> (u64, &mut [u8]) {
        self.seq = self.seq.wrapping_add(1);
        (self.seq.into(), self.request)
    }

    /// The call of `len` octets in the slate is for `task`. Sending begins when the connection stands.
    pub(crate) fn begin(&mut self, now: Instant, task: Task, method: Method, len: usize) {
        debug_assert!(self.task.is_none());
        self.task = Some(task);
        self.len = len;
        self.sent = 0;
        self.answered = false;
        self.reply = Reply::new(method);
        self.deadline = now + if self.state == State::Open { ANSWER } else { DIAL };
    }

    /// A connection to `server` on stream slot `stream` is being opened.
    pub(crate) fn connecting(&mut self, now: Instant, server: SocketAddr, stream: u16) {
        self.state = State::Connecting;
        self.stream = Some(stream);
        self.server = server;
        self.fresh = true;
        self.sent = 0;
        self.deadline = now + DIAL;
    }

    /// The connection stands.
    pub(crate) fn on_open(&mut self, now: Instant) {
        self.state = State::Open;
        self.deadline = now + ANSWER;
    }

    /// Octets of the call that are still to be sent.
    pub(crate) fn fill(&mut self, out: &mut [u8]) -> usize {
        if self.task.is_none() || self.state != State::Open {
            return 0;
        }
        let rest = self.request.get(self.sent..self.len).unwrap_or(&[]);
        let taken = rest.len().min(out.len());
        out[..taken].copy_from_slice(&rest[..taken]);
        self.sent += taken;
        taken
    }

    /// Octets of the server. `on` is told every record.
    pub(crate) fn on_data(&mut self, now: Instant, data: &[u8], on: &mut dyn FnMut(Task, Item<'_>)) -> Arrival {
        let Some(task) = self.task else { return self.close() };
        self.answered = true;
        let taken = match self.reply.feed(data, &mut |item| on(task, item)) {
            Ok(taken) => taken,
            Err(_) => return self.close(),
        };
        if !self.reply.is_done() {
            return Arrival::Nothing;
        }
        // More than was asked for, or an answer to something else: whoever that is, it is no server.
        if taken < data.len() || self.reply.seq() != u64::from(self.seq) || self.sent < self.len {
            return self.close();
        }
        self.task = None;
        self.fresh = false;
        self.deadline = now + UNUSED;
        Arrival::Answered(task)
    }

    /// The server's error of the last answered call; empty: success.
    pub(crate) fn error(&self) -> &str {
        self.reply.error()
    }

    /// The connection broke, or the server finished it.
    pub(crate) fn on_end(&mut self) -> Arrival {
        let stale = !self.fresh && !self.answered && self.task.is_some();
        if !stale {
            return self.close();
        }
        // The server closed it between two calls, e.g. at a restart. All our calls may be repeated without harm.
        self.state = State::Closed;
        self.stream = None;
        self.sent = 0;
        Arrival::Again
    }

    /// The deadline has passed.
    pub(crate) fn on_timeout(&mut self, now: Instant) -> Arrival {
        match self.due() {
            Some(due) if due <= now => self.close(),
            _ => Arrival::Nothing,
        }
    }

    /// Gives the connection and the call up.
    pub(crate) fn close(&mut self) -> Arrival {
        self.state = State::Closed;
        self.stream = None;
        match self.task.take() {
            Some(task) => Arrival::Failed(task),
            None => Arrival::Closed,
        }
    }
}
