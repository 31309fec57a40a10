//! `catalog services`.

use clap::ArgMatches;
use serde::Deserialize;
use std::collections::BTreeMap;

use crate::{
    cli::{
        Kind, Spec,
        client::Client,
        context::{Context, Outcome, none},
        flags,
        table::{columns, row},
    },
    http::url,
};

pub(crate) const SPEC: Spec = Spec {
    path: "catalog services",
    synopsis: "Lists all registered services in a datacenter",
    usage: "[options]",
    about: "Lists the services of a datacenter, or those of one node.\n\n$ {cmd} catalog services -tags",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http_and_server(command).args([
                flags::text("namespace", "default", "Namespaces exist in Consul Enterprise only."),
                flags::text("node", "id or name", "Only services of this node."),
                flags::list(
                    "node-meta",
                    "key=value",
                    "Only services on nodes with this metadata. May be given several times.",
                ),
                flags::switch("tags", "Show each service's tags beside it."),
                flags::format(),
            ])
        },
        run,
    },
    ours: false,
};

/// `/v1/catalog/node/…`, as far as it is printed.
#[derive(Deserialize)]
struct NodeServices {
    #[serde(rename = "Services")]
    services: BTreeMap<String, Instance>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Instance {
    service: String,
    tags: Option<Vec<String>>,
}

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    none(&flags::values(matches, "args"))?;
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let meta = super::node_meta(&flags::values(matches, "node-meta"));
    let query: Vec<(&str, &str)> = meta.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let services: BTreeMap<String, Vec<String>> = match flags::value(matches, "node") {
        None => client.get("/v1/catalog/services", &query),
        Some(node) => {
            let path = format!("/v1/catalog/node/{}", url::escape_path(node));
            client.get::<Option<NodeServices>>(&path, &query).map(by_name)
        }
    }
    .map_err(|error| format!("Error listing services: {error}"))?;
    if flags::value(matches, "format") == Some("json") {
        context.say(&serde_json::to_string_pretty(&services).map_err(|error| error.to_string())?);
        return Ok(());
    }
    if services.is_empty() {
        context.complain("No services match the given query - try expanding your search.");
        return Ok(());
    }
    let rows: Vec<Vec<String>> = services
        .into_iter()
        .map(|(name, mut tags)| {
            tags.sort();
            if flags::is_on(matches, "tags") { row([&name, &tags.join(",")]) } else { row([&name]) }
        })
        .collect();
    context.say(&columns(&rows));
    Ok(())
}

/// The services of a node by name, with the tags of all instances.
fn by_name(node: Option<NodeServices>) -> BTreeMap<String, Vec<String>> {
    let mut services: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for instance in node.into_iter().flat_map(|node| node.services.into_values()) {
        let tags = services.entry(instance.service).or_default();
        for tag in instance.tags.into_iter().flatten() {
            if !tags.contains(&tag) {
                tags.push(tag);
            }
        }
    }
    services
}
