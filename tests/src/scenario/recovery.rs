//! Two of three servers are lost for ever, and the third one goes on with what it has.

use std::{fs, process::Command};

use serde_json::json;

use crate::{
    Result,
    cluster::{Agent, Role, SETTLE},
    http::{list, text},
    ports::Network,
    subject::Kind,
    wait,
};

/// Keys before the loss.
const KEYS: usize = 60;

/// How the operator tells the survivor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// `operator raft recover`
    Command,
    /// `raft/peers.json` with objects.
    Objects,
    /// `raft/peers.json` with addresses.
    Addresses,
}

/// What the survivor has is there, it takes writes, and a new server joins it.
///
/// # Errors
///
/// What was not as it must be.
pub fn one_of_three_is_left(way: Way) -> Result<()> {
    let network = Network::free(4)?;
    // The state is in a snapshot and in the log behind it.
    let settings = json!({ "raft_snapshot_threshold": 40, "raft_trailing_logs": 10 });
    let mut servers = Vec::new();
    for host in 1..=3 {
        servers.push(Agent::start(network, host, Kind::Lictor, Role::Server(3), &settings)?);
    }
    for server in &mut servers {
        server.ready()?;
    }
    for n in 0..KEYS {
        servers[0].http.put(&format!("/v1/kv/kept/{n}?flags={n}"), "x")?;
    }
    let lost_leader = super::rpc::leader(&servers)?;
    let mut survivor = servers.remove((lost_leader + 1) % 3);
    wait::until("everything at the survivor", SETTLE, || holds(&survivor, "stale"))?;
    let mut lost = servers;
    lost.iter_mut().try_for_each(Agent::kill)?;
    // Neither reads nor writes are answered any more.
    let answer = survivor.http.ask("/v1/kv/kept/1?consistent");
    wait::check(answer.is_err() || answer.is_ok_and(|answer| answer.status == 500), || "a quorum of one".into())?;

    let id = fs::read_to_string(survivor.data("node-id"))?;
    let address = format!("{}:{}", network.address(survivor.host), network.ports.server);
    let running = recover(&survivor, &["-dry-run"])?;
    wait::check(running.contains("is in use by another process"), || running.clone())?;
    survivor.kill()?;
    let info = fs::read_to_string(survivor.data("raft/peers.info"))?;
    wait::check(info.contains("operator raft recover"), || info.clone())?;
    let before = files(&survivor)?;
    let plan = recover(&survivor, &["-dry-run"])?;
    let told = plan.contains(&format!("{KEYS} keys"))
        && plan.contains("Voters after")
        && plan.contains("Nothing was changed")
        && lost.iter().all(|server| plan.contains(&server.name));
    wait::check(told, || plan.clone())?;
    wait::check(files(&survivor)? == before, || "the dry run changed files".into())?;

    let peers = survivor.data("raft/peers.json");
    match way {
        Way::Command => {
            let done = recover(&survivor, &[])?;
            wait::check(done.contains("Done"), || done.clone())?;
        }
        Way::Objects => fs::write(&peers, json!([{ "id": id.trim(), "address": address }]).to_string())?,
        Way::Addresses => fs::write(&peers, json!([address]).to_string())?,
    }
    survivor.restart()?;
    survivor.ready()?;
    wait::check(!peers.exists(), || "peers.json is still there".into())?;
    holds(&survivor, "consistent")?;
    let after = survivor.http.get("/v1/operator/raft/configuration")?;
    let servers = list(&after["Servers"]);
    wait::check(servers.len() == 1 && text(&servers[0], "Address") == address, || after.to_string())?;
    survivor.http.put("/v1/kv/after", "x")?;

    // A new server takes a lost one's place.
    let join = json!({ "retry_join": [network.address(survivor.host).to_string()] });
    let mut fresh = Agent::start(network, 4, Kind::Lictor, Role::Server(3), &join)?;
    fresh.ready()?;
    wait::until("everything at the new server", SETTLE, || holds(&fresh, "stale"))?;
    wait::until("the new server's vote", SETTLE, || {
        let now = survivor.http.get("/v1/operator/raft/configuration")?;
        let voters = list(&now["Servers"]).iter().filter(|server| server["Voter"] == true).count();
        wait::check(voters == 2, || now.to_string())
    })?;
    // What was recovered lasts.
    survivor.kill()?;
    survivor.restart()?;
    survivor.ready()?;
    holds(&survivor, "consistent")
}

/// A file that says nothing sensible stops the start, by name, and changes nothing.
///
/// # Errors
///
/// What was not as it must be.
pub fn bad_files_are_refused() -> Result<()> {
    let mut server = Agent::start(Network::free(1)?, 1, Kind::Lictor, Role::Server(1), &json!({}))?;
    server.ready()?;
    server.http.put("/v1/kv/kept/0", "x")?;
    let peers = server.data("raft/peers.json");
    for (content, what) in [
        ("{", "peers.json: "),
        ("[]", "it names no server"),
        (r#"["127.9.9.9:1"]"#, "knows none at 127.9.9.9:1"),
        (r#"[{"id": "00000000-0000-4000-8000-000000000009", "address": "127.9.9.9:1"}]"#, "does not have this server"),
    ] {
        server.kill()?;
        fs::write(&peers, content)?;
        server.restart()?;
        wait::until("the refusal", SETTLE, || {
            let ended = server.check_ended()?;
            wait::check(ended && server.log().contains(what), || format!("{content}: {}", server.log()))
        })?;
        wait::check(peers.exists(), || format!("{content}: the file is gone"))?;
    }
    fs::remove_file(&peers)?;
    server.restart()?;
    server.ready()?;
    server.http.get("/v1/kv/kept/0?consistent").map(drop)
}

fn holds(server: &Agent, mode: &str) -> Result<()> {
    let rows = server.http.get(&format!("/v1/kv/kept/?recurse&{mode}"))?;
    let mut flags: Vec<u64> = list(&rows).iter().filter_map(|row| row["Flags"].as_u64()).collect();
    flags.sort_unstable();
    wait::check(flags == (0..KEYS as u64).collect::<Vec<_>>(), || format!("{} has {flags:?}", server.name))
}

/// Both outputs of `operator raft recover` on a server's data.
fn recover(server: &Agent, flags: &[&str]) -> Result<String> {
    let data = server.data("");
    let output = Command::new(Kind::Lictor.program()?)
        .args(["operator", "raft", "recover", &format!("-data-dir={}", data.display())])
        .args(flags)
        .output()?;
    Ok(format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr)))
}

/// Everything in its raft folder.
fn files(server: &Agent) -> Result<Vec<(String, Vec<u8>)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(server.data("raft"))? {
        let entry = entry?;
        files.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    files.sort();
    Ok(files)
}
