//! Clients use keys, locks and sessions of three servers while these are killed, paused, cut off and given wrong clocks:
//! there must be an order of all calls that explains every answer.
//!
//! Every round has keys of its own, and every key a history of its own. Default and consistent reads are part of it;
//! stale ones promise nothing that could be checked here.

use std::{
    collections::HashMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use agent_core::rand::Rng;
use agent_linear::{Answer, Call, Op, Row};
use serde_json::{Value, json};

use crate::{
    Result,
    clock::Clock,
    cluster::{Agent, Role, START},
    http::{self, Client, list, text},
    ports::Network,
    proxy::Proxy,
    sim::model::seed_octets,
    subject::Kind,
    wait,
};

/// Servers.
const SERVERS: u8 = 3;
/// Clients at a time, each with one call at a time.
const CLIENTS: usize = 5;
/// Keys of a round: few enough that clients meet, enough that a round is several histories.
pub const KEYS: usize = 8;
/// After this time a client asks no longer what became of its call. Shorter than an election.
const PATIENCE: Duration = Duration::from_millis(1200);
/// A client's longest rest between two calls.
const REST: Duration = Duration::from_millis(12);
/// The longest trouble: an election, a lease and more.
const LONGEST: Duration = Duration::from_millis(3500);
/// Answers before trouble comes, and after it went.
const CALM: usize = 100;
/// The node that sessions live on.
const NODE: &str = "outside";
/// A day in milliseconds.
const DAY: usize = 86_400_000;

/// What the rounds came to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Summary {
    /// Histories checked.
    pub histories: usize,
    /// Calls in them that were answered.
    pub answered: usize,
    /// Calls of which nobody knows what became.
    pub lost: usize,
}

/// Runs `rounds` rounds. The seed decides what happens to whom and when; the machine's timing is its own.
///
/// # Errors
///
/// A history that is not linearizable, or a cluster that does not come back.
pub fn histories(kind: Kind, rounds: u32, seed: u64) -> Result<Summary> {
    let mut cluster = Cluster::start(kind)?;
    let mut rng = Rng::from_seed(&seed_octets(seed, 0));
    let mut summary = Summary::default();
    for round in 1..=rounds {
        let trouble = Trouble::draw(&mut rng);
        cluster
            .round(round, seed, &trouble, &mut summary)
            .map_err(|error| format!("seed {seed}, round {round} of {rounds}, {trouble:?}: {error}"))?;
    }
    Ok(summary)
}

/// What happens in a round.
#[derive(Clone, Copy, Debug)]
struct Trouble {
    what: What,
    /// It happens to the leader, else to this server.
    to_leader: bool,
    host: usize,
    time: Duration,
    /// One server's clock is set as well.
    clock: Option<(usize, i64)>,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Nothing,
    Kill,
    Pause,
    /// Nobody reaches it, and it reaches nobody.
    Isolate,
    /// It hears everybody and nobody hears it.
    Mute,
}

impl Trouble {
    fn draw(rng: &mut Rng) -> Self {
        let what = match rng.below(9) {
            0 => What::Nothing,
            1 | 2 => What::Kill,
            3..=5 => What::Pause,
            6 | 7 => What::Isolate,
            _ => What::Mute,
        };
        let ahead = rng.below(2 * DAY) as i64 - DAY as i64;
        Trouble {
            what,
            to_leader: rng.below(4) > 0,
            host: rng.below(usize::from(SERVERS)),
            time: Duration::from_millis(rng.below(LONGEST.as_millis() as usize) as u64),
            clock: (rng.below(2) == 0).then_some((rng.below(usize::from(SERVERS)), ahead)),
        }
    }
}

struct Cluster {
    servers: Vec<Agent>,
    proxy: Proxy,
}

