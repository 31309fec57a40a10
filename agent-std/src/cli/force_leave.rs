//! `force-leave`: count a failed member as left.

use clap::ArgMatches;

use super::{
    Kind, Spec,
    client::Client,
    context::{Context, Failure, Outcome},
    flags,
};
use crate::http::url;

pub(super) const SPEC: Spec = Spec {
    path: "force-leave",
    synopsis: "Forces a member of the cluster to enter the \"left\" state",
    usage: "[options] name",
    about: "Makes a failed member count as left, so that nobody tries to reach it again. A member that still lives will \
            come back by itself.",
    kind: Kind::Leaf {
        flags: |command| flags::http(command).arg(flags::switch("prune", "Also erase it from the list of members.")),
        run,
    },
    ours: false,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let [name] = &flags::values(matches, "args")[..] else {
        return Err(Failure::Usage("A single node name must be specified to force leave.".to_owned()));
    };
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let query: &[(&str, &str)] = if flags::is_on(matches, "prune") { &[("prune", "1")] } else { &[] };
    client
        .put(&format!("/v1/agent/force-leave/{}", url::escape_path(name)), query, "")
        .map_err(|error| format!("Error force leaving: {error}"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::consul;

    #[test]
    fn exactly_one_name() {
        for args in [&["force-leave"][..], &["force-leave", "a", "b"]] {
            let ran = consul(args);
            let start =
                "A single node name must be specified to force leave.\n\nUsage: consul force-leave [options] name\n";
            assert!(ran.code == 1 && ran.err.starts_with(start), "{ran:?}");
        }
    }
}
