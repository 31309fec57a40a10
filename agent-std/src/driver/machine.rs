//! What the loop drives: an agent, or a gossip pool alone (a server's second pool, the WAN).

use std::net::{IpAddr, SocketAddr};

use agent_core::{
    agent::{Agent, CheckId, Command, CommandError, Outcome, Output, Port, StreamId, StreamInput, Ticket},
    checks::Health,
    pool::Pool,
    time::Instant,
};
use tokio::sync::{mpsc, oneshot};

/// A state machine of the core. Methods as documented at [`Output`] and at the machines themselves.
pub trait Machine: Send {
    /// Time has passed.
    fn handle_timeout(&mut self, now: Instant);
    /// A datagram arrived.
    fn handle_datagram(&mut self, now: Instant, port: Port, from: SocketAddr, data: &mut [u8]);
    /// Somebody connected; `None`: close it.
    fn handle_accept(&mut self, now: Instant, port: Port, from: SocketAddr) -> Option<StreamId>;
    /// Something happened on a stream; gives the octets taken.
    fn handle_stream(&mut self, now: Instant, id: StreamId, input: StreamInput<'_>) -> usize;
    /// The next octets to send.
    fn fill_stream(&mut self, now: Instant, id: StreamId, out: &mut [u8]) -> usize;
    /// A name was looked up.
    fn handle_resolved(&mut self, now: Instant, ticket: Ticket, addresses: &[IpAddr]);
    /// A check of the host has run.
    fn handle_check(&mut self, now: Instant, id: CheckId, health: Health, output: &str);
    /// The next piece of work.
    fn poll_output(&mut self, buf: &mut [u8]) -> Output<'_>;
    /// Takes a wish.
    ///
    /// # Errors
    /// As the machine says.
    fn command(&mut self, now: Instant, command: Command<'_>) -> Result<Ticket, CommandError>;
    /// Its gossip pool, to look at.
    fn pool(&self) -> &Pool<'_>;
}

/// Names a machine without the lifetime of the memory it borrows, so that jobs for it can be sent between tasks.
pub trait Kind: 'static {
    /// The machine.
    type Machine<'m>: Machine;
}

/// Something to do with the machine, inside the loop.
pub type Job<K> = Box<dyn for<'m> FnOnce(&mut <K as Kind>::Machine<'m>, Instant) -> Option<Waiter> + Send>;

/// Who is told when a command has finished.
pub struct Waiter {
    /// The command.
    pub ticket: Ticket,
    /// Takes its outcome.
    pub outcome: oneshot::Sender<Outcome>,
    /// Takes the answers, when it is a query.
    pub answers: Option<mpsc::UnboundedSender<Answer>>,
}

/// What a member says to a query of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The member's name.
    pub from: String,
    /// What it says; `None`: it only confirms.
    pub payload: Option<Vec<u8>>,
}

/// A whole agent.
#[derive(Debug)]
pub enum AgentKind {}

impl Kind for AgentKind {
    type Machine<'m> = Agent<'m>;
}

impl Machine for Agent<'_> {
    fn handle_timeout(&mut self, now: Instant) {
        Agent::handle_timeout(self, now);
    }

    fn handle_datagram(&mut self, now: Instant, port: Port, from: SocketAddr, data: &mut [u8]) {
        Agent::handle_datagram(self, now, port, from, data);
    }

    fn handle_accept(&mut self, now: Instant, port: Port, from: SocketAddr) -> Option<StreamId> {
        Agent::handle_accept(self, now, port, from)
    }

    fn handle_stream(&mut self, now: Instant, id: StreamId, input: StreamInput<'_>) -> usize {
        Agent::handle_stream(self, now, id, input)
    }

    fn fill_stream(&mut self, now: Instant, id: StreamId, out: &mut [u8]) -> usize {
        Agent::fill_stream(self, now, id, out)
    }

    fn handle_resolved(&mut self, now: Instant, ticket: Ticket, addresses: &[IpAddr]) {
        Agent::handle_resolved(self, now, ticket, addresses);
    }

    fn handle_check(&mut self, now: Instant, id: CheckId, health: Health, output: &str) {
        Agent::handle_check(self, now, id, health, output);
    }

    fn poll_output(&mut self, buf: &mut [u8]) -> Output<'_> {
        Agent::poll_output(self, buf)
    }

    fn command(&mut self, now: Instant, command: Command<'_>) -> Result<Ticket, CommandError> {
        Agent::command(self, now, command)
    }

    fn pool(&self) -> &Pool<'_> {
        Agent::pool(self)
    }
}

/// A gossip pool without an agent.
#[derive(Debug)]
pub enum PoolKind {}

impl Kind for PoolKind {
    type Machine<'m> = Pool<'m>;
}

impl Machine for Pool<'_> {
    fn handle_timeout(&mut self, now: Instant) {
        Pool::handle_timeout(self, now);
    }

    fn handle_datagram(&mut self, now: Instant, _: Port, from: SocketAddr, data: &mut [u8]) {
        Pool::handle_datagram(self, now, from, data);
    }

    fn handle_accept(&mut self, now: Instant, _: Port, from: SocketAddr) -> Option<StreamId> {
        Pool::handle_accept(self, now, from)
    }

    fn handle_stream(&mut self, now: Instant, id: StreamId, input: StreamInput<'_>) -> usize {
        Pool::handle_stream(self, now, id, input)
    }

    fn fill_stream(&mut self, now: Instant, id: StreamId, out: &mut [u8]) -> usize {
        Pool::fill_stream(self, now, id, out)
    }

    fn handle_resolved(&mut self, now: Instant, ticket: Ticket, addresses: &[IpAddr]) {
        Pool::handle_resolved(self, now, ticket, addresses);
    }

    fn handle_check(&mut self, _: Instant, _: CheckId, _: Health, _: &str) {
        // A pool has no checks and asks for none.
    }

    fn poll_output(&mut self, buf: &mut [u8]) -> Output<'_> {
        Pool::poll_output(self, buf)
    }

    fn command(&mut self, now: Instant, command: Command<'_>) -> Result<Ticket, CommandError> {
        match command {
            Command::Join { seed, ignore_old } => self.join(now, seed, ignore_old),
            Command::Leave => self.leave(now),
            Command::ForceLeave { node, prune } => self.force_leave(now, node, prune),
            Command::SetTags(tags) => self.set_tags(now, tags),
            Command::UserEvent { name, payload, coalesce } => self.user_event(now, name, payload, coalesce),
            Command::Query { name, payload, ack, relay_factor } => self.query(now, name, payload, ack, relay_factor),
            _ => Err(CommandError::Invalid("a pool alone has no services and checks")),
        }
    }

    fn pool(&self) -> &Pool<'_> {
        self
    }
}
