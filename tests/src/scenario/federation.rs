//! Two datacenters, each with servers of one kind, are one federation: everybody knows every server, and each side answers
//! for the other.

use std::process::Command;

use serde_json::{Value, json};

use super::KEY;
use crate::{
    Result,
    cluster::{Agent, LEAVE, Role, SETTLE, Status},
    dns::{self, Record},
    http::{list, text},
    ports::Network,
    subject::Kind,
    wait,
};

/// 32 octets in base64.
const NEW: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A datacenter: its servers, and a client of the other kind.
struct Site {
    datacenter: &'static str,
    servers: Vec<Agent>,
    client: Agent,
}

/// Starts servers of one kind that know, beside each other, one WAN address. The client is a real Consul's unless the
/// servers are.
fn site(datacenter: &'static str, kind: Kind, count: u8, wan: Option<String>) -> Result<Site> {
    let network = Network::free(count + 1)?;
    let settings = |wan: Option<&String>| {
        json!({
            "datacenter": datacenter,
            "encrypt": KEY,
            "retry_join_wan": wan.into_iter().collect::<Vec<_>>(),
            "retry_interval_wan": "1s",
            // The times of a LAN: the WAN profile waits for links around the world, and long for others to accuse too.
            "gossip_wan": {
                "probe_interval": "1s", "probe_timeout": "500ms", "gossip_interval": "200ms", "suspicion_mult": 2,
            },
        })
    };
    let mut servers = Vec::new();
    for host in 1..=count {
        // The others are to be brought along by the first.
        let wan = wan.as_ref().filter(|_| host == 1);
        servers.push(Agent::start(network, host, kind, Role::Server(count), &settings(wan))?);
    }
    let other = if kind == Kind::Consul { Kind::Lictor } else { Kind::Consul };
    let client = Agent::start(network, count + 1, other, Role::Client(count), &settings(None))?;
    for server in &mut servers {
        server.ready()?;
    }
    Ok(Site { datacenter, servers, client })
}

impl Site {
    /// The site's agents, servers first.
    fn agents(&self) -> impl Iterator<Item = &Agent> {
        self.servers.iter().chain([&self.client])
    }

    /// Names of its servers in the WAN pool.
    fn names(&self) -> impl Iterator<Item = String> {
        self.servers.iter().map(|server| format!("{}.{}", server.name, self.datacenter))
    }
}

/// The WAN address of a server.
fn wan_address(agent: &Agent) -> String {
    format!("{}:{}", agent.network.address(agent.host), agent.network.ports.serf_wan)
}

/// A look: `agent` sees exactly `wanted` in the WAN pool.
fn sees_wan(agent: &Agent, wanted: &[(String, Status)]) -> Result<()> {
    let members = agent.http.get("/v1/agent/members?wan=1")?;
    let mut found: Vec<(&str, Option<u64>)> =
        list(&members).iter().map(|member| (text(member, "Name"), member["Status"].as_u64())).collect();
    found.sort_unstable();
    let mut wanted: Vec<_> = wanted.iter().map(|(name, status)| (name.as_str(), Some(*status as u64))).collect();
    wanted.sort_unstable();
    wait::check(found == wanted, || format!("{} sees {found:?} and not {wanted:?}", agent.name))
}

/// An agent that finds nobody stops after as many rounds as it is told, in either pool.
///
/// # Errors
///
/// When it goes on, or ends for another reason.
pub fn gives_up(kind: Kind) -> Result<()> {
    let network = Network::free(2)?;
    // Nobody listens there.
    let nobody = network.address(2).to_string();
    let lan = json!({ "retry_join": [nobody], "retry_max": 1, "retry_interval": "1s" });
    let wan = json!({
        "retry_join": [], "retry_join_wan": [nobody], "retry_max_wan": 1, "retry_interval_wan": "1s",
    });
    for (role, settings, text) in [
        (Role::Client(1), lan, "max join LAN retry exhausted, exiting"),
        (Role::Server(1), wan, "max join WAN retry exhausted, exiting"),
    ] {
        let mut agent = Agent::start(network, 1, kind, role, &settings)?;
        let status = agent.ended()?;
        wait::check(status.code() == Some(1) && agent.log().contains(text), || format!("{status}: {}", agent.log()))?;
    }
    Ok(())
}

