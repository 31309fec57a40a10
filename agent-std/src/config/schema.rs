//! Every key a configuration may have, its type, and whether we have it yet.
//!
//! The same walk serves files (exact snake_case, as Consul) and definitions in HTTP bodies (any case, with or without
//! underscores). It renames keys to the one spelling that the typed structs know.

use serde_json::{Map, Value};

use Shape::{Block, Bool, Int, List, Text, Texts, Value as Anything};

/// What a key holds.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// true or false.
    Bool,
    /// A whole number.
    Int,
    /// Any number.
    Float,
    /// A text; durations too.
    Text,
    /// A number of nanoseconds or a duration's text (HTTP only accepts the number).
    Span,
    /// A map of texts.
    Texts,
    /// A map of lists of texts: HTTP headers.
    TextLists,
    /// A map of blocks, e.g. tagged addresses.
    Blocks(&'static [Key]),
    /// A list.
    List(&'static Shape),
    /// Named keys.
    Block(&'static [Key]),
    /// Anything: a key we do not look into.
    Value,
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its spelling in files.
    pub name: &'static str,
    /// Old spellings still accepted.
    pub old: &'static [&'static str],
    /// What it holds.
    pub shape: Shape,
    /// `Some`: Consul has it, we do not yet. The text is what we do anyway, as JSON; that value is accepted.
    pub missing: Option<&'static str>,
}

const fn key(name: &'static str, shape: Shape) -> Key {
    Key { name, old: &[], shape, missing: None }
}

/// A key we do not have. Off, empty and zero values are accepted, and `only`.
const fn not_yet(name: &'static str, only: &'static str) -> Key {
    Key { name, old: &[], shape: Anything, missing: Some(only) }
}

const fn renamed(name: &'static str, old: &'static [&'static str], shape: Shape) -> Key {
    Key { name, old, shape, missing: None }
}

/// A check definition.
pub const CHECK: &[Key] = &[
    key("id", Text),
    key("name", Text),
    key("notes", Text),
    renamed("service_id", &["serviceid"], Text),
    key("token", Text),
    key("status", Text),
    key("interval", Shape::Span),
    key("timeout", Shape::Span),
    key("ttl", Shape::Span),
    key("http", Text),
    key("method", Text),
    key("header", Shape::TextLists),
    key("body", Text),
    renamed("tls_skip_verify", &["tlsskipverify"], Bool),
    key("tcp", Text),
    renamed("args", &["scriptargs", "script_args"], List(&Text)),
    key("shell", Text),
    renamed("docker_container_id", &["dockercontainerid"], Text),
    key("grpc", Text),
    key("grpc_use_tls", Bool),
    key("alias_node", Text),
    key("alias_service", Text),
    key("success_before_passing", Int),
    key("failures_before_critical", Int),
    renamed("deregister_critical_service_after", &["deregistercriticalserviceafter"], Shape::Span),
    key("output_max_size", Int),
];

const ADDRESS: &[Key] = &[key("address", Text), key("port", Int)];
const WEIGHTS: &[Key] = &[key("passing", Int), key("warning", Int)];

/// A service definition.
pub const SERVICE: &[Key] = &[
    key("id", Text),
    key("name", Text),
    key("tags", List(&Text)),
    key("address", Text),
    key("port", Int),
    key("meta", Texts),
    key("tagged_addresses", Shape::Blocks(ADDRESS)),
    key("weights", Block(WEIGHTS)),
    key("enable_tag_override", Bool),
    key("token", Text),
    key("kind", Text),
    key("check", Block(CHECK)),
    key("checks", List(&Block(CHECK))),
    not_yet("proxy", "null"),
    not_yet("connect", "null"),
];

const PORTS: &[Key] = &[
    key("dns", Int),
    key("http", Int),
    key("https", Int),
    key("grpc", Int),
    key("serf_lan", Int),
    key("serf_wan", Int),
    key("server", Int),
    not_yet("proxy_min_port", "0"),
    not_yet("proxy_max_port", "0"),
    not_yet("sidecar_min_port", "0"),
    not_yet("sidecar_max_port", "0"),
    not_yet("expose_min_port", "0"),
    not_yet("expose_max_port", "0"),
];

const DNS: &[Key] = &[
    key("allow_stale", Bool),
    key("a_record_limit", Int),
    key("disable_compression", Bool),
    key("enable_truncate", Bool),
    key("max_stale", Text),
    key("node_ttl", Text),
    key("only_passing", Bool),
    not_yet("recursor_timeout", "\"2s\""),
    key("service_ttl", Texts),
    key("udp_answer_limit", Int),
    key("enable_additional_node_meta_txt", Bool),
    key("soa", Block(&[key("refresh", Int), key("retry", Int), key("expire", Int), key("min_ttl", Int)])),
    not_yet("use_cache", "false"),
    not_yet("cache_max_age", "\"0s\""),
    not_yet("prefer_namespace", "false"),
];

const GOSSIP: &[Key] = &[
    key("gossip_interval", Text),
    key("gossip_nodes", Int),
    key("probe_interval", Text),
    key("probe_timeout", Text),
    key("suspicion_mult", Int),
    key("retransmit_mult", Int),
];

const LIMITS: &[Key] = &[
    key("http_max_conns_per_client", Int),
    key("kv_max_value_size", Int),
    not_yet("https_handshake_timeout", "\"5s\""),
    key("rpc_handshake_timeout", Text),
    key("rpc_max_burst", Int),
    key("rpc_max_conns_per_client", Int),
    key("rpc_rate", Shape::Float),
    not_yet("txn_max_req_len", "524288"),
];

const PERFORMANCE: &[Key] =
    &[key("raft_multiplier", Int), not_yet("leave_drain_time", "\"5s\""), not_yet("rpc_hold_timeout", "\"7s\"")];

const HTTP: &[Key] = &[
    key("response_headers", Texts),
    not_yet("block_endpoints", "[]"),
    not_yet("allow_write_http_from", "[]"),
    not_yet("use_cache", "true"),
];

/// Settings that only we have.
const LICTOR: &[Key] = &[key("serf_only", Bool)];

/// A whole configuration file.
pub const FILE: &[Key] = &[
    key("addresses", Block(&[key("dns", Text), key("http", Text), not_yet("https", "null"), not_yet("grpc", "null")])),
    key("advertise_addr", Text),
    key("advertise_addr_wan", Text),
    key("alt_domain", Text),
    key("bind_addr", Text),
    key("bootstrap", Bool),
    key("bootstrap_expect", Int),
    key("check", Block(CHECK)),
    key("check_output_max_size", Int),
    key("check_update_interval", Text),
    key("checks", List(&Block(CHECK))),
    key("client_addr", Text),
    key("data_dir", Text),
    key("datacenter", Text),
    key("default_query_time", Text),
    key("disable_http_unprintable_char_filter", Bool),
    key("disable_keyring_file", Bool),
    key("disable_remote_exec", Bool),
    key("disable_update_check", Bool),
    key("disable_anonymous_signature", Bool),
    key("dns_config", Block(DNS)),
    key("domain", Text),
    key("enable_local_script_checks", Bool),
    key("enable_script_checks", Bool),
    key("encrypt", Text),
    key("encrypt_verify_incoming", Bool),
    key("encrypt_verify_outgoing", Bool),
    key("gossip_lan", Block(GOSSIP)),
    key("gossip_wan", Block(GOSSIP)),
    key("http_config", Block(HTTP)),
    key("leave_on_terminate", Bool),
    key("lictor", Block(LICTOR)),
    key("limits", Block(LIMITS)),
    key("log_json", Bool),
    key("log_level", Text),
    key("max_query_time", Text),
    key("node_id", Text),
    key("node_meta", Texts),
    key("node_name", Text),
    key("performance", Block(PERFORMANCE)),
    key("pid_file", Text),
    key("ports", Block(PORTS)),
    key("protocol", Int),
    key("raft_protocol", Int),
    key("raft_snapshot_threshold", Int),
    key("raft_trailing_logs", Int),
    key("rejoin_after_leave", Bool),
    key("reconnect_timeout", Text),
    key("reconnect_timeout_wan", Text),
    key("retry_interval", Text),
    key("retry_interval_wan", Text),
    key("retry_join", List(&Text)),
    key("retry_join_wan", List(&Text)),
    key("retry_max", Int),
    key("retry_max_wan", Int),
    key("serf_lan", Text),
    key("serf_wan", Text),
    key("server", Bool),
    key("service", Block(SERVICE)),
    key("services", List(&Block(SERVICE))),
    key("skip_leave_on_interrupt", Bool),
    key("start_join", List(&Text)),
    key("start_join_wan", List(&Text)),
    // Everything else that Consul 1.8.7 knows (config spec §2, §3).
    not_yet("acl", "null"),
    not_yet("acl_agent_master_token", "\"\""),
    not_yet("acl_agent_token", "\"\""),
    not_yet("acl_datacenter", "\"\""),
    not_yet("acl_default_policy", "\"allow\""),
    not_yet("acl_down_policy", "\"extend-cache\""),
    not_yet("acl_enable_key_list_policy", "false"),
    not_yet("acl_master_token", "\"\""),
    not_yet("acl_replication_token", "\"\""),
    not_yet("acl_token", "\"\""),
    not_yet("acl_ttl", "\"30s\""),
    not_yet("advertise_addr_ipv4", "\"\""),
    not_yet("advertise_addr_ipv6", "\"\""),
    not_yet("advertise_addr_wan_ipv4", "\"\""),
    not_yet("advertise_addr_wan_ipv6", "\"\""),
    not_yet("advertise_reconnect_timeout", "\"\""),
    not_yet("audit", "null"),
    not_yet("auto_config", "null"),
    not_yet("auto_encrypt", "null"),
    not_yet("autopilot", "null"),
    not_yet("ca_file", "\"\""),
    not_yet("ca_path", "\"\""),
    not_yet("cache", "null"),
    not_yet("cert_file", "\"\""),
    not_yet("config_entries", "null"),
    not_yet("connect", "null"),
    not_yet("disable_coordinates", "false"),
    not_yet("disable_host_node_id", "true"),
    not_yet("discard_check_output", "false"),
    not_yet("discovery_max_stale", "\"0s\""),
    not_yet("enable_acl_replication", "false"),
    not_yet("enable_agent_tls_for_checks", "false"),
    not_yet("enable_central_service_config", "false"),
    not_yet("enable_debug", "false"),
    not_yet("enable_syslog", "false"),
    not_yet("key_file", "\"\""),
    not_yet("log_file", "\"\""),
    not_yet("log_rotate_bytes", "0"),
    not_yet("log_rotate_duration", "\"\""),
    not_yet("log_rotate_max_files", "0"),
    not_yet("non_voting_server", "false"),
    not_yet("primary_datacenter", "\"\""),
    not_yet("primary_gateways", "[]"),
    not_yet("primary_gateways_interval", "\"\""),
    not_yet("raft_snapshot_interval", "\"\""),
    not_yet("recursors", "[]"),
    not_yet("segment", "\"\""),
    not_yet("segments", "[]"),
    not_yet("serf_lan_allowed_cidrs", "[]"),
    not_yet("serf_wan_allowed_cidrs", "[]"),
    not_yet("server_name", "\"\""),
    not_yet("session_ttl_min", "\"\""),
    not_yet("snapshot_agent", "null"),
    not_yet("syslog_facility", "\"LOCAL0\""),
    not_yet("tagged_addresses", "null"),
    not_yet("telemetry", "null"),
    not_yet("tls_cipher_suites", "\"\""),
    not_yet("tls_min_version", "\"\""),
    not_yet("tls_prefer_server_cipher_suites", "false"),
    not_yet("translate_wan_addrs", "false"),
    not_yet("ui", "false"),
    not_yet("ui_content_path", "\"/ui/\""),
    not_yet("ui_dir", "\"\""),
    not_yet("unix_sockets", "null"),
    not_yet("verify_incoming", "false"),
    not_yet("verify_incoming_https", "false"),
    not_yet("verify_incoming_rpc", "false"),
    not_yet("verify_outgoing", "false"),
    not_yet("verify_server_hostname", "false"),
    not_yet("watches", "[]"),
];

/// How keys are spelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spelling {
    /// In files: the exact name, upper and lower case alike.
    File,
    /// In HTTP bodies: underscores do not count either.
    Http,
}

/// What a walk found wrong.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// Dotted paths of keys that do not exist.
    pub unknown: Vec<String>,
    /// Sentences about values of the wrong type.
    pub types: Vec<String>,
    /// Dotted paths of keys that we do not have yet.
    pub missing: Vec<String>,
}

