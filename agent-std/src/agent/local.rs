//! The agent as the HTTP API commands it ([`LocalAgent`]): jobs for the driver, and what only the process knows.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use agent_core::{
    agent::{Agent, Command, CommandError, Outcome},
    checks::Health,
    local::{self as core_local, CheckDef, ServiceDef},
    pool::{MemberStatus, Pool},
    time::Duration as CoreDuration,
};
use tokio::sync::{Notify, broadcast::error::RecvError, watch};

use super::{join_once, wan::Wan};
use crate::{
    config::Config,
    definition::{Check, CheckKind, Service},
    driver::{AgentKind, CommandFailed, Handle, MemberInfo, Notice, Script, Scripts},
    http::local::{Itself, LocalAgent, LocalError, Member, UserEvent},
    model::{
        Coordinate, EventFireRequest, HealthCheck, KeyringRequest, KeyringResponse, Map, NodeService, Octets,
        QueryOptions, ServiceAddress, Weights,
    },
    rpc::{BoxFuture, Rpc, codec},
};

/// Events kept for `/v1/event/list`, as Consul.
const EVENTS: usize = 256;
/// Members of whom trouble is kept at once, and for how long after it was told last; conflicts are told every minute.
const TROUBLES: usize = 64;
const TROUBLE: Duration = Duration::from_secs(600);
/// Serf's name of a user event that came through `event fire`.
const EVENT_PREFIX: &str = "consul:event:";

/// Sections of `info` that others than the agent itself know.
pub type MoreStats = Arc<dyn Fn(&mut BTreeMap<String, BTreeMap<String, String>>) + Send + Sync>;

/// This agent.
pub struct Local {
    handle: Handle<AgentKind>,
    scripts: Scripts,
    rpc: Rpc,
    config: Arc<Config>,
    more: MoreStats,
    wan: Option<Wan>,
    shared: Arc<Shared>,
}

/// What outlives a single call.
struct Shared {
    changes: watch::Sender<u64>,
    events: Mutex<VecDeque<UserEvent>>,
    /// What is wrong with members, by their name, and when it was told last.
    troubles: Mutex<BTreeMap<String, (Instant, String)>>,
    /// Scripts by the check that runs them.
    keys: Mutex<HashMap<String, u32>>,
    /// Somebody wants this agent to leave.
    wish: Notify,
    /// It has left.
    gone: watch::Sender<bool>,
}

impl Local {
    /// The agent behind `handle`, and behind `wan` when it is a server.
    pub fn new(
        handle: Handle<AgentKind>,
        wan: Option<Wan>,
        scripts: Scripts,
        rpc: Rpc,
        config: Arc<Config>,
        more: MoreStats,
    ) -> Self {
        let shared = Arc::new(Shared {
            changes: watch::Sender::new(0),
            events: Mutex::default(),
            troubles: Mutex::default(),
            keys: Mutex::default(),
            wish: Notify::new(),
            gone: watch::Sender::new(false),
        });
        tokio::spawn(listen(handle.clone(), shared.clone(), config.clone()));
        Local { handle, scripts, rpc, config, more, wan, shared }
    }

    /// Waits until somebody wants this agent to leave (`/v1/agent/leave`).
    pub async fn told_to_leave(&self) {
        self.shared.wish.notified().await;
    }

    /// Answers those who wanted it.
    pub fn has_left(&self) {
        self.shared.gone.send_replace(true);
    }

    /// Registers what the configuration defines.
    ///
    /// # Errors
    /// The first definition that the agent refuses.
    pub async fn register_configured(&self) -> Result<(), LocalError> {
        for service in &self.config.services {
            self.register_service(service.clone(), false).await?;
        }
        for check in &self.config.checks {
            self.register_check(check.clone()).await?;
        }
        Ok(())
    }

