//! Clients of the simulated servers: they use keys, locks and sessions, and remember what they were told.

use std::collections::BTreeMap;

use agent_linear::{Answer, Call, Op, Row};
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::world::World;
use crate::model::{DirEntry, KvsRequest, Nanos, Octets, RegisterRequest, Session, SessionRequest};
use crate::raft::node::ProposeError;
use crate::state::State;
use crate::state::command::{Command, Outcome};

/// Few, so that clients meet.
pub(super) const KEYS: usize = 3;
/// After so many milliseconds a client asks no longer what became of its call.
const PATIENCE: u64 = 3000;
/// The node that sessions live on.
const NODE: &str = "n";

/// One client: one call at a time.
#[derive(Default)]
pub(super) struct Client {
    registered: bool,
    session: Option<u64>,
    /// Indexes that its reads have shown.
    seen: BTreeMap<usize, u64>,
    waits: Option<Waits>,
    /// Not before this time.
    next: u64,
}

struct Waits {
    what: What,
    until: u64,
    calls: Vec<(usize, usize)>,
}

enum What {
    Register(Reply<Vec<u8>>),
    Session(u64, Reply<Vec<u8>>),
    Write(Reply<Vec<u8>>),
    /// A barrier at this server in this life of it.
    Read(usize, u64, Reply<u64>),
}

type Reply<T> = oneshot::Receiver<Result<T, ProposeError>>;

/// What came of a call, if anything has.
enum End<T> {
    Answered(T),
    /// It was not carried out and never will be.
    Not,
    Unknown,
}

/// How new an answer must be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Default,
    Consistent,
    Stale,
}

/// All calls on each key; calls that surely did nothing are taken out again.
#[derive(Default)]
pub(super) struct Histories {
    keys: [Vec<Option<Call>>; KEYS],
    moment: u64,
}

impl Histories {
    fn begin(&mut self, key: usize, client: usize, op: Op) -> (usize, usize) {
        self.moment += 1;
        self.keys[key].push(Some(Call { client: client as u64, op, from: self.moment, answer: None }));
        (key, self.keys[key].len() - 1)
    }

    fn answer(&mut self, (key, place): (usize, usize), answer: Answer) {
        self.moment += 1;
        if let Some(call) = &mut self.keys[key][place] {
            call.answer = Some((self.moment, answer));
        }
    }

    fn forget(&mut self, (key, place): (usize, usize)) {
        self.keys[key][place] = None;
    }

    /// Every key by itself.
    pub(super) fn check(&self) -> Result<(), String> {
        self.keys.iter().enumerate().try_for_each(|(key, calls)| {
            let calls: Vec<Call> = calls.iter().flatten().copied().collect();
            agent_linear::check(&calls).map_err(|violation| format!("key {key}: {violation}"))
        })
    }

    /// Calls that were answered.
    pub(super) fn answered(&self) -> usize {
        self.keys.iter().flatten().flatten().filter(|call| call.answer.is_some()).count()
    }
}

impl World {
    /// Every client that is free begins something; every answer that has come is noted.
    pub(super) fn clients(&mut self) {
        for client in 0..self.clients.len() {
            match self.clients[client].waits.take() {
                Some(waits) => self.look(client, waits),
                None if !self.quiet && self.clients[client].next <= self.now => self.begin(client),
                None => {}
            }
        }
    }

    fn look(&mut self, client: usize, mut waits: Waits) {
        let late = waits.until <= self.now;
        let end = match &mut waits.what {
            What::Read(_, _, reply) => poll(reply, late).map(|end| end.map(|_| Vec::new())),
            What::Register(reply) | What::Session(_, reply) | What::Write(reply) => poll(reply, late),
        };
        let Some(end) = end else {
            self.clients[client].waits = Some(waits);
            return;
        };
        self.clients[client].next = self.now + 1 + self.random.below(150);
        let kind = match &end {
            End::Answered(_) => 1,
            End::Not => 2,
            End::Unknown => 3,
        };
        self.trace.add(&[self.now, client as u64, kind]);
        match (waits.what, end) {
            (What::Read(host, life, _), End::Answered(_)) => self.answer_read(host, life, waits.calls[0]),
            (What::Read(..), _) => self.histories.forget(waits.calls[0]),
            (What::Register(_), End::Answered(_)) => self.clients[client].registered = true,
            (What::Session(number, _), End::Answered(outcome)) => {
                self.clients[client].session = refusal(&outcome).is_empty().then_some(number);
            }
            (What::Register(_) | What::Session(..), _) => {}
            (What::Write(_), end) => self.end_write(client, &waits.calls, end),
        }
    }

