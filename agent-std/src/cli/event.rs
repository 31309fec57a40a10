//! `event`: fire a user event.

use clap::ArgMatches;
use regex::Regex;
use serde::Deserialize;

use super::{
    Kind, Spec,
    client::Client,
    context::{Context, Failure, Outcome},
    flags,
    members::first_words,
};
use crate::http::url;

pub(super) const SPEC: Spec = Spec {
    path: "event",
    synopsis: "Fire a new event",
    usage: "[options] [payload]",
    about: "Sends a named event, with an optional payload, to every agent of the datacenter. Regular expressions on node, \
            service and tag narrow down who takes notice.",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http(command).args([
                flags::text("name", "string", "Name of the event."),
                flags::text("node", "string", "Only nodes whose name matches."),
                flags::text("service", "string", "Only nodes with a service whose name matches."),
                flags::text("tag", "string", "Only services with a tag that matches. Needs -service."),
            ])
        },
        run,
    },
    ours: false,
};

/// The part of the answer that is printed.
#[derive(Deserialize)]
struct Fired {
    #[serde(rename = "ID")]
    id: String,
}

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let given = |name| flags::value(matches, name).unwrap_or_default();
    if given("name").is_empty() {
        return Err(Failure::Usage("Event name must be specified".to_owned()));
    }
    for name in ["node", "service", "tag"] {
        if let Err(error) = Regex::new(given(name)) {
            let why = first_words(&error);
            return Err(format!("Failed to compile {name} filter regexp: error parsing regexp: {why}").into());
        }
    }
    if !given("tag").is_empty() && given("service").is_empty() {
        return Err("Cannot provide tag filter without service filter.".into());
    }
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let query: Vec<(&str, &str)> = ["node", "service", "tag"]
        .map(|name| (name, given(name)))
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect();
    let payload = flags::values(matches, "args").join(" ");
    let path = format!("/v1/event/fire/{}", url::escape_path(given("name")));
    let answer = client.put(&path, &query, payload).map_err(|error| format!("Error firing event: {error}"))?;
    let fired: Fired = serde_json::from_slice(&answer).map_err(|error| format!("Error firing event: {error}"))?;
    context.say(&format!("Event ID: {}", fired.id));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::consul;

    #[test]
    fn refusals() {
        assert!(consul(&["event"]).err.starts_with("Event name must be specified\n\nUsage: consul event"));
        let ran = consul(&["event", "-name=x", "-tag=a"]);
        assert_eq!((ran.code, ran.err.as_str()), (1, "Cannot provide tag filter without service filter.\n"));
        assert!(consul(&["event", "-name=x", "-node=("]).err.starts_with("Failed to compile node filter regexp: "));
    }
}