    /// Does `command` inside the driver.
    async fn command<T: Send + 'static>(
        &self,
        job: impl for<'m> FnOnce(&mut Agent<'m>, agent_core::time::Instant) -> T + Send + 'static,
    ) -> Result<T, LocalError> {
        self.handle.with(job).await.map_err(|stopped| LocalError::Failed(stopped.to_string()))
    }

    /// Fires an event in a plain Serf pool: no server is asked, and what is sent is what any Serf agent sends.
    async fn fire_plain(&self, event: UserEvent) -> Result<(), LocalError> {
        if [&event.node_filter, &event.service_filter, &event.tag_filter].iter().any(|filter| !filter.is_empty()) {
            return Err(LocalError::Failed("events of a plain serf pool have no filters: leave them out".to_owned()));
        }
        let payload = event.payload.unwrap_or_default().0;
        let fire = move |agent: &mut Agent<'_>, now| {
            agent.command(now, Command::UserEvent { name: &event.name, payload: &payload, coalesce: false }).map(|_| ())
        };
        self.command(fire).await?.map_err(refused)
    }

    /// Keeps the script of a check and gives the key under which the core asks for it.
    fn script_key(&self, check: &Check) -> u32 {
        let mut keys = self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(old) = keys.remove(&check.id) {
            self.scripts.remove(old);
        }
        let CheckKind::Script { args, .. } = &check.kind else { return 0 };
        let key = self.scripts.insert(Script { args: args.clone(), output_max: check.output_max_size });
        keys.insert(check.id.clone(), key);
        key
    }

    fn forget_scripts(&self, gone: &[String]) {
        let mut keys = self.shared.keys.lock().unwrap_or_else(PoisonError::into_inner);
        for id in gone {
            if let Some(key) = keys.remove(id) {
                self.scripts.remove(key);
            }
        }
    }
}

