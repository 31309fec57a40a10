//! A lone server is killed again and again while it writes: it always starts again, and has what it acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use agent_core::rand::Rng;
use serde_json::json;

use crate::{
    Result,
    cluster::{Agent, Role, START},
    http::{list, text},
    ports::Network,
    sim::model::seed_octets,
    subject::Kind,
    wait,
};

/// Connections that write at once, so that several writes share a sync.
const WRITERS: usize = 8;
/// Keys of each writer, written over and over: a lost write and one that came back both show.
const KEYS: usize = 16;
/// At most so many acknowledged writes before a kill; small against a snapshot's interval and above it.
const MOST_WRITES: usize = 120;
/// At most this long after the last awaited write, or after the start of a process that is killed while it starts. A start
/// takes about this long.
const MOST_DELAY: Duration = Duration::from_millis(200);

/// What one key must hold: at least the last write that was acknowledged, at most the last that was tried.
#[derive(Clone, Copy, Debug, Default)]
struct Bounds {
    acknowledged: u64,
    tried: u64,
}

/// Kills a server `kills` times. The seed decides when; with the same seed the plan is the same, though not the machine's
/// timing.
///
/// # Errors
///
/// A start that failed, a lost write, or one that nobody made.
pub fn server_is_killed(kind: Kind, kills: u32, seed: u64) -> Result<()> {
    // Snapshots often enough that some kills hit one.
    let settings = json!({ "raft_snapshot_threshold": 100, "raft_trailing_logs": 20 });
    let mut server = Agent::start(Network::free(1)?, 1, kind, Role::Server(1), &settings)?;
    let mut rng = Rng::from_seed(&seed_octets(seed, 0));
    let mut known = BTreeMap::new();
    for kill in 1..=kills {
        let plan = Plan::draw(&mut rng);
        run(&mut server, &mut known, &plan)
            .map_err(|error| format!("seed {seed}, kill {kill} of {kills}, {plan:?}: {error}"))?;
    }
    server.ready()?;
    check(&server, &known).map_err(|error| format!("seed {seed}, after {kills} kills: {error}").into())
}

/// One life of the process, from its start to the start of the next.
fn run(server: &mut Agent, known: &mut BTreeMap<String, Bounds>, plan: &Plan) -> Result<()> {
    if plan.while_starting {
        pause(plan.delay);
        server.kill()?;
    } else {
        server.ready()?;
        check(server, known)?;
        write_and_kill(server, known, plan)?;
    }
    server.restart()
}

/// Every key is there, and holds a write between the last acknowledged and the last tried one.
fn check(server: &Agent, known: &BTreeMap<String, Bounds>) -> Result<()> {
    if known.is_empty() {
        return Ok(());
    }
    let rows = server.http.get("/v1/kv/kill/?recurse&consistent")?;
    let found: BTreeMap<&str, u64> =
        list(&rows).iter().filter_map(|row| Some((text(row, "Key"), row["Flags"].as_u64()?))).collect();
    for (key, bounds) in known {
        let value = found.get(key.as_str()).copied().unwrap_or_default();
        let holds = (bounds.acknowledged..=bounds.tried).contains(&value);
        wait::check(holds, || format!("{key} holds write {value}, not within {bounds:?}"))?;
    }
    Ok(())
}

/// When one process is killed.
#[derive(Clone, Copy, Debug)]
struct Plan {
    /// Before it is ready, so that reading the log again is interrupted too.
    while_starting: bool,
    writes: usize,
    delay: Duration,
}

impl Plan {
    fn draw(rng: &mut Rng) -> Self {
        let micros = rng.below(MOST_DELAY.as_micros() as usize);
        Plan {
            while_starting: rng.below(4) == 0,
            writes: rng.below(MOST_WRITES),
            delay: Duration::from_micros(micros as u64),
        }
    }
}

/// The point of the kill, not a wait for anything.
fn pause(delay: Duration) {
    let end = Instant::now() + delay;
    while Instant::now() < end {
        thread::yield_now();
    }
}

/// Writes until the plan says that now is the time.
fn write_and_kill(server: &mut Agent, known: &mut BTreeMap<String, Bounds>, plan: &Plan) -> Result<()> {
    let (stop, acknowledged, known) = (AtomicBool::new(false), AtomicUsize::new(0), Mutex::new(known));
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let client = server.http.clone();
            let (stop, acknowledged, known) = (&stop, &acknowledged, &known);
            scope.spawn(move || {
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("kill/{writer}/{}", n % KEYS);
                    let value = change(known, &key, |bounds| {
                        bounds.tried += 1;
                        bounds.tried
                    });
                    // In the flags, because they come back as a plain number.
                    let answer = client.put(&format!("/v1/kv/{key}?flags={value}"), "x");
                    if answer.is_ok_and(|answer| answer.body.trim() == "true") {
                        change(known, &key, |bounds| bounds.acknowledged = value);
                        acknowledged.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let written = wait::until("acknowledged writes", START, || {
            let count = acknowledged.load(Ordering::Relaxed);
            wait::check(count >= plan.writes, || format!("{count} of {}", plan.writes))
        });
        pause(plan.delay);
        let killed = server.kill();
        stop.store(true, Ordering::Relaxed);
        written.and(killed)
    })
}

fn change<T>(known: &Mutex<&mut BTreeMap<String, Bounds>>, key: &str, change: impl FnOnce(&mut Bounds) -> T) -> T {
    let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
    change(known.entry(key.to_owned()).or_default())
}
