//! `rtt`: estimated round trip time between two nodes, from their coordinates.

use clap::ArgMatches;

use super::{
    Kind, Spec,
    client::{Client, ClientError},
    context::{Context, Failure, Outcome},
    flags,
};
use crate::model::{Coordinate, DatacenterCoordinates, NodeCoordinate};

pub(super) const SPEC: Spec = Spec {
    path: "rtt",
    synopsis: "Estimates network round trip time between nodes",
    usage: "[options] node1 [node2]",
    about: "Estimates the round trip time between two nodes of the datacenter, or two servers of the WAN pool. The second \
            one is the agent's own node unless given.",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http(command).arg(flags::switch("wan", "Use WAN coordinates; names are then node.datacenter."))
        },
        run,
    },
    ours: false,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let args = flags::values(matches, "args");
    let [first, rest @ ..] = &args[..] else {
        return Err(Failure::Usage("One or two node names must be specified".to_owned()));
    };
    if rest.len() > 1 {
        return Err(Failure::Usage("One or two node names must be specified".to_owned()));
    }
    let wan = flags::is_on(matches, "wan");
    if wan && args.iter().any(|name| !name.contains('.')) {
        return Err("Node names must be specified as <node name>.<datacenter> with -wan".into());
    }
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let second = match rest.first() {
        Some(name) => name.clone(),
        None => {
            let itself: serde_json::Value =
                client.get("/v1/agent/self", &[]).map_err(|error| format!("Unable to look up agent info: {error}"))?;
            let config = |key: &str| itself["Config"][key].as_str().unwrap_or_default().to_owned();
            let name = config("NodeName");
            if wan { format!("{name}.{}", config("Datacenter")) } else { name }
        }
    };
    let failed = |error: ClientError| format!("Error getting coordinates: {error}");
    let places: Vec<(String, Option<Coordinate>)> = if wan {
        let all: Vec<DatacenterCoordinates> = client.get("/v1/coordinate/datacenters", &[]).map_err(failed)?;
        let named = |dc: DatacenterCoordinates| {
            let nodes = dc.coordinates.unwrap_or_default().into_iter();
            nodes.map(move |node| (format!("{}.{}", node.node, dc.datacenter), node.coord)).collect::<Vec<_>>()
        };
        all.into_iter().flat_map(named).collect()
    } else {
        let all: Vec<NodeCoordinate> = client.get("/v1/coordinate/nodes", &[]).map_err(failed)?;
        all.into_iter().map(|node| (node.node, node.coord)).collect()
    };
    let find = |name: &str| {
        let found = places.iter().find(|(node, _)| node == name).and_then(|(_, place)| place.as_ref());
        found.ok_or_else(|| format!("Could not find a coordinate for node {name:?}"))
    };
    let milliseconds = find(first)?.distance(find(&second)?) * 1000.0;
    let pool = if wan { "WAN" } else { "LAN" };
    context.say(&format!("Estimated {first} <-> {second} rtt: {milliseconds:.3} ms (using {pool} coordinates)"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::consul;

    #[test]
    fn refusals() {
        for args in [&["rtt"][..], &["rtt", "a", "b", "c"]] {
            assert!(consul(args).err.starts_with("One or two node names must be specified\n\nUsage: consul rtt "));
        }
        assert_eq!(consul(&["rtt", "-wan", "a"]).err, {
            "Node names must be specified as <node name>.<datacenter> with -wan\n"
        });
    }
}
