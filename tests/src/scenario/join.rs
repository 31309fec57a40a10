//! A client joins a cluster of real Consul agents and is one of them.

use std::{net::TcpListener, time::Duration};

use serde_json::{Value, json};

use super::KEY;
use crate::{
    Result,
    cluster::{Agent, Role, SETTLE, Status},
    http::{list, text},
    ports::Network,
    subject::Kind,
    wait, watch_time,
};

/// A node's last anti-entropy may write it into the catalog again after its leave; then only the leader's comparison
/// of catalog and members, once a minute, takes it out (seen with Consul 1.8.7).
const RECONCILE: Duration = Duration::from_secs(60);

/// A real server, a real client, and the agent that the scenario is about.
struct Trio {
    server: Agent,
    client: Agent,
    subject: Agent,
}

impl Trio {
    fn start(kind: Kind, settings: &Value) -> Result<Self> {
        let network = Network::free(3)?;
        let mut server = Agent::start(network, 1, Kind::Consul, Role::Server(1), settings)?;
        let mut client = Agent::start(network, 2, Kind::Consul, Role::Client(1), settings)?;
        let mut subject = Agent::start(network, 3, kind, Role::Client(1), settings)?;
        server.ready()?;
        client.ready()?;
        subject.ready()?;
        let trio = Trio { server, client, subject };
        trio.subject_is(Status::Alive)?;
        trio.check_is("serfHealth", "passing")?;
        Ok(trio)
    }

    /// Waits until both real agents see the subject so.
    fn subject_is(&self, status: Status) -> Result<()> {
        wait::until("the subject's status", SETTLE, || {
            self.server.sees(&self.subject.name, status)?;
            self.client.sees(&self.subject.name, status)
        })
    }

    /// Waits until the server's catalog has the subject's check so.
    fn check_is(&self, check: &str, status: &str) -> Result<()> {
        wait::until("the subject's check", SETTLE, || self.server.shows_check(&self.subject.name, check, status))
    }
}

/// It joins, and from then on no real agent ever doubts it.
///
/// # Errors
///
/// What was not as it must be.
pub fn stays_alive(kind: Kind, encrypted: bool) -> Result<()> {
    let settings = if encrypted { json!({ "encrypt": KEY }) } else { json!({}) };
    let trio = Trio::start(kind, &settings)?;
    let name = &trio.subject.name;
    wait::until("the subject's own view", SETTLE, || {
        trio.subject.sees(&trio.server.name, Status::Alive)?;
        trio.subject.sees(&trio.client.name, Status::Alive)
    })?;
    let span = watch_time(Duration::from_secs(12), Duration::from_secs(180));
    in_good_standing(&trio.server, &trio.client, name, span)
}

/// Its services and checks come into the catalog, follow its changes, and go.
///
/// # Errors
///
/// What was not as it must be.
pub fn services_follow(kind: Kind) -> Result<()> {
    let trio = Trio::start(kind, &json!({}))?;
    let Trio { server, subject, .. } = &trio;
    let door = TcpListener::bind((subject.network.address(3), 0))?;
    let address = door.local_addr()?;
    let service = json!({
        "Name": "thermo", "Port": 9000, "Tags": ["celsius"],
        "Checks": [
            { "CheckID": "temperature", "Name": "temperature", "TTL": "600s" },
            { "CheckID": "door", "Name": "door", "TCP": address.to_string(), "Interval": "1s", "Timeout": "1s" },
        ],
    });
    subject.http.put("/v1/agent/service/register", &service.to_string())?;

    let row = wait::until("the service", SETTLE, || server.shows_service(&subject.name, "thermo"))?;
    let as_registered = row["ServicePort"] == 9000 && row["ServiceTags"] == json!(["celsius"]);
    wait::check(as_registered, || format!("the catalog has {row}"))?;
    trio.check_is("temperature", "critical")?;
    trio.check_is("door", "passing")?;

    subject.http.put("/v1/agent/check/pass/temperature?note=21+C", "")?;
    trio.check_is("temperature", "passing")?;
    let checks = server.http.get(&format!("/v1/health/node/{}", subject.name))?;
    let note = list(&checks).iter().find(|check| text(check, "CheckID") == "temperature").map(|c| text(c, "Output"));
    wait::check(note == Some("21 C"), || format!("the note in the catalog is {note:?}"))?;
    subject.http.put("/v1/agent/check/warn/temperature", "")?;
    trio.check_is("temperature", "warning")?;
    subject.http.put("/v1/agent/check/fail/temperature", "")?;
    trio.check_is("temperature", "critical")?;

    drop(door);
    trio.check_is("door", "critical")?;
    let _door = TcpListener::bind(address)?;
    trio.check_is("door", "passing")?;

    subject.http.put("/v1/agent/service/deregister/thermo", "")?;
    wait::until("the service's end", SETTLE, || {
        let rows = server.http.get("/v1/catalog/service/thermo")?;
        let checks = server.http.get("/v1/health/checks/thermo")?;
        wait::check(list(&rows).is_empty() && list(&checks).is_empty(), || format!("{rows} {checks}"))
    })
}

