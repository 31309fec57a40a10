//! Config spec §1 and §5, rule by rule. Texts were seen from a real Consul 1.8.7.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::*;

fn resolve_in(dev: bool, mut settings: Value) -> Result<Config, String> {
    let base = settings.as_object_mut().unwrap();
    for (key, value) in [("data_dir", "/nonexistent/lictor"), ("bind_addr", "127.0.0.1"), ("node_name", "n")] {
        base.entry(key).or_insert_with(|| value.into());
    }
    let value = super::super::load::parse(settings.to_string().as_bytes())?;
    Config::resolve(serde_json::from_value(value).unwrap(), dev)
}

fn resolve(settings: Value) -> Result<Config, String> {
    resolve_in(false, settings)
}

#[test]
fn defaults_of_a_client() {
    let config = resolve(json!({})).unwrap();
    assert!(!config.server && config.leave_on_terminate && !config.skip_leave_on_interrupt);
    assert_eq!((config.datacenter.as_str(), config.domain.as_str()), ("dc1", "consul"));
    assert_eq!(config.advertise_addr, config.bind_addr);
    assert_eq!(config.http, [Listen::Tcp("127.0.0.1:8500".parse().unwrap())]);
    assert_eq!(config.dns, ["127.0.0.1:8600".parse().unwrap()]);
    assert_eq!(
        (config.ports.serf_lan, config.ports.serf_wan, config.ports.server),
        (Some(8301), Some(8302), Some(8300))
    );
    assert_eq!((config.kv_max_value_size, config.http_max_conns_per_client), (524_288, 200));
    assert_eq!(config.gossip, Timing::lan());
    assert_eq!((config.retry_interval, config.default_query_time), (Duration::from_secs(30), Duration::from_secs(300)));
    assert!(config.warnings.is_empty());
}

#[test]
fn calls_are_limited_when_a_rate_is_set() {
    let rate = |limits: Value| resolve(json!({ "limits": limits })).map(|config| config.rpc_rate);
    assert_eq!(rate(json!({})), Ok(None));
    assert_eq!(rate(json!({"rpc_rate": -1})), Ok(None), "Consul's default");
    assert_eq!(rate(json!({"rpc_rate": 2.5})), Ok(Some(rpc::Rate { per_second: 2.5, burst: 1000 })));
    let both = json!({"rpc_rate": 0, "rpc_max_burst": 7});
    assert_eq!(rate(both), Ok(Some(rpc::Rate { per_second: 0.0, burst: 7 })));
    let error = rate(json!({"rpc_max_burst": -1})).unwrap_err();
    assert!(error.contains("limits.rpc_max_burst cannot be -1"), "{error}");
}

#[test]
fn servers_stay_when_told_to_stop() {
    let config = resolve(json!({"server": true})).unwrap();
    assert!(!config.leave_on_terminate && config.skip_leave_on_interrupt);
    let config =
        resolve(json!({"server": true, "leave_on_terminate": true, "skip_leave_on_interrupt": false})).unwrap();
    assert!(config.leave_on_terminate && !config.skip_leave_on_interrupt);
}

#[test]
fn dev_mode() {
    let low = serde_json::from_value(json!({"node_name": "n"})).unwrap();
    let config = Config::resolve(low, true).unwrap();
    assert!(config.server && config.dev && config.data_dir.is_none());
    assert_eq!(config.bind_addr, IpAddr::from([127, 0, 0, 1]));
    assert_eq!((config.log_level, config.raft_multiplier), (log::LevelFilter::Debug, 1));
    assert_eq!(config.gossip.probe_interval, agent_core::time::Duration::from_millis(100));
    assert_eq!(resolve_in(true, json!({"bootstrap_expect": 3})).unwrap_err(), {
        "'bootstrap_expect > 0' not allowed in dev mode"
    });
    assert!(resolve_in(true, json!({"bootstrap_expect": 1})).is_ok());
}

