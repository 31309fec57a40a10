//! The leader of three servers is killed: how long nobody can write.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{SIDES, measured, table::Table};
use crate::{
    Result,
    cluster::{Agent, Role},
    http::Client,
    ports::Network,
};

/// Longest wait for the next leader.
const LIMIT: Duration = Duration::from_secs(60);
/// A server that does not answer is not waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Servers.
const SERVERS: u8 = 3;

/// Kills the leader of a fresh cluster of each side in turns, `rounds` times, with the settings that both ship with.
///
/// # Errors
///
/// When a cluster does not come up or none of its servers leads again.
pub fn run(table: &mut Table, rounds: usize) -> Result<()> {
    for round in 0..rounds {
        for turn in 0..SIDES.len() {
            let side = SIDES[(round + turn) % SIDES.len()];
            let network = Network::free(SERVERS)?;
            // The harness hurries elections; here they are what is measured.
            let settings = json!({ "log_level": "warn", "performance": {} });
            let mut servers = (1..=SERVERS)
                .map(|host| Agent::start(network, host, side, Role::Server(SERVERS), &settings))
                .collect::<Result<Vec<_>>>()?;
            for server in &mut servers {
                server.ready()?;
            }
            let leader = servers[0].http.get("/v1/status/leader")?;
            let host = (1..=SERVERS).find(|&host| {
                leader.as_str().is_some_and(|leader| leader.starts_with(&format!("{}:", network.address(host))))
            });
            let host = host.ok_or_else(|| format!("{leader} leads, who is none of ours"))?;
            let others: Vec<Client> = (1..=SERVERS)
                .filter(|&other| other != host)
                .map(|other| Client::with_limit((network.address(other), network.ports.http).into(), PATIENCE))
                .collect();
            let killed = Instant::now();
            servers[usize::from(host - 1)].kill()?;
            let mut number = 0;
            let gap = measured(killed, LIMIT, || {
                number += 1;
                others[number % others.len()].put(&format!("/v1/kv/after/{number}"), "x").map(|_| ())
            })?;
            table.put("leader killed to next write", "s", side, gap.as_secs_f64());
        }
    }
    Ok(())
}