impl Cluster {
    fn start(kind: Kind) -> Result<Self> {
        let network = Network::free(SERVERS)?;
        let proxy = Proxy::start(network, SERVERS)?;
        let mut servers = Vec::new();
        for host in 1..=SERVERS {
            let settings = json!({
                "advertise_addr": proxy.address(host).to_string(),
                "retry_join": (1..=SERVERS).map(|n| proxy.address(n).to_string()).collect::<Vec<_>>(),
                "ports": {
                    "http": network.ports.http, "dns": network.ports.dns, "server": network.ports.server,
                    "serf_lan": network.ports.serf_lan, "serf_wan": -1,
                },
                // Often enough that some are sent to servers that were away.
                "raft_snapshot_threshold": 200,
                "raft_trailing_logs": 50,
            });
            servers.push(Agent::start_by(Some(Clock::new()?), network, host, kind, Role::Server(SERVERS), &settings)?);
        }
        for server in &mut servers {
            server.ready()?;
        }
        let node = json!({ "Node": NODE, "Address": "127.0.0.1" });
        servers[0].http.put("/v1/catalog/register", &node.to_string())?;
        Ok(Cluster { servers, proxy })
    }

    fn round(&mut self, round: u32, seed: u64, trouble: &Trouble, summary: &mut Summary) -> Result<()> {
        let book = Book::new(round);
        let clients: Vec<Client> = self
            .servers
            .iter()
            .map(|server| {
                Client::with_limit((server.network.address(server.host), server.network.ports.http).into(), PATIENCE)
            })
            .collect();
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                let (book, servers, stop) = (&book, &clients, &stop);
                let rng = Rng::from_seed(&seed_octets(seed, u64::from(round) << 8 | client as u64));
                scope.spawn(move || {
                    User { number: client as u64, rng, servers, book, session: None, seen: HashMap::new() }.run(stop)
                });
            }
            let result = self.disturb(trouble, &book);
            stop.store(true, Ordering::Relaxed);
            result
        })?;
        for server in &self.servers {
            for key in 0..KEYS {
                let call = book.begin(key, CLIENTS as u64, Op::Get);
                let answer = server.http.ask(&format!("{}?consistent", book.path(key)))?;
                book.answer(call, Answer::Found(book.row(&answer)?));
            }
        }
        let keys = book.histories.into_inner().unwrap_or_else(PoisonError::into_inner);
        for (key, calls) in keys.iter().enumerate() {
            let calls: Vec<Call> = calls.iter().flatten().copied().collect();
            agent_linear::check(&calls).map_err(|violation| format!("key {key}: {violation}"))?;
            let answered = calls.iter().filter(|call| call.answer.is_some()).count();
            summary.histories += 1;
            summary.answered += answered;
            summary.lost += calls.len() - answered;
        }
        Ok(())
    }

    /// Calm, trouble, calm.
    fn disturb(&mut self, trouble: &Trouble, book: &Book) -> Result<()> {
        book.more(CALM)?;
        if let Some((host, ahead)) = trouble.clock {
            self.servers[host].set_clock(ahead)?;
        }
        let victim = if trouble.to_leader { self.leader()? } else { trouble.host };
        let host = self.servers[victim].host;
        match trouble.what {
            What::Nothing => {}
            What::Kill => self.servers[victim].kill()?,
            What::Pause => self.servers[victim].pause()?,
            What::Isolate => self.proxy.part(&[host]),
            What::Mute => self.proxy.mute(host),
        }
        // Its length is the seed's; nothing is waited for.
        thread::sleep(trouble.time);
        self.proxy.heal();
        match trouble.what {
            What::Kill => self.servers[victim].restart()?,
            What::Pause => self.servers[victim].resume()?,
            _ => {}
        }
        book.more(CALM)?;
        self.servers.iter_mut().try_for_each(Agent::ready)
    }

    /// Who leads, as far as anybody says.
    fn leader(&self) -> Result<usize> {
        wait::until("a leader", START, || {
            let named = self.servers[0].http.get("/v1/status/leader")?;
            let named = named.as_str().unwrap_or_default();
            let is_it = |server: &&Agent| {
                named == format!("{}:{}", self.proxy.address(server.host), server.network.ports.server)
            };
            let found = self.servers.iter().find(is_it).map(|server| usize::from(server.host) - 1);
            found.ok_or_else(|| format!("{named:?} leads").into())
        })
    }
}

/// What everybody did and was told.
struct Book {
    round: u32,
    began: Instant,
    histories: Mutex<[Vec<Option<Call>>; KEYS]>,
    /// Values and sessions are numbered.
    numbers: AtomicU64,
    sessions: Mutex<HashMap<String, u64>>,
    answered: AtomicUsize,
}

type Place = (usize, usize);