/// Two sites, `first` with its count of servers and `second` likewise. The second finds the first.
///
/// # Errors
///
/// What was not as it must be.
pub fn federates(first: (Kind, u8), second: (Kind, u8)) -> Result<()> {
    let one = site("dc1", first.0, first.1, None)?;
    let mut two = site("dc2", second.0, second.1, Some(wan_address(&one.servers[0])))?;
    everybody_is_known(&one, &two)?;
    for (asker, owner) in [(&one, &two), (&two, &one)] {
        keys(asker, owner)?;
        services(asker, owner)?;
        fails_over(asker, owner)?;
        events(asker, owner)?;
        snapshots(asker, owner)?;
    }
    rotates(&one, &two, KEY, NEW)?;
    rotates(&two, &one, NEW, KEY)?;
    if two.servers.len() > 1 {
        leaves(&one, &mut two)?;
    }
    dies_and_returns(&one, &mut two)
}

/// All servers see all, and list both datacenters, their own first.
fn everybody_is_known(one: &Site, two: &Site) -> Result<()> {
    let all: Vec<_> = one.names().chain(two.names()).map(|name| (name, Status::Alive)).collect();
    for (ours, theirs) in [(one, two), (two, one)] {
        for server in &ours.servers {
            wait::until("all servers in the WAN pool", SETTLE, || sees_wan(server, &all))?;
        }
        wait::until("the client's server", SETTLE, || ours.servers[0].sees(&ours.client.name, Status::Alive))?;
        for agent in ours.agents() {
            wait::until("both datacenters", SETTLE, || {
                let names = agent.http.get("/v1/catalog/datacenters")?;
                wait::check(names == json!([ours.datacenter, theirs.datacenter]), || {
                    format!("{} says {names}", agent.name)
                })
            })?;
            wait::until("where all servers are", SETTLE, || {
                let places = agent.http.get("/v1/coordinate/datacenters")?;
                let known = |site: &Site| {
                    let row = list(&places).iter().find(|row| text(row, "Datacenter") == site.datacenter);
                    row.map_or(0, |row| list(&row["Coordinates"]).len())
                };
                let complete = known(ours) == ours.servers.len() && known(theirs) == theirs.servers.len();
                wait::check(complete, || format!("{} says {places}", agent.name))
            })?;
        }
        // A client is no member of the WAN pool.
        wait::until("a client's answer", SETTLE, || sees_wan(&ours.client, &[]))?;
        let estimate = cli(Kind::Consul, &ours.servers[0], &["rtt", "-wan"], &[&all[0].0, &all[all.len() - 1].0])?;
        wait::check(estimate.contains("using WAN coordinates"), || estimate.clone())?;
        cli(Kind::Lictor, &ours.servers[0], &["rtt", "-wan"], &[&all[0].0, &all[all.len() - 1].0])?;
    }
    Ok(())
}

/// Every agent of `asker` writes to `owner` and reads it back, over HTTP and by both command lines.
fn keys(asker: &Site, owner: &Site) -> Result<()> {
    let there = owner.datacenter;
    for (n, agent) in asker.agents().enumerate() {
        let key = format!("from-{}-{n}", asker.datacenter);
        agent.http.put(&format!("/v1/kv/{key}?dc={there}"), "hello")?;
        for (answerer, dc) in [(agent, there), (&owner.servers[0], there), (&owner.client, there)] {
            let value = answerer.http.ask(&format!("/v1/kv/{key}?raw&consistent&dc={dc}"))?;
            wait::check(value.body == "hello", || format!("{} has {value:?}", answerer.name))?;
        }
        let here = agent.http.ask(&format!("/v1/kv/{key}?raw"))?;
        wait::check(here.status == 404, || format!("{} has {here:?} at home", agent.name))?;
        for kind in [Kind::Consul, Kind::Lictor] {
            let value = cli(kind, agent, &["kv", "get"], &[&format!("-datacenter={there}"), &key])?;
            wait::check(value == "hello\n", || format!("{kind:?} kv get says {value:?}"))?;
        }
        let unknown = agent.http.ask(&format!("/v1/kv/{key}?dc=nowhere"))?;
        let refused = unknown.status == 500 && unknown.body.contains("No path to datacenter");
        wait::check(refused, || format!("{} answers {unknown:?}", agent.name))?;
    }
    Ok(())
}