/// SIGTERM makes a client leave: `left` everywhere and gone from the catalog.
///
/// # Errors
///
/// What was not as it must be.
pub fn leaves(kind: Kind) -> Result<()> {
    let mut trio = Trio::start(kind, &json!({ "encrypt": KEY }))?;
    let status = trio.subject.terminate()?;
    wait::check(status.success(), || format!("a graceful leave ended with {status}"))?;
    trio.subject_is(Status::Left)?;
    wait::until("the node's end in the catalog", RECONCILE + SETTLE, || {
        let nodes = trio.server.http.get("/v1/catalog/nodes")?;
        let gone = list(&nodes).iter().all(|node| text(node, "Node") != trio.subject.name);
        wait::check(gone, || nodes.to_string())
    })?;
    // Nobody may have taken it for dead on the way.
    let log = trio.server.log();
    let failed = log.lines().find(|line| line.contains(&format!("EventMemberFailed: {}", trio.subject.name)));
    wait::check(failed.is_none(), || format!("the server logged {failed:?}"))
}

/// Killed it becomes `failed`; started again with a young incarnation it is alive again.
///
/// # Errors
///
/// What was not as it must be.
pub fn fails_and_returns(kind: Kind) -> Result<()> {
    let mut trio = Trio::start(kind, &json!({}))?;
    trio.subject.kill()?;
    trio.subject_is(Status::Failed)?;
    trio.check_is("serfHealth", "critical")?;
    trio.subject.restart()?;
    trio.subject.ready()?;
    trio.subject_is(Status::Alive)?;
    trio.check_is("serfHealth", "passing")
}

/// Hanging it becomes `failed`; going on with what it knew it refutes its own death.
///
/// # Errors
///
/// What was not as it must be.
pub fn refutes(kind: Kind) -> Result<()> {
    let mut trio = Trio::start(kind, &json!({}))?;
    trio.subject.pause()?;
    trio.subject_is(Status::Failed)?;
    trio.subject.resume()?;
    trio.subject_is(Status::Alive)?;
    trio.check_is("serfHealth", "passing")?;
    // It does not stay the one who holds the others for dead.
    wait::until("the subject's own view", SETTLE, || {
        trio.subject.sees(&trio.server.name, Status::Alive)?;
        trio.subject.sees(&trio.client.name, Status::Alive)
    })
}

/// For `span` both agents see `name` alive and passing, and neither so much as doubts it or another member.
///
/// # Errors
///
/// What was not as it must be.
pub fn in_good_standing(server: &Agent, client: &Agent, name: &str, span: Duration) -> Result<()> {
    let before = health_index(server, name)?;
    wait::holds("the subject's good standing", span, || {
        server.sees(name, Status::Alive)?;
        client.sees(name, Status::Alive)?;
        server.shows_check(name, "serfHealth", "passing")
    })?;
    // A look could miss a flap; the index of the check and the logs do not.
    let after = health_index(server, name)?;
    wait::check(before == after, || format!("serfHealth changed: index {before} became {after}"))?;
    for agent in [server, client] {
        let log = agent.log();
        let doubts = ["EventMemberFailed: ", "memberlist: Suspect ", "Refuting a suspect message"];
        let doubt = log.lines().find(|line| doubts.iter().any(|doubt| line.contains(doubt)));
        wait::check(doubt.is_none(), || format!("{} logged {doubt:?}", agent.name))?;
    }
    Ok(())
}

/// The index at which the catalog last changed `node`'s serfHealth.
fn health_index(server: &Agent, node: &str) -> Result<u64> {
    let checks = server.http.get(&format!("/v1/health/node/{node}"))?;
    let row = list(&checks).iter().find(|check| text(check, "CheckID") == "serfHealth");
    row.and_then(|row| row["ModifyIndex"].as_u64()).ok_or_else(|| format!("no serfHealth in {checks}").into())
}

/// Comes back after a crash without being told where to; after a leave only when its configuration says so.
///
/// # Errors
///
/// What was not as it must be.
pub fn finds_back(kind: Kind, rejoin: bool) -> Result<()> {
    let network = Network::free(2)?;
    let mut server = Agent::start(network, 1, Kind::Consul, Role::Server(1), &json!({}))?;
    let settings = json!({ "retry_join": [], "rejoin_after_leave": rejoin });
    let mut subject = Agent::start(network, 2, kind, Role::Client(1), &settings)?;
    server.ready()?;
    wait::until("the subject to join", SETTLE, || {
        subject.http.put(&format!("/v1/agent/join/{}", server.gossip()), "")
    })?;
    wait::until("the subject in the pool", SETTLE, || server.sees(&subject.name, Status::Alive))?;
    let data = subject.data("serf/local.snapshot");
    wait::until("the member on its disk", SETTLE, || {
        let text = std::fs::read_to_string(&data)?;
        wait::check(text.contains(&format!("alive: {} ", server.name)), || text)
    })?;
    subject.kill()?;
    wait::until("the subject's failure", SETTLE, || server.sees(&subject.name, Status::Failed))?;
    subject.restart()?;
    wait::until("the subject's return", SETTLE, || server.sees(&subject.name, Status::Alive))?;
    subject.terminate()?;
    wait::until("the subject's leave", SETTLE, || server.sees(&subject.name, Status::Left))?;
    subject.restart()?;
    if rejoin {
        return wait::until("its return after the leave", SETTLE, || server.sees(&subject.name, Status::Alive));
    }
    wait::until("its API", SETTLE, || subject.sees(&subject.name, Status::Alive))?;
    wait::holds("staying away after a leave", Duration::from_secs(5), || server.sees(&subject.name, Status::Left))
}