impl Problems {
    /// True when nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.unknown.is_empty() && self.types.is_empty() && self.missing.is_empty()
    }
}

/// Checks `value` against `keys` and renames its keys to the spelling of the typed structs.
pub fn check(keys: &'static [Key], spelling: Spelling, value: &mut Value) -> Problems {
    let mut problems = Problems::default();
    block(keys, spelling, "", value, &mut problems);
    problems
}

fn block(keys: &'static [Key], spelling: Spelling, path: &str, value: &mut Value, problems: &mut Problems) {
    // HCL writes one block as a list of one; Consul accepts that in JSON too.
    if let Value::Array(items) = value
        && items.len() == 1
        && items[0].is_object()
    {
        *value = items[0].take();
    }
    let Value::Object(map) = value else {
        return mismatch(path, "map", value, problems);
    };
    let mut renamed = Map::new();
    for (name, mut inner) in std::mem::take(map) {
        let at = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        let Some(key) = keys.iter().find(|key| answers_to(key, spelling, &name)) else {
            problems.unknown.push(at);
            continue;
        };
        if inner.is_null() {
            continue;
        }
        match key.missing {
            Some(only) if is_off(&inner) || serde_json::from_str::<Value>(only).is_ok_and(|only| only == inner) => {
                continue;
            }
            Some(_) => problems.missing.push(at),
            None => walk(&key.shape, spelling, &at, &mut inner, problems),
        }
        renamed.insert(key.name.to_owned(), inner);
    }
    *map = renamed;
}

