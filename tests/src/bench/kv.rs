//! Writes and reads of keys over HTTP, by one connection and by many.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{SIDES, table::Table};
use crate::{
    Result,
    cluster::{Agent, Role},
    http::Client,
    ports,
};

/// Connections of the larger load.
const MANY: usize = 64;
/// Octets of a value.
const VALUE: usize = 128;

/// Names of the figures for one number of servers.
struct Names {
    servers: u8,
    one: &'static str,
    many: &'static str,
    reads: &'static str,
}

const NAMES: [Names; 2] = [
    Names {
        servers: 1,
        one: "1 server, 1 writer: median PUT",
        many: "1 server, 64 writers: PUTs",
        reads: "1 server, 64 readers: GETs",
    },
    Names {
        servers: 3,
        one: "3 servers, 1 writer: median PUT",
        many: "3 servers, 64 writers: PUTs",
        reads: "3 servers, 64 readers: GETs",
    },
];

/// Runs each load for `span` on each side in turns.
///
/// # Errors
///
/// When a cluster does not come up or refuses a request.
pub fn run(table: &mut Table, span: Duration) -> Result<()> {
    for names in &NAMES {
        for side in SIDES {
            let network = ports::Network::free(names.servers)?;
            let mut servers = (1..=names.servers)
                .map(|host| {
                    Agent::start(network, host, side, Role::Server(names.servers), &json!({"log_level": "warn"}))
                })
                .collect::<Result<Vec<_>>>()?;
            for server in &mut servers {
                server.ready()?;
            }
            let http = &servers[0].http;
            let put = |http: &Client, key: String| http.put(&format!("/v1/kv/{key}"), &"x".repeat(VALUE)).map(|_| ());
            let mut times = load(http, 1, span, put)?;
            times.sort_unstable();
            table.put(names.one, "ms", side, times[times.len() / 2].as_secs_f64() * 1e3);
            let rate = |times: Vec<Duration>| times.len() as f64 / span.as_secs_f64();
            table.put(names.many, "1/s", side, rate(load(http, MANY, span, put)?));
            let read = |http: &Client, _: String| http.ask("/v1/kv/0-0").map(|_| ());
            table.put(names.reads, "1/s", side, rate(load(http, MANY, span, read)?));
        }
    }
    Ok(())
}

/// The time of every request that `connections` threads get answered within `span`, each with one connection.
fn load(
    http: &Client,
    connections: usize,
    span: Duration,
    request: impl Fn(&Client, String) -> Result<()> + Sync,
) -> Result<Vec<Duration>> {
    let deadline = Instant::now() + span;
    thread::scope(|scope| {
        let threads: Vec<_> = (0..connections)
            .map(|thread| {
                let (http, request) = (http.clone(), &request);
                scope.spawn(move || -> std::result::Result<Vec<Duration>, String> {
                    let mut times = Vec::new();
                    while Instant::now() < deadline {
                        let begun = Instant::now();
                        request(&http, format!("{thread}-{}", times.len())).map_err(|error| error.to_string())?;
                        times.push(begun.elapsed());
                    }
                    Ok(times)
                })
            })
            .collect();
        let mut all = Vec::new();
        for thread in threads {
            all.extend(thread.join().map_err(|_| "a thread of the load panicked")??);
        }
        Ok(all)
    })
}
