//! The agent's flags (cli spec §6). Nearly all of them set one configuration key, so the table says which.

use clap::{ArgMatches, Command};
use serde_json::{Map, Value, json};

use super::schema::FILE;
use crate::cli::flags as build;

/// What flags say, as configuration values.
#[derive(Clone, Debug)]
pub struct Given {
    /// Lists, which go before those of files.
    pub lists: Value,
    /// Everything else, which wins over files.
    pub scalars: Value,
}

impl Default for Given {
    fn default() -> Self {
        Given { lists: json!({}), scalars: json!({}) }
    }
}

/// How a flag's text becomes a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Switch,
    Text,
    Int,
    List,
    /// `key:value` pairs.
    Pairs,
}

use Kind::{Int, List, Pairs, Switch, Text};

/// Flag, configuration key (dotted), kind, help.
const FLAGS: &[(&str, &str, Kind, &str)] = &[
    ("advertise", "advertise_addr", Text, "Address that others reach this agent at."),
    ("advertise-wan", "advertise_addr_wan", Text, "The same for the WAN pool; the advertise address by default."),
    ("allow-write-http-from", "http_config.allow_write_http_from", List, "Networks (CIDR) that may write over HTTP."),
    ("alt-domain", "alt_domain", Text, "Second domain for DNS."),
    ("bind", "bind_addr", Text, "Address to listen on for other agents."),
    ("bootstrap", "bootstrap", Switch, "Let this server elect itself: only for the very first one."),
    ("bootstrap-expect", "bootstrap_expect", Int, "Wait for this many servers before the first election."),
    ("check_output_max_size", "check_output_max_size", Int, "Octets kept of a check's output."),
    ("client", "client_addr", Text, "Address to listen on for HTTP and DNS."),
    ("data-dir", "data_dir", Text, "Directory for the agent's state."),
    ("datacenter", "datacenter", Text, "Datacenter of this agent."),
    ("default-query-time", "default_query_time", Text, "Longest wait of a blocking query that names none."),
    ("disable-host-node-id", "disable_host_node_id", Switch, "Do not derive the node id from the host (the default)."),
    ("disable-keyring-file", "disable_keyring_file", Switch, "Do not keep gossip keys in a file."),
    ("dns-port", "ports.dns", Int, "DNS port; -1 switches DNS off."),
    ("domain", "domain", Text, "Domain for DNS."),
    ("enable-local-script-checks", "enable_local_script_checks", Switch, "Allow script checks from files."),
    ("enable-script-checks", "enable_script_checks", Switch, "Allow script checks from files and over HTTP."),
    ("encrypt", "encrypt", Text, "Gossip key in base64."),
    ("grpc-port", "ports.grpc", Int, "gRPC port."),
    ("http-port", "ports.http", Int, "HTTP port; -1 switches HTTP off."),
    ("https-port", "ports.https", Int, "HTTPS port."),
    ("join", "start_join", List, "Agent to join at start; failing that, stop. May be given several times."),
    ("join-wan", "start_join_wan", List, "The same for the WAN pool."),
    ("log-file", "log_file", Text, "File to write the log to."),
    ("log-json", "log_json", Switch, "Log lines in JSON."),
    ("log-level", "log_level", Text, "trace, debug, info, warn or err."),
    ("log-rotate-bytes", "log_rotate_bytes", Int, "Start a new log file after so many octets."),
    ("log-rotate-duration", "log_rotate_duration", Text, "Start a new log file after this time."),
    ("log-rotate-max-files", "log_rotate_max_files", Int, "Old log files to keep."),
    ("max-query-time", "max_query_time", Text, "Longest wait of any blocking query."),
    ("node", "node_name", Text, "Name of this node; unique in the pool. The host's name by default."),
    ("node-id", "node_id", Text, "UUID of this node; made at the first start and kept by default."),
    ("node-meta", "node_meta", Pairs, "Metadata of this node, key:value. May be given several times."),
    ("non-voting-server", "non_voting_server", Switch, "Server without a vote (Consul Enterprise)."),
    ("pid-file", "pid_file", Text, "File for the process id."),
    ("primary-gateway", "primary_gateways", List, "Mesh gateway of the primary datacenter."),
    ("protocol", "protocol", Int, "Protocol version."),
    ("raft-protocol", "raft_protocol", Int, "Raft protocol version."),
    ("recursor", "recursors", List, "DNS server to ask about other domains. May be given several times."),
    ("rejoin", "rejoin_after_leave", Switch, "Join the known members again even after a leave."),
    ("retry-interval", "retry_interval", Text, "Time between tries to join."),
    ("retry-interval-wan", "retry_interval_wan", Text, "The same for the WAN pool."),
    ("retry-join", "retry_join", List, "Agent to join, tried until it works. May be given several times."),
    ("retry-join-wan", "retry_join_wan", List, "The same for the WAN pool."),
    ("retry-max", "retry_max", Int, "Tries before giving up; 0: never."),
    ("retry-max-wan", "retry_max_wan", Int, "The same for the WAN pool."),
    ("segment", "segment", Text, "Network segment (Consul Enterprise)."),
    ("serf-lan-allowed-cidrs", "serf_lan_allowed_cidrs", List, "Networks allowed in the LAN pool."),
    ("serf-lan-bind", "serf_lan", Text, "Address to listen on for LAN gossip."),
    ("serf-lan-port", "ports.serf_lan", Int, "LAN gossip port."),
    ("serf-wan-allowed-cidrs", "serf_wan_allowed_cidrs", List, "Networks allowed in the WAN pool."),
    ("serf-wan-bind", "serf_wan", Text, "Address to listen on for WAN gossip."),
    ("serf-wan-port", "ports.serf_wan", Int, "WAN gossip port."),
    ("server", "server", Switch, "Run as a server."),
    ("server-port", "ports.server", Int, "Port of the servers' RPC."),
    ("syslog", "enable_syslog", Switch, "Log to syslog."),
    ("ui", "ui", Switch, "Serve the web UI."),
    ("ui-content-path", "ui_content_path", Text, "Path of the web UI."),
    ("ui-dir", "ui_dir", Text, "Directory of the web UI's files."),
];

