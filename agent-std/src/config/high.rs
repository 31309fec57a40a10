//! The configuration resolved: every default chosen, every text parsed, every rule checked (config spec §1–§5).

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use agent_core::config::Timing;

use super::{
    Low, duration,
    gossip::{self, GossipKey},
    several, validate,
};
use crate::{
    definition::{Check, Service},
    rpc,
};

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// An address and port.
    Tcp(SocketAddr),
    /// A socket file.
    Unix(PathBuf),
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Listen::Tcp(address) => write!(f, "{address}"),
            Listen::Unix(path) => write!(f, "unix://{}", path.display()),
        }
    }
}

/// Ports; `None` is off (-1 or 0 in files).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// DNS, 8600.
    pub dns: Option<u16>,
    /// HTTP, 8500.
    pub http: Option<u16>,
    /// LAN gossip, 8301.
    pub serf_lan: Option<u16>,
    /// WAN gossip of servers, 8302.
    pub serf_wan: Option<u16>,
    /// Server RPC, 8300.
    pub server: Option<u16>,
}

/// `dns_config` (dns spec).
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each field is the key of that name in the dns spec")]
pub struct DnsRules {
    pub allow_stale: bool,
    pub a_record_limit: u16,
    pub disable_compression: bool,
    pub enable_truncate: bool,
    pub max_stale: Duration,
    pub node_ttl: Duration,
    pub only_passing: bool,
    pub service_ttl: BTreeMap<String, Duration>,
    pub udp_answer_limit: u16,
    pub node_meta_txt: bool,
    pub soa_refresh: u32,
    pub soa_retry: u32,
    pub soa_expire: u32,
    pub soa_min_ttl: u32,
}

