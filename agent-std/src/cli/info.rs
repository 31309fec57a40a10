//! `info`: the agent's counters.

use clap::ArgMatches;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

use super::{
    Kind, Spec,
    client::Client,
    context::{Context, Outcome},
    flags,
};

pub(super) const SPEC: Spec = Spec {
    path: "info",
    synopsis: "Provides debugging information for operators.",
    usage: "[options]",
    about: "Shows the agent's counters and states, section by section.",
    kind: Kind::Leaf { flags: |command| flags::http(command).arg(flags::format()), run },
    ours: false,
};

/// The part of `/v1/agent/self` that is printed.
#[derive(Deserialize, Serialize)]
struct Itself {
    #[serde(rename = "Stats")]
    stats: BTreeMap<String, BTreeMap<String, String>>,
}

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let itself: Itself = client.get("/v1/agent/self", &[]).map_err(|error| format!("Error querying agent: {error}"))?;
    if flags::value(matches, "format") == Some("json") {
        context.say(&serde_json::to_string_pretty(&itself.stats).map_err(|error| error.to_string())?);
        return Ok(());
    }
    for (section, values) in &itself.stats {
        context.say(&format!("{section}:"));
        for (name, value) in values {
            context.say(&format!("\t{name} = {value}"));
        }
    }
    Ok(())
}
