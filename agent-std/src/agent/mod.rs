//! The agent of an operating system: where the core, the servers and the signals meet.
//!
//! ```text
//!   sockets ─> driver (core: gossip, checks, sync) ─ notices ─> members ─> leader's work, list of servers
//!   HTTP ──┬─> local ─ jobs ─> driver                              │
//!   DNS ───┴─> rpc ──> pool of connections, or on a server: dispatcher ─> state, raft
//! ```

mod identity;
mod join;
mod keyring;
mod local;
mod logging;
mod members;
mod recovery;
mod server;
mod snapshot;
mod tags;
mod wan;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use agent_core::{
    agent::{Agent, Command, Outcome},
    config::{Config as CoreConfig, PoolConfig},
    dns::{Rules, Soa},
    time::Duration as CoreDuration,
    wire::{crypt::Key, push_pull::Clocks},
};
use snapshot::Snapshot;
use tokio::{
    net::{TcpListener, UdpSocket, UnixListener},
    sync::{mpsc, watch},
    task::JoinSet,
};

use self::wan::Wan;
use crate::{
    cli::{agent::banner, product::Product},
    config::{Config, Listen},
    dns,
    driver::{self, AgentHeap, AgentKind, Clock, Handle, Host, PlainDial, PoolSizes, Scripts, Sockets},
    http::{self, Api, Listener, local::LocalAgent as _},
    rpc::{Client, Pool, Router, Rpc, ServerInfo},
    shutdown::{Signals, Wish},
};

/// News of members waiting for the leader's work.
const NEWS: usize = 1024;
/// A client's calls are spread over the servers anew this often; Consul waits 2 to 3 minutes.
const REBALANCE: Duration = Duration::from_secs(150);
/// Answers under way get this long when the agent stops.
const GOODBYE: Duration = Duration::from_millis(100);

