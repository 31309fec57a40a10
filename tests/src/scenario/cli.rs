//! The real command line, asking a real client agent of three servers, before and after their leader is killed.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use super::KEY;
use crate::{
    Result,
    cluster::{Agent, Role, SETTLE, START, Status},
    dns::{self, Record},
    http::{list, text},
    ports::Network,
    process::Process,
    subject::Kind,
    wait,
};

/// Everything that an operator and an application do works, a leader's death included, and what was held before it is
/// held after it.
///
/// # Errors
///
/// What was not as it must be.
pub fn works_through_a_leaders_death(kind: Kind) -> Result<()> {
    let network = Network::free(4)?;
    let settings = json!({ "encrypt": KEY });
    let mut servers = Vec::new();
    for host in 1..=3 {
        servers.push(Agent::start(network, host, kind, Role::Server(3), &settings)?);
    }
    for server in &mut servers {
        server.ready()?;
    }
    let mut client = Agent::start(network, 4, Kind::Consul, Role::Client(3), &settings)?;
    client.ready()?;
    let folder = tempfile::tempdir()?;
    let cli = Cli { client: &client, folder: folder.path() };
    for agent in servers.iter().chain([&client]) {
        wait::until("everybody's health", SETTLE, || client.shows_check(&agent.name, "serfHealth", "passing"))?;
    }
    let service =
        json!({ "Name": "web", "Port": 8080, "Check": { "CheckID": "web-up", "TTL": "600s", "Status": "passing" } });
    client.http.put("/v1/agent/service/register", &service.to_string())?;

    let held = Held::take(&client)?;
    let watch = cli.watch("watched")?;
    client.http.put("/v1/kv/watched", "one")?;
    seen(&watch, "b25l")?;
    cli.everything("before", &servers)?;

    let leader = super::rpc::leader(&servers)?;
    let mut killed = servers.remove(leader);
    killed.kill()?;
    wait::until("a write after the leader's death", START, || client.http.put("/v1/kv/after", "x").map(drop))?;
    wait::until("the dead leader's state", SETTLE, || client.sees(&killed.name, Status::Failed))?;
    held.lasts(&client)?;
    client.http.put("/v1/kv/watched", "two")?;
    seen(&watch, "dHdv")?;
    cli.everything("after", &servers)?;
    held.ends(&client)
}

/// A watch has told of this value, in base64.
fn seen(watch: &Process, value: &str) -> Result<()> {
    wait::until("the watch's news", SETTLE, || wait::check(watch.log().contains(value), || watch.log()))
}

/// A session with a TTL, and a lock that it has.
struct Held {
    session: String,
}

impl Held {
    fn take(client: &Agent) -> Result<Self> {
        let body = json!({ "TTL": "60s", "LockDelay": "0s", "Name": "holder" }).to_string();
        let session: Value = serde_json::from_str(&client.http.put("/v1/session/create", &body)?.body)?;
        let session = text(&session, "ID").to_owned();
        let locked = client.http.put(&format!("/v1/kv/held?acquire={session}"), "x")?;
        wait::check(locked.body.trim() == "true", || format!("{locked:?}"))?;
        Ok(Held { session })
    }

    fn lasts(&self, client: &Agent) -> Result<()> {
        let renewed = client.http.put(&format!("/v1/session/renew/{}", self.session), "")?;
        wait::check(renewed.body.contains(&self.session), || format!("{renewed:?}"))?;
        let row = client.http.get("/v1/kv/held?consistent")?;
        wait::check(list(&row).iter().any(|row| text(row, "Session") == self.session), || row.to_string())
    }

    fn ends(&self, client: &Agent) -> Result<()> {
        client.http.put(&format!("/v1/session/destroy/{}", self.session), "")?;
        let row = client.http.get("/v1/kv/held?consistent")?;
        wait::check(list(&row).iter().all(|row| text(row, "Session").is_empty()), || row.to_string())
    }
}

/// The real command line.
struct Cli<'a> {
    client: &'a Agent,
    folder: &'a Path,
}

