//! What this agent says of itself in gossip (gossip spec §10.2).

use crate::config::Config;

/// Consul's version that our `build` tag claims to behave like; our own follows as its revision.
pub const BUILD: &str = concat!("1.8.7:lictor-", env!("CARGO_PKG_VERSION"));

/// The tags of the LAN pool.
pub fn lan(config: &Config, node_id: &str) -> Vec<(&'static str, String)> {
    let mut tags = vec![
        ("role", if config.server { "consul" } else { "node" }.to_owned()),
        ("dc", config.datacenter.clone()),
        ("segment", String::new()),
        ("id", node_id.to_owned()),
        ("vsn", "2".to_owned()),
        ("vsn_min", "2".to_owned()),
        ("vsn_max", "3".to_owned()),
        ("build", BUILD.to_owned()),
        // Off: there are no ACLs yet.
        ("acls", "0".to_owned()),
    ];
    if let (true, Some(port)) = (config.server, config.ports.server) {
        tags.push(("raft_vsn", "3".to_owned()));
        tags.push(("port", port.to_string()));
        tags.push(("ft_fs", "1".to_owned()));
        if config.bootstrap || config.dev || config.bootstrap_expect == 1 {
            tags.push(("bootstrap", "1".to_owned()));
        } else if config.bootstrap_expect > 1 {
            tags.push(("expect", config.bootstrap_expect.to_string()));
        }
    }
    tags
}