/// A service of `owner`'s client is found from every agent of `asker`.
fn services(asker: &Site, owner: &Site) -> Result<()> {
    let (there, node) = (owner.datacenter, &owner.client.name);
    let name = format!("only-{there}");
    let service = json!({ "Name": name, "Port": 8080, "Tags": ["v1"] });
    owner.client.http.put("/v1/agent/service/register", &service.to_string())?;
    let target = format!("{node}.node.{there}.consul");
    let node_address = owner.client.network.address(owner.client.host).to_string();
    for agent in asker.agents() {
        wait::until("the service over HTTP", SETTLE, || {
            let rows = agent.http.get(&format!("/v1/health/service/{name}?passing&dc={there}"))?;
            let found = list(&rows).iter().any(|row| text(&row["Node"], "Node") == node);
            wait::check(found, || format!("{} answers {rows}", agent.name))
        })?;
        let rows = agent.http.get(&format!("/v1/catalog/nodes?dc={there}"))?;
        let found = list(&rows).iter().any(|row| text(row, "Node") == node && text(row, "Datacenter") == there);
        wait::check(found, || format!("{} answers {rows}", agent.name))?;
        for question in [format!("{name}.service.{there}.consul"), format!("_{name}._v1.service.{there}.consul")] {
            let answer = dns::ask(agent.dns(), &question, dns::Kind::Srv)?;
            let found = answer.records.contains(&Record::Srv(8080, target.clone()));
            wait::check(found, || format!("{} answers {question} with {answer:?}", agent.name))?;
        }
        let answer = dns::ask(agent.dns(), &target, dns::Kind::A)?;
        let found =
            answer.records.iter().any(|record| matches!(record, Record::A(ip) if ip.to_string() == node_address));
        wait::check(found, || format!("{} answers {target} with {answer:?}", agent.name))?;
        for question in [format!("{name}.service.consul"), format!("{name}.service.nowhere.consul")] {
            let answer = dns::ask(agent.dns(), &question, dns::Kind::Srv)?;
            wait::check(answer.code == NXDOMAIN, || format!("{} answers {question} with {answer:?}", agent.name))?;
        }
    }
    Ok(())
}

/// No such name.
const NXDOMAIN: u8 = 3;

/// A prepared query of `asker` for what only `owner` has is answered from there, over HTTP and DNS.
fn fails_over(asker: &Site, owner: &Site) -> Result<()> {
    for (name, failover) in [
        ("nearest", json!({ "NearestN": 1 })),
        ("named", json!({ "Datacenters": ["nowhere", owner.datacenter] })),
        ("nowhere", json!({ "Datacenters": ["nowhere"] })),
    ] {
        let service = json!({ "Service": format!("only-{}", owner.datacenter), "Failover": failover });
        asker.servers[0].http.post("/v1/query", &json!({ "Name": name, "Service": service }).to_string())?;
    }
    let target = format!("{}.node.{}.consul", owner.client.name, owner.datacenter);
    for agent in asker.agents() {
        for name in ["nearest", "named"] {
            let found = agent.http.get(&format!("/v1/query/{name}/execute"))?;
            let right = text(&found, "Datacenter") == owner.datacenter
                && found["Failovers"] == 1
                && list(&found["Nodes"]).iter().any(|row| text(&row["Node"], "Node") == owner.client.name);
            wait::check(right, || format!("{} answers {found}", agent.name))?;
            let answer = dns::ask(agent.dns(), &format!("{name}.query.consul"), dns::Kind::Srv)?;
            let found = answer.records.contains(&Record::Srv(8080, target.clone()));
            wait::check(found, || format!("{} answers {name} with {answer:?}", agent.name))?;
        }
        let found = agent.http.get("/v1/query/nowhere/execute")?;
        let right = text(&found, "Datacenter") == asker.datacenter && list(&found["Nodes"]).is_empty();
        wait::check(right, || format!("{} answers {found}", agent.name))?;
    }
    Ok(())
}