impl Cli<'_> {
    fn command(&self, words: &[&str], flags: &[&str]) -> Result<Command> {
        let mut command = Command::new(Kind::Consul.program()?);
        let address = format!("{}:{}", self.client.network.address(self.client.host), self.client.network.ports.http);
        command.args(words).args(flags).env("CONSUL_HTTP_ADDR", address).stdin(Stdio::null());
        Ok(command)
    }

    /// What it prints, when it succeeds.
    fn run(&self, words: &[&str], flags: &[&str]) -> Result<String> {
        let output = self.command(words, flags)?.current_dir(self.folder).output()?;
        let out = String::from_utf8_lossy(&output.stdout).into_owned();
        let complaint = || format!("consul {words:?} {flags:?}: {out}{}", String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(out) } else { Err(complaint().into()) }
    }

    /// As [`Cli::run`]; all of these must be in what it prints.
    fn says(&self, words: &[&str], flags: &[&str], wanted: &[&str]) -> Result<()> {
        let out = self.run(words, flags)?;
        let missing: Vec<_> = wanted.iter().filter(|wanted| !out.contains(**wanted)).collect();
        wait::check(missing.is_empty(), || format!("consul {words:?} {flags:?} does not say {missing:?}, but {out}"))
    }

    /// A watch of a key, until it is dropped.
    fn watch(&self, key: &str) -> Result<Process> {
        let command = self.command(&["watch"], &["-type=key", &format!("-key={key}"), "cat"])?;
        Process::start("watch", command, &self.folder.join("watch"))
    }

    /// Every command and call once. `living` are the servers that live.
    fn everything(&self, when: &str, living: &[Agent]) -> Result<()> {
        let client = self.client;
        let names: Vec<&str> = living.iter().map(|server| server.name.as_str()).chain([client.name.as_str()]).collect();
        self.says(&["members"], &[], &names)?;
        self.says(&["catalog", "nodes"], &[], &names)?;
        self.says(&["catalog", "services"], &[], &["consul", "web"])?;
        self.says(&["catalog", "datacenters"], &[], &["dc1"])?;
        self.says(&["operator", "raft", "list-peers"], &[], &["leader", living[0].name.as_str(), "true"])?;
        self.says(&["operator", "autopilot", "get-config"], &[], &["CleanupDeadServers"])?;

        let key = format!("cli/{when}");
        self.says(&["kv", "put"], &[&key, when], &["Success!"])?;
        self.says(&["kv", "get"], &[&key], &[when])?;
        self.says(&["kv", "get"], &["-recurse", "cli/"], &[&format!("{key}:{when}")])?;
        self.says(&["kv", "export"], &["cli/"], &[&key])?;
        self.says(&["kv", "delete"], &[&key], &["Success!"])?;
        wait::check(self.run(&["kv", "get"], &[&key]).is_err(), || format!("{key} is still there"))?;

        self.says(&["snapshot", "save"], &["all.snap"], &["Saved and verified snapshot"])?;
        self.says(&["snapshot", "inspect"], &["all.snap"], &["Index", "Term"])?;
        fs::remove_file(self.folder.join("all.snap"))?;

        self.says(&["lock"], &[&format!("lock/{when}"), "echo inside"], &["inside"])?;
        let locks = client.http.get(&format!("/v1/kv/lock/{when}/?recurse&consistent")).unwrap_or_default();
        wait::check(list(&locks).iter().all(|row| text(row, "Session").is_empty()), || format!("left: {locks}"))?;

        self.says(&["event"], &[&format!("-name=event-{when}"), "payload"], &["Event ID"])?;
        for agent in living.iter().chain([client]) {
            wait::until("the event", SETTLE, || {
                let events = agent.http.get(&format!("/v1/event/list?name=event-{when}"))?;
                wait::check(list(&events).len() == 1, || format!("{} has {events}", agent.name))
            })?;
        }
        self.service()
    }

    /// A service's check fails and passes again: the catalog and DNS tell.
    fn service(&self) -> Result<()> {
        let client = self.client;
        let target = format!("{}.node.dc1.consul", client.name);
        for (word, status, answers) in [("fail", "critical", false), ("pass", "passing", true)] {
            client.http.put(&format!("/v1/agent/check/{word}/web-up"), "")?;
            wait::until("the check's new state", SETTLE, || client.shows_check(&client.name, "web-up", status))?;
            wait::until("the service over DNS", SETTLE, || {
                let answer = dns::ask(client.dns(), "web.service.consul", dns::Kind::Srv)?;
                let found = answer.records.contains(&Record::Srv(8080, target.clone()));
                wait::check(found == answers, || format!("{answer:?}"))
            })?;
        }
        Ok(())
    }
}

/// Servers that nobody uses write nothing: raft's index stands still.
///
/// # Errors
///
/// It moved.
pub fn idle_servers_write_nothing(kind: Kind, span: std::time::Duration) -> Result<()> {
    let network = Network::free(3)?;
    let mut servers = Vec::new();
    for host in 1..=3 {
        servers.push(Agent::start(network, host, kind, Role::Server(3), &json!({}))?);
    }
    for server in &mut servers {
        server.ready()?;
    }
    for server in &servers {
        wait::until("everybody's health", SETTLE, || servers[0].shows_check(&server.name, "serfHealth", "passing"))?;
    }
    let index = |server: &Agent| -> Result<u64> {
        let info = server.http.get("/v1/agent/self")?;
        let raft = &info["Stats"]["raft"];
        Ok(text(raft, "last_log_index").parse().map_err(|error| format!("{error}: {raft}"))?)
    };
    // Anti-entropy and coordinates of the start come first; then a whole span without a change must follow.
    let mut quiet = std::time::Instant::now();
    let mut last = 0;
    wait::until("a span without a change", START + 2 * span, || {
        let now = servers.iter().map(index).collect::<Result<Vec<_>>>()?.into_iter().max().unwrap_or_default();
        if now != last {
            (last, quiet) = (now, std::time::Instant::now());
        }
        wait::check(quiet.elapsed() >= span, || format!("index {now} for {:.1} s", quiet.elapsed().as_secs_f32()))
    })
}
