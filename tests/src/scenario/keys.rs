//! Gossip keys are rotated on all members, and outlive a restart.

use std::process::Command;

use serde_json::json;

use super::KEY;
use crate::{
    Result,
    cluster::{Agent, Role, SETTLE, Status},
    ports::Network,
    subject::Kind,
    wait,
};

/// 32 octets in base64.
const NEW: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A server of one kind starts the rotation, told by the command line of the other; a real client and ours follow.
///
/// # Errors
///
/// What was not as it must be.
pub fn rotates(kind: Kind, teller: Kind) -> Result<()> {
    let network = Network::free(3)?;
    let settings = json!({ "encrypt": KEY });
    let mut server = Agent::start(network, 1, kind, Role::Server(1), &settings)?;
    let real = Agent::start(network, 2, Kind::Consul, Role::Client(1), &settings)?;
    let mut ours = Agent::start(network, 3, Kind::Lictor, Role::Client(1), &settings)?;
    server.ready()?;
    let all_alive = || [&real, &ours].iter().try_for_each(|agent| server.sees(&agent.name, Status::Alive));
    wait::until("both clients in the pool", SETTLE, all_alive)?;
    let tell = |args: &[&str]| keyring(teller, &server, args);
    let lists = |wanted: &[&str]| -> Result<()> {
        let list = tell(&["-list"])?;
        let lan = list.split("dc1 (LAN):\n").nth(1).unwrap_or_default();
        let mut lines: Vec<&str> = lan.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
        lines.sort_unstable();
        wait::check(lines == wanted, || format!("the keys are listed as {list}"))
    };
    wait::until("the key on all members", SETTLE, || lists(&[&format!("{KEY} [3/3]")]))?;
    tell(&[&format!("-install={NEW}")])?;
    lists(&[&format!("{NEW} [3/3]"), &format!("{KEY} [3/3]")])?;
    tell(&[&format!("-use={NEW}")])?;
    let refused = tell(&[&format!("-remove={NEW}")]).err().map(|error| error.to_string()).unwrap_or_default();
    wait::check(refused.contains("3/3 nodes reported failure"), || format!("removing the primary said {refused:?}"))?;
    tell(&[&format!("-remove={KEY}")])?;
    lists(&[&format!("{NEW} [3/3]")])?;
    let refused = keyring(teller, &ours, &["-list"]).err().map(|error| error.to_string()).unwrap_or_default();
    wait::check(refused.contains("must run against a server node"), || format!("a client said {refused:?}"))?;
    // Its configuration still has the old key, which nobody else knows any more.
    ours.kill()?;
    wait::until("the killed client's end", SETTLE, || server.sees(&ours.name, Status::Failed))?;
    ours.restart()?;
    wait::until("its return with the new key", SETTLE, || server.sees(&ours.name, Status::Alive))
}

/// What `keyring` prints when it is run with `args` against `agent`.
fn keyring(teller: Kind, agent: &Agent, args: &[&str]) -> Result<String> {
    let address = format!("-http-addr={}:{}", agent.network.address(agent.host), agent.network.ports.http);
    let output = Command::new(teller.program()?).args(["keyring", &address]).args(args).output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned().into());
    }
    Ok(String::from_utf8(output.stdout)?)
}
