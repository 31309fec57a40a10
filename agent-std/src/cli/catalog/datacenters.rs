//! `catalog datacenters`.

use clap::ArgMatches;

use crate::cli::{
    Kind, Spec,
    client::Client,
    context::{Context, Outcome, none},
    flags,
};

pub(crate) const SPEC: Spec = Spec {
    path: "catalog datacenters",
    synopsis: "Lists all known datacenters",
    usage: "[options]",
    about: "Lists the known datacenters, the nearest first.",
    kind: Kind::Leaf { flags: |command| flags::http_and_server(command).arg(flags::format()), run },
    ours: false,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    none(&flags::values(matches, "args"))?;
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let names: Vec<String> =
        client.get("/v1/catalog/datacenters", &[]).map_err(|error| format!("Error listing datacenters: {error}"))?;
    if flags::value(matches, "format") == Some("json") {
        context.say(&serde_json::to_string_pretty(&names).map_err(|error| error.to_string())?);
        return Ok(());
    }
    for name in names {
        context.say(&name);
    }
    Ok(())
}
