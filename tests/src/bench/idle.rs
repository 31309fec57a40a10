//! What agents cost that have nothing to do: three servers and a client of each side, at the same time.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{SIDES, proc::Usage, table::Table};
use crate::{
    Result,
    cluster::{Agent, Role, SETTLE, Status},
    ports, wait,
};

/// After the last member is seen: elections, first registrations and logs are over.
const CALM: Duration = Duration::from_secs(10);

/// Figures of servers, and of a client: processor time, switches, resident and private memory, threads.
const NAMES: [[&str; 5]; 2] = [
    ["idle server: CPU", "idle server: switches", "idle server: RSS", "idle server: private", "idle server: threads"],
    ["idle client: CPU", "idle client: switches", "idle client: RSS", "idle client: private", "idle client: threads"],
];

/// Watches both clusters for `span`.
///
/// # Errors
///
/// When a cluster does not come up or an agent ends.
pub fn run(table: &mut Table, span: Duration) -> Result<()> {
    let mut clusters = Vec::new();
    for side in SIDES {
        let network = ports::Network::free(4)?;
        let mut agents = Vec::new();
        for host in 1..=4 {
            let role = if host < 4 { Role::Server(3) } else { Role::Client(3) };
            agents.push(Agent::start(network, host, side, role, &json!({ "log_level": "warn" }))?);
        }
        for agent in &mut agents {
            agent.ready()?;
        }
        let client = agents[3].name.clone();
        wait::until("the client among the members", SETTLE, || agents[0].sees(&client, Status::Alive))?;
        wait::until("the client's health", SETTLE, || agents[0].shows_check(&client, "serfHealth", "passing"))?;
        clusters.push((side, agents));
    }
    thread::sleep(CALM);
    let read = |agents: &[Agent]| agents.iter().map(|agent| Usage::of(agent.id())).collect::<Result<Vec<_>>>();
    let mut before = Vec::new();
    for (_, agents) in &clusters {
        before.push((Instant::now(), read(agents)?));
    }
    thread::sleep(span);
    for ((side, agents), (since, before)) in clusters.iter().zip(before) {
        let (after, minutes) = (read(agents)?, since.elapsed().as_secs_f64() / 60.0);
        for (host, (before, after)) in before.iter().zip(after).enumerate() {
            let [cpu, switches, resident, private, threads] = NAMES[usize::from(host == 3)];
            table.put(cpu, "s/min", *side, (after.cpu - before.cpu) / minutes);
            table.put(switches, "1/s", *side, (after.switches - before.switches) / minutes / 60.0);
            table.put(resident, "MiB", *side, after.resident);
            table.put(private, "MiB", *side, after.private);
            table.put(threads, "", *side, after.threads);
        }
    }
    Ok(())
}