/// Adds the agent's flags to `command`.
pub fn add(command: Command) -> Command {
    let command = command.args(FLAGS.iter().map(|&(name, _, kind, help)| match kind {
        Switch => build::switch(name, help),
        Text | Int => build::text(name, "value", help),
        List => build::list(name, "value", help),
        Pairs => build::list(name, "key:value", help),
    }));
    command.args([
        build::list(
            "config-dir",
            "value",
            "Directory of configuration files (*.json), read by name. May be given several times.",
        ),
        build::list("config-file", "value", "Configuration file (JSON). May be given several times."),
        build::text("config-format", "string", "Format of all files, whatever their suffix."),
        build::switch("dev", "Development mode: one server in memory, on loopback."),
        build::list("hcl", "value", "HCL fragment (not implemented yet)."),
    ])
}

/// What the flags say.
///
/// # Errors
/// One sentence for a number that is none, or for a flag that we do not have yet.
pub fn given(matches: &ArgMatches) -> Result<Given, String> {
    if !build::values(matches, "hcl").is_empty() {
        return Err("flag -hcl is not implemented yet by lictor: write the settings into a JSON file".to_owned());
    }
    let mut given = Given::default();
    for &(name, key, kind, _) in FLAGS {
        if matches.value_source(name).is_none() {
            continue;
        }
        let value = match kind {
            Switch => Value::from(build::is_on(matches, name)),
            Text => Value::from(build::value(matches, name).unwrap_or_default()),
            Int => Value::from(int(name, build::value(matches, name).unwrap_or_default())?),
            List => Value::from(build::values(matches, name)),
            Pairs => pairs(&build::values(matches, name)),
        };
        refuse_missing(name, key, &value)?;
        let target = if kind == List { &mut given.lists } else { &mut given.scalars };
        put(target, key, value);
    }
    Ok(given)
}

