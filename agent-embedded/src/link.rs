//! The agent and what its futures share.

use core::cell::{Cell, RefCell};

use agent_core::{
    agent::{Agent, Command, CommandError, StreamId, StreamInput, Ticket},
    time::Instant,
};
use embassy_sync::{blocking_mutex::raw::NoopRawMutex, channel::Channel, signal::Signal};
use heapless::{String, Vec};

use crate::clock::now;

/// Longest host name looked up, in octets.
pub(crate) const MAX_HOST: usize = 64;
/// Connections asked for while all sockets are busy; more fail at once.
const WAITING: usize = 4;
/// Sockets that can carry a stream.
pub(crate) const SLOTS: usize = crate::tcp::LISTENERS + crate::tcp::DIALERS;

/// An agent, shared by the driver's futures and the firmware.
///
/// Not `Sync`: everybody who uses it runs on the same executor.
pub struct Link<'m> {
    agent: RefCell<&'m mut Agent<'m>>,
    /// Wakes the pump, which asks the agent for work.
    pub(crate) kick: Signal<NoopRawMutex, ()>,
    pub(crate) slots: [Slot; SLOTS],
    /// Connections that wait for a socket.
    pub(crate) jobs: RefCell<Vec<Job, WAITING>>,
    /// Wakes the dialers.
    pub(crate) dial: [Signal<NoopRawMutex, ()>; crate::tcp::DIALERS],
    /// Names to look up.
    pub(crate) names: Channel<NoopRawMutex, (Ticket, String<MAX_HOST>), 2>,
    pub(crate) counters: Cell<Counters>,
}

/// What the driver itself dropped. The agent's own counters are in its `stats`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Datagrams not sent because a socket's queue was full.
    pub dropped: u32,
    /// Datagrams not sent because no route, or IPv6, or longer than the queue.
    pub unsendable: u32,
    /// Times the spare socket was bound anew because a datagram's next hop did not answer.
    pub stuck: u32,
    /// Connections refused because too many waited for a socket.
    pub refused: u32,
}

/// One socket's stream, as the pump sees it.
#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) id: Cell<Option<StreamId>>,
    /// The agent has octets to send.
    pub(crate) writable: Cell<bool>,
    /// The agent did not take all that was offered.
    pub(crate) stalled: Cell<bool>,
    /// The agent is done with it.
    pub(crate) close: Cell<bool>,
    /// Something of the above changed.
    pub(crate) changed: Signal<NoopRawMutex, ()>,
}

/// A connection to make.
pub(crate) struct Job {
    pub(crate) id: StreamId,
    pub(crate) to: Destination,
    pub(crate) is_rpc: bool,
    pub(crate) deadline: Instant,
}

/// Where to.
pub(crate) enum Destination {
    Address(core::net::SocketAddr),
    Name(String<MAX_HOST>, u16),
}

impl<'m> Link<'m> {
    /// Wraps an agent, which stays where it was made: see [`Agent::new_in`].
    pub fn new(agent: &'m mut Agent<'m>) -> Self {
        Link {
            agent: RefCell::new(agent),
            kick: Signal::new(),
            slots: core::array::from_fn(|_| Slot::default()),
            jobs: RefCell::new(Vec::new()),
            dial: core::array::from_fn(|_| Signal::new()),
            names: Channel::new(),
            counters: Cell::default(),
        }
    }

    /// Gives the agent a command. Its end, if it takes time, comes as an event to [`Host::event`](crate::Host::event).
    ///
    /// # Errors
    /// The agent's refusal; nothing was changed.
    ///
    /// # Panics
    /// When called from within [`Link::look`].
    pub fn command(&self, command: Command<'_>) -> Result<Ticket, CommandError> {
        self.input(|agent, now| agent.command(now, command))
    }

    /// Looks at the agent: members, services, counters.
    ///
    /// # Panics
    /// When called from within another `look`.
    pub fn look<R>(&self, f: impl FnOnce(&Agent<'m>) -> R) -> R {
        f(&self.agent.borrow())
    }

    /// What the driver dropped so far.
    pub fn counters(&self) -> Counters {
        self.counters.get()
    }

    /// Tells the agent something; the pump then asks what follows from it.
    pub(crate) fn input<R>(&self, f: impl FnOnce(&mut Agent<'m>, Instant) -> R) -> R {
        let result = f(&mut self.agent.borrow_mut(), now());
        self.kick.signal(());
        result
    }

    /// Something happened on a stream; returns the octets taken. A function of its own, because it is called from many
    /// places.
    #[inline(never)]
    pub(crate) fn stream(&self, id: StreamId, input: StreamInput<'_>) -> usize {
        self.input(|agent, now| agent.handle_stream(now, id, input))
    }

    /// Like `input`, for the pump, which asks anyway.
    pub(crate) fn with<R>(&self, f: impl FnOnce(&mut Agent<'m>) -> R) -> R {
        f(&mut self.agent.borrow_mut())
    }

    pub(crate) fn count(&self, f: impl FnOnce(&mut Counters)) {
        let mut counters = self.counters.get();
        f(&mut counters);
        self.counters.set(counters);
    }

    /// Queues a connection; `false` when too many wait.
    pub(crate) fn queue(&self, job: Job) -> bool {
        let queued = self.jobs.borrow_mut().push(job).is_ok();
        // The first that looks takes it; the others go back to sleep.
        self.dial.iter().for_each(|dial| dial.signal(()));
        queued
    }

    /// Takes the oldest waiting connection.
    pub(crate) fn take_job(&self) -> Option<Job> {
        let mut jobs = self.jobs.borrow_mut();
        (!jobs.is_empty()).then(|| jobs.remove(0))
    }

    /// Changes the slot that carries `id` and wakes its future; a stream that still waits for a socket is only
    /// interesting when it is to be closed.
    pub(crate) fn touch(&self, id: StreamId, change: impl FnOnce(&Slot)) {
        if let Some(slot) = self.slots.iter().find(|slot| slot.id.get() == Some(id)) {
            change(slot);
            slot.changed.signal(());
        }
    }

    /// The agent is done with `id`.
    pub(crate) fn close(&self, id: StreamId) {
        self.jobs.borrow_mut().retain(|job| job.id != id);
        self.touch(id, |slot| slot.close.set(true));
    }
}

impl Slot {
    /// Begins a new stream.
    pub(crate) fn open(&self, id: StreamId) {
        self.writable.set(false);
        self.stalled.set(false);
        self.close.set(false);
        self.changed.reset();
        self.id.set(Some(id));
    }
}