/// Why the agent cannot start. The text is for the operator.
#[derive(Debug, thiserror::Error)]
enum StartError {
    #[error(transparent)]
    Keyring(#[from] keyring::KeyringError),
    #[error(transparent)]
    Identity(#[from] identity::IdentityError),
    #[error("listening on {what} {address}: {source}; is another agent running, or the address not ours?")]
    Listen { what: &'static str, address: String, source: io::Error },
    #[error("{0}")]
    Setting(String),
    #[error(transparent)]
    Server(#[from] server::ServerError),
    #[error("no random numbers: {0}")]
    Random(#[from] getrandom::Error),
    #[error("signals: {0}")]
    Signals(io::Error),
}

/// Runs the agent until it is told to stop; the exit code (config spec §7).
pub fn run(config: Config, product: Product) -> u8 {
    logging::start(config.log_level, config.log_json);
    // A client's work fits one thread; a server's store and HTTP use all cores.
    let mut builder = if config.server {
        tokio::runtime::Builder::new_multi_thread()
    } else {
        tokio::runtime::Builder::new_current_thread()
    };
    let runtime = match builder.enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("==> starting the runtime: {error}");
            return 1;
        }
    };
    match runtime.block_on(serve(Arc::new(config), product)) {
        Ok(code) => {
            log::info!("Exit code: code={code}");
            code
        }
        Err(error) => {
            eprintln!("==> Error starting agent: {error}");
            1
        }
    }
}

async fn serve(config: Arc<Config>, product: Product) -> Result<u8, StartError> {
    let mut signals = Signals::listen().map_err(StartError::Signals)?;
    let node_id = identity::node_id(config.node_id.as_deref(), config.data_dir.as_deref())?;
    let pid_file = PidFile::write(&config)?;
    print!("{}", banner(product, &config, &node_id));

    // Every port is open before anything runs, so that a clash is found at start.
    let sockets = gossip_sockets(config.serf_lan, config.ports.serf_lan.unwrap_or_default()).await?;
    let wan_sockets = match config.ports.serf_wan.filter(|_| config.server) {
        Some(port) => Some(gossip_sockets(config.serf_wan, port).await?),
        None => None,
    };
    let rpc_port = match (config.server, config.ports.server) {
        (true, Some(port)) => Some(listen("RPC", SocketAddr::new(config.bind_addr, port)).await?),
        (true, None) => return Err(StartError::Setting("ports.server cannot be off on a server".into())),
        _ => None,
    };
    let mut web = Vec::new();
    for address in &config.http {
        web.push(match address {
            Listen::Tcp(address) => Listener::from(listen("HTTP", *address).await?),
            Listen::Unix(path) => {
                let bound = UnixListener::bind(path);
                let error = |source| StartError::Listen { what: "HTTP", address: path.display().to_string(), source };
                Listener::from(bound.map_err(error)?)
            }
        });
    }

    let (handle, inbox) = driver::channel::<AgentKind>();
    let scripts = Scripts::default();
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let mut tasks = JoinSet::new();
    let host = Host { dial: Arc::new(PlainDial), scripts: scripts.clone() };
    let snapshot_path = snapshot::path(&config, false);
    let snapshot = Snapshot::load(snapshot_path.as_deref());
    let core = tokio::spawn(drive(Core::new(&config, &node_id, snapshot.clocks)?, seed, sockets, host, inbox));
    let known_before = snapshot.seeds(config.rejoin_after_leave);
    tasks.spawn(snapshot::rejoin(handle.clone(), known_before));
    if let Some(path) = &snapshot_path {
        tasks.spawn(snapshot::follow(handle.clone(), path.clone()));
    }

    if let Some(path) = keyring::path(&config, false) {
        tasks.spawn(keyring::follow(handle.clone(), path));
    }
    let known = members::Members::default();
    let (servers_out, servers) = watch::channel(Vec::<ServerInfo>::new());
    let (news_out, news) = mpsc::channel(NEWS);
    let follow = members::follow(
        handle.clone(),
        known.clone(),
        config.datacenter.clone(),
        servers_out,
        config.server.then_some(news_out),
    );
    tasks.spawn(follow);

    let router = Router::new(&config.datacenter);
    let (give_up, mut given_up) = mpsc::channel(1);
    if config.retry_max > 0 && !config.retry_join.is_empty() {
        tasks.spawn(join::watch_seeds(handle.clone(), config.retry_max, give_up.clone()));
    }
    let (wan, wan_core) = match wan_sockets {
        Some(sockets) => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed)?;
            let parts = wan::Parts {
                config: &config,
                node_id: &node_id,
                seed,
                sockets,
                router: router.clone(),
                members: known.clone(),
                servers: servers.clone(),
                give_up: give_up.clone(),
            };
            let (wan, core) = Wan::start(parts, &mut tasks)?;
            (Some(wan), Some(core))
        }
        None => (None, None),
    };

    let running = match rpc_port {
        Some(tcp) => {
            let raft_seed = u64::from_le_bytes(std::array::from_fn(|i| seed[i] ^ seed[i + 8]));
            let parts = server::Parts {
                config: config.clone(),
                handle: handle.clone(),
                members: known,
                news,
                servers: servers.clone(),
                wan: wan.clone(),
                router,
            };
            Some(Arc::new(server::start(parts, &node_id, raft_seed, tcp).await?))
        }
        None => None,
    };
    let rpc = match &running {
        Some(running) => Rpc::new(running.server.clone()),
        None => {
            let client =
                Arc::new(Client::new(Pool::from_address(config.bind_addr), servers.clone()).limited(config.rpc_rate));
            tasks.spawn(rebalance(client.clone()));
            Rpc::new(client)
        }
    };
    let local = Arc::new(local::Local::new(
        handle.clone(),
        wan.clone(),
        scripts,
        rpc.clone(),
        config.clone(),
        more_stats(&config, running.clone(), servers.clone()),
    ));
    local.register_configured().await.map_err(|error| StartError::Setting(error.to_string()))?;

    let api =
        Api { rpc: rpc.clone(), local: local.clone(), settings: Arc::new(http::Settings::new(&config, &node_id)) };
    for listener in web {
        let api = api.clone();
        tasks.spawn(async move {
            if let Err(error) = http::serve(listener, api).await {
                log::error!("http: {error}");
            }
        });
    }
    let (_dns_settings, _dns_ports) = open_dns(&config, rpc)?;

    join::at_start(&handle, "LAN", "start_join", &config.start_join).await?;
    match &wan {
        Some(wan) => join::at_start(wan.handle(), "WAN", "start_join_wan", &config.start_join_wan).await?,
        None if config.start_join_wan.is_empty() && config.retry_join_wan.is_empty() => {}
        None => {
            log::warn!("start_join_wan and retry_join_wan are for servers with ports.serf_wan on: nothing is joined")
        }
    }

    let pools = Pools { lan: &handle, wan: wan.as_ref() };
    let code = until_stopped(&config, &mut signals, pools, &mut given_up, &local, &running).await;
    if let Some(running) = &running {
        running.stop(&config).await;
    }
    tasks.shutdown().await;
    core.abort();
    if let Some(core) = wan_core {
        core.abort();
    }
    drop(pid_file);
    Ok(code)
}

/// The gossip pools to leave.
struct Pools<'a> {
    lan: &'a Handle<AgentKind>,
    wan: Option<&'a Wan>,
}

