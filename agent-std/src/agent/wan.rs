//! A server's second gossip pool: the servers of all datacenters (gossip spec §10.1).
//!
//! The same machine as the LAN pool's, without an agent around it. What it knows goes to the [`Router`], which calls for
//! other datacenters follow. Servers of one datacenter bring each other along: whoever is in the LAN pool is joined here.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use agent_core::{
    agent::{CommandError, Outcome},
    config::PoolConfig,
    pool::{MemberStatus, Pool},
    wire::{crypt::Key, push_pull::Clocks},
};
use tokio::{
    sync::{broadcast::error::RecvError, mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval},
};

use super::{
    StartError, join, keyring,
    members::{Members, log_change, rpc_address},
    snapshot::{self, Snapshot},
    tags,
};
use crate::{
    config::Config,
    driver::{
        self, Clock, CommandFailed, Handle, Host, MemberInfo, Notice, PlainDial, PoolHeap, PoolKind, PoolSizes,
        Scripts, Sockets, Stopped,
    },
    rpc::{Router, ServerInfo, WanServer},
};

/// Servers of all datacenters together; Consul's own advice ends far below.
const SIZES: PoolSizes = PoolSizes { members: 1024, streams: 64 };
/// Time between looks whether a server of the LAN pool is missing here (Consul `SerfFloodInterval`).
const FLOOD: Duration = Duration::from_secs(60);
/// Where members are changes with every probe, one in 5 s.
const PLACES: Duration = Duration::from_secs(5);

/// The running pool. Cheap to clone.
#[derive(Clone)]
pub struct Wan {
    handle: Handle<PoolKind>,
    datacenter: Arc<str>,
}

/// What the pool is started with.
pub struct Parts<'a> {
    /// The agent's configuration.
    pub config: &'a Arc<Config>,
    /// Our id.
    pub node_id: &'a str,
    /// Fresh entropy.
    pub seed: [u8; 32],
    /// The open port.
    pub sockets: Sockets,
    /// Is told where the other datacenters are.
    pub router: Router,
    /// The LAN pool's members.
    pub members: Members,
    /// Changes whenever a server joins or leaves the LAN pool.
    pub servers: watch::Receiver<Vec<ServerInfo>>,
    /// Is told why the agent should stop.
    pub give_up: mpsc::Sender<&'static str>,
}

impl Wan {
    /// Starts the pool; its followers are added to `tasks`. The handle is the machine's own task.
    ///
    /// # Errors
    /// The keys on disk.
    pub fn start(parts: Parts<'_>, tasks: &mut JoinSet<()>) -> Result<(Wan, JoinHandle<()>), StartError> {
        let Parts { config, node_id, seed, sockets, router, members, servers, give_up } = parts;
        let (handle, inbox) = driver::channel::<PoolKind>();
        let keys = keyring::load(config, true)?;
        let path = snapshot::path(config, true);
        let known = Snapshot::load(path.as_deref());
        let core = Core { tags: tags::wan(config, node_id), keys, clocks: known.clocks, config: config.clone() };
        let machine = tokio::spawn(drive(core, seed, sockets, inbox));
        let wan = Wan { handle, datacenter: config.datacenter.as_str().into() };
        tasks.spawn(follow(wan.clone(), router));
        tasks.spawn(snapshot::rejoin(wan.handle.clone(), known.seeds(config.rejoin_after_leave)));
        if let Some(path) = path {
            tasks.spawn(snapshot::follow(wan.handle.clone(), path));
        }
        if let Some(path) = keyring::path(config, true) {
            tasks.spawn(keyring::follow(wan.handle.clone(), path));
        }
        tasks.spawn(flood(wan.clone(), config.clone(), members, servers));
        if !config.retry_join_wan.is_empty() {
            tasks.spawn(retry(wan.clone(), config.clone(), give_up));
        }
        Ok((wan, machine))
    }

    /// The pool.
    pub fn handle(&self) -> &Handle<PoolKind> {
        &self.handle
    }