fn int(name: &str, text: &str) -> Result<i64, String> {
    text.parse()
        .map_err(|_| format!("invalid value {text:?} for flag -{name}: strconv.Atoi: parsing {text:?}: invalid syntax"))
}

fn pairs(texts: &[String]) -> Value {
    let pairs = texts.iter().map(|text| match text.split_once(':') {
        Some((key, value)) => (key.to_owned(), Value::from(value)),
        None => (text.clone(), Value::from("")),
    });
    Value::Object(pairs.collect())
}

/// Flags follow their keys: what we lack is refused, unless it is off.
fn refuse_missing(name: &str, key: &str, value: &Value) -> Result<(), String> {
    let mut probe = json!({});
    put(&mut probe, key, value.clone());
    let problems = super::schema::check(FILE, super::schema::Spelling::File, &mut probe);
    if problems.missing.is_empty() { Ok(()) } else { Err(format!("flag -{name} is not implemented yet by lictor")) }
}

/// Sets the dotted `key` of `target`.
fn put(target: &mut Value, key: &str, value: Value) {
    match key.split_once('.') {
        None => drop(object(target).insert(key.to_owned(), value)),
        Some((head, tail)) => put(object(target).entry(head).or_insert_with(|| json!({})), tail, value),
    }
}

fn object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = json!({});
    }
    value.as_object_mut().expect("made an object above")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::{Key, Shape};

    /// The key at a dotted path, for tests of the table.
    fn lookup(path: &str) -> Option<&'static Key> {
        let mut keys = FILE;
        let mut found = None;
        for name in path.split('.') {
            let key = keys.iter().find(|key| key.name == name)?;
            if let Shape::Block(below) = key.shape {
                keys = below;
            }
            found = Some(key);
        }
        found
    }

    fn parse(args: &[&str]) -> Result<Given, String> {
        let command = add(Command::new("agent")).arg(build::arguments());
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let line = crate::cli::goflags::to_clap(&command, &args).unwrap();
        let line = std::iter::once("agent".to_owned()).chain(line);
        given(&command.try_get_matches_from(line).unwrap())
    }

    #[test]
    fn every_flag_sets_a_known_key() {
        for (name, key, kind, _) in FLAGS {
            let found = lookup(key).unwrap_or_else(|| panic!("-{name} sets unknown key {key}"));
            let fits = match found.shape {
                Shape::Bool => *kind == Switch,
                Shape::Int => *kind == Int,
                Shape::Text => *kind == Text,
                Shape::List(_) => *kind == List,
                Shape::Texts => *kind == Pairs,
                _ => found.missing.is_some(),
            };
            assert!(fits, "-{name}");
        }
    }

    #[test]
    fn lists_and_scalars_are_kept_apart() {
        let given = parse(&["-server", "-join=a", "-join=b", "-dns-port=-1", "-node-meta=rack:r1", "-bind", "1.2.3.4"]);
        let given = given.unwrap();
        assert_eq!(given.lists, json!({"start_join": ["a", "b"]}));
        assert_eq!(given.scalars, {
            json!({"server": true, "ports": {"dns": -1}, "node_meta": {"rack": "r1"}, "bind_addr": "1.2.3.4"})
        });
    }

    #[test]
    fn refusals() {
        assert_eq!(parse(&["-ui"]).unwrap_err(), "flag -ui is not implemented yet by lictor");
        assert!(parse(&["-ui=false"]).is_ok());
        assert_eq!(parse(&["-recursor=1.1.1.1"]).unwrap_err(), "flag -recursor is not implemented yet by lictor");
        assert_eq!(parse(&["-dns-port=abc"]).unwrap_err(), {
            "invalid value \"abc\" for flag -dns-port: strconv.Atoi: parsing \"abc\": invalid syntax"
        });
        assert!(parse(&["-hcl=a=1"]).is_err());
    }
}
