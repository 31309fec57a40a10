//! What happens to servers on purpose, and by mistake.

use std::time::Duration;

use serde_json::json;

use crate::{
    Result,
    cluster::{Agent, Role, START},
    http::list,
    ports::Network,
    subject::Kind,
    wait,
};

/// Slow elections: who has a leader sooner than this was given one.
const MULTIPLIER: u64 = 8;
/// Below the shortest election timeout of that multiplier.
const HANDOVER: Duration = Duration::from_secs(7);

/// A leader that is told to stop hands leadership over first.
///
/// # Errors
///
/// What was not as it must be.
pub fn leader_stops(kind: Kind) -> Result<()> {
    let network = Network::free(3)?;
    let settings = json!({"performance": {"raft_multiplier": MULTIPLIER}});
    let mut servers = Vec::new();
    for host in 1..=3 {
        servers.push(Agent::start(network, host, kind, Role::Server(3), &settings)?);
    }
    for server in &mut servers {
        server.ready()?;
    }
    let leader = super::rpc::leader(&servers)?;
    let mut stopping = servers.remove(leader);
    let address = servers[0].http.get("/v1/status/leader")?;
    stopping.terminate()?;
    wait::until("the next leader", HANDOVER, || {
        for server in &servers {
            let now = server.http.get("/v1/status/leader")?;
            let other = now != address && now.as_str().is_some_and(|now| !now.is_empty());
            wait::check(other, || format!("{} follows {now}", server.name))?;
        }
        Ok(())
    })?;
    servers[0].http.put("/v1/kv/after", "x").map(drop)
}

/// Two servers that began alone meet: both are named, and neither takes the other.
///
/// # Errors
///
/// What was not as it must be.
pub fn two_begin_alone(kind: Kind) -> Result<()> {
    let network = Network::free(2)?;
    let join = json!({"retry_join": [network.address(1).to_string()]});
    let mut servers = Vec::new();
    for host in 1..=2 {
        servers.push(Agent::start(network, host, kind, Role::Server(1), &join)?);
    }
    for server in &mut servers {
        server.ready()?;
    }
    let both = format!("{} and {}", servers[0].name, servers[1].name);
    for server in &servers {
        wait::until("the names of both", START, || {
            wait::check(server.log().contains(&both), || format!("{} has not named them", server.name))
        })?;
        let peers = server.http.get("/v1/status/peers")?;
        wait::check(list(&peers).len() == 1, || format!("{} is in a cluster of {peers}", server.name))?;
        server.http.put("/v1/kv/own", "x")?;
    }
    Ok(())
}