/// Everything the agent is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// `-dev`: state in memory only, indented JSON.
    pub dev: bool,
    /// Run as a server.
    pub server: bool,
    /// Elect ourselves.
    pub bootstrap: bool,
    /// Servers to wait for before the first election; 0: do not start one.
    pub bootstrap_expect: u16,
    /// State directory; `None` only in `-dev`.
    pub data_dir: Option<PathBuf>,
    /// Our name.
    pub node_name: String,
    /// Our UUID, if configured.
    pub node_id: Option<String>,
    /// Metadata.
    pub node_meta: BTreeMap<String, String>,
    /// Datacenter, lower case.
    pub datacenter: String,
    /// DNS zone without dots at its ends.
    pub domain: String,
    /// Second zone, likewise; empty: none.
    pub alt_domain: String,
    /// RPC listens here, and gossip unless it has an address of its own.
    pub bind_addr: IpAddr,
    /// LAN gossip listens here.
    pub serf_lan: IpAddr,
    /// WAN gossip listens here.
    pub serf_wan: IpAddr,
    /// Others reach us here.
    pub advertise_addr: IpAddr,
    /// Other datacenters reach us here.
    pub advertise_addr_wan: IpAddr,
    /// `client_addr`, for the banner.
    pub client_addrs: Vec<IpAddr>,
    /// HTTP listens here.
    pub http: Vec<Listen>,
    /// DNS listens here.
    pub dns: Vec<SocketAddr>,
    /// Ports.
    pub ports: Ports,
    /// Gossip key.
    pub encrypt: Option<GossipKey>,
    /// Drop gossip that is not encrypted.
    pub encrypt_verify_incoming: bool,
    /// Encrypt gossip that we send.
    pub encrypt_verify_outgoing: bool,
    /// Keep gossip keys in memory only.
    pub disable_keyring_file: bool,
    /// Join these once at start; failing that, exit 1.
    pub start_join: Vec<String>,
    /// Join these, trying again.
    pub retry_join: Vec<String>,
    /// Time between tries.
    pub retry_interval: Duration,
    /// Rounds of tries before the agent stops; 0: never.
    pub retry_max: u32,
    /// As `start_join`, for the WAN pool.
    pub start_join_wan: Vec<String>,
    /// As `retry_join`, for the WAN pool.
    pub retry_join_wan: Vec<String>,
    /// As `retry_interval`, for the WAN pool.
    pub retry_interval_wan: Duration,
    /// As `retry_max`, for the WAN pool.
    pub retry_max_wan: u32,
    /// Join known members again even after a leave.
    pub rejoin_after_leave: bool,
    /// Be a member of a plain serf pool (`lictor.serf_only`).
    pub serf_only: bool,
    /// Leave on SIGTERM.
    pub leave_on_terminate: bool,
    /// Do not leave on SIGINT.
    pub skip_leave_on_interrupt: bool,
    /// Log level.
    pub log_level: log::LevelFilter,
    /// Log lines in JSON.
    pub log_json: bool,
    /// File for the process id.
    pub pid_file: Option<PathBuf>,
    /// Services to register at start.
    pub services: Vec<Service>,
    /// Node checks, and checks of services by id, to register at start.
    pub checks: Vec<Check>,
    /// Run scripts that came over HTTP.
    pub enable_script_checks: bool,
    /// Run scripts that came from files.
    pub enable_local_script_checks: bool,
    /// An output-only change is synced after this long at most.
    pub check_update_interval: Duration,
    /// Octets kept of a check's output.
    pub check_output_max_size: usize,
    /// Longest wait of a blocking query that names none.
    pub default_query_time: Duration,
    /// Longest wait of any blocking query.
    pub max_query_time: Duration,
    /// Largest value of a key, and largest body of a KV write.
    pub kv_max_value_size: usize,
    /// HTTP connections one address may hold.
    pub http_max_conns_per_client: usize,
    /// What one source of RPC connections may do.
    pub rpc_limits: rpc::listener::Limits,
    /// `limits.rpc_rate` and `limits.rpc_max_burst`: of a client's calls to servers; none: as many as come.
    pub rpc_rate: Option<rpc::Rate>,
    /// Headers added to every HTTP answer.
    pub response_headers: BTreeMap<String, String>,
    /// Accept control characters in HTTP paths.
    pub disable_http_unprintable_char_filter: bool,
    /// Raft timing, 1 (fast) to 10.
    pub raft_multiplier: u8,
    /// Log entries since the last snapshot that cause the next; none: raft's default.
    pub raft_snapshot_threshold: Option<u64>,
    /// Log entries kept behind a snapshot; none: raft's default.
    pub raft_trailing_logs: Option<u64>,
    /// LAN gossip timing.
    pub gossip: Timing,
    /// WAN gossip timing.
    pub gossip_wan: Timing,
    /// DNS answers.
    pub dns_rules: DnsRules,
    /// Sentences to show at start.
    pub warnings: Vec<String>,
}

