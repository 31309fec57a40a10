//! From the start of a process to the moment somebody can use it.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{SIDES, measured, table::Table};
use crate::{
    Result,
    cluster::{Agent, Role, START, Status},
    dns, ports,
};

/// Longest wait for a client: it joins, and its service is found.
const LIMIT: Duration = Duration::from_secs(60);

/// Measures `rounds` starts of a lone server and a client of each side, in turns.
///
/// # Errors
///
/// When an agent does not get there.
pub fn run(table: &mut Table, rounds: usize) -> Result<()> {
    for side in SIDES {
        let size = std::fs::metadata(side.program()?)?.len();
        table.put("size of the program", "MiB", side, size as f64 / (1 << 20) as f64);
    }
    for round in 0..rounds {
        for turn in 0..SIDES.len() {
            let side = SIDES[(round + turn) % SIDES.len()];
            let network = ports::Network::free(2)?;
            let quiet = json!({ "log_level": "warn" });
            let started = Instant::now();
            let server = Agent::start(network, 1, side, Role::Server(1), &quiet)?;
            let ms = |time: Duration| time.as_secs_f64() * 1e3;
            let write = || server.http.put("/v1/kv/first", "x").map(|_| ());
            table.put("lone server to first write", "ms", side, ms(measured(started, START, write)?));

            let started = Instant::now();
            let client = Agent::start(network, 2, side, Role::Client(1), &quiet)?;
            let alive = measured(started, LIMIT, || server.sees(&client.name, Status::Alive))?;
            table.put("client from start to alive", "ms", side, ms(alive));
            measured(started, LIMIT, || server.shows_check(&client.name, "serfHealth", "passing"))?;

            let registered = Instant::now();
            client.http.put("/v1/agent/service/register", &json!({ "name": "bench", "port": 7 }).to_string())?;
            let found = measured(registered, LIMIT, || {
                let answer = dns::ask(server.dns(), "bench.service.consul", dns::Kind::A)?;
                if answer.records.is_empty() { Err(format!("{answer:?}").into()) } else { Ok(()) }
            })?;
            table.put("registration to first DNS answer", "ms", side, ms(found));
        }
    }
    Ok(())
}
