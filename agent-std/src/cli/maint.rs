//! `maint`: maintenance mode of the node or of a service.

use clap::ArgMatches;
use serde::Deserialize;
use std::collections::BTreeMap;

use super::{
    Kind, Spec,
    client::Client,
    context::{Context, Outcome},
    flags,
};
use crate::http::url;

pub(super) const SPEC: Spec = Spec {
    path: "maint",
    synopsis: "Controls node or service maintenance mode",
    usage: "[options]",
    about: "Takes this node, or one of its services, out of DNS and API answers by a critical check, and back in. The mode \
            survives a restart of the agent.\n\nWithout flags, shows what is in maintenance.",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http(command).args([
                flags::switch("disable", "Disable maintenance mode."),
                flags::switch("enable", "Enable maintenance mode."),
                flags::text("reason", "string", "Why; shown as the check's notes."),
                flags::text("service", "string", "A service id, instead of the whole node."),
            ])
        },
        run,
    },
    ours: false,
};

/// The parts of a check that are printed.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    node: String,
    notes: String,
}

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let (enable, disable) = (flags::is_on(matches, "enable"), flags::is_on(matches, "disable"));
    let reason = flags::value(matches, "reason").unwrap_or_default();
    let service = flags::value(matches, "service").unwrap_or_default();
    if enable && disable {
        return Err("Only one of -enable or -disable may be provided".into());
    }
    if !enable && !reason.is_empty() {
        return Err("Reason may only be provided with -enable".into());
    }
    if !enable && !disable && !service.is_empty() {
        return Err("Service requires either -enable or -disable".into());
    }
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    if !enable && !disable {
        return list(context, &client);
    }
    let (state, word) = if enable { ("true", "enabled") } else { ("false", "disabled") };
    let (path, done) = if service.is_empty() {
        ("/v1/agent/maintenance".to_owned(), format!("Node maintenance is now {word}"))
    } else {
        let path = format!("/v1/agent/service/maintenance/{}", url::escape_path(service));
        (path, format!("Service maintenance is now {word} for {service:?}"))
    };
    let query: &[(&str, &str)] = if enable { &[("enable", state), ("reason", reason)] } else { &[("enable", state)] };
    let doing = if enable { "enabling" } else { "disabling" };
    let what = if service.is_empty() { "node" } else { "service" };
    client.put(&path, query, "").map_err(|error| format!("Error {doing} {what} maintenance: {error}"))?;
    context.say(&done);
    Ok(())
}

fn list(context: &mut Context<'_>, client: &Client) -> Outcome {
    let doing = |error| format!("Error querying {} agent: {error}", "Consul");
    // Consul asks for the agent's name first, so that a dead agent is reported at this address.
    let _: serde_json::Value = client.get("/v1/agent/self", &[]).map_err(doing)?;
    let checks: BTreeMap<String, Check> =
        client.get("/v1/agent/checks", &[]).map_err(|error| format!("Error getting checks: {error}"))?;
    for (id, check) in &checks {
        if id == "_node_maintenance" {
            context.say(&format!("Node:\n  Name:   {}\n  Reason: {}\n", check.node, check.notes));
        } else if let Some(service) = id.strip_prefix("_service_maintenance:") {
            context.say(&format!("Service:\n  ID:     {service}\n  Reason: {}\n", check.notes));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::consul;

    #[test]
    fn flags_that_do_not_go_together() {
        for (args, text) in [
            (&["maint", "-enable", "-disable"][..], "Only one of -enable or -disable may be provided\n"),
            (&["maint", "-reason=x"], "Reason may only be provided with -enable\n"),
            (&["maint", "-disable", "-reason=x"], "Reason may only be provided with -enable\n"),
            (&["maint", "-service=x"], "Service requires either -enable or -disable\n"),
        ] {
            assert_eq!((consul(args).code, consul(args).err.as_str()), (1, text));
        }
    }
}
