//! `agent`: read the configuration, say hello, and hand over.

use clap::ArgMatches;

use super::{
    Kind, Spec,
    context::{Context, Failure, Outcome},
    flags,
    product::Product,
};
use crate::{
    agent,
    config::{
        Config, flags as agent_flags,
        load::{self, Sources},
    },
};

pub(super) const SPEC: Spec = Spec {
    path: "agent",
    synopsis: "Runs a {Name} agent",
    usage: "[options]",
    about: "Runs the agent until it is told to stop.",
    kind: Kind::Leaf { flags: agent_flags::add, run },
    ours: false,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let args = flags::values(matches, "args");
    if !args.is_empty() {
        return Err(format!("==> Unexpected extra arguments: [{}]", args.join(" ")).into());
    }
    let config = configure(context, matches).map_err(|why| format!("==> {why}"))?;
    context.say(&format!("==> Starting {} agent...", context.product.name()));
    match agent::run(config, context.product) {
        0 => Ok(()),
        code => Err(Failure::Code(code)),
    }
}

fn configure(context: &mut Context<'_>, matches: &ArgMatches) -> Result<Config, String> {
    let sources = Sources {
        paths: paths(matches),
        format: flags::value(matches, "config-format").map(str::to_owned),
        flags: agent_flags::given(matches)?,
    };
    let loaded = load::load(&sources)?;
    let config = Config::resolve(loaded.low, flags::is_on(matches, "dev"))?;
    for warning in loaded.warnings.iter().chain(&config.warnings) {
        context.complain(&format!("==> {warning}"));
    }
    // The key's length is found at start, not by validate (config spec §5).
    if let Some(key) = &config.encrypt {
        key.key()?;
    }
    Ok(config)
}

/// `-config-file` and `-config-dir` as one list in command-line order.
fn paths(matches: &ArgMatches) -> Vec<std::path::PathBuf> {
    let mut found: Vec<(usize, String)> = Vec::new();
    for name in ["config-file", "config-dir"] {
        if let (Some(at), Some(values)) = (matches.indices_of(name), matches.get_many::<String>(name)) {
            found.extend(at.zip(values.cloned()));
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path.into()).collect()
}

/// Consul's lines after the start (config spec §8), each with a line feed.
pub fn banner(product: Product, config: &Config, node_id: &str) -> String {
    let port = |port: Option<u16>| port.map_or_else(|| "-1".to_owned(), |port| port.to_string());
    let clients: Vec<String> = config.client_addrs.iter().map(ToString::to_string).collect();
    let gossip = config.encrypt.is_some();
    let lines = [
        ("Version", format!("'{}'", product.version())),
        ("Node ID", format!("'{node_id}'")),
        ("Node name", format!("'{}'", config.node_name)),
        ("Datacenter", format!("'{}' (Segment: '{}')", config.datacenter, if config.server { "<all>" } else { "" })),
        ("Server", format!("{} (Bootstrap: {})", config.server, config.bootstrap)),
        ("Client Addr", {
            let (http, dns) = (port(config.ports.http), port(config.ports.dns));
            format!("[{}] (HTTP: {http}, HTTPS: -1, gRPC: -1, DNS: {dns})", clients.join(" "))
        }),
        ("Cluster Addr", {
            let (lan, wan) = (port(config.ports.serf_lan), port(config.ports.serf_wan));
            format!("{} (LAN: {lan}, WAN: {wan})", config.advertise_addr)
        }),
        ("Encrypt", { format!("Gossip: {gossip}, TLS-Outgoing: false, TLS-Incoming: false, Auto-Encrypt-TLS: false") }),
    ];
    // Consul's column.
    let width = 18;
    let mut text: String = lines.iter().map(|(name, value)| format!("{name:>width$}: {value}\n")).collect();
    text.push_str("\n==> Log data will now stream in as it occurs:\n\n");
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::consul;

    #[test]
    fn refusals() {
        for (args, why) in [
            (&["agent", "x"][..], "==> Unexpected extra arguments: [x]\n"),
            (&["agent", "-ui"], "==> flag -ui is not implemented yet by lictor\n"),
            (&["agent", "-bind=127.0.0.1", "-node=n"], "==> data_dir cannot be empty\n"),
            (&["agent", "-dev", "-node=n", "-encrypt=AAAA"], {
                "==> Invalid encryption key: key size must be 16, 24 or 32 bytes\n"
            }),
            (
                &["agent", "-config-file=/nope"],
                "==> config: Open failed on /nope. open /nope: no such file or directory\n",
            ),
        ] {
            let ran = consul(args);
            assert_eq!((ran.code, ran.err.as_str()), (1, why));
        }
        let ran = consul(&["agent", "-nope"]);
        assert!(
            ran.code == 1 && ran.err.starts_with("flag provided but not defined: -nope\nUsage:\n  -advertise value\n")
        );
    }

    #[test]
    fn files_and_directories_share_one_order() {
        let command = SPEC.command();
        let line = ["agent", "--config-dir=a", "--config-file=b", "--config-dir=c", "--"];
        let matches = command.try_get_matches_from(line).unwrap();
        assert_eq!(paths(&matches), ["a", "b", "c"].map(std::path::PathBuf::from));
    }

    #[test]
    fn the_banner_is_right_aligned() {
        let low = serde_json::from_value(serde_json::json!({"node_name": "n"})).unwrap();
        let config = Config::resolve(low, true).unwrap();
        let text = banner(Product::Consul, &config, "id");
        assert!(
            text.starts_with("           Version: '1.8.7'\n           Node ID: 'id'\n         Node name: 'n'\n"),
            "{text}"
        );
        assert!(
            text.contains(
                "\n        Datacenter: 'dc1' (Segment: '<all>')\n            Server: true (Bootstrap: false)\n"
            )
        );
        assert!(text.contains("\n       Client Addr: [127.0.0.1] (HTTP: 8500, HTTPS: -1, gRPC: -1, DNS: 8600)\n"));
        assert!(text.ends_with("\n==> Log data will now stream in as it occurs:\n\n"));
    }
}