impl Config {
    /// Chooses defaults, parses texts and checks the rules.
    ///
    /// # Errors
    /// Consul's sentence; several problems of values come together.
    pub fn resolve(low: Low, dev: bool) -> Result<Config, String> {
        let mut problems = Vec::new();
        let server = low.server.unwrap_or(dev);
        let bind_addr = bind(low.bind_addr.as_deref(), dev)?;
        let mut ip = |name: &str, text: Option<&str>| match text.filter(|text| !text.is_empty()) {
            None => None,
            Some(text) => {
                text.parse::<IpAddr>().map_err(|_| problems.push(format!("{name}: invalid ip address: {text}"))).ok()
            }
        };
        let advertise = ip("advertise_addr", low.advertise_addr.as_deref());
        let advertise_wan = ip("advertise_addr_wan", low.advertise_addr_wan.as_deref());
        let serf_lan = ip("serf_lan", low.serf_lan.as_deref());
        let serf_wan = ip("serf_wan", low.serf_wan.as_deref());
        // Consul resolves the address once more as the default of the WAN's, and complains twice.
        if advertise_wan.is_none() && advertise.is_none() {
            problems.extend(problems.clone());
        }
        let client_addrs = addresses("client_addr", low.client_addr.as_deref().unwrap_or("127.0.0.1"), &mut problems);
        let mut port = |name: &str, given: Option<i64>, default: i64| match given.unwrap_or(default) {
            off if off <= 0 => None,
            number => {
                u16::try_from(number).map_err(|_| problems.push(format!("ports.{name}: invalid port: {number}"))).ok()
            }
        };
        let ports = Ports {
            dns: port("dns", low.ports.dns, 8600),
            http: port("http", low.ports.http, 8500),
            serf_lan: port("serf_lan", low.ports.serf_lan, 8301),
            serf_wan: port("serf_wan", low.ports.serf_wan, 8302),
            server: port("server", low.ports.server, 8300),
        };
        for (name, given) in [("https", low.ports.https), ("grpc", low.ports.grpc)] {
            if port(name, given, -1).is_some() {
                return Err(format!("config key ports.{name} is not implemented yet by lictor: leave it at -1"));
            }
        }
        let http = listeners("http", low.addresses.http.as_deref(), &client_addrs, ports.http, &mut problems);
        let dns: Vec<SocketAddr> =
            listeners("dns", low.addresses.dns.as_deref(), &client_addrs, ports.dns, &mut problems)
                .into_iter()
                .filter_map(|listen| match listen {
                    Listen::Tcp(address) => Some(address),
                    Listen::Unix(path) => {
                        problems.push(format!("addresses.dns: {} is no address for DNS", path.display()));
                        None
                    }
                })
                .collect();
        let mut span = |name: &str, given: &Option<String>, default: Duration| match given.as_deref() {
            None | Some("") => default,
            Some(text) => duration::parse(text).unwrap_or_else(|why| {
                problems.push(format!("{name}: invalid duration: {text:?}: {why}"));
                default
            }),
        };
        let secs = Duration::from_secs;
        let retry_interval = span("retry_interval", &low.retry_interval, secs(30));
        let retry_interval_wan = span("retry_interval_wan", &low.retry_interval_wan, secs(30));
        let check_update_interval = span("check_update_interval", &low.check_update_interval, secs(300));
        let default_query_time = span("default_query_time", &low.default_query_time, secs(300));
        let max_query_time = span("max_query_time", &low.max_query_time, secs(600));
        let rpc_defaults = rpc::listener::Limits::default();
        let rpc_handshake =
            span("limits.rpc_handshake_timeout", &low.limits.rpc_handshake_timeout, rpc_defaults.handshake);
        let max_stale = span("dns_config.max_stale", &low.dns_config.max_stale, secs(87_600 * 3600));
        let node_ttl = span("dns_config.node_ttl", &low.dns_config.node_ttl, Duration::ZERO);
        let service_ttl = low.dns_config.service_ttl.iter();
        let service_ttl = service_ttl
            .map(|(name, text)| {
                let key = format!("dns_config.service_ttl[{name:?}]");
                (name.clone(), span(&key, &Some(text.clone()), Duration::ZERO))
            })
            .collect();
        let mut gossip = gossip::timing("gossip_lan", Timing::lan(), &low.gossip_lan, dev, &mut span);
        let mut gossip_wan = gossip::timing("gossip_wan", Timing::wan(), &low.gossip_wan, dev, &mut span);
        for (name, given, timing) in [
            ("reconnect_timeout", &low.reconnect_timeout, &mut gossip),
            ("reconnect_timeout_wan", &low.reconnect_timeout_wan, &mut gossip_wan),
        ] {
            let default = Duration::from_micros(timing.reconnect_timeout.as_micros());
            let given = span(name, given, default);
            // 0 leaves it to gossip, as in Consul.
            timing.reconnect_timeout = gossip::core(if given.is_zero() { default } else { given });
        }
        let mut definitions = low.services;
        definitions.extend(low.service);
        let mut services = Vec::new();
        for (index, raw) in definitions.into_iter().enumerate() {
            match raw.resolve() {
                Ok(service) => services.push(service),
                Err(why) => problems.push(format!("service[{index}]: {why}")),
            }
        }
        let mut definitions = low.checks;
        definitions.extend(low.check);
        let mut checks = Vec::new();
        for (index, raw) in definitions.into_iter().enumerate() {
            match raw.resolve(None, None) {
                Ok(check) => checks.push(check),
                Err(why) if why.contains(": invalid duration: ") => problems.push(format!("check[].{why}")),
                Err(why) => problems.push(format!("check[{index}]: {why}")),
            }
        }
        if !problems.is_empty() {
            return Err(several(&problems));
        }
        let advertise_addr = match advertise {
            Some(address) => address,
            None if !bind_addr.is_unspecified() => bind_addr,
            None => validate::private_address(bind_addr)?,
        };
        let log_level = level(low.log_level.as_deref().unwrap_or(if dev { "DEBUG" } else { "INFO" }))?;
        let small = |name: &str, given: Option<i64>, default: u16| {
            let given = given.unwrap_or(i64::from(default));
            u16::try_from(given).map_err(|_| match given {
                ..0 => format!("dns_config.{name} cannot be {given}. Must be greater than or equal to zero"),
                _ => format!("dns_config.{name} cannot be {given}. Must be at most 65535"),
            })
        };
        let soa = |name: &str, given: Option<i64>, default: u32| {
            let given = given.unwrap_or(i64::from(default));
            u32::try_from(given)
                .map_err(|_| format!("dns_config.soa.{name} cannot be {given}. Use 0 to 4294967295 seconds"))
        };
        let raft_multiplier = low.performance.raft_multiplier.unwrap_or(if dev { 1 } else { 5 });
        let mut config = Config {
            dev,
            server,
            bootstrap: low.bootstrap.unwrap_or(false),
            bootstrap_expect: 0,
            data_dir: low.data_dir.filter(|path| !path.is_empty()).map(PathBuf::from),
            node_name: low.node_name.map_or_else(validate::host_name, |name| name.trim().to_owned()),
            node_id: low.node_id.filter(|id| !id.is_empty()).map(|id| id.to_ascii_lowercase()),
            node_meta: low.node_meta,
            datacenter: low.datacenter.unwrap_or_else(|| "dc1".to_owned()).to_ascii_lowercase(),
            domain: low.domain.as_deref().unwrap_or("consul").trim_matches('.').to_ascii_lowercase(),
            alt_domain: low.alt_domain.as_deref().unwrap_or_default().trim_matches('.').to_ascii_lowercase(),
            bind_addr,
            serf_lan: serf_lan.unwrap_or(bind_addr),
            serf_wan: serf_wan.unwrap_or(bind_addr),
            advertise_addr,
            advertise_addr_wan: advertise_wan.unwrap_or(advertise_addr),
            client_addrs,
            http,
            dns,
            ports,
            encrypt: gossip::key(&low.encrypt)?,
            encrypt_verify_incoming: low.encrypt_verify_incoming.unwrap_or(true),
            encrypt_verify_outgoing: low.encrypt_verify_outgoing.unwrap_or(true),
            disable_keyring_file: low.disable_keyring_file.unwrap_or(dev),
            start_join: low.start_join,
            retry_join: low.retry_join,
            retry_interval,
            retry_max: tries("retry_max", low.retry_max)?,
            start_join_wan: low.start_join_wan,
            retry_join_wan: low.retry_join_wan,
            retry_interval_wan,
            retry_max_wan: tries("retry_max_wan", low.retry_max_wan)?,
            rejoin_after_leave: low.rejoin_after_leave.unwrap_or(false),
            serf_only: low.lictor.serf_only.unwrap_or(false),
            leave_on_terminate: low.leave_on_terminate.unwrap_or(!server),
            skip_leave_on_interrupt: low.skip_leave_on_interrupt.unwrap_or(server),
            log_level,
            log_json: low.log_json.unwrap_or(false),
            pid_file: low.pid_file.filter(|path| !path.is_empty()).map(PathBuf::from),
            services,
            checks,
            enable_script_checks: low.enable_script_checks.unwrap_or(false),
            enable_local_script_checks: low.enable_local_script_checks.unwrap_or(false),
            check_update_interval,
            check_output_max_size: positive("check_output_max_size", low.check_output_max_size, 4096).map_err(
                |_| "check_output_max_size must be positive, to discard check output use the discard_check_output flag",
            )?,
            default_query_time,
            max_query_time,
            kv_max_value_size: positive("limits.kv_max_value_size", low.limits.kv_max_value_size, 512 << 10)?,
            http_max_conns_per_client: positive(
                "limits.http_max_conns_per_client",
                low.limits.http_max_conns_per_client,
                200,
            )?,
            rpc_limits: rpc::listener::Limits {
                connections: positive(
                    "limits.rpc_max_conns_per_client",
                    low.limits.rpc_max_conns_per_client,
                    rpc_defaults.connections,
                )?,
                handshake: rpc_handshake,
            },
            rpc_rate: rate(low.limits.rpc_rate, low.limits.rpc_max_burst)?,
            response_headers: low.http_config.response_headers,
            disable_http_unprintable_char_filter: low.disable_http_unprintable_char_filter.unwrap_or(false),
            raft_multiplier: u8::try_from(raft_multiplier).ok().filter(|n| (1..=10).contains(n)).ok_or_else(|| {
                format!("performance.raft_multiplier cannot be {raft_multiplier}. Must be between 1 and 10")
            })?,
            raft_snapshot_threshold: entries("raft_snapshot_threshold", low.raft_snapshot_threshold)?,
            raft_trailing_logs: entries("raft_trailing_logs", low.raft_trailing_logs)?,
            gossip,
            gossip_wan,
            dns_rules: DnsRules {
                allow_stale: low.dns_config.allow_stale.unwrap_or(true),
                a_record_limit: small("a_record_limit", low.dns_config.a_record_limit, 0)?,
                disable_compression: low.dns_config.disable_compression.unwrap_or(false),
                enable_truncate: low.dns_config.enable_truncate.unwrap_or(false),
                max_stale,
                node_ttl,
                only_passing: low.dns_config.only_passing.unwrap_or(false),
                service_ttl,
                udp_answer_limit: small("udp_answer_limit", low.dns_config.udp_answer_limit, 3)?,
                node_meta_txt: low.dns_config.enable_additional_node_meta_txt.unwrap_or(true),
                soa_refresh: soa("refresh", low.dns_config.soa.refresh, 3600)?,
                soa_retry: soa("retry", low.dns_config.soa.retry, 600)?,
                soa_expire: soa("expire", low.dns_config.soa.expire, 86_400)?,
                soa_min_ttl: soa("min_ttl", low.dns_config.soa.min_ttl, 0)?,
            },
            warnings: Vec::new(),
        };
        let old = validate::Old {
            bootstrap_expect: low.bootstrap_expect.unwrap_or(0),
            protocol: low.protocol.unwrap_or(2),
            raft_protocol: low.raft_protocol.unwrap_or(3),
            disable_remote_exec: low.disable_remote_exec.unwrap_or(true),
        };
        validate::check(&mut config, old)?;
        Ok(config)
    }
}