/// An event fired in `owner` from `asker` reaches the agents there.
fn events(asker: &Site, owner: &Site) -> Result<()> {
    let name = format!("from-{}", asker.datacenter);
    asker.client.http.put(&format!("/v1/event/fire/{name}?dc={}", owner.datacenter), "")?;
    for agent in owner.agents() {
        wait::until("the event", SETTLE, || {
            let events = agent.http.get(&format!("/v1/event/list?name={name}"))?;
            wait::check(list(&events).len() == 1, || format!("{} has {events}", agent.name))
        })?;
    }
    Ok(())
}

/// `asker` saves and restores what `owner` holds.
fn snapshots(asker: &Site, owner: &Site) -> Result<()> {
    let there = owner.datacenter;
    let archive = asker.client.http.octets(&format!("/v1/snapshot?dc={there}"))?;
    owner.servers[0].http.put("/v1/kv/after-the-snapshot", "gone")?;
    asker.client.http.put_octets(&format!("/v1/snapshot?dc={there}"), &archive)?;
    wait::until("what was restored", SETTLE, || {
        let value = owner.servers[0].http.ask("/v1/kv/after-the-snapshot")?;
        wait::check(value.status == 404, || format!("{value:?}"))
    })
}

/// One command at one server rotates the gossip keys of all pools of both datacenters.
fn rotates(here: &Site, there: &Site, old: &str, new: &str) -> Result<()> {
    let server = &here.servers[0];
    let tell = |flag: &str| cli(Kind::Lictor, server, &["keyring"], &[flag]);
    let count = |site: &Site| site.servers.len() + 1;
    let pools = |keys: &[&str]| {
        let lines = |pool: &str, members: usize| {
            let mut keys = keys.to_vec();
            keys.sort_unstable();
            let lines: String = keys.iter().map(|key| format!("  {key} [{members}/{members}]\n")).collect();
            format!("\n{pool}:\n{lines}")
        };
        [
            lines("WAN", here.servers.len() + there.servers.len()),
            lines(&format!("{} (LAN)", here.datacenter), count(here)),
            lines(&format!("{} (LAN)", there.datacenter), count(there)),
        ]
        .concat()
    };
    let lists = |keys: &[&str]| {
        let list = tell("-list")?;
        let wanted = format!("==> Gathering installed encryption keys...\n{}", pools(keys));
        wait::check(list.trim_end() == wanted.trim_end(), || format!("{list}\nand not\n{wanted}"))
    };
    wait::until("the old key everywhere", SETTLE, || lists(&[old]))?;
    tell(&format!("-install={new}"))?;
    lists(&[old, new])?;
    tell(&format!("-use={new}"))?;
    tell(&format!("-remove={old}"))?;
    lists(&[new])?;
    let local = cli(Kind::Lictor, server, &["keyring"], &["-list", "-local-only"])?;
    wait::check(!local.contains("WAN") && local.matches("(LAN)").count() == 1, || local.clone())?;
    for site in [here, there] {
        for server in &site.servers {
            wait::until("the key on disk", SETTLE, || {
                let kept = std::fs::read_to_string(server.data("serf/remote.keyring"))?;
                wait::check(kept.contains(new) && !kept.contains(old), || format!("{} keeps {kept}", server.name))
            })?;
        }
    }
    Ok(())
}