#[test]
fn single_problems() {
    for (settings, why) in [
        (json!({"data_dir": ""}), "data_dir cannot be empty"),
        (json!({"data_dir": "/dev/null"}), "data_dir \"/dev/null\" is not a directory"),
        (json!({"datacenter": "a b"}), "datacenter cannot be \"a b\". Please use only [a-z0-9-_]"),
        (json!({"node_name": " "}), "node_name cannot be empty"),
        (
            json!({"node_id": "abc"}),
            "failed to setup node ID: specified NodeID is invalid: uuid string is wrong length",
        ),
        (json!({"advertise_addr": "0.0.0.0"}), "Advertise address cannot be 0.0.0.0, :: or [::]"),
        (json!({"advertise_addr_wan": "::"}), "Advertise WAN address cannot be 0.0.0.0, :: or [::]"),
        (json!({"bind_addr": "nope"}), "bind_addr cannot be empty"),
        (json!({"bind_addr": "127.0.0.1 127.0.0.2"}), {
            "bind_addr cannot contain multiple addresses. Use 'addresses.{dns,http,https}' instead."
        }),
        (json!({"bootstrap": true}), "'bootstrap = true' requires 'server = true'"),
        (json!({"bootstrap_expect": 1}), "'bootstrap = true' requires 'server = true'"),
        (json!({"bootstrap_expect": 3}), "'bootstrap_expect > 0' requires 'server = true'"),
        (json!({"server": true, "bootstrap": true, "bootstrap_expect": 3}), {
            "'bootstrap_expect > 0' and 'bootstrap = true' are mutually exclusive"
        }),
        (json!({"bootstrap_expect": -1}), "bootstrap_expect cannot be -1. Must be greater than or equal to zero"),
        (json!({"dns_config": {"udp_answer_limit": -1}}), {
            "dns_config.udp_answer_limit cannot be -1. Must be greater than or equal to zero"
        }),
        (json!({"dns_config": {"a_record_limit": -1}}), {
            "dns_config.a_record_limit cannot be -1. Must be greater than or equal to zero"
        }),
        (json!({"performance": {"raft_multiplier": 11}}), {
            "performance.raft_multiplier cannot be 11. Must be between 1 and 10"
        }),
        (json!({"check_output_max_size": 0}), {
            "check_output_max_size must be positive, to discard check output use the discard_check_output flag"
        }),
        (json!({"node_meta": {"consul-x": "1"}}), {
            "node_meta invalid: Couldn't load metadata pair ('consul-x', '1'): Key prefix 'consul-' is reserved for internal use"
        }),
        (json!({"encrypt": "@@"}), "encrypt has invalid key: illegal base64 data at input byte 0"),
        (json!({"encrypt": "AAA"}), "encrypt has invalid key: illegal base64 data at input byte 0"),
        (json!({"alt_domain": "service.x"}), "alt_domain cannot start with {service,connect,node,query,addr,dc1}"),
        (json!({"ports": {"http": 8600}}), "HTTP address 127.0.0.1:8600 already configured for DNS"),
        (json!({"ports": {"server": 8301}}), {
            "Serf Advertise LAN address 127.0.0.1:8301 already configured for RPC Advertise"
        }),
        (json!({"protocol": 9}), "Protocol version '9' too high. Must be in range: [2, 3]"),
        (json!({"disable_remote_exec": false}), {
            "disable_remote_exec = false is not implemented yet by lictor: leave it at true"
        }),
        (json!({"ports": {"grpc": 8502}}), "config key ports.grpc is not implemented yet by lictor: leave it at -1"),
        (json!({"log_level": "zz"}), "Invalid log level: zz. Valid log levels are: [TRACE DEBUG INFO WARN ERR]"),
    ] {
        assert_eq!(resolve(settings.clone()).unwrap_err(), why, "{settings}");
    }
}

#[test]
fn problems_of_values_come_together() {
    let why = resolve(json!({
        "ports": {"http": 70000}, "retry_interval": "xyz", "client_addr": "nope", "dns_config": {"node_ttl": "5"}
    }));
    assert_eq!(
        why.unwrap_err(),
        "4 errors occurred:\n\t* client_addr: invalid ip address: nope\n\t* ports.http: invalid port: 70000\n\
         \t* retry_interval: invalid duration: \"xyz\": time: invalid duration \"xyz\"\n\
         \t* dns_config.node_ttl: invalid duration: \"5\": time: missing unit in duration \"5\"\n\n"
    );
}

#[test]
fn warnings() {
    let warned = |settings: Value| resolve(settings).unwrap().warnings;
    assert!(
        warned(json!({"node_name": "a_b"}))[0]
            .starts_with("Node name \"a_b\" will not be discoverable via DNS due to invalid")
    );
    assert!(warned(json!({"node_name": "a".repeat(64)}))[0].contains("due to it being too long"));
    let server = |expect: i64| warned(json!({"server": true, "bootstrap_expect": expect}));
    assert!(server(0).is_empty());
    assert_eq!(
        server(1),
        [
            "BootstrapExpect is set to 1; this is the same as Bootstrap mode.",
            "bootstrap = true: do not enable unless necessary",
        ]
    );
    assert!(
        server(2)[0].starts_with("bootstrap_expect = 2: A cluster with 2 servers will provide no failure tolerance.")
    );
    assert_eq!(server(3), ["bootstrap_expect > 0: expecting 3 servers"]);
    assert!(server(4)[0].starts_with("bootstrap_expect is even number: "));
    assert_eq!(server(4)[1], "bootstrap_expect > 0: expecting 4 servers");
}