/// One bind address. Consul calls anything that is none "empty".
fn bind(text: Option<&str>, dev: bool) -> Result<IpAddr, String> {
    let default = if dev { Ipv4Addr::LOCALHOST } else { Ipv4Addr::UNSPECIFIED };
    let Some(text) = text else { return Ok(default.into()) };
    no_template("bind_addr", text)?;
    if text.split_whitespace().count() > 1 {
        return Err("bind_addr cannot contain multiple addresses. Use 'addresses.{dns,http,https}' instead.".to_owned());
    }
    text.trim().parse().map_err(|_| "bind_addr cannot be empty".to_owned())
}

fn no_template(name: &str, text: &str) -> Result<(), String> {
    if text.contains("{{") {
        return Err(format!("{name}: address templates are not implemented yet by lictor: write the address"));
    }
    Ok(())
}

fn addresses(name: &str, text: &str, problems: &mut Vec<String>) -> Vec<IpAddr> {
    if let Err(why) = no_template(name, text) {
        problems.push(why);
        return Vec::new();
    }
    let parsed = text
        .split_whitespace()
        .map(|word| word.parse().map_err(|_| problems.push(format!("{name}: invalid ip address: {word}"))).ok());
    parsed.collect::<Vec<_>>().into_iter().flatten().collect()
}