impl LocalAgent for Local {
    fn itself(&self) -> BoxFuture<'_, Itself> {
        Box::pin(async move {
            let looked = self.handle.with(|agent, _| {
                let pool = agent.pool();
                let coordinate = Coordinate::from(pool.coordinate());
                let checks = agent.local().checks().count();
                let ttls = agent.local().checks().filter(|check| check.judge() == core_local::Judge::Ttl).count();
                let mut stats = BTreeMap::new();
                stats.insert(
                    "agent".to_owned(),
                    section(&[
                        ("check_monitors", (checks - ttls).to_string()),
                        ("check_ttls", ttls.to_string()),
                        ("checks", checks.to_string()),
                        ("services", agent.local().services().count().to_string()),
                    ]),
                );
                stats.insert("serf_lan".to_owned(), serf_stats(pool));
                stats.insert("gossip_lan".to_owned(), counters(pool));
                (MemberInfo::from(&pool.local()), coordinate, stats)
            });
            let Ok((info, coordinate, mut stats)) = looked.await else { return Itself::default() };
            if let Some(wan) = &self.wan
                && let Ok((section, counters)) = wan.handle().with(|pool, _| (serf_stats(pool), counters(pool))).await
            {
                stats.insert("serf_wan".to_owned(), section);
                stats.insert("gossip_wan".to_owned(), counters);
            }
            (self.more)(&mut stats);
            let mut meta: BTreeMap<String, String> = self.config.node_meta.clone();
            meta.insert("consul-network-segment".to_owned(), String::new());
            Itself { member: member(info), coordinate: Some(coordinate), stats, meta }
        })
    }

    fn members(&self, wan: bool) -> BoxFuture<'_, Vec<Member>> {
        Box::pin(async move {
            let all = match (wan, &self.wan) {
                (false, _) => super::members::all(&self.handle).await.unwrap_or_default(),
                (true, Some(wan)) => wan.members().await,
                (true, None) => Vec::new(),
            };
            let troubles = self.shared.troubles.lock().unwrap_or_else(PoisonError::into_inner);
            let trouble = |name: &str| {
                let told = troubles.get(name).filter(|(at, _)| !wan && at.elapsed() < TROUBLE);
                told.map(|(_, text)| text.clone()).unwrap_or_default()
            };
            all.into_iter().map(|info| Member { trouble: trouble(&info.name), ..member(info) }).collect()
        })
    }

    fn services(&self) -> BoxFuture<'_, Map<NodeService>> {
        Box::pin(async move {
            let list = self.handle.with(|agent, _| agent.local().services().map(|s| service(&s)).collect::<Vec<_>>());
            list.await.unwrap_or_default().into_iter().map(|service| (service.id.clone(), service)).collect()
        })
    }

    fn checks(&self) -> BoxFuture<'_, Map<HealthCheck>> {
        Box::pin(async move {
            let node = self.config.node_name.clone();
            let list = self.handle.with(move |agent, _| {
                let local = agent.local();
                local.checks().map(|c| check(&node, &c, local.service(c.service_id()))).collect::<Vec<_>>()
            });
            list.await.unwrap_or_default().into_iter().map(|check| (check.check_id.clone(), check)).collect()
        })
    }

    fn events(&self) -> BoxFuture<'_, Vec<UserEvent>> {
        Box::pin(
            async move { self.shared.events.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect() },
        )
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    fn register_service(&self, service: Service, replace: bool) -> BoxFuture<'_, Result<(), LocalError>> {
        Box::pin(async move {
            let keys: Vec<u32> = service.checks.iter().map(|check| self.script_key(check)).collect();
            let kept: Vec<String> = service.checks.iter().map(|check| check.id.clone()).collect();
            let id = service.id.clone();
            self.command(move |agent, now| {
                with_service(&service, &keys, |def| agent.command(now, Command::Register(def)).map(|_| ()))
            })
            .await?
            .map_err(refused)?;
            if replace {
                let gone = self
                    .command(move |agent, now| {
                        let other = |check: &core_local::Check<'_>| {
                            check.service_id() == id && !kept.iter().any(|kept| kept == check.id())
                        };
                        let gone: Vec<String> =
                            agent.local().checks().filter(other).map(|check| check.id().to_owned()).collect();
                        for id in &gone {
                            let _ = agent.command(now, Command::DeregisterCheck { id });
                        }
                        gone
                    })
                    .await?;
                self.forget_scripts(&gone);
            }
            Ok(())
        })
    }

    fn deregister_service(&self, id: String) -> BoxFuture<'_, Result<(), LocalError>> {
        Box::pin(async move {
            let gone = self
                .command(move |agent, now| {
                    let of_it = |check: &core_local::Check<'_>| check.service_id() == id;
                    let gone: Vec<String> =
                        agent.local().checks().filter(of_it).map(|check| check.id().to_owned()).collect();
                    // An unknown one is no error.
                    let _ = agent.command(now, Command::Deregister { id: &id });
                    gone
                })
                .await?;
            self.forget_scripts(&gone);
            Ok(())
        })
    }

    fn register_check(&self, check: Check) -> BoxFuture<'_, Result<(), LocalError>> {
        Box::pin(async move {
            let key = self.script_key(&check);
            let service_id = check.service_id.clone();
            let result = self
                .command(move |agent, now| {
                    with_check(&check, key, |def| agent.command(now, Command::RegisterCheck(def)).map(|_| ()))
                })
                .await?;
            result.map_err(|error| match error {
                CommandError::Unknown => LocalError::Unknown(format!("ServiceID {service_id:?} does not exist")),
                other => refused(other),
            })
        })
    }

    fn deregister_check(&self, id: String) -> BoxFuture<'_, Result<(), LocalError>> {
        Box::pin(async move {
            let name = id.clone();
            self.command(move |agent, now| agent.command(now, Command::DeregisterCheck { id: &name }).is_ok()).await?;
            self.forget_scripts(&[id]);
            Ok(())
        })
    }

    fn update_ttl(&self, id: String, health: Health, output: String) -> BoxFuture<'_, Result<(), LocalError>> {
        Box::pin(async move {
            let name = id.clone();
            let result = self
                .command(move |agent, now| {
                    agent.command(now, Command::UpdateTtl { id: &name, health, output: &output }).map(|_| ())
                })
                .await?;
            result.map_err(|error| match error {
                CommandError::Unknown | CommandError::Invalid(_) => {
                    LocalError::Unknown(format!("CheckID {id:?} does not have associated TTL"))
                }
                other => refused(other),
            })
        })
    }

    fn join(&self, address: String, wan: bool) -> BoxFuture<'_, Result<(), LocalError>> {
        Box::pin(async move {
            let joined = match (wan, &self.wan) {
                (false, _) => join_once(&self.handle, &address).await,
                (true, Some(wan)) => join_once(wan.handle(), &address).await,
                (true, None) if self.config.server => {
                    let text = "the WAN pool is off: ports.serf_wan switches it on";
                    return Err(LocalError::Failed(text.to_owned()));
                }
                (true, None) => return Err(LocalError::Failed("Must be a server to join WAN cluster".to_owned())),
            };
            let why = match joined {
                Ok(Outcome::Joined(_) | Outcome::Ok) => return Ok(()),
                Ok(Outcome::Failed(why)) => why.to_owned(),
                Err(error) => error.to_string(),
            };
            Err(LocalError::Failed(format!("1 error occurred:\n\t* Failed to join {address}: {why}\n\n")))
        })
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), LocalError>> {
        Box::pin(async move {
            // The process does the leaving, so that signals and HTTP take the same way.
            let mut gone = self.shared.gone.subscribe();
            self.shared.wish.notify_one();
            // Ends with the process at the latest.
            let _ = gone.wait_for(|gone| *gone).await;
            Ok(())
        })
    }

    fn force_leave(&self, node: String, prune: bool) -> BoxFuture<'_, Result<(), LocalError>> {
        Box::pin(async move {
            let name = node.clone();
            let failed = |error: CommandFailed| LocalError::Failed(error.to_string());
            let here = self
                .handle
                .finish(move |agent, now| agent.command(now, Command::ForceLeave { node: &name, prune }))
                .await;
            let here = match here {
                Ok(_) => true,
                Err(CommandFailed::Refused(CommandError::Unknown)) => false,
                Err(error) => return Err(failed(error)),
            };
            let there = match &self.wan {
                Some(wan) => wan.force_leave(&node, prune).await.map_err(failed)?,
                None => false,
            };
            if here || there {
                Ok(())
            } else {
                Err(LocalError::Unknown(format!("agent: No node found with name '{node}'")))
            }
        })
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), LocalError>> {
        Box::pin(async move { Err(LocalError::Failed("reload is not implemented yet by lictor".to_owned())) })
    }

    fn keyring(&self, request: KeyringRequest) -> BoxFuture<'_, KeyringResponse> {
        Box::pin(async move { super::keyring::answer(&self.handle, &self.config.datacenter, &request).await })
    }

    fn fire(&self, event: UserEvent, dc: String, token: String) -> BoxFuture<'_, Result<(), LocalError>> {
        Box::pin(async move {
            if self.config.serf_only {
                return self.fire_plain(event).await;
            }
            let message = EventMessage {
                id: event.id,
                name: event.name.clone(),
                payload: event.payload,
                node_filter: event.node_filter,
                service_filter: event.service_filter,
                tag_filter: event.tag_filter,
                version: event.version,
            };
            let payload = codec::to_vec(&message).map_err(|error| LocalError::Failed(error.to_string()))?;
            let request = EventFireRequest {
                datacenter: dc,
                name: event.name,
                payload: Some(Octets(payload)),
                options: QueryOptions { allow_stale: true, token, ..QueryOptions::default() },
            };
            let fired: Result<crate::model::EventFireReply, _> = self.rpc.call("Internal.EventFire", &request).await;
            fired.map(|_| ()).map_err(|error| LocalError::Failed(error.to_string()))
        })
    }
}