impl Book {
    fn new(round: u32) -> Self {
        Book {
            round,
            began: Instant::now(),
            histories: Mutex::default(),
            numbers: AtomicU64::new(1),
            sessions: Mutex::default(),
            answered: AtomicUsize::new(0),
        }
    }

    fn path(&self, key: usize) -> String {
        format!("/v1/kv/linear/{}/{key}", self.round)
    }

    fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.began.elapsed().as_nanos() as u64
    }

    fn begin(&self, key: usize, client: u64, op: Op) -> Place {
        let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        histories[key].push(Some(Call { client, op, from: self.now(), answer: None }));
        (key, histories[key].len() - 1)
    }

    fn answer(&self, (key, place): Place, answer: Answer) {
        let now = self.now();
        let mut histories = self.histories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(call) = &mut histories[key][place] {
            call.answer = Some((now, answer));
            self.answered.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It was not carried out and never will be, or it does not matter.
    fn forget(&self, (key, place): Place) {
        self.histories.lock().unwrap_or_else(PoisonError::into_inner)[key][place] = None;
    }

    /// Waits for more answers.
    fn more(&self, count: usize) -> Result<()> {
        let wanted = self.answered.load(Ordering::Relaxed) + count;
        wait::until("answers", START, || {
            let now = self.answered.load(Ordering::Relaxed);
            wait::check(now >= wanted, || format!("{now} of {wanted}"))
        })
    }

    fn row(&self, answer: &http::Answer) -> Result<Option<Row>> {
        if answer.status == 404 {
            return Ok(None);
        }
        let rows: Value = serde_json::from_str(&answer.body)?;
        let row = list(&rows).first().ok_or("no row")?;
        let session = text(row, "Session");
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let session = if session.is_empty() { None } else { Some(*sessions.get(session).ok_or("an unknown session")?) };
        let number = |field: &str| row[field].as_u64().ok_or_else(|| format!("no {field}"));
        Ok(Some(Row { value: number("Flags")?, index: number("ModifyIndex")?, session }))
    }
}

/// One client.
struct User<'a> {
    number: u64,
    rng: Rng,
    servers: &'a [Client],
    book: &'a Book,
    session: Option<(String, u64)>,
    /// Indexes that its reads have shown.
    seen: HashMap<usize, u64>,
}

/// What came of a write.
enum End {
    Answered(http::Answer),
    Not,
    Unknown,
}

impl User<'_> {
    fn run(mut self, stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            let server = &self.servers[self.rng.below(self.servers.len())];
            let key = self.rng.below(KEYS);
            match (self.rng.below(5), &self.session) {
                (0 | 1, _) => self.read(server, key),
                (_, None) => self.open_session(server),
                (_, Some((id, session))) => {
                    let (id, session) = (id.clone(), *session);
                    self.write(server, key, &id, session);
                }
            }
            thread::sleep(Duration::from_micros(self.rng.below(REST.as_micros() as usize) as u64));
        }
    }

    fn read(&mut self, server: &Client, key: usize) {
        let mode = if self.rng.below(3) == 0 { "?consistent" } else { "" };
        let call = self.book.begin(key, self.number, Op::Get);
        let answer = server.ask(&format!("{}{mode}", self.book.path(key)));
        let row = answer
            .ok()
            .filter(|answer| matches!(answer.status, 200 | 404))
            .and_then(|answer| self.book.row(&answer).ok());
        match row {
            Some(row) => {
                self.seen.extend(row.map(|row| (key, row.index)));
                self.book.answer(call, Answer::Found(row));
            }
            None => self.book.forget(call),
        }
    }

    fn open_session(&mut self, server: &Client) {
        let body = json!({"Node": NODE, "LockDelay": "0s", "NodeChecks": [], "Checks": []}).to_string();
        let End::Answered(answer) = end(server.try_put("/v1/session/create", &body)) else { return };
        let Ok(answer) = serde_json::from_str::<Value>(&answer.body) else { return };
        let (id, number) = (text(&answer, "ID").to_owned(), self.book.number());
        self.book.sessions.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), number);
        self.session = Some((id, number));
    }

    fn write(&mut self, server: &Client, key: usize, id: &str, session: u64) {
        let (path, value) = (self.book.path(key), self.book.number());
        let seen = self.seen.get(&key).copied().unwrap_or_default();
        let (op, query) = match self.rng.below(16) {
            0..=3 => (Op::Set(value), String::new()),
            4..=7 => (Op::Cas { index: seen, value }, format!("&cas={seen}")),
            8 => (Op::Cas { index: 0, value }, "&cas=0".into()),
            9 => (Op::Delete, String::new()),
            10..=12 => (Op::Acquire { session, value }, format!("&acquire={id}")),
            13 | 14 => (Op::Release { session, value }, format!("&release={id}")),
            _ => return self.end_session(server, id, session),
        };
        let call = self.book.begin(key, self.number, op);
        let answer = match op {
            Op::Delete => server.try_delete(&path),
            _ => server.try_put(&format!("{path}?flags={value}{query}"), "x"),
        };
        match end(answer) {
            End::Answered(answer) if matches!(op, Op::Set(_) | Op::Delete) => {
                debug_assert_eq!(answer.body.trim(), "true");
                self.book.answer(call, Answer::Done);
            }
            End::Answered(answer) => self.book.answer(call, Answer::Did(answer.body.trim() == "true")),
            End::Not => self.book.forget(call),
            End::Unknown => {}
        }
    }

    fn end_session(&mut self, server: &Client, id: &str, session: u64) {
        self.session = None;
        let calls: Vec<Place> = (0..KEYS).map(|key| self.book.begin(key, self.number, Op::End(session))).collect();
        match end(server.try_put(&format!("/v1/session/destroy/{id}"), "")) {
            End::Answered(_) => calls.into_iter().for_each(|call| self.book.answer(call, Answer::Done)),
            End::Not => calls.into_iter().for_each(|call| self.book.forget(call)),
            End::Unknown => {}
        }
    }
}