fn walk(shape: &Shape, spelling: Spelling, path: &str, value: &mut Value, problems: &mut Problems) {
    match (shape, &mut *value) {
        (Shape::Bool, Value::Bool(_)) | (Shape::Text | Shape::Span, Value::String(_)) | (Shape::Value, _) => {}
        (Shape::Int, Value::Number(number)) if number.is_i64() => {}
        (Shape::Float, Value::Number(_)) => {}
        (Shape::Span, Value::Number(number)) if spelling == Spelling::Http && number.is_i64() => {}
        (Shape::Bool, _) => mismatch(path, "bool", value, problems),
        (Shape::Int, _) => mismatch(path, "int", value, problems),
        (Shape::Float, _) => mismatch(path, "float64", value, problems),
        (Shape::Text | Shape::Span, _) => mismatch(path, "string", value, problems),
        (Shape::Texts, Value::Object(map)) => {
            for (name, inner) in map {
                walk(&Shape::Text, spelling, &format!("{path}[{name}]"), inner, problems);
            }
        }
        (Shape::TextLists, Value::Object(map)) => {
            for (name, inner) in map {
                walk(&List(&Text), spelling, &format!("{path}[{name}]"), inner, problems);
            }
        }
        (Shape::Blocks(keys), Value::Object(map)) => {
            for (name, inner) in map {
                block(keys, spelling, &format!("{path}.{name}"), inner, problems);
            }
        }
        (Shape::Texts | Shape::TextLists | Shape::Blocks(_), _) => mismatch(path, "map", value, problems),
        (Shape::List(item), Value::Array(items)) => {
            for (index, inner) in items.iter_mut().enumerate() {
                walk(item, spelling, &format!("{path}[{index}]"), inner, problems);
            }
        }
        (Shape::List(_), _) => {
            problems.types.push(format!("'{path}': source data must be an array or slice, got {}", go_kind(value)));
        }
        (Shape::Block(keys), _) => block(keys, spelling, path, value, problems),
    }
}