/// Numbers and texts by name, as `info` shows them.
fn section(pairs: &[(&str, String)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// What `info` shows of a pool.
/// All that a pool counts.
fn counters(pool: &Pool<'_>) -> BTreeMap<String, String> {
    pool.stats().each().map(|(name, count)| (name.to_owned(), count.to_string())).collect()
}

fn serf_stats(pool: &Pool<'_>) -> BTreeMap<String, String> {
    let (member_time, event_time, query_time) = pool.clocks();
    let count = |status| pool.members().filter(|member| member.status == status).count();
    let zero = || "0".to_owned();
    section(&[
        ("coordinate_resets", zero()),
        ("encrypted", pool.is_encrypted().to_string()),
        ("event_queue", zero()),
        ("event_time", event_time.to_string()),
        ("failed", count(MemberStatus::Failed).to_string()),
        ("health_score", pool.health_score().to_string()),
        ("intent_queue", pool.queued().to_string()),
        ("left", count(MemberStatus::Left).to_string()),
        ("member_time", member_time.to_string()),
        ("members", pool.members().count().to_string()),
        ("query_queue", zero()),
        ("query_time", query_time.to_string()),
    ])
}

/// The payload of a serf event that came through `event fire` (rpc spec, Internal.EventFire).
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
struct EventMessage {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "n")]
    name: String,
    #[serde(rename = "p", skip_serializing_if = "Option::is_none")]
    payload: Option<Octets>,
    #[serde(rename = "nf", skip_serializing_if = "String::is_empty")]
    node_filter: String,
    #[serde(rename = "sf", skip_serializing_if = "String::is_empty")]
    service_filter: String,
    #[serde(rename = "tf", skip_serializing_if = "String::is_empty")]
    tag_filter: String,
    #[serde(rename = "v")]
    version: u8,
}

