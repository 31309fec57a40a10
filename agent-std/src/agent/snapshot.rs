//! Who was in the pool, on disk: an agent that starts again finds its way back without being told (Serf's
//! `local.snapshot` and, for the WAN pool, `remote.snapshot`, whose lines these are, so that a data directory of Consul is
//! understood).

use std::{
    collections::BTreeMap,
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use agent_core::{
    agent::{Command, Outcome},
    pool::{MemberStatus, Pool},
    wire::push_pull::Clocks,
};
use tokio::sync::broadcast::error::RecvError;

use crate::{
    config::Config,
    driver::{Handle, Kind, Machine as _, Notice},
    whole_file,
};

const LAN: &str = "serf/local.snapshot";
const WAN: &str = "serf/remote.snapshot";
/// Changes that come together are written together.
const PAUSE: Duration = Duration::from_secs(1);

/// What an earlier run knew.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// Members that were alive, without ourselves.
    alive: BTreeMap<String, SocketAddr>,
    /// The last times of the clocks.
    pub clocks: Clocks,
    /// The agent had left.
    left: bool,
}

/// Where a pool's is kept; nowhere without a data directory.
pub fn path(config: &Config, wan: bool) -> Option<PathBuf> {
    config.data_dir.as_ref().map(|data_dir| data_dir.join(if wan { WAN } else { LAN }))
}

impl Snapshot {
    /// What is on disk. A file that cannot be read costs the way back, not the start.
    pub fn load(path: Option<&Path>) -> Self {
        let Some(path) = path else { return Snapshot::default() };
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Snapshot::default(),
            Err(error) => {
                log::warn!("{}: {error}; members of the last run are not known", path.display());
                Snapshot::default()
            }
        }
    }

    /// Serf appends to the file, so a later line may take back an earlier one. Lines that make no sense are passed over.
    fn parse(text: &str) -> Self {
        let mut snapshot = Snapshot::default();
        for line in text.lines() {
            let (kind, rest) = line.split_once(": ").unwrap_or((line, ""));
            let time = rest.parse().unwrap_or(0);
            match kind {
                "alive" => {
                    // A name may hold a space, an address does not.
                    if let Some((name, address)) = rest.rsplit_once(' ')
                        && let Ok(address) = address.parse()
                    {
                        snapshot.alive.insert(name.to_owned(), address);
                        snapshot.left = false;
                    }
                }
                "not-alive" => drop(snapshot.alive.remove(rest)),
                "clock" => snapshot.clocks.member = snapshot.clocks.member.max(time),
                "event-clock" => snapshot.clocks.event = snapshot.clocks.event.max(time),
                "query-clock" => snapshot.clocks.query = snapshot.clocks.query.max(time),
                "leave" => snapshot.left = true,
                _ => {}
            }
        }
        snapshot
    }

    fn of(pool: &Pool<'_>) -> Self {
        let others = pool.members().skip(1).filter(|member| member.status == MemberStatus::Alive);
        let (member, event, query) = pool.clocks();
        // A clock shows the next time.
        let last = |time: u64| time.saturating_sub(1);
        Snapshot {
            alive: others.map(|member| (member.name.to_owned(), member.address)).collect(),
            clocks: Clocks { member: last(member), event: last(event), query: last(query) },
            left: pool.is_leaving(),
        }
    }

    fn text(&self) -> String {
        let alive = self.alive.iter().map(|(name, address)| format!("alive: {name} {address}\n"));
        let Clocks { member, event, query } = self.clocks;
        let clocks = format!("clock: {member}\nevent-clock: {event}\nquery-clock: {query}\n");
        alive.collect::<String>() + &clocks + if self.left { "leave\n" } else { "" }
    }

    /// Where to look for the pool: nowhere after a leave, unless that is wanted.
    pub fn seeds(&self, rejoin_after_leave: bool) -> Vec<SocketAddr> {
        if self.left && !rejoin_after_leave { Vec::new() } else { self.alive.values().copied().collect() }
    }
}

/// Writes the file anew.
pub async fn save<K: Kind>(handle: &Handle<K>, path: &Path) {
    let Ok(snapshot) = handle.with(|machine, _| Snapshot::of(machine.pool())).await else { return };
    let folder = path.parent().unwrap_or(Path::new("."));
    let written = fs::create_dir_all(folder).and_then(|()| whole_file::write(path, snapshot.text().as_bytes()));
    if let Err(error) = written {
        log::warn!("{}: {error}; a restart will not find the members by itself", path.display());
    }
}

/// Keeps the file up to date until the agent ends.
pub async fn follow<K: Kind>(handle: Handle<K>, path: PathBuf) {
    let mut notices = handle.subscribe();
    loop {
        match notices.recv().await {
            Ok(Notice::Member(..) | Notice::User { .. } | Notice::Lagged) | Err(RecvError::Lagged(_)) => {}
            Ok(Notice::Local | Notice::Keys | Notice::Trouble { .. }) => continue,
            Err(RecvError::Closed) => return,
        }
        tokio::time::sleep(PAUSE).await;
        notices = notices.resubscribe();
        save(&handle, &path).await;
    }
}

/// Tries the members of the last run until one answers.
pub async fn rejoin<K: Kind>(handle: Handle<K>, seeds: Vec<SocketAddr>) {
    for seed in seeds {
        let text = seed.to_string();
        let joined = handle
            .finish(move |machine, now| machine.command(now, Command::Join { seed: &text, ignore_old: true }))
            .await;
        match joined {
            Ok(Outcome::Joined(_)) => return log::info!("serf: Re-joined to previously known node: {seed}"),
            Ok(_) => {}
            Err(error) => log::debug!("joining {seed} again: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let mut snapshot = Snapshot { clocks: Clocks { member: 5, event: 9, query: 2 }, ..Snapshot::default() };
        snapshot.alive.insert("n 1".into(), "10.0.0.1:8301".parse().unwrap());
        snapshot.alive.insert("n2".into(), "[fd00::2]:8301".parse().unwrap());
        assert_eq!(Snapshot::parse(&snapshot.text()), snapshot);
        assert_eq!(snapshot.seeds(false).len(), 2);
        snapshot.left = true;
        assert_eq!(Snapshot::parse(&snapshot.text()), snapshot);
        assert_eq!((snapshot.seeds(false).len(), snapshot.seeds(true).len()), (0, 2));
    }

    #[test]
    fn serfs_own_log_is_understood() {
        let text = "alive: a 10.0.0.1:8301\nclock: 3\nalive: b 10.0.0.2:8301\nnot-alive: a\nleave\nevent-clock: 7\n\
                    coordinate: {\"Vec\":[0]}\nalive: c 10.0.0.3:8301\nclock: 2\nalive: broken\nnonsense\n";
        let snapshot = Snapshot::parse(text);
        assert_eq!(snapshot.alive.keys().collect::<Vec<_>>(), ["b", "c"]);
        assert_eq!(snapshot.clocks, Clocks { member: 3, event: 7, query: 0 });
        assert!(!snapshot.left, "it was started again after it had left");
    }
}