    /// All members, in any status.
    pub async fn members(&self) -> Vec<MemberInfo> {
        super::members::all(&self.handle).await.unwrap_or_default()
    }

    /// Makes a failed server count as left, by its name here (`node.dc`) or, in our datacenter, its node name. False:
    /// there is none of that name.
    pub async fn force_leave(&self, node: &str, prune: bool) -> Result<bool, CommandFailed> {
        for name in [node.to_owned(), format!("{node}.{}", self.datacenter)] {
            let leave = move |pool: &mut Pool<'_>, now| pool.force_leave(now, &name, prune);
            match self.handle.finish(leave).await {
                Ok(_) => return Ok(true),
                Err(CommandFailed::Refused(CommandError::Unknown)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Leaves the pool, and keeps that in mind for the next start.
    pub async fn leave(&self, config: &Config) -> bool {
        let left = self.handle.finish(|pool, now| pool.leave(now)).await;
        if let Some(path) = snapshot::path(config, true) {
            snapshot::save(&self.handle, &path).await;
        }
        matches!(left, Ok(Outcome::Ok))
    }

    /// Whether a server of another datacenter is alive.
    async fn knows_others(&self) -> Result<bool, Stopped> {
        let own = self.datacenter.clone();
        self.handle
            .with(move |pool, _| {
                let mut alive = pool.members().filter(|member| member.status == MemberStatus::Alive);
                alive.any(|member| member.tag("dc").is_some_and(|dc| *dc != *own))
            })
            .await
    }
}

/// What the machine is told, owned, so that it can be lent.
struct Core {
    tags: Vec<(&'static str, String)>,
    keys: Vec<Key>,
    clocks: Clocks,
    config: Arc<Config>,
}

async fn drive(core: Core, seed: [u8; 32], sockets: Sockets, inbox: driver::Inbox<PoolKind>) {
    let Core { tags, keys, clocks, config } = core;
    let tags: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let name = format!("{}.{}", config.node_name, config.datacenter);
    let advertise = SocketAddr::new(config.advertise_addr_wan, config.ports.serf_wan.unwrap_or_default());
    let pool = PoolConfig {
        keys: &keys,
        verify_incoming: config.encrypt_verify_incoming,
        verify_outgoing: config.encrypt_verify_outgoing,
        timing: config.gossip_wan,
        servers_only: true,
        clocks,
        match_tag: tags::matches,
        ..PoolConfig::lan(&name, advertise, &tags)
    };
    let clock = Clock::start();
    let mut heap = PoolHeap::new(SIZES);
    let mut places = vec![None; SIZES.members];
    // Nothing runs scripts here.
    let host = Host { dial: Arc::new(PlainDial), scripts: Scripts::default() };
    match Pool::new(&pool, heap.regions(), &seed, clock.now()) {
        Ok(mut pool) => {
            pool.keep_places(&mut places);
            driver::run::<PoolKind>(pool, clock, sockets, host, inbox).await;
        }
        Err(error) => log::error!("the settings of the WAN pool do not work: {error}"),
    }
}

/// Keeps the router as the pool is, until the pool ends.
async fn follow(wan: Wan, router: Router) {
    let mut notices = wan.handle.subscribe();
    let mut tick = interval(PLACES);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let looked = wan.handle.with(|pool, _| {
            let own = pool.coordinate().into();
            let servers = pool.members().enumerate().filter_map(|(at, member)| {
                // The first is ourselves.
                let place = if at == 0 { Some(&own) } else { None };
                let place = place.cloned().or_else(|| pool.place(member.name).map(Into::into));
                server(&MemberInfo::from(&member), place)
            });
            (servers.collect(), own.clone())
        });
        let Ok((servers, own)) = looked.await else { return };
        router.replace(servers, Some(own));
        tokio::select! {
            _ = tick.tick() => {}
            notice = notices.recv() => match notice {
                Ok(Notice::Member(change, member)) => log_change(change, &member),
                Ok(_) | Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return,
            },
        }
    }
}

/// The member as a router wants it; none that has left or is no server.
fn server(member: &MemberInfo, place: Option<crate::model::Coordinate>) -> Option<WanServer> {
    let datacenter = member.tag("dc").filter(|_| member.tag("role") == Some("consul"))?;
    if member.status == MemberStatus::Left {
        return None;
    }
    let suffix = format!(".{datacenter}");
    Some(WanServer {
        name: member.name.strip_suffix(&suffix).unwrap_or(&member.name).to_owned(),
        datacenter: datacenter.to_owned(),
        rpc: rpc_address(member),
        alive: member.status == MemberStatus::Alive,
        place,
    })
}

/// Joins the servers of the LAN pool that are not here, now, whenever one comes, and every minute.
async fn flood(wan: Wan, config: Arc<Config>, lan: Members, mut servers: watch::Receiver<Vec<ServerInfo>>) {
    let mut tick = interval(FLOOD);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            changed = servers.changed() => if changed.is_err() { return },
        }
        let known = wan.members().await;
        for server in lan.servers(&config.datacenter) {
            let name = format!("{}.{}", server.name, config.datacenter);
            let here = known.iter().any(|member| member.name == name && member.status == MemberStatus::Alive);
            if here || server.name == config.node_name {
                continue;
            }
            let port = server.tag("wan_join_port").and_then(|port| port.parse().ok());
            // One with its WAN pool off has no such tag, and nobody listens there.
            let Some(port) = port.filter(|port| *port != 0) else { continue };
            let address = SocketAddr::new(server.address.ip(), port).to_string();
            log::debug!("joining {} of the LAN pool to the WAN pool at {address}", server.name);
            join(&wan.handle, "WAN", &address).await;
        }
    }
}

/// Joins the configured addresses until another datacenter is there, and again when none is left. Names are looked up
/// anew each time.
async fn retry(wan: Wan, config: Arc<Config>, give_up: mpsc::Sender<&'static str>) {
    let mut failed = 0;
    loop {
        match wan.knows_others().await {
            Ok(true) => failed = 0,
            Ok(false) => {
                log::info!("(WAN) joining: wan_addresses={:?}", config.retry_join_wan);
                let mut joined = 0;
                for address in &config.retry_join_wan {
                    joined += u32::from(join(&wan.handle, "WAN", address).await);
                }
                failed = if joined > 0 { 0 } else { failed + 1 };
                if config.retry_max_wan > 0 && failed > config.retry_max_wan {
                    // Whoever listens may be stopping already.
                    let _ = give_up.send("max join WAN retry exhausted, exiting").await;
                    return;
                }
            }
            Err(Stopped) => return,
        }
        tokio::time::sleep(config.retry_interval_wan).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(status: MemberStatus, tags: &[(&str, &str)]) -> MemberInfo {
        MemberInfo {
            name: "s1.dc2".into(),
            address: "10.0.0.1:8302".parse().unwrap(),
            tags: tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
            status,
            vsn: [1, 5, 2, 2, 5, 4],
        }
    }

    #[test]
    fn servers_that_have_not_left_are_ways() {
        let tags = [("role", "consul"), ("dc", "dc2"), ("port", "8300")];
        let found = server(&member(MemberStatus::Alive, &tags), None).unwrap();
        assert_eq!((found.name.as_str(), found.datacenter.as_str(), found.alive), ("s1", "dc2", true));
        assert_eq!(found.rpc, Some("10.0.0.1:8300".parse().unwrap()));
        assert!(!server(&member(MemberStatus::Failed, &tags), None).unwrap().alive);
        assert_eq!(server(&member(MemberStatus::Left, &tags), None), None);
        assert_eq!(server(&member(MemberStatus::Alive, &tags[1..]), None), None);
        assert_eq!(server(&member(MemberStatus::Alive, &tags[..2]), None).unwrap().rpc, None);
    }
}