fn answers_to(key: &Key, spelling: Spelling, name: &str) -> bool {
    let same = |known: &str| match spelling {
        Spelling::File => known.eq_ignore_ascii_case(name),
        Spelling::Http => {
            let bare =
                |text: &str| text.bytes().filter(|&octet| octet != b'_').map(|o| o.to_ascii_lowercase()).collect();
            let (known, name): (Vec<u8>, Vec<u8>) = (bare(known), bare(name));
            known == name
        }
    };
    same(key.name) || key.old.iter().any(|&old| same(old))
}

/// True for values that switch nothing on: false, zero, empty, and blocks of such.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => false,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.values().all(is_off),
    }
}

fn mismatch(path: &str, expected: &str, value: &Value, problems: &mut Problems) {
    let got = go_type(value);
    problems.types.push(format!("'{path}' expected type '{expected}', got unconvertible type '{got}'"));
}

/// Go's name for the type that a JSON value decodes to.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

fn go_kind(value: &Value) -> &'static str {
    match value {
        Value::Object(_) => "map",
        other => go_type(other),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn file(mut value: Value) -> (Value, Problems) {
        let problems = check(FILE, Spelling::File, &mut value);
        (value, problems)
    }

    #[test]
    fn unknown_keys_have_dotted_paths() {
        let (_, problems) =
            file(json!({"bogus": 1, "ports": {"rpc": 1}, "services": [{"name": "a", "foo": 1}], "dataDir": "x"}));
        assert_eq!(problems.unknown, ["bogus", "dataDir", "ports.rpc", "services[0].foo"]);
    }

    #[test]
    fn types_are_named_like_gos() {
        let (_, problems) =
            file(json!({"server": "yes", "ports": {"dns": "x"}, "services": {"name": "q"}, "domain": 1}));
        assert_eq!(
            problems.types,
            [
                "'domain' expected type 'string', got unconvertible type 'float64'",
                "'ports.dns' expected type 'int', got unconvertible type 'string'",
                "'server' expected type 'bool', got unconvertible type 'string'",
                "'services': source data must be an array or slice, got map",
            ]
        );
    }

    #[test]
    fn what_we_lack_is_refused_unless_it_is_off() {
        let (_, problems) = file(json!({"ui": true, "acl": {"enabled": true}, "recursors": ["1.1.1.1"]}));
        assert_eq!(problems.missing, ["acl", "recursors", "ui"]);
        let (value, problems) = file(json!({
            "ui": false, "enable_debug": false, "connect": {"enabled": false}, "acl_default_policy": "allow",
            "limits": {"https_handshake_timeout": "5s"}, "watches": []
        }));
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(value, json!({"limits": {}}));
    }

    #[test]
    fn spellings() {
        let (value, problems) = file(json!({"Data_Dir": "x", "check": {"serviceid": "s", "scriptargs": ["a"]}}));
        assert!(problems.is_empty());
        assert_eq!(value, json!({"data_dir": "x", "check": {"service_id": "s", "args": ["a"]}}));
        let mut body =
            json!({"EnableTagOverride": true, "Check": {"DeregisterCriticalServiceAfter": 1, "check_id": "x"}});
        let problems = check(SERVICE, Spelling::Http, &mut body);
        assert_eq!(problems.unknown, ["Check.check_id"]);
        assert_eq!(body, json!({"enable_tag_override": true, "check": {"deregister_critical_service_after": 1}}));
    }

    #[test]
    fn a_list_of_one_block_is_a_block() {
        let (value, problems) = file(json!({"ports": [{"dns": 1}]}));
        assert!(problems.is_empty());
        assert_eq!(value, json!({"ports": {"dns": 1}}));
    }

    #[test]
    fn names_are_unique_and_defaults_parse() {
        let mut names: Vec<&str> = FILE.iter().map(|key| key.name).collect();
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
        for key in FILE.iter().chain(LIMITS).chain(DNS) {
            assert!(key.missing.is_none_or(|only| serde_json::from_str::<Value>(only).is_ok()), "{}", key.name);
        }
    }
}