/// Errors of before anything was proposed; all others leave open what happened.
fn end(answer: Result<http::Answer>) -> End {
    const NOT: [&str; 5] =
        ["No cluster leader", "rpc error getting client", "raft is busy", "invalid session", "Connection refused"];
    let text = match answer {
        Ok(answer) if answer.status == 200 => return End::Answered(answer),
        Ok(answer) => answer.body,
        Err(error) => error.to_string(),
    };
    if NOT.iter().any(|not| text.contains(not)) { End::Not } else { End::Unknown }
}

/// A leader is stopped and goes on when another one has written: what it is asked by then, and was asked while it stood
/// still, is answered by the new leader's state or not at all.
///
/// # Errors
///
/// What was not as it must be.
pub fn paused_leader(kind: Kind) -> Result<()> {
    /// Requests that wait in the stopped process's sockets.
    const ASKED: usize = 30;
    let network = Network::free(SERVERS)?;
    let mut servers = Vec::new();
    for host in 1..=SERVERS {
        servers.push(Agent::start(network, host, kind, Role::Server(SERVERS), &json!({}))?);
    }
    for server in &mut servers {
        server.ready()?;
    }
    let leader = super::rpc::leader(&servers)?;
    let mut paused = servers.remove(leader);
    paused.http.put("/v1/kv/value", "old")?;
    // It has a lease when it is stopped.
    let before = paused.http.ask("/v1/kv/value?raw")?;
    wait::check(before.body == "old", || format!("{before:?}"))?;
    paused.pause()?;
    wait::until("a write by another leader", START, || servers[0].http.put("/v1/kv/value", "new").map(drop))?;
    let asked = (0..ASKED)
        .map(|_| {
            let mut stream = TcpStream::connect((network.address(paused.host), network.ports.http))?;
            stream.write_all(b"GET /v1/kv/value?raw HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")?;
            stream.set_read_timeout(Some(START))?;
            Ok(stream)
        })
        .collect::<Result<Vec<_>>>()?;
    paused.resume()?;
    let mut new = 0;
    for mut stream in asked {
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
        let status = head.split(' ').nth(1).unwrap_or_default();
        wait::check(status == "500" || body.ends_with("new"), || format!("it answers {answer}"))?;
        new += usize::from(status == "200");
    }
    println!("{new} of {ASKED} were answered by the new leader's state");
    wait::until("the paused server's return", START, || {
        let answer = paused.http.ask("/v1/kv/value?raw")?;
        wait::check(answer.body == "new", || format!("{answer:?}"))
    })
}
