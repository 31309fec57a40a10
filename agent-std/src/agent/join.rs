//! Joining the pools as the configuration says.

use std::time::Duration;

use agent_core::agent::{Command, Outcome};
use tokio::sync::mpsc;

use super::StartError;
use crate::driver::{AgentKind, CommandFailed, Handle, Kind, Machine as _};

/// How often `retry_max` is looked after.
const LOOK: Duration = Duration::from_secs(1);
/// How long a join may take per address.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Joins one address or name, once.
pub async fn once<K: Kind>(handle: &Handle<K>, seed: &str) -> Result<Outcome, CommandFailed> {
    let seed = seed.to_owned();
    handle.finish(move |machine, now| machine.command(now, Command::Join { seed: &seed, ignore_old: true })).await
}

/// The same, and logs why it did not work. `pool` is LAN or WAN.
pub async fn tried<K: Kind>(handle: &Handle<K>, pool: &str, seed: &str) -> bool {
    let why = match tokio::time::timeout(TIMEOUT, once(handle, seed)).await {
        Ok(Ok(Outcome::Joined(_) | Outcome::Ok)) => return true,
        Ok(Ok(Outcome::Failed(why))) => why.to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("no answer in {TIMEOUT:?}"),
    };
    log::warn!("({pool}) couldn't join: address={seed} error=\"{why}\"");
    false
}

/// Joins the addresses of the setting `name`; that none answers ends the agent.
pub async fn at_start<K: Kind>(handle: &Handle<K>, pool: &str, name: &str, seeds: &[String]) -> Result<(), StartError> {
    if seeds.is_empty() {
        return Ok(());
    }
    log::info!("({pool}) joining: addresses={seeds:?}");
    let mut joined = 0;
    for seed in seeds {
        joined += usize::from(tried(handle, pool, seed).await);
    }
    if joined == 0 {
        return Err(StartError::Setting(format!("no address of {name} answered")));
    }
    log::info!("({pool}) joined: number_of_nodes={joined}");
    Ok(())
}

/// Gives up when nobody of `retry_join` answered in more than `most` rounds after the start.
pub async fn watch_seeds(handle: Handle<AgentKind>, most: u32, give_up: mpsc::Sender<&'static str>) {
    loop {
        let look = handle.with(|agent, _| (agent.pool().stats().seed_rounds, agent.members().nth(1).is_some()));
        match look.await {
            Ok((rounds, false)) if rounds > most => {
                // Whoever listens may be stopping already.
                let _ = give_up.send("max join LAN retry exhausted, exiting").await;
                return;
            }
            Ok((_, false)) => tokio::time::sleep(LOOK).await,
            // Somebody is there: from now on there is no end of trying.
            Ok((_, true)) | Err(_) => return,
        }
    }
}