/// Where one service listens: its own addresses, or the client addresses.
fn listeners(
    name: &str,
    own: Option<&str>,
    clients: &[IpAddr],
    port: Option<u16>,
    problems: &mut Vec<String>,
) -> Vec<Listen> {
    let Some(port) = port else { return Vec::new() };
    let tcp = |ip: IpAddr| Listen::Tcp(SocketAddr::new(ip, port));
    let Some(own) = own.filter(|own| !own.is_empty()) else { return clients.iter().copied().map(tcp).collect() };
    let mut found = Vec::new();
    for word in own.split_whitespace() {
        match (word.strip_prefix("unix://"), word.parse()) {
            (Some(path), _) => found.push(Listen::Unix(path.into())),
            (None, Ok(ip)) => found.push(tcp(ip)),
            (None, Err(_)) => problems.push(format!("addresses.{name}: invalid ip address: {word}")),
        }
    }
    found
}

fn level(text: &str) -> Result<log::LevelFilter, String> {
    match text.to_ascii_lowercase().as_str() {
        "trace" => Ok(log::LevelFilter::Trace),
        "debug" => Ok(log::LevelFilter::Debug),
        "info" => Ok(log::LevelFilter::Info),
        "warn" => Ok(log::LevelFilter::Warn),
        "err" | "error" => Ok(log::LevelFilter::Error),
        _ => Err(format!("Invalid log level: {text}. Valid log levels are: [TRACE DEBUG INFO WARN ERR]")),
    }
}