/// A server that leaves is left in both pools; those that stay go on answering for their datacenter.
fn leaves(one: &Site, two: &mut Site) -> Result<()> {
    let gone = two.servers.len() - 1;
    two.servers[gone].leave()?;
    let name = format!("{}.{}", two.servers[gone].name, two.datacenter);
    let wanted: Vec<_> = one
        .names()
        .chain(two.names())
        .map(|member| if member == name { (member, Status::Left) } else { (member, Status::Alive) })
        .collect();
    for server in one.servers.iter().chain(&two.servers[..gone]) {
        wait::until("the leave in the WAN pool", LEAVE, || sees_wan(server, &wanted))?;
    }
    for server in &two.servers[..gone] {
        wait::until("the leave in the LAN pool", LEAVE, || server.sees(&two.servers[gone].name, Status::Left))?;
    }
    for server in &one.servers {
        wait::until("an answer of those that stay", SETTLE, || {
            let value = server.http.ask(&format!("/v1/kv/none?dc={}", two.datacenter))?;
            wait::check(value.status == 404, || format!("{} answers {value:?}", server.name))
        })?;
    }
    two.servers[gone].restart()?;
    two.servers[gone].ready()?;
    let wanted: Vec<_> = one.names().chain(two.names()).map(|member| (member, Status::Alive)).collect();
    for server in one.servers.iter().chain(&two.servers) {
        wait::until("the return to the WAN pool", SETTLE, || sees_wan(server, &wanted))?;
    }
    Ok(())
}

/// All servers of a datacenter die: the other says so, and finds them again when they are back.
fn dies_and_returns(one: &Site, two: &mut Site) -> Result<()> {
    const SERVFAIL: u8 = 2;
    for server in &mut two.servers {
        server.kill()?;
    }
    let question = format!("consul.service.{}.consul", two.datacenter);
    let path = format!("/v1/kv/none?dc={}", two.datacenter);
    let refuses = |agent: &Agent| -> Result<()> {
        let answer = agent.http.ask(&path)?;
        // The first while gossip has not noticed yet, and always by real servers; a broken connection only once.
        let texts = ["rpc error getting client", "Remote DC has no server currently reachable"];
        let refused = answer.status == 500 && texts.iter().any(|text| answer.body.contains(text));
        wait::check(refused, || format!("{} answers {answer:?}", agent.name))?;
        let answer = dns::ask(agent.dns(), &question, dns::Kind::Srv)?;
        wait::check(answer.code == SERVFAIL, || format!("{} answers {answer:?}", agent.name))
    };
    for agent in one.agents() {
        wait::until("the refusal", SETTLE, || refuses(agent))?;
    }
    let wanted: Vec<_> =
        one.names().map(|name| (name, Status::Alive)).chain(two.names().map(|name| (name, Status::Failed))).collect();
    for server in &one.servers {
        wait::until("the failure in the WAN pool", SETTLE, || sees_wan(server, &wanted))?;
        refuses(server)?;
        let names: Value = server.http.get("/v1/catalog/datacenters")?;
        wait::check(list(&names).len() == 2, || format!("{} says {names}", server.name))?;
    }
    for server in &mut two.servers {
        server.restart()?;
    }
    for server in &mut two.servers {
        server.ready()?;
    }
    let wanted: Vec<_> = one.names().chain(two.names()).map(|name| (name, Status::Alive)).collect();
    for server in one.servers.iter().chain(&two.servers) {
        wait::until("the return to the WAN pool", SETTLE, || sees_wan(server, &wanted))?;
    }
    for agent in one.agents() {
        wait::until("an answer of the returned", SETTLE, || {
            let answer = agent.http.ask(&path)?;
            wait::check(answer.status == 404, || format!("{} answers {answer:?}", agent.name))
        })?;
    }
    Ok(())
}

/// What a command of `kind` prints when it is run against `agent`.
fn cli(kind: Kind, agent: &Agent, command: &[&str], args: &[&str]) -> Result<String> {
    let address = format!("-http-addr={}:{}", agent.network.address(agent.host), agent.network.ports.http);
    let output = Command::new(kind.program()?).args(command).arg(address).args(args).output()?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("{kind:?} {command:?} {args:?} against {}: {said}", agent.name).into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
