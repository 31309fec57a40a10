//! `leave`: make the agent leave and stop.

use clap::ArgMatches;

use super::{
    Kind, Spec,
    client::Client,
    context::{Context, Failure, Outcome},
    flags, usage,
};

pub(super) const SPEC: Spec = Spec {
    path: "leave",
    synopsis: "Gracefully leaves the {Name} cluster and shuts down",
    usage: "[options]",
    about: "Makes the agent say goodbye to the pool and then shut down.",
    kind: Kind::Leaf { flags: flags::http, run },
    ours: false,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let args = flags::values(matches, "args");
    if !args.is_empty() {
        // Consul prints the complaint on stderr but this usage on stdout.
        context.complain(&format!("Error found unexpected args: [{}]", args.join(" ")));
        let text = usage::of(context.product, &SPEC);
        context.say(text.trim_end());
        return Err(Failure::Code(1));
    }
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    client.put("/v1/agent/leave", &[], "").map_err(|error| format!("Error leaving: {error}"))?;
    context.say("Graceful leave complete");
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::consul;

    #[test]
    fn arguments_are_refused_with_usage_on_stdout() {
        let ran = consul(&["leave", "x", "y"]);
        assert_eq!((ran.code, ran.err.as_str()), (1, "Error found unexpected args: [x y]\n"));
        assert!(ran.out.starts_with("Usage: consul leave [options]\n"));
    }
}