impl EventMessage {
    /// An event of a plain Serf pool. It has no id; lists and their index need one, so it is made of its Lamport time.
    fn plain(ltime: u64, name: String, payload: Vec<u8>) -> Self {
        log::info!("serf: EventUser: {name}");
        EventMessage {
            id: format!("00000000-0000-0000-{:04x}-{:012x}", ltime >> 48, ltime & 0xffff_ffff_ffff),
            name,
            payload: (!payload.is_empty()).then_some(Octets(payload)),
            version: 1,
            ..EventMessage::default()
        }
    }
}

/// Keeps the last events, and tells of every change.
async fn listen(handle: Handle<AgentKind>, shared: Arc<Shared>, config: Arc<Config>) {
    let mut notices = handle.subscribe();
    drop(handle);
    loop {
        match notices.recv().await {
            Ok(Notice::User { ltime, name, payload }) => {
                let message = if config.serf_only {
                    EventMessage::plain(ltime, name, payload)
                } else {
                    let Some(name) = name.strip_prefix(EVENT_PREFIX) else { continue };
                    let Ok(message) = codec::from_slice::<EventMessage>(&payload) else {
                        log::warn!("event {name}: its payload is not one of Consul's; it is not shown");
                        continue;
                    };
                    message
                };
                if !concerns(&message.node_filter, &config.node_name) {
                    continue;
                }
                let mut events = shared.events.lock().unwrap_or_else(PoisonError::into_inner);
                if events.len() == EVENTS {
                    events.pop_front();
                }
                events.push_back(UserEvent {
                    id: message.id,
                    name: message.name,
                    payload: message.payload,
                    node_filter: message.node_filter,
                    service_filter: message.service_filter,
                    tag_filter: message.tag_filter,
                    version: message.version,
                    ltime,
                });
            }
            Ok(Notice::Trouble { member, text }) => {
                let mut troubles = shared.troubles.lock().unwrap_or_else(PoisonError::into_inner);
                troubles.retain(|_, (told, _)| told.elapsed() < TROUBLE);
                if troubles.len() < TROUBLES {
                    troubles.insert(member, (Instant::now(), text));
                }
                continue;
            }
            Ok(Notice::Local | Notice::Lagged) | Err(RecvError::Lagged(_)) => {}
            Ok(Notice::Member(..) | Notice::Keys) => continue,
            Err(RecvError::Closed) => return,
        }
        shared.changes.send_modify(|change| *change += 1);
    }
}

/// Whether an event's node filter, a regular expression, matches us.
fn concerns(filter: &str, node: &str) -> bool {
    filter.is_empty() || regex::Regex::new(filter).is_ok_and(|filter| filter.is_match(node))
}

fn refused(error: CommandError) -> LocalError {
    LocalError::Failed(error.to_string())
}

fn core(span: std::time::Duration) -> CoreDuration {
    CoreDuration::from_micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}

