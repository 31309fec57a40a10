//! What the leader does on its own (rpc spec §8): keeps the catalog in step with gossip, ends sessions that were not
//! renewed, writes coordinates in batches, watches the servers' health. Proposes only what changes something, so an idle cluster's log rests.

mod flap;
mod health;

pub use health::Stability;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use agent_core::pool::MemberStatus;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use crate::{
    model::{
        AutopilotConfig, AutopilotRequest, CRITICAL, DeregisterRequest, HealthCheck, Map, NodeService, PASSING,
        RegisterRequest, SERF_HEALTH, Session, SessionRequest, Weights,
    },
    rpc::{ConsensusView, RpcError, Server},
    state::{NodeEntry, command::Command},
};

/// Consul's time between full reconciliations.
const RECONCILE: Duration = Duration::from_secs(60);
/// Time until something that did not work is tried again.
const RETRY: Duration = Duration::from_millis(250);
/// Consul's time between batches of coordinates.
const COORDINATES: Duration = Duration::from_secs(5);
/// Consul's time between looks at the servers' health.
const HEALTH: Duration = Duration::from_secs(2);
/// Coordinates of one command, and commands of one batch; Consul's numbers.
const COORDINATES_PER_COMMAND: usize = 128;
const COMMANDS_PER_BATCH: usize = 5;
/// Id and name of the service that every server has.
const CONSUL: &str = "consul";

/// A member of the LAN pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberRecord {
    /// Name.
    pub name: String,
    /// Gossip address.
    pub address: SocketAddr,
    /// Serf status.
    pub status: MemberStatus,
    /// Tags.
    pub tags: Vec<(String, String)>,
    /// memberlist and delegate versions: min, max, current of each.
    pub vsn: [u8; 6],
}

impl MemberRecord {
    fn tag(&self, key: &str) -> &str {
        self.tags.iter().find(|(name, _)| name == key).map_or("", |(_, value)| value)
    }
}

/// Something happened to a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberNews {
    /// It joined, changed, failed, left or is leaving: see its status.
    Changed(MemberRecord),
    /// It is forgotten.
    Reaped(MemberRecord),
    /// News were lost: look at all members.
    Lagged,
}

/// Gives all members of the LAN pool as they are now.
pub type Members = Arc<dyn Fn() -> Vec<MemberRecord> + Send + Sync>;

/// Runs for ever; works while this server leads. `own_name` is this server's node: it never deregisters itself.
pub async fn run(server: Server, own_name: String, members: Members, mut news: mpsc::Receiver<MemberNews>) {
    let leader = Leader { server, own_name, members, flaps: Mutex::default() };
    let mut seen = ConsensusView::default();
    let (mut leads, mut reconcile_at, mut coordinates_at) = (false, Instant::now(), Instant::now());
    let (mut health_at, mut restored) = (Instant::now(), leader.server.store().state().restored_index());
    // Looked at once without being told: it may lead already.
    let (mut news_is_open, mut next) = (true, Some(Instant::now()));
    loop {
        let wake = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        let event = tokio::select! {
            () = leader.server.consensus().leadership_change(&seen) => None,
            () = wake => None,
            event = news.recv(), if news_is_open => { news_is_open = event.is_some(); event }
        };
        if let Some(MemberNews::Changed(member)) = &event
            && member.status == MemberStatus::Failed
        {
            leader.flaps().failed(&member.name, Instant::now());
        }
        next = None;
        let view = leader.server.consensus().view();
        // A new term is a new leadership: others may have led in between.
        let led = std::mem::replace(&mut leads, view.is_leader) && view.term == seen.term;
        seen = view;
        if !leads {
            continue;
        }
        if !led && leader.begin().await.is_err() {
            // Not established yet.
            (leads, next) = (false, Some(Instant::now() + RETRY));
            continue;
        }
        let now = Instant::now();
        // An archive knows other nodes, and sessions that nobody has renewed here.
        let restored_now = leader.server.store().state().restored_index();
        if std::mem::replace(&mut restored, restored_now) != restored_now {
            leader.server.restart_sessions();
            reconcile_at = now;
        }
        let full = !led || now >= reconcile_at || event == Some(MemberNews::Lagged);
        // A failure here means that leadership or quorum is lost; the next full pass repairs what was missed.
        let result = match event {
            _ if full => {
                reconcile_at = now + RECONCILE;
                leader.reconcile_all().await
            }
            Some(MemberNews::Changed(member)) => leader.reconcile(&member).await,
            Some(MemberNews::Reaped(member)) => leader.remove(&member).await,
            Some(MemberNews::Lagged) | None => Ok(()),
        };
        if result.is_err() {
            reconcile_at = now + RETRY;
        }
        // Who was held is believed again as soon as it may be.
        if let Some(release) = leader.flaps().next(now) {
            reconcile_at = reconcile_at.min(release);
        }
        leader.end_sessions().await;
        if now >= coordinates_at {
            coordinates_at = now + COORDINATES;
            leader.write_coordinates().await;
        }
        if now >= health_at {
            health_at = now + HEALTH;
            leader.look_after_servers().await;
        }
        // Sessions that begin after this are seen by the next look at the servers, long before they end.
        let ends = leader.server.next_session_end().map(|at| at.max(now + RETRY));
        next = ends.into_iter().chain([reconcile_at, coordinates_at, health_at]).min();
    }
}