/// A number of rounds; 0: without end.
fn tries(name: &str, given: Option<i64>) -> Result<u32, String> {
    let given = given.unwrap_or(0);
    u32::try_from(given)
        .map_err(|_| format!("{name} cannot be {given}. Use 0 to try without end, or a number of tries"))
}

/// A number of log entries; 0 leaves it to raft, as in Consul.
fn entries(name: &str, given: Option<i64>) -> Result<Option<u64>, String> {
    let given = given.unwrap_or(0);
    let entries = u64::try_from(given).map_err(|_| format!("{name} cannot be {given}. Must not be negative"))?;
    Ok((entries > 0).then_some(entries))
}

/// A negative rate, Consul's default, is no limit.
fn rate(per_second: Option<f64>, burst: Option<i64>) -> Result<Option<rpc::Rate>, String> {
    let burst = burst.unwrap_or(1000);
    let burst = u32::try_from(burst)
        .map_err(|_| format!("limits.rpc_max_burst cannot be {burst}. Must be between 0 and 4294967295"))?;
    Ok(per_second.filter(|rate| *rate >= 0.0).map(|per_second| rpc::Rate { per_second, burst }))
}

fn positive(name: &str, given: Option<i64>, default: usize) -> Result<usize, String> {
    match given {
        None => Ok(default),
        Some(given) => usize::try_from(given)
            .ok()
            .filter(|&given| given > 0)
            .ok_or_else(|| format!("{name} cannot be {given}. Must be greater than zero")),
    }
}

#[cfg(test)]
mod tests;