/// Lends a service as the core wants it.
fn with_service<T>(service: &Service, keys: &[u32], give: impl FnOnce(&ServiceDef<'_>) -> T) -> T {
    let tags: Vec<&str> = service.tags.iter().map(String::as_str).collect();
    let meta: Vec<(&str, &str)> = service.meta.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let named: Vec<(&str, &str, u16)> = service
        .tagged_addresses
        .iter()
        .map(|(name, (address, port))| (name.as_str(), address.as_str(), *port))
        .collect();
    let headers: Vec<Vec<(&str, &str)>> = service.checks.iter().map(headers).collect();
    let checks: Vec<CheckDef<'_>> = service
        .checks
        .iter()
        .zip(keys)
        .zip(&headers)
        .map(|((check, key), headers)| def(check, *key, headers))
        .collect();
    give(&ServiceDef {
        id: &service.id,
        name: &service.name,
        tags: &tags,
        address: &service.address,
        port: service.port,
        meta: &meta,
        tagged_addresses: &named,
        weights: service.weights,
        enable_tag_override: service.enable_tag_override,
        token: service.token.expose(),
        checks: &checks,
    })
}

/// Lends a check as the core wants it.
fn with_check<T>(check: &Check, key: u32, give: impl FnOnce(&CheckDef<'_>) -> T) -> T {
    give(&def(check, key, &headers(check)))
}

fn headers(check: &Check) -> Vec<(&str, &str)> {
    match &check.kind {
        CheckKind::Http { headers, .. } => headers.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect(),
        _ => Vec::new(),
    }
}

fn def<'a>(check: &'a Check, key: u32, headers: &'a [(&'a str, &'a str)]) -> CheckDef<'a> {
    let kind = match &check.kind {
        CheckKind::Never => core_local::CheckKind::Static { label: "" },
        CheckKind::Ttl(ttl) => core_local::CheckKind::Ttl { ttl: core(*ttl) },
        CheckKind::Tcp { target, interval, timeout } => {
            core_local::CheckKind::Tcp { target, interval: core(*interval), timeout: core(*timeout) }
        }
        CheckKind::Http { url, method, body, tls_skip_verify, interval, timeout, .. } => core_local::CheckKind::Http {
            url,
            method,
            headers,
            body,
            tls_skip_verify: *tls_skip_verify,
            interval: core(*interval),
            timeout: core(*timeout),
        },
        CheckKind::Script { interval, timeout, .. } => {
            core_local::CheckKind::Host { key, label: "script", interval: core(*interval), timeout: core(*timeout) }
        }
    };
    CheckDef {
        id: &check.id,
        name: &check.name,
        notes: &check.notes,
        service_id: &check.service_id,
        token: check.token.expose(),
        status: check.status,
        kind,
        deregister_critical_after: core(check.deregister_critical_after),
        success_before_passing: check.success_before_passing,
        failures_before_critical: check.failures_before_critical,
    }
}

fn member(info: MemberInfo) -> Member {
    let [protocol_min, protocol_max, protocol_cur, delegate_min, delegate_max, delegate_cur] = info.vsn;
    Member {
        addr: info.address.ip().to_string(),
        port: info.address.port(),
        tags: info.tags.into_iter().collect(),
        status: info.status as u8,
        name: info.name,
        protocol_min,
        protocol_max,
        protocol_cur,
        delegate_min,
        delegate_max,
        delegate_cur,
        trouble: String::new(),
    }
}

fn service(service: &core_local::Service<'_>) -> NodeService {
    let (passing, warning) = service.weights();
    let named = |(name, address, port): (&str, &str, u16)| {
        (name.to_owned(), ServiceAddress { address: address.to_owned(), port: port.into() })
    };
    NodeService {
        id: service.id().to_owned(),
        service: service.name().to_owned(),
        tags: Some(service.tags().map(str::to_owned).collect()),
        address: service.address().to_owned(),
        tagged_addresses: Some(service.tagged_addresses().map(named).collect()),
        meta: Some(service.meta().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
        port: service.port().into(),
        weights: Some(Weights { passing: passing.into(), warning: warning.into() }),
        enable_tag_override: service.enable_tag_override(),
        ..NodeService::default()
    }
}

fn check(node: &str, check: &core_local::Check<'_>, service: Option<core_local::Service<'_>>) -> HealthCheck {
    let tags = service.map(|service| service.tags().map(str::to_owned).collect()).unwrap_or_default();
    HealthCheck {
        node: node.to_owned(),
        check_id: check.id().to_owned(),
        name: check.name().to_owned(),
        status: check.health().as_str().to_owned(),
        notes: check.notes().to_owned(),
        output: check.output().to_owned(),
        service_id: check.service_id().to_owned(),
        service_name: check.service_name().to_owned(),
        service_tags: Some(tags),
        kind: check.kind().to_owned(),
        ..HealthCheck::default()
    }
}
