//! `catalog nodes`.

use clap::ArgMatches;
use serde::{Deserialize, Serialize};
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
    path: "catalog nodes",
    synopsis: "Lists all nodes in the given datacenter",
    usage: "[options]",
    about: "Lists the nodes of a datacenter.\n\n$ {cmd} catalog nodes -service=web",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http_and_server(command).args([
                flags::switch("detailed", "Show whole ids, tagged addresses and metadata."),
                flags::text("filter", "string", "Boolean expression that nodes must satisfy."),
                flags::text("near", "string", "Sort by round trip time from this node; _agent is the agent's own."),
                flags::list("node-meta", "key=value", "Only nodes with this metadata. May be given several times."),
                flags::text("service", "id or name", "Only nodes that have this service."),
                flags::format(),
            ])
        },
        run,
    },
    ours: false,
};

/// A node in either answer: the list of nodes, or the instances of a service.
#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "ID")]
    id: String,
    node: String,
    address: String,
    datacenter: String,
    tagged_addresses: Option<BTreeMap<String, String>>,
    #[serde(alias = "NodeMeta")]
    meta: Option<BTreeMap<String, String>>,
}

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    none(&flags::values(matches, "args"))?;
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let mut query = super::node_meta(&flags::values(matches, "node-meta"));
    for name in ["filter", "near"] {
        if let Some(value) = flags::value(matches, name) {
            query.push((name, value.to_owned()));
        }
    }
    let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let (path, doing) = match flags::value(matches, "service") {
        Some(service) => (format!("/v1/catalog/service/{}", url::escape_path(service)), "listing nodes"),
        None => ("/v1/catalog/nodes".to_owned(), "listing nodes"),
    };
    let mut nodes: Vec<Node> = client.get(&path, &query).map_err(|error| format!("Error {doing}: {error}"))?;
    // A node with several instances of the service is still one node.
    let mut seen = std::collections::BTreeSet::new();
    nodes.retain(|node| seen.insert(node.node.clone()));
    if flags::value(matches, "format") == Some("json") {
        context.say(&serde_json::to_string_pretty(&nodes).map_err(|error| error.to_string())?);
        return Ok(());
    }
    if nodes.is_empty() {
        context.complain("No nodes match the given query - try expanding your search.");
        return Ok(());
    }
    context.say(&table(&nodes, flags::is_on(matches, "detailed")));
    Ok(())
}

fn table(nodes: &[Node], detailed: bool) -> String {
    let mut rows = Vec::with_capacity(nodes.len() + 1);
    rows.push(match detailed {
        true => row(["Node", "ID", "Address", "DC", "TaggedAddresses", "Meta"]),
        false => row(["Node", "ID", "Address", "DC"]),
    });
    for node in nodes {
        rows.push(match detailed {
            true => row([
                &node.node,
                &node.id,
                &node.address,
                &node.datacenter,
                &pairs(node.tagged_addresses.as_ref()),
                &pairs(node.meta.as_ref()),
            ]),
            // The first eight characters tell nodes apart.
            false => row([&node.node, node.id.get(..8).unwrap_or(&node.id), &node.address, &node.datacenter]),
        });
    }
    columns(&rows)
}

fn pairs(map: Option<&BTreeMap<String, String>>) -> String {
    let pairs = map.into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
    pairs.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_tables() {
        let text = r#"[{"ID":"88fc9b9d-14a6","Node":"n1","Address":"127.0.0.1","Datacenter":"dc1",
            "TaggedAddresses":{"wan":"b","lan":"a"},"NodeMeta":null}]"#;
        let nodes: Vec<Node> = serde_json::from_str(text).unwrap();
        assert_eq!(table(&nodes, false), "Node  ID        Address    DC\nn1    88fc9b9d  127.0.0.1  dc1");
        assert!(table(&nodes, true).ends_with("n1    88fc9b9d-14a6  127.0.0.1  dc1  lan=a, wan=b"));
    }
}