struct Leader {
    server: Server,
    own_name: String,
    members: Members,
    flaps: Mutex<flap::Flaps>,
}

impl Leader {
    fn flaps(&self) -> MutexGuard<'_, flap::Flaps> {
        self.flaps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A new leader does not know when sessions were renewed: each gets its full time. What others committed before
    /// is in the store after the barrier.
    async fn begin(&self) -> Result<(), RpcError> {
        let barrier = self.server.consensus().read_barrier().await;
        barrier.map_err(|error| RpcError::endpoint(error.to_string()))?;
        self.server.restart_sessions();
        // Stored once, by the first leader of the cluster, so that it has an index to compare with.
        if self.server.store().state().autopilot().create_index == 0 {
            let config = AutopilotConfig::default();
            let request = AutopilotRequest { config, cas: true, ..AutopilotRequest::default() };
            self.server.propose(Command::Autopilot(request)).await?;
        }
        Ok(())
    }

    async fn reconcile_all(&self) -> Result<(), RpcError> {
        let members = (self.members)();
        for member in &members {
            self.reconcile(member).await?;
        }
        // Nodes that gossip forgot while nobody looked. Nodes without serfHealth never were in gossip.
        let state = self.server.store().state();
        for entry in state.nodes().filter(|entry| entry.checks.contains_key(SERF_HEALTH)) {
            let name = &entry.node.node;
            if *name != self.own_name && !members.iter().any(|member| member.name.eq_ignore_ascii_case(name)) {
                self.deregister(name).await?;
            }
        }
        Ok(())
    }

    async fn reconcile(&self, member: &MemberRecord) -> Result<(), RpcError> {
        if !self.is_ours(member) {
            return Ok(());
        }
        match member.status {
            MemberStatus::Alive | MemberStatus::Leaving => self.alive(member).await,
            MemberStatus::Failed => self.failed(member).await,
            MemberStatus::Left => self.remove(member).await,
        }
    }

    fn is_ours(&self, member: &MemberRecord) -> bool {
        ["node", CONSUL].contains(&member.tag("role")) && member.tag("dc") == self.server.datacenter()
    }

    async fn alive(&self, member: &MemberRecord) -> Result<(), RpcError> {
        let state = self.server.store().state();
        let known = state.node(&member.name);
        let service = (member.tag("role") == CONSUL).then(|| consul_service(member));
        let address = member.address.ip().to_string();
        let held = self.flaps().held(&member.name, Instant::now());
        let (status, output) = match &held {
            Some(reason) => (CRITICAL, reason.as_str()),
            None => (PASSING, "Agent alive and reachable"),
        };
        let in_step = known.is_some_and(|entry| {
            entry.node.address == address
                && entry.node.id.eq_ignore_ascii_case(member.tag("id"))
                && entry.checks.get(SERF_HEALTH).is_some_and(|check| check.status == status && check.output == output)
                && service.as_ref().is_none_or(|service| has_service(entry, service))
        });
        if in_step {
            return Ok(());
        }
        // What the agent itself registered stays.
        let (tagged_addresses, node_meta) =
            known.map_or((None, None), |entry| (entry.node.tagged_addresses.clone(), entry.node.meta.clone()));
        self.register(RegisterRequest {
            id: member.tag("id").into(),
            node: member.name.clone(),
            address,
            tagged_addresses,
            node_meta,
            service,
            check: Some(serf_health(&member.name, status, output)),
            ..RegisterRequest::default()
        })
        .await
    }

