//! What a server has beyond a client: raft, the store, the RPC port, and the leader's work.

use std::{collections::BTreeMap, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use agent_core::{agent::Command as AgentCommand, pool::MemberStatus};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    keyring,
    members::{Members, rpc_address},
    recovery::{self, RecoveryError},
    wan::Wan,
};
use crate::{
    config::Config,
    driver::{AgentKind, Handle, MemberInfo},
    leader::{self, MemberNews},
    model::KeyringResponse,
    raft::{self, Directory, Disk, ProposeError, Raft, Role, Suffrage},
    rpc::{self, Pool, Router, Server, ServerConfig, ServerInfo, acl::AllowAll},
    state::{Machine, Store},
};

/// How often a server looks whether raft's configuration fits the pool.
const LOOK: Duration = Duration::from_secs(1);

/// A running server.
pub struct Running {
    /// RPC, answered here.
    pub server: Server,
    raft: Raft,
    own_id: String,
    _tasks: JoinSet<()>,
}

/// Why a server cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The data directory.
    #[error("{path}: {source}")]
    Directory {
        /// Which.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// Raft's log or snapshots.
    #[error(transparent)]
    Raft(#[from] raft::OpenError),
    /// The configuration that an operator left for it.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
}

/// What a server works with.
pub struct Parts {
    /// The agent's configuration.
    pub config: Arc<Config>,
    /// The core.
    pub handle: Handle<AgentKind>,
    /// The member table.
    pub members: Members,
    /// What happens to members.
    pub news: mpsc::Receiver<MemberNews>,
    /// Servers that are alive.
    pub servers: watch::Receiver<Vec<ServerInfo>>,
    /// The WAN pool, unless it is off.
    pub wan: Option<Wan>,
    /// The ways to other datacenters.
    pub router: Router,
}

/// Starts a server. `tcp` is the RPC port, already open.
///
/// # Errors
/// See [`ServerError`].
pub async fn start(parts: Parts, node_id: &str, seed: u64, tcp: TcpListener) -> Result<Running, ServerError> {
    let Parts { config, handle, members, news, servers, wan, router } = parts;
    let port = tcp.local_addr().map(|address| address.port()).unwrap_or_default();
    let own = raft::Server {
        id: node_id.to_owned(),
        name: config.node_name.clone(),
        address: SocketAddr::new(config.advertise_addr, port),
        suffrage: Suffrage::Voter,
    };
    let disk: Arc<dyn Disk> = Arc::new(directory(&config)?);
    if let Some(data_dir) = &config.data_dir {
        recovery::carry_out(&data_dir.join("raft"), &own, &disk)?;
    }
    let store = Arc::new(Store::default());
    let pool = Pool::from_address(config.bind_addr);
    let known = members.clone();
    let mut settings = raft::Config::new(own.clone(), u32::from(config.raft_multiplier), seed);
    settings.snapshot_threshold = config.raft_snapshot_threshold.unwrap_or(settings.snapshot_threshold);
    settings.trailing_logs = config.raft_trailing_logs.unwrap_or(settings.trailing_logs);
    let raft = Raft::open(
        settings,
        disk,
        Machine(store.clone()),
        raft::tcp_connector(config.bind_addr),
        Arc::new(move |ip| known.is_server_address(ip)),
    )?;
    let fire = handle.clone();
    let server = Server::new(ServerConfig {
        datacenter: config.datacenter.clone(),
        store,
        consensus: Arc::new(raft.clone()),
        pool: pool.clone(),
        authorizer: Arc::new(AllowAll),
        fire_event: Arc::new(move |name, payload| {
            let (fire, name, payload) = (fire.clone(), format!("consul:event:{name}"), payload.to_vec());
            tokio::spawn(async move {
                let fired = fire
                    .with(move |agent, now| {
                        let event = AgentCommand::UserEvent { name: &name, payload: &payload, coalesce: false };
                        agent.command(now, event).map(|_| ())
                    })
                    .await;
                match fired {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => log::warn!("a user event was not sent: {error}"),
                    Err(stopped) => log::warn!("a user event was not sent: {stopped}"),
                }
            });
            Ok(())
        }),
        router,
        keyring: keys(handle.clone(), wan, config.datacenter.clone()),
    });
    let mut tasks = JoinSet::new();
    tasks.spawn(rpc::listener::serve(tcp, server.clone(), config.rpc_limits));
    let list = members.clone();
    tasks.spawn(leader::run(server.clone(), config.node_name.clone(), Arc::new(move || list.records()), news));
    tasks.spawn(steer(config.clone(), own, raft.clone(), members, server.clone(), servers));
    tasks.spawn(announce_leader(raft.clone(), handle));
    Ok(Running { server, raft, own_id: node_id.to_owned(), _tasks: tasks })
}

/// How the gossip keys of both pools are reached.
fn keys(lan: Handle<AgentKind>, wan: Option<Wan>, datacenter: String) -> rpc::Keyring {
    Arc::new(move |request, in_wan| {
        let (lan, wan, datacenter) = (lan.clone(), wan.clone().filter(|_| in_wan), datacenter.clone());
        Box::pin(async move {
            let response = match (&wan, in_wan) {
                (Some(wan), _) => keyring::answer(wan.handle(), &datacenter, &request).await,
                // Nobody there, nobody to ask.
                (None, true) => KeyringResponse { datacenter, ..KeyringResponse::default() },
                (None, false) => keyring::answer(&lan, &datacenter, &request).await,
            };
            KeyringResponse { wan: in_wan, ..response }
        })
    })
}

/// The raft directory; `-dev` keeps it only as long as the process.
fn directory(config: &Config) -> Result<Directory, ServerError> {
    let path = match &config.data_dir {
        Some(data_dir) => data_dir.join("raft"),
        None => dev_directory(),
    };
    if config.data_dir.is_none() {
        // Left by an earlier process with our number; nobody else uses it.
        let _ = std::fs::remove_dir_all(&path);
    }
    if let Some(parent) = path.parent() {
        let parent_error = |source| ServerError::Directory { path: parent.display().to_string(), source };
        std::fs::create_dir_all(parent).map_err(parent_error)?;
    }
    Directory::open(&path).map_err(|source| ServerError::Directory { path: path.display().to_string(), source })
}

fn dev_directory() -> PathBuf {
    std::env::temp_dir().join(format!("lictor-dev-{}", std::process::id())).join("raft")
}

impl Running {
    /// Leaves the cluster of servers: leadership goes first, then our place in the configuration.
    pub async fn leave(&self) {
        // The next leader takes us out when gossip says that we have left; see `steer`.
        self.hand_over().await;
    }

    /// Gives leadership away, if it is here and somebody can take it: nobody has to find out first that we are gone.
    async fn hand_over(&self) {
        let others = self.raft.servers().iter().any(|server| server.id != self.own_id);
        if !others || self.raft.status().role != Role::Leader {
            return;
        }
        match self.raft.transfer_leadership(None).await {
            Ok(()) => log::info!("leadership handed over"),
            Err(error) => log::warn!("leadership could not be handed over: {error}"),
        }
    }

    /// Waits until raft cannot go on, e.g. after a failed fsync.
    pub async fn failed(&self) -> String {
        let mut failure = self.raft.failure();
        loop {
            if let Some(error) = failure.borrow_and_update().clone() {
                return error.to_string();
            }
            if failure.changed().await.is_err() {
                return std::future::pending().await;
            }
        }
    }

    /// Stops raft: what it has acknowledged is on disk.
    pub async fn stop(&self, config: &Config) {
        self.hand_over().await;
        self.raft.stop().await;
        if config.data_dir.is_none()
            && let Some(directory) = dev_directory().parent()
        {
            let _ = std::fs::remove_dir_all(directory);
        }
    }

    /// The sections of `info` that only a server has.
    pub fn stats(&self, config: &Config, stats: &mut BTreeMap<String, BTreeMap<String, String>>) {
        let raft = &self.raft;
        let status = raft.status();
        let contact = match (status.role, raft.last_contact()) {
            (Role::Leader, _) => "0".to_owned(),
            (_, Some(span)) => format!("{}ms", span.as_millis()),
            (_, None) => "never".to_owned(),
        };
        let state = match status.role {
            Role::Leader => "Leader",
            Role::Candidate => "Candidate",
            Role::Follower => "Follower",
        };
        let section = |pairs: Vec<(&str, String)>| {
            pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>()
        };
        let leader = status.leader.as_ref().map_or(String::new(), |leader| leader.address.to_string());
        stats.insert(
            "consul".to_owned(),
            section(vec![
                ("acl", "disabled".to_owned()),
                ("bootstrap", config.bootstrap.to_string()),
                ("known_datacenters", self.server.router().datacenters().len().to_string()),
                ("leader", (status.role == Role::Leader).to_string()),
                ("leader_addr", leader),
                ("server", "true".to_owned()),
            ]),
        );
        stats.insert(
            "raft".to_owned(),
            section(vec![
                ("applied_index", status.applied_index.to_string()),
                ("commit_index", status.commit_index.to_string()),
                ("last_contact", contact),
                ("last_log_index", status.last_log_index.to_string()),
                ("last_log_term", status.last_log_term.to_string()),
                ("last_snapshot_index", status.last_snapshot_index.to_string()),
                ("last_snapshot_term", status.last_snapshot_term.to_string()),
                ("latest_configuration_index", status.configuration_index.to_string()),
                ("num_peers", raft.servers().len().saturating_sub(1).to_string()),
                ("protocol_version", "3".to_owned()),
                ("state", state.to_owned()),
                ("term", status.term.to_string()),
            ]),
        );
    }
}

/// Fires `consul:new-leader` when this server begins to lead, so that agents sync at once.
async fn announce_leader(raft: Raft, handle: Handle<AgentKind>) {
    let mut changes = raft.leader_changes();
    let mut led = false;
    loop {
        let leadership = changes.borrow_and_update().clone();
        if let (Some(leader), true, false) = (&leadership.leader, leadership.is_self, led) {
            log::info!("cluster leadership acquired");
            let name = leader.name.clone();
            let fired = handle
                .with(move |agent, now| {
                    let payload = name.as_bytes();
                    let event = AgentCommand::UserEvent { name: "consul:new-leader", payload, coalesce: true };
                    agent.command(now, event).map(|_| ())
                })
                .await;
            if fired.is_err() {
                return;
            }
        } else if let (Some(leader), false) = (&leadership.leader, leadership.is_self) {
            log::info!("New leader elected: payload={}", leader.name);
        }
        led = leadership.is_self;
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Keeps raft's configuration in step with the pool: bootstraps once, adds servers that join, removes those that left.
async fn steer(
    config: Arc<Config>,
    own: raft::Server,
    raft: Raft,
    members: Members,
    server: Server,
    mut servers: watch::Receiver<Vec<ServerInfo>>,
) {
    let mut stability = leader::Stability::default();
    let mut tick = interval(LOOK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let alone = config.bootstrap || config.dev || config.bootstrap_expect == 1;
    let mut complaint = String::new();
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            changed = servers.changed() => if changed.is_err() { return },
        }
        let known = raft.servers();
        if known.is_empty() {
            let first =
                if alone { Some(vec![own.clone()]) } else { expected(&config, &own, &members, server.pool()).await };
            if let Some(first) = first {
                log::info!("bootstrapping the cluster with {} servers", first.len());
                if let Err(error) = raft.bootstrap(first).await {
                    log::warn!("bootstrap: {error}");
                }
            }
        } else if raft.status().role != Role::Leader {
            // Who leads next looks for itself.
            stability = leader::Stability::default();
        } else {
            let span = server.store().state().autopilot().server_stabilization_time;
            let stable = stability.update(&server.server_health(), Instant::now(), span.duration());
            if let Err(error) = promote(&raft, &stable).await {
                log::warn!("raft configuration: {error}");
            }
            let rivals = rivals(&members.servers(&config.datacenter));
            let text = rivals.join(" and ");
            if rivals.len() > 1 && text != complaint {
                log::error!(
                    "{text} are all in bootstrap mode and are clusters of their own: they are not joined. Stop all but \
                     one, and start those again without `bootstrap` and with an empty data_dir"
                );
            }
            complaint = text;
            for member in members.records() {
                // Joining them would mean that one of two clusters loses what it has acknowledged.
                let id = member.tags.iter().find(|(name, _)| name == "id").map_or("", |(_, id)| id);
                if rivals.len() > 1 && rivals.contains(&member.name) && raft.servers().by_id(id).is_none() {
                    continue;
                }
                let info = MemberInfo {
                    name: member.name,
                    address: member.address,
                    tags: member.tags,
                    status: member.status,
                    vsn: member.vsn,
                };
                if let Err(error) = fit(&config, &raft, &own, &info).await {
                    log::warn!("raft configuration: {}: {error}", info.name);
                }
            }
        }
    }
}

/// The servers that began a cluster alone, by name.
fn rivals(servers: &[MemberInfo]) -> Vec<String> {
    let alone = |server: &&MemberInfo| server.tag("bootstrap") == Some("1");
    servers.iter().filter(alone).map(|server| server.name.clone()).collect()
}

/// Servers that were added without a vote get it when they have been healthy for `ServerStabilizationTime`, as in Consul.
/// Raft itself waits until they have caught up.
async fn promote(raft: &Raft, stable: &[String]) -> Result<(), ProposeError> {
    for server in raft.servers().iter() {
        if server.suffrage == Suffrage::NonVoter && stable.iter().any(|id| id.eq_ignore_ascii_case(&server.id)) {
            log::info!("server {} is stable, it may vote", server.name);
            raft.add_server(raft::Server { suffrage: Suffrage::Staging, ..server.clone() }).await?;
        }
    }
    Ok(())
}

/// Adds or removes one member, if that is due.
async fn fit(config: &Config, raft: &Raft, own: &raft::Server, member: &MemberInfo) -> Result<(), ProposeError> {
    if member.tag("role") != Some("consul") || member.tag("dc") != Some(&config.datacenter) {
        return Ok(());
    }
    let (Some(id), Some(address)) = (member.tag("id"), rpc_address(member)) else { return Ok(()) };
    let servers = raft.servers();
    let known = servers.by_id(id);
    match member.status {
        MemberStatus::Alive if known.is_none_or(|known| known.address != address) => {
            log::info!("adding server {} at {address}", member.name);
            let suffrage = known.map_or(Suffrage::NonVoter, |known| known.suffrage);
            raft.add_server(raft::Server { id: id.to_owned(), name: member.name.clone(), address, suffrage }).await
        }
        MemberStatus::Left if known.is_some() && id != own.id => {
            log::info!("removing server {}: it has left", member.name);
            raft.remove_server(id).await
        }
        _ => Ok(()),
    }
}

/// The servers to begin with, once as many as expected are there and none of them has begun already.
async fn expected(config: &Config, own: &raft::Server, members: &Members, pool: &Pool) -> Option<Vec<raft::Server>> {
    let wanted = usize::from(config.bootstrap_expect);
    if wanted < 2 {
        return None;
    }
    let mut found = Vec::new();
    for member in members.servers(&config.datacenter) {
        if member.tag("expect").and_then(|expect| expect.parse().ok()) != Some(wanted) {
            continue;
        }
        let (Some(id), Some(address)) = (member.tag("id"), rpc_address(&member)) else { continue };
        found.push(raft::Server { id: id.to_owned(), name: member.name.clone(), address, suffrage: Suffrage::Voter });
    }
    if found.len() < wanted {
        return None;
    }
    found.sort_by(|a, b| a.id.cmp(&b.id));
    for server in found.iter().filter(|server| server.id != own.id) {
        let args = rpc::codec::to_vec(&BTreeMap::from([("Datacenter", &config.datacenter)])).ok()?;
        let reply = pool.call(server.address, "Status.Peers", &args).await.ok()?;
        let peers: Option<Vec<String>> = rpc::codec::from_slice(&reply).ok()?;
        if peers.is_some_and(|peers| !peers.is_empty()) {
            log::info!("{} belongs to a cluster already: waiting to be added by its leader", server.name);
            return None;
        }
    }
    Some(found)
}
