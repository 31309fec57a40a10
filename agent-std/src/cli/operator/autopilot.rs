//! `operator autopilot`: how the leader looks after the servers.

use clap::ArgMatches;
use serde_json::{Map, Value};

use crate::cli::{
    Kind, Spec,
    client::Client,
    context::{Context, Outcome},
    flags,
    goflags::{UINT, parse_bool},
};

pub(crate) const GROUP: Spec = Spec {
    path: "operator autopilot",
    synopsis: "Provides tools for modifying Autopilot configuration",
    usage: "<subcommand> [options] [args]",
    about: "Shows and changes how the leader looks after the servers.\n\n$ {cmd} operator autopilot get-config",
    kind: Kind::Group,
    ours: false,
};

pub(crate) const GET: Spec = Spec {
    path: "operator autopilot get-config",
    synopsis: "Display the current Autopilot configuration",
    usage: "[options]",
    about: "Shows the settings.",
    kind: Kind::Leaf { flags: |command| flags::http_and_server(command).arg(flags::format()), run: get },
    ours: false,
};

pub(crate) const SET: Spec = Spec {
    path: "operator autopilot set-config",
    synopsis: "Modify the current Autopilot configuration",
    usage: "[options]",
    about: "Changes the settings that are given and leaves the others.",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http_and_server(command).args([
                flags::text(
                    "cleanup-dead-servers",
                    "true|false",
                    "Remove failed servers once others took their place.",
                ),
                flags::text("disable-upgrade-migration", "true|false", "Consul Enterprise only."),
                flags::text("last-contact-threshold", "200ms", "Unhealthy after so long without the leader."),
                flags::text("max-trailing-logs", UINT, "Unhealthy when so many entries behind the leader."),
                flags::text("min-quorum", UINT, "Never remove servers below this many."),
                flags::text("redundancy-zone-tag", "value", "Consul Enterprise only."),
                flags::text("server-stabilization-time", "10s", "Healthy for so long before a server may vote."),
                flags::text("upgrade-version-tag", "value", "Consul Enterprise only."),
            ])
        },
        run: set,
    },
    ours: false,
};

/// Flag, and name in the configuration, in the order in which they are shown.
const SETTINGS: [(&str, &str); 8] = [
    ("cleanup-dead-servers", "CleanupDeadServers"),
    ("last-contact-threshold", "LastContactThreshold"),
    ("max-trailing-logs", "MaxTrailingLogs"),
    ("min-quorum", "MinQuorum"),
    ("server-stabilization-time", "ServerStabilizationTime"),
    ("redundancy-zone-tag", "RedundancyZoneTag"),
    ("disable-upgrade-migration", "DisableUpgradeMigration"),
    ("upgrade-version-tag", "UpgradeVersionTag"),
];

const PATH: &str = "/v1/operator/autopilot/configuration";

fn get(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let client = Client::new(context, matches).map_err(|error| format!("Error initializing client: {error}"))?;
    let config: Map<String, Value> =
        client.get(PATH, &[]).map_err(|error| format!("Error querying Autopilot configuration: {error}"))?;
    if flags::value(matches, "format") == Some("json") {
        context.say(&serde_json::to_string_pretty(&config).map_err(|error| error.to_string())?);
        return Ok(());
    }
    for (_, name) in SETTINGS {
        context.say(&line(name, config.get(name).unwrap_or(&Value::Null)));
    }
    Ok(())
}

/// Tags are shown in quotes, durations as they are.
fn line(name: &str, value: &Value) -> String {
    match value {
        Value::String(text) if !name.ends_with("Tag") => format!("{name} = {text}"),
        value => format!("{name} = {value}"),
    }
}

fn set(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let client = Client::new(context, matches).map_err(|error| format!("Error initializing client: {error}"))?;
    let mut config: Map<String, Value> =
        client.get(PATH, &[]).map_err(|error| format!("Error querying Autopilot configuration: {error}"))?;
    for (flag, name) in SETTINGS {
        let Some(given) = flags::value(matches, flag) else { continue };
        let value = match config.get(name) {
            Some(Value::Bool(_)) => parse_bool(given)
                .map(Value::Bool)
                .ok_or_else(|| format!("invalid boolean value {given:?} for -{flag}"))?,
            Some(Value::Number(_)) => Value::from(flags::number(matches, flag).unwrap_or_default()),
            _ => Value::from(given),
        };
        config.insert(name.to_owned(), value);
    }
    let index = config.get("ModifyIndex").and_then(Value::as_u64).unwrap_or(0).to_string();
    let body = serde_json::to_vec(&config).map_err(|error| error.to_string())?;
    let done = client
        .put(PATH, &[("cas", &index)], body)
        .map_err(|error| format!("Error setting Autopilot configuration: {error}"))?;
    if !done.starts_with(b"true") {
        return Err("Configuration could not be atomically updated, please try again".into());
    }
    context.say("Configuration updated!");
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines() {
        assert_eq!(line("CleanupDeadServers", &json!(true)), "CleanupDeadServers = true");
        assert_eq!(line("LastContactThreshold", &json!("200ms")), "LastContactThreshold = 200ms");
        assert_eq!(line("RedundancyZoneTag", &json!("")), "RedundancyZoneTag = \"\"");
        assert_eq!(line("MinQuorum", &json!(0)), "MinQuorum = 0");
    }
}