#[test]
fn one_expected_server_is_bootstrap_mode() {
    let config = resolve(json!({"server": true, "bootstrap": true, "bootstrap_expect": 1})).unwrap();
    assert!(config.bootstrap && config.bootstrap_expect == 0);
}

#[test]
fn addresses_of_services() {
    let config = resolve(json!({
        "client_addr": "127.0.0.1 ::1", "addresses": {"http": "unix:///run/x.sock 127.0.0.2"}, "ports": {"dns": -1}
    }));
    let config = config.unwrap();
    assert_eq!(config.http, [Listen::Unix("/run/x.sock".into()), Listen::Tcp("127.0.0.2:8500".parse().unwrap())]);
    assert!(config.dns.is_empty());
    assert_eq!(config.client_addrs.len(), 2);
}

#[test]
fn secrets_stay_out_of_debug() {
    let key = STANDARD.encode([7; 16]);
    let config = resolve(json!({"encrypt": key, "services": [{"name": "a", "token": "s3cr3t"}]})).unwrap();
    let text = format!("{config:?}");
    assert!(!text.contains(&key) && !text.contains("s3cr3t") && text.contains("16 octets, hidden"));
    assert!(config.encrypt.unwrap().key().is_ok());
    let short = resolve(json!({"encrypt": "AAAA"})).unwrap();
    assert!(short.encrypt.unwrap().key().is_err(), "found at start, not by validate");
}

#[test]
fn definitions_come_through() {
    let config = resolve(json!({
        "services": [{"name": "a"}, {"id": "b1", "name": "b", "checks": [{"ttl": "5s"}, {"tcp": "x:1", "interval": "1s"}]}],
        "service": {"name": "c"},
        "check": {"name": "disk", "args": ["true"], "interval": "10s"},
    }));
    let config = config.unwrap();
    let names: Vec<&str> = config.services.iter().map(|service| service.id.as_str()).collect();
    assert_eq!(names, ["a", "b1", "c"]);
    assert_eq!(config.checks[0].id, "disk");
    assert!(config.warnings[0].contains("scripts are disabled"));
}

#[test]
fn gossip_timing() {
    let config = resolve(json!({"gossip_lan": {"probe_interval": "2s", "suspicion_mult": 5}})).unwrap();
    assert_eq!(config.gossip.probe_interval, agent_core::time::Duration::from_secs(2));
    assert_eq!((config.gossip.suspicion_mult, config.gossip.gossip_nodes), (5, 3));
}

#[test]
fn the_wan_pool_has_settings_of_its_own() {
    let config = resolve(json!({
        "server": true, "bind_addr": "10.0.0.1", "serf_wan": "10.0.0.2", "advertise_addr_wan": "192.0.2.1",
        "retry_join_wan": ["a"], "start_join_wan": ["b"], "retry_interval_wan": "5s", "retry_max_wan": 3, "retry_max": 2,
        "gossip_wan": {"probe_interval": "2s", "suspicion_mult": 9}, "reconnect_timeout_wan": "8h"
    }))
    .unwrap();
    assert_eq!((config.serf_lan.to_string().as_str(), config.serf_wan.to_string().as_str()), ("10.0.0.1", "10.0.0.2"));
    assert_eq!(config.advertise_addr_wan.to_string(), "192.0.2.1");
    assert_eq!(
        (&config.retry_join_wan[..], &config.start_join_wan[..]),
        (&["a".to_owned()][..], &["b".to_owned()][..])
    );
    assert_eq!((config.retry_max, config.retry_max_wan, config.retry_interval_wan.as_secs()), (2, 3, 5));
    let secs = |span: agent_core::time::Duration| span.as_micros() / 1_000_000;
    let wan = config.gossip_wan;
    assert_eq!((secs(wan.probe_interval), wan.suspicion_mult, secs(wan.probe_timeout)), (2, 9, 3));
    assert_eq!((secs(wan.reconnect_timeout), secs(config.gossip.reconnect_timeout)), (8 * 3600, 72 * 3600));
    assert_eq!(config.gossip.probe_interval, Timing::lan().probe_interval);
    let refused = resolve(json!({"retry_max_wan": -1})).unwrap_err();
    assert!(refused.starts_with("retry_max_wan cannot be -1"), "{refused}");
}