    fn end_write(&mut self, client: usize, calls: &[(usize, usize)], end: End<Vec<u8>>) {
        match end {
            End::Answered(outcome) => {
                self.acknowledged += 1;
                for call in calls {
                    self.note_write(client, *call, &outcome);
                }
            }
            End::Not => calls.iter().for_each(|call| self.histories.forget(*call)),
            End::Unknown => {}
        }
    }

    fn note_write(&mut self, client: usize, call: (usize, usize), outcome: &[u8]) {
        if !refusal(outcome).is_empty() {
            // Its session has ended: a call of before whose answer was lost.
            self.clients[client].session = None;
            return self.histories.forget(call);
        }
        let done = Outcome::decode(outcome).expect("our own").done;
        let op = self.histories.keys[call.0][call.1].map(|call| call.op);
        let conditional = matches!(op, Some(Op::Cas { .. } | Op::Acquire { .. } | Op::Release { .. }));
        self.histories.answer(call, if conditional { Answer::Did(done) } else { Answer::Done });
    }

    fn begin(&mut self, client: usize) {
        let running: Vec<usize> = (0..self.hosts.len()).filter(|host| self.answers(*host)).collect();
        let Some(&host) = running.get(self.random.below(running.len().max(1) as u64) as usize) else { return };
        let key = self.random.below(KEYS as u64) as usize;
        match self.random.below(20) {
            0..=5 => self.read(client, host, key, Mode::Default),
            6 | 7 => self.read(client, host, key, Mode::Consistent),
            8 => self.read(client, host, key, Mode::Stale),
            _ => self.write(client, key),
        }
    }

    /// A default read at this server, by a client that is free.
    pub(super) fn read_at(&mut self, host: usize) {
        let key = self.random.below(KEYS as u64) as usize;
        if let Some(client) = self.clients.iter().position(|client| client.waits.is_none()) {
            self.read(client, host, key, Mode::Default);
        }
    }

    fn read(&mut self, client: usize, host: usize, key: usize, mode: Mode) {
        let now = std::time::Duration::from_millis(self.now);
        let life = self.hosts[host].starts;
        let node = self.hosts[host].node.as_ref().expect("running");
        if mode == Mode::Stale {
            let index = node.status().applied_index;
            let found = row(&node.machine().state(), key);
            let known = row(&self.reference.state(index), key);
            assert_eq!(found, known, "stale read at {host}, index {index}");
            return;
        }
        if !node.is_leader() {
            return;
        }
        let leased = node.lease().is_some_and(|lease| now < lease.until) || self.careless;
        let call = self.histories.begin(key, client, Op::Get);
        if mode == Mode::Default && leased {
            self.lease_reads += 1;
            return self.answer_read(host, life, call);
        }
        let (reply, answer) = oneshot::channel();
        self.node(host).read_barrier(reply);
        self.clients[client].waits =
            Some(Waits { what: What::Read(host, life, answer), until: self.now + PATIENCE, calls: vec![call] });
        self.process(host);
    }

    fn answer_read(&mut self, host: usize, life: u64, call: (usize, usize)) {
        if self.hosts[host].starts != life || self.hosts[host].node.is_none() {
            return self.histories.forget(call);
        }
        let row = row(&self.node(host).machine().state(), call.0);
        if let (Some(row), Some(asked)) = (row, self.histories.keys[call.0][call.1]) {
            self.clients[asked.client as usize].seen.insert(call.0, row.index);
        }
        self.histories.answer(call, Answer::Found(row));
    }

    fn write(&mut self, client: usize, key: usize) {
        let Some(leader) = self.some_leader() else { return };
        if !self.clients[client].registered {
            return self.ask(client, leader, register(), Vec::new(), What::Register);
        }
        let Some(session) = self.clients[client].session else {
            self.numbers += 1;
            let number = self.numbers;
            let command = session_command("create", number);
            return self.ask(client, leader, command, Vec::new(), |reply| What::Session(number, reply));
        };
        self.numbers += 1;
        let value = self.numbers;
        let seen = self.clients[client].seen.get(&key).copied();
        let op = match self.random.below(16) {
            0..=3 => Op::Set(value),
            4..=7 => Op::Cas { index: seen.unwrap_or(0), value },
            8 => Op::Cas { index: 0, value },
            9 => Op::Delete,
            10..=12 => Op::Acquire { session, value },
            13 | 14 => Op::Release { session, value },
            _ => Op::End(session),
        };
        let keys = if let Op::End(_) = op { 0..KEYS } else { key..key + 1 };
        let calls = keys.map(|key| self.histories.begin(key, client, op)).collect();
        if let Op::End(_) = op {
            self.clients[client].session = None;
        }
        self.ask(client, leader, command(op, key), calls, What::Write);
    }