/// Waits for a reason to stop, and stops the way it asks for.
async fn until_stopped(
    config: &Config,
    signals: &mut Signals,
    pools: Pools<'_>,
    given_up: &mut mpsc::Receiver<&'static str>,
    local: &local::Local,
    running: &Option<Arc<server::Running>>,
) -> u8 {
    let failed = async {
        match running {
            Some(running) => running.failed().await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(failed);
    loop {
        let wish = tokio::select! {
            kind = signals.next() => {
                log::info!("Caught: signal={kind:?}");
                kind.wish(config)
            }
            () = local.told_to_leave() => Wish::Leave,
            Some(why) = given_up.recv() => {
                log::error!("Retry join failed: error=\"agent: {why}\"");
                return 1;
            }
            why = &mut failed => {
                log::error!("{why}; this server stops, so that it never acknowledges what is not on disk");
                return 1;
            }
        };
        match wish {
            Wish::Reload => match local.reload().await {
                Ok(()) => {}
                Err(error) => log::error!("Reload config failed: error=\"{error}\""),
            },
            Wish::Stop => {
                log::info!("Graceful shutdown disabled. Exiting");
                return 1;
            }
            Wish::Leave => {
                log::info!("Gracefully shutting down agent...");
                let leave = async {
                    if let Some(running) = running {
                        running.leave().await;
                    }
                    let lan = pools.lan.finish(|agent, now| agent.command(now, Command::Leave));
                    let wan = async {
                        match pools.wan {
                            Some(wan) => wan.leave(config).await,
                            None => true,
                        }
                    };
                    let (lan, wan) = tokio::join!(lan, wan);
                    matches!(lan, Ok(Outcome::Ok)) && wan
                };
                let code = signals.while_leaving(leave).await;
                if let Some(path) = snapshot::path(config, false) {
                    snapshot::save(pools.lan, &path).await;
                }
                local.has_left();
                // Whoever asked for it over HTTP still gets the answer.
                tokio::time::sleep(GOODBYE).await;
                return code;
            }
        }
    }
}

/// What the core is told, owned, so that it can be lent to the machine.
struct Core {
    name: String,
    node_id: String,
    datacenter: String,
    domain: String,
    advertise: SocketAddr,
    tags: Vec<(&'static str, String)>,
    meta: Vec<(String, String)>,
    tagged: Vec<(&'static str, String)>,
    keys: Vec<Key>,
    seeds: Vec<String>,
    clocks: Clocks,
    config: Arc<Config>,
}

impl Core {
    fn new(config: &Arc<Config>, node_id: &str, clocks: Clocks) -> Result<Self, StartError> {
        let Some(port) = config.ports.serf_lan else {
            return Err(StartError::Setting("ports.serf_lan cannot be off".into()));
        };
        let mut meta: Vec<(String, String)> = config.node_meta.clone().into_iter().collect();
        meta.push(("consul-network-segment".to_owned(), String::new()));
        let (lan, wan) = (config.advertise_addr, config.advertise_addr_wan);
        let kind = |ip: IpAddr, v4, v6| if ip.is_ipv4() { v4 } else { v6 };
        let tagged = vec![
            ("lan", lan.to_string()),
            (kind(lan, "lan_ipv4", "lan_ipv6"), lan.to_string()),
            ("wan", wan.to_string()),
            (kind(wan, "wan_ipv4", "wan_ipv6"), wan.to_string()),
        ];
        Ok(Core {
            name: config.node_name.clone(),
            node_id: node_id.to_owned(),
            datacenter: config.datacenter.clone(),
            domain: config.domain.clone(),
            advertise: SocketAddr::new(config.advertise_addr, port),
            tags: tags::lan(config, node_id),
            meta,
            tagged,
            keys: keyring::load(config, false)?,
            seeds: config.retry_join.clone(),
            clocks,
            config: config.clone(),
        })
    }
}

/// Runs the core until nobody needs it any more.
async fn drive(core: Core, seed: [u8; 32], sockets: Sockets, host: Host, inbox: driver::Inbox<AgentKind>) {
    let tags: Vec<(&str, &str)> = core.tags.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let meta: Vec<(&str, &str)> = core.meta.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let tagged: Vec<(&str, &str)> = core.tagged.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let seeds: Vec<&str> = core.seeds.iter().map(String::as_str).collect();
    let interval = CoreDuration::from_micros(core.config.retry_interval.as_micros() as u64);
    let pool = PoolConfig {
        keys: &core.keys,
        verify_incoming: core.config.encrypt_verify_incoming,
        verify_outgoing: core.config.encrypt_verify_outgoing,
        timing: core.config.gossip,
        seeds: &seeds,
        retry_join: interval,
        clocks: core.clocks,
        match_tag: tags::matches,
        delegate_version: if core.config.serf_only { 5 } else { 4 },
        consul_rules: !core.config.serf_only,
        ..PoolConfig::lan(&core.name, core.advertise, &tags)
    };
    let config = CoreConfig {
        pool,
        node_id: &core.node_id,
        datacenter: &core.datacenter,
        domain: &core.domain,
        token: "",
        meta: &meta,
        tagged_addresses: &tagged,
        check_update_interval: CoreDuration::from_micros(core.config.check_update_interval.as_micros() as u64),
        sync: !core.config.serf_only,
        dns: Rules::new(&core.domain, &core.datacenter),
    };
    let clock = Clock::start();
    let mut heap = AgentHeap::new(PoolSizes::default());
    match Agent::new(&config, heap.regions(), seed, clock.now()) {
        Ok(agent) => driver::run::<AgentKind>(agent, clock, sockets, host, inbox).await,
        Err(error) => log::error!("the agent's settings do not work: {error}"),
    }
}

async fn gossip_sockets(ip: IpAddr, port: u16) -> Result<Sockets, StartError> {
    let address = SocketAddr::new(ip, port);
    let error = |source| StartError::Listen { what: "gossip", address: address.to_string(), source };
    Ok(Sockets { udp: UdpSocket::bind(address).await.map_err(error)?, tcp: Some(listen("gossip", address).await?) })
}

async fn listen(what: &'static str, address: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(address).await.map_err(|source| StartError::Listen { what, address: address.to_string(), source })
}

/// The DNS ports; they close when the second value is dropped.
fn open_dns(config: &Config, rpc: Rpc) -> Result<(watch::Sender<Arc<dns::Settings>>, Vec<dns::Server>), StartError> {
    let (settings_out, settings) = watch::channel(Arc::new(dns_settings(config)));
    let source = Arc::new(dns::RpcSource::new(rpc, look_ups(config)));
    let workers = if config.server { std::thread::available_parallelism().map_or(1, |cores| cores.get()) } else { 1 };
    let mut ports = Vec::new();
    for address in &config.dns {
        let opened = dns::Server::open(address.ip(), address.port(), workers, source.clone(), settings.clone());
        let error = |source| StartError::Listen { what: "DNS", address: address.to_string(), source };
        ports.push(opened.map_err(error)?);
    }
    Ok((settings_out, ports))
}

/// The DNS settings of the configuration.
fn dns_settings(config: &Config) -> dns::Settings {
    let rules = &config.dns_rules;
    let seconds = |span: Duration| u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
    dns::Settings {
        domain: config.domain.clone(),
        alt_domain: config.alt_domain.clone(),
        datacenter: config.datacenter.clone(),
        node_ttl: seconds(rules.node_ttl),
        service_ttl: rules.service_ttl.iter().map(|(name, ttl)| (name.clone(), seconds(*ttl))).collect(),
        only_passing: rules.only_passing,
        enable_truncate: rules.enable_truncate,
        udp_answer_limit: rules.udp_answer_limit,
        a_record_limit: rules.a_record_limit,
        node_meta_txt: rules.node_meta_txt,
        compress: !rules.disable_compression,
        soa: Soa {
            refresh: rules.soa_refresh,
            retry: rules.soa_retry,
            expire: rules.soa_expire,
            min_ttl: rules.soa_min_ttl,
        },
        ..dns::Settings::default()
    }
}

fn look_ups(config: &Config) -> dns::LookupOptions {
    dns::LookupOptions {
        allow_stale: config.dns_rules.allow_stale,
        max_stale: config.dns_rules.max_stale,
        ..dns::LookupOptions::new(&config.datacenter)
    }
}

async fn rebalance(client: Arc<Client>) {
    loop {
        tokio::time::sleep(REBALANCE).await;
        client.rebalance().await;
    }
}

/// The sections of `info` that the core does not know.
fn more_stats(
    config: &Arc<Config>,
    running: Option<Arc<server::Running>>,
    servers: watch::Receiver<Vec<ServerInfo>>,
) -> local::MoreStats {
    let config = config.clone();
    Arc::new(move |stats| {
        let section =
            |pairs: &[(&str, String)]| pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let build = section(&[
            ("prerelease", String::new()),
            ("revision", concat!("lictor-", env!("CARGO_PKG_VERSION")).to_owned()),
            ("version", "1.8.7".to_owned()),
        ]);
        stats.insert("build".to_owned(), build);
        let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
        let runtime = section(&[
            ("arch", std::env::consts::ARCH.to_owned()),
            ("cpu_count", cores.to_string()),
            ("os", std::env::consts::OS.to_owned()),
            ("version", concat!("lictor ", env!("CARGO_PKG_VERSION")).to_owned()),
        ]);
        stats.insert("runtime".to_owned(), runtime);
        match &running {
            Some(running) => running.stats(&config, stats),
            None => {
                let client = section(&[
                    ("acl", "disabled".to_owned()),
                    ("known_servers", servers.borrow().len().to_string()),
                    ("server", "false".to_owned()),
                ]);
                stats.insert("consul".to_owned(), client);
            }
        }
    })
}

/// The file with our process id, removed when the agent stops.
struct PidFile(Option<std::path::PathBuf>);

impl PidFile {
    fn write(config: &Config) -> Result<Self, StartError> {
        if let Some(path) = &config.pid_file {
            std::fs::write(path, std::process::id().to_string())
                .map_err(|error| StartError::Setting(format!("pid_file {}: {error}", path.display())))?;
        }
        Ok(PidFile(config.pid_file.clone()))
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // Somebody may have removed it already.
            let _ = std::fs::remove_file(path);
        }
    }
}
