//! What this agent says of itself in gossip (gossip spec §10.2).

use crate::config::Config;

/// Consul's version that our `build` tag claims to behave like; our own follows as its revision.
pub const BUILD: &str = concat!("1.8.7:lictor-", env!("CARGO_PKG_VERSION"));

/// The tags of the LAN pool.
pub fn lan(config: &Config, node_id: &str) -> Vec<(&'static str, String)> {
    let mut tags = wan(config, node_id);
    if let (true, Some(port)) = (config.server, config.ports.serf_wan) {
        // Where the other servers of the datacenter find us in the WAN pool.
        tags.push(("wan_join_port", port.to_string()));
    }
    tags
}

/// The tags of the WAN pool.
pub fn wan(config: &Config, node_id: &str) -> Vec<(&'static str, String)> {
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

/// Evaluates a query's tag filter. `None`: it is no regular expression, or one that would take too much memory.
pub fn matches(expr: &str, value: &str) -> Option<bool> {
    /// Any member may send one with every query.
    const LIMIT: usize = 256 * 1024;
    let regex = regex::RegexBuilder::new(expr).size_limit(LIMIT).dfa_size_limit(LIMIT).build().ok()?;
    Some(regex.is_match(value))
}

#[cfg(test)]
mod tests {
    #[test]
    fn filters_are_regular_expressions_of_bounded_size() {
        let matches = super::matches;
        assert_eq!(matches("^(web|db)-[0-9]+$", "db-17"), Some(true));
        assert_eq!(matches("^(web|db)-[0-9]+$", "db-"), Some(false));
        assert_eq!(matches("", "anything"), Some(true));
        assert_eq!(matches("(", "("), None);
        assert_eq!(matches(r"((\w{99}){99}){99}", "a"), None);
    }
}