    fn ask(
        &mut self,
        client: usize,
        host: usize,
        command: Command,
        calls: Vec<(usize, usize)>,
        what: impl FnOnce(Reply<Vec<u8>>) -> What,
    ) {
        let (reply, answer) = oneshot::channel();
        self.node(host).propose(&command.encode().expect("our own"), reply);
        self.clients[client].waits = Some(Waits { what: what(answer), until: self.now + PATIENCE, calls });
        self.process(host);
    }

    /// Nobody waits for anything.
    pub(super) fn clients_are_idle(&self) -> bool {
        self.clients.iter().all(|client| client.waits.is_none())
    }

    /// Commits something in the present term.
    pub(super) fn nudge(&mut self) {
        let Some(leader) = self.leader().filter(|leader| self.answers(*leader)) else { return };
        let (reply, _) = oneshot::channel();
        self.node(leader).propose(&register().encode().expect("our own"), reply);
        self.process(leader);
    }

    /// What each key holds in the end is read like by everybody else.
    pub(super) fn read_all(&mut self, state: &State) {
        for key in 0..KEYS {
            let call = self.histories.begin(key, self.clients.len(), Op::Get);
            self.histories.answer(call, Answer::Found(row(state, key)));
        }
    }
}

impl<T> End<T> {
    fn map<U>(self, change: impl FnOnce(T) -> U) -> End<U> {
        match self {
            End::Answered(answer) => End::Answered(change(answer)),
            End::Not => End::Not,
            End::Unknown => End::Unknown,
        }
    }
}

fn poll<T>(reply: &mut Reply<T>, late: bool) -> Option<End<T>> {
    match reply.try_recv() {
        Ok(Ok(answer)) => Some(End::Answered(answer)),
        Ok(Err(ProposeError::LeadershipLost | ProposeError::Timeout | ProposeError::Stopped)) => Some(End::Unknown),
        Ok(Err(_)) => Some(End::Not),
        Err(TryRecvError::Closed) => Some(End::Unknown),
        Err(TryRecvError::Empty) => late.then_some(End::Unknown),
    }
}

fn refusal(outcome: &[u8]) -> String {
    Outcome::decode(outcome).expect("our own").error
}

fn name(key: usize) -> String {
    format!("key-{key}")
}

fn session_id(number: u64) -> String {
    format!("00000000-0000-4000-9000-{number:012}")
}

fn row(state: &State, key: usize) -> Option<Row> {
    let (_, entry) = state.kv(&name(key));
    entry.map(|entry| {
        let value = entry.value.as_ref().and_then(|value| str::from_utf8(&value.0).ok());
        let session = entry.session.rsplit('-').next().and_then(|number| number.parse().ok());
        let value = value.and_then(|value| value.parse().ok()).expect("a client's number");
        Row { value, index: entry.modify_index, session }
    })
}

fn register() -> Command {
    let request = RegisterRequest { node: NODE.into(), address: "127.0.0.1".into(), ..RegisterRequest::default() };
    Command::Register(Box::new(request))
}

fn session_command(op: &str, number: u64) -> Command {
    let session = Session { id: session_id(number), node: NODE.into(), lock_delay: Nanos(0), ..Session::default() };
    Command::Session(SessionRequest { op: op.into(), session, ..SessionRequest::default() })
}

fn command(op: Op, key: usize) -> Command {
    let (word, value, index, session) = match op {
        Op::End(session) => return session_command("destroy", session),
        Op::Get | Op::Delete => ("delete", None, 0, None),
        Op::Set(value) => ("set", Some(value), 0, None),
        Op::Cas { index, value } => ("cas", Some(value), index, None),
        Op::Acquire { session, value } => ("lock", Some(value), 0, Some(session)),
        Op::Release { session, value } => ("unlock", Some(value), 0, Some(session)),
    };
    let dir_ent = DirEntry {
        key: name(key),
        value: value.map(|value| Octets(value.to_string().into_bytes())),
        session: session.map(session_id).unwrap_or_default(),
        modify_index: index,
        ..DirEntry::default()
    };
    Command::Kvs(KvsRequest { op: word.into(), dir_ent, ..KvsRequest::default() })
}
