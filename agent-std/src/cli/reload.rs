//! `reload`: make the agent read its files again.

use clap::ArgMatches;

use super::{
    Kind, Spec,
    client::Client,
    context::{Context, Outcome},
    flags,
};

pub(super) const SPEC: Spec = Spec {
    path: "reload",
    synopsis: "Triggers the agent to reload configuration files",
    usage: "",
    about: "Makes the agent read its configuration again, like the signal SIGHUP.",
    kind: Kind::Leaf { flags: flags::http, run },
    ours: false,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    client.put("/v1/agent/reload", &[], "").map_err(|error| format!("Error reloading: {error}"))?;
    context.say("Configuration reload triggered");
    Ok(())
}
