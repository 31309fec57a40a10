//! A cluster of three servers serves a real client, and loses nothing when its leader dies.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use serde_json::json;

use super::KEY;
use crate::{
    Result,
    cluster::{Agent, Role, SETTLE, START, Status},
    dns::{self, Record},
    http::{Client, list, text},
    ports::Network,
    subject::Kind,
    wait,
};

/// Three servers of one kind with a leader.
fn servers(kind: Kind, network: Network) -> Result<Vec<Agent>> {
    let settings = json!({ "encrypt": KEY });
    let mut servers = Vec::new();
    for host in 1..=3 {
        servers.push(Agent::start(network, host, kind, Role::Server(3), &settings)?);
    }
    for server in &mut servers {
        server.ready()?;
    }
    Ok(servers)
}

/// A real client joins, registers a service, and gets answers from the servers' catalog.
///
/// # Errors
///
/// What was not as it must be.
pub fn client_is_served(kind: Kind) -> Result<()> {
    let network = Network::free(4)?;
    let servers = servers(kind, network)?;
    let mut client = Agent::start(network, 4, Kind::Consul, Role::Client(3), &json!({ "encrypt": KEY }))?;
    client.ready()?;
    for server in &servers {
        wait::until("the client", SETTLE, || {
            server.sees(&client.name, Status::Alive)?;
            server.shows_check(&client.name, "serfHealth", "passing")
        })?;
    }
    let service =
        json!({ "Name": "web", "Port": 8080, "Check": { "CheckID": "web-up", "TTL": "600s", "Status": "passing" } });
    client.http.put("/v1/agent/service/register", &service.to_string())?;

    let target = format!("{}.node.dc1.consul", client.name);
    for agent in servers.iter().chain([&client]) {
        wait::until("the service over HTTP", SETTLE, || {
            let rows = agent.http.get("/v1/health/service/web?passing")?;
            let found = list(&rows).iter().any(|row| text(&row["Node"], "Node") == client.name);
            wait::check(found, || format!("{} answers {rows}", agent.name))
        })?;
        wait::until("the service over DNS", SETTLE, || {
            let answer = dns::ask(agent.dns(), "web.service.consul", dns::Kind::Srv)?;
            let found = answer.records.contains(&Record::Srv(8080, target.clone()));
            wait::check(found, || format!("{} answers {answer:?}", agent.name))
        })?;
    }
    // The client's writes and reads are forwarded to the servers.
    client.http.put("/v1/kv/greeting", "hello")?;
    for server in &servers {
        let value = server.http.ask("/v1/kv/greeting?raw&consistent")?;
        wait::check(value.body == "hello", || format!("{} has {value:?}", server.name))?;
    }
    client.http.put("/v1/agent/check/fail/web-up", "")?;
    wait::until("the failed service's absence", SETTLE, || {
        let rows = servers[0].http.get("/v1/health/service/web?passing")?;
        wait::check(list(&rows).is_empty(), || rows.to_string())
    })
}

/// The leader is killed while keys are written: what was acknowledged is there, before and after its return.
///
/// # Errors
///
/// What was not as it must be.
pub fn leader_dies(kind: Kind) -> Result<()> {
    const WRITES_AFTER: usize = 50;
    let network = Network::free(3)?;
    let mut servers = servers(kind, network)?;
    let leader = leader(&servers)?;
    let survivor = (leader + 1) % 3;
    let (writer, stop) = (servers[survivor].http.clone(), AtomicBool::new(false));

    let acknowledged = thread::scope(|scope| -> Result<BTreeSet<String>> {
        let writing = scope.spawn(|| write_keys(&writer, &stop));
        let result = (|| {
            let keys = |least: usize| {
                wait::until("acknowledged writes", START, || {
                    let keys = servers[survivor].http.get("/v1/kv/test/?keys&stale")?;
                    let count = list(&keys).len();
                    wait::check(count >= least, || format!("{count} keys")).map(|()| count)
                })
            };
            let before = keys(WRITES_AFTER)?;
            servers[leader].kill()?;
            wait::until("writes after the leader's death", START, || {
                let keys = servers[survivor].http.get("/v1/kv/test/?keys&stale")?;
                wait::check(list(&keys).len() >= before + WRITES_AFTER, || format!("{} keys", list(&keys).len()))
            })
        })();
        stop.store(true, Ordering::Relaxed);
        let acknowledged = writing.join().map_err(|_| "the writer panicked")?;
        result.map(|()| acknowledged)
    })?;

    let complete = |server: &Agent| -> Result<()> {
        let keys = server.http.get("/v1/kv/test/?keys&consistent")?;
        let present: BTreeSet<&str> = list(&keys).iter().filter_map(|key| key.as_str()).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|key| !present.contains(key.as_str())).collect();
        wait::check(lost.is_empty(), || format!("{} lost {lost:?}", server.name))
    };
    for (n, server) in servers.iter().enumerate() {
        if n != leader {
            complete(server)?;
        }
    }
    servers[leader].restart()?;
    servers[leader].ready()?;
    wait::until("the old leader's return", SETTLE, || {
        servers[survivor].sees(&servers[leader].name, Status::Alive)?;
        let keys = servers[leader].http.get("/v1/kv/test/?keys&stale")?;
        wait::check(list(&keys).len() >= acknowledged.len(), || format!("{} keys", list(&keys).len()))
    })?;
    complete(&servers[leader])
}

/// Writes key after key until told to stop; returns those that were acknowledged.
fn write_keys(client: &Client, stop: &AtomicBool) -> BTreeSet<String> {
    let mut acknowledged = BTreeSet::new();
    for n in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = format!("test/{n:06}");
        match client.put(&format!("/v1/kv/{key}"), &n.to_string()) {
            Ok(answer) if answer.body.trim() == "true" => drop(acknowledged.insert(key)),
            // Nothing was promised. Without a leader answers come at once; do not fill the log with them.
            _ => thread::sleep(Duration::from_millis(20)),
        }
    }
    acknowledged
}

/// The place of the leader in `servers`, once all of them name the same.
pub(super) fn leader(servers: &[Agent]) -> Result<usize> {
    wait::until("one leader", START, || {
        let mut named = Vec::new();
        for server in servers {
            named.push(server.http.get("/v1/status/leader")?.as_str().unwrap_or_default().to_owned());
        }
        let address = |agent: &Agent| format!("{}:{}", agent.network.address(agent.host), agent.network.ports.server);
        let leader = servers.iter().position(|server| named.iter().all(|name| *name == address(server)));
        leader.ok_or_else(|| format!("the leader is {named:?}").into())
    })
}