    async fn failed(&self, member: &MemberRecord) -> Result<(), RpcError> {
        let state = self.server.store().state();
        // A member that failed before it came into the catalog is of no use there.
        let Some(entry) = state.node(&member.name) else { return Ok(()) };
        if entry.checks.get(SERF_HEALTH).is_some_and(|check| check.status == CRITICAL) {
            return Ok(());
        }
        self.register(RegisterRequest {
            id: member.tag("id").into(),
            node: member.name.clone(),
            address: member.address.ip().to_string(),
            check: Some(serf_health(&member.name, CRITICAL, "Agent not live or unreachable")),
            skip_node_update: true,
            ..RegisterRequest::default()
        })
        .await
    }

    /// Deregisters a member that left or was forgotten.
    async fn remove(&self, member: &MemberRecord) -> Result<(), RpcError> {
        let known = self.server.store().state().node(&member.name).is_some();
        if !known || member.name == self.own_name || !self.is_ours(member) {
            return Ok(());
        }
        self.deregister(&member.name).await
    }

    async fn register(&self, request: RegisterRequest) -> Result<(), RpcError> {
        let datacenter = self.server.datacenter().to_owned();
        let command = Command::Register(Box::new(RegisterRequest { datacenter, ..request }));
        match self.server.propose(command).await {
            // The store refuses, e.g. a name that another live node has: nothing that waiting would repair.
            Ok(_) | Err(RpcError::Endpoint(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn deregister(&self, node: &str) -> Result<(), RpcError> {
        let request = DeregisterRequest { node: node.into(), ..DeregisterRequest::default() };
        self.server.propose(Command::Deregister(request)).await.map(drop)
    }

    async fn end_sessions(&self) {
        for id in self.server.expired_sessions() {
            let session = Session { id: id.clone(), ..Session::default() };
            let request = SessionRequest { op: "destroy".into(), session, ..SessionRequest::default() };
            if self.server.propose(Command::Session(request)).await.is_ok() {
                self.server.forget_session(&id);
            }
        }
    }

    async fn look_after_servers(&self) {
        let health = health::look(&self.server, &self.members).await;
        let dead = health::dead(&health, &self.server.store().state().autopilot());
        self.server.set_server_health(health);
        for id in dead {
            log::info!("removing server {id}: it has failed and the others are enough without it");
            if let Err(error) = self.server.consensus().remove_server(&id).await {
                log::warn!("server {id} could not be removed: {error}");
            }
        }
    }

    async fn write_coordinates(&self) {
        for _ in 0..COMMANDS_PER_BATCH {
            let mut updates = self.server.take_coordinates(COORDINATES_PER_COMMAND);
            if updates.is_empty() {
                return;
            }
            // Places waver for ever; written is only what says something, or an idle cluster's log would grow.
            let state = self.server.store().state();
            updates.retain(|update| {
                let known = state.node(&update.node).and_then(|node| node.coordinates.get(update.segment.as_str()));
                update.coord.as_ref().is_some_and(|new| known.is_none_or(|known| new.is_news(known)))
            });
            // Lost if it fails: the next ones come in seconds.
            if !updates.is_empty() && self.server.propose(Command::Coordinates(updates)).await.is_err() {
                return;
            }
        }
    }
}

fn serf_health(node: &str, status: &str, output: &str) -> HealthCheck {
    HealthCheck {
        node: node.into(),
        check_id: SERF_HEALTH.into(),
        name: "Serf Health Status".into(),
        status: status.into(),
        output: output.into(),
        ..HealthCheck::default()
    }
}

/// The service of a server, as 1.8.7 registers it.
fn consul_service(member: &MemberRecord) -> NodeService {
    let version = member.tag("build").split(':').next().unwrap_or_default();
    // Called serf's, but what real servers write there is memberlist's.
    let [serf_min, serf_max, serf_current, ..] = member.vsn;
    let nonvoter = if member.tag("nonvoter").is_empty() { "false" } else { "true" };
    let meta: Map<String> = [
        ("non_voter", nonvoter.to_owned()),
        ("raft_version", member.tag("raft_vsn").to_owned()),
        ("serf_protocol_current", serf_current.to_string()),
        ("serf_protocol_max", serf_max.to_string()),
        ("serf_protocol_min", serf_min.to_string()),
        ("version", version.to_owned()),
    ]
    .map(|(key, value)| (key.to_owned(), value))
    .into();
    NodeService {
        id: CONSUL.into(),
        service: CONSUL.into(),
        port: member.tag("port").parse().unwrap_or(0),
        weights: Some(Weights::ONE),
        meta: Some(meta),
        ..NodeService::default()
    }
}

fn has_service(entry: &NodeEntry, service: &NodeService) -> bool {
    entry.services.get(CONSUL).is_some_and(|known| known.port == service.port && known.meta == service.meta)
}

#[cfg(test)]
mod tests;
