//! `join`: make the agent join others.

use clap::ArgMatches;

use super::{
    Kind, Spec,
    client::Client,
    context::{Context, Failure, Outcome},
    flags,
};
use crate::http::url;

pub(super) const SPEC: Spec = Spec {
    path: "join",
    synopsis: "Tell {Name} agent to join cluster",
    usage: "[options] address ...",
    about: "Tells a running agent to join the pool of at least one existing member.",
    kind: Kind::Leaf {
        flags: |command| flags::http(command).arg(flags::switch("wan", "Join a server to the WAN pool.")),
        run,
    },
    ours: false,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let addresses = flags::values(matches, "args");
    if addresses.is_empty() {
        return Err(Failure::Usage("At least one address to join must be specified.".to_owned()));
    }
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let query: &[(&str, &str)] = if flags::is_on(matches, "wan") { &[("wan", "1")] } else { &[] };
    let mut joined = 0;
    for address in &addresses {
        match client.put(&format!("/v1/agent/join/{}", url::escape_path(address)), query, "") {
            Ok(_) => joined += 1,
            Err(error) => context.complain(&format!("Error joining address '{address}': {error}")),
        }
    }
    if joined == 0 {
        return Err("Failed to join any nodes.".into());
    }
    context.say(&format!("Successfully joined cluster by contacting {joined} nodes."));
    Ok(())
}
