//! `rtt`: estimated round trip time between two nodes, from their coordinates.

use clap::ArgMatches;

use super::{
    Kind, Spec,
    client::Client,
    context::{Context, Failure, Outcome},
    flags,
};
use crate::model::{Coordinate, NodeCoordinate};

pub(super) const SPEC: Spec = Spec {
    path: "rtt",
    synopsis: "Estimates network round trip time between nodes",
    usage: "[options] node1 [node2]",
    about: "Estimates the round trip time between two nodes of the datacenter. The second one is the agent's own node \
            unless given.",
    kind: Kind::Leaf {
        flags: |command| flags::http(command).arg(flags::switch("wan", "Use WAN coordinates (not implemented yet).")),
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
    if flags::is_on(matches, "wan") {
        if args.iter().any(|name| !name.contains('.')) {
            return Err("Node names must be specified as <node name>.<datacenter> with -wan".into());
        }
        return Err("-wan is not implemented yet by lictor".into());
    }
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let second = match rest.first() {
        Some(name) => name.clone(),
        None => {
            let itself: serde_json::Value =
                client.get("/v1/agent/self", &[]).map_err(|error| format!("Unable to look up agent info: {error}"))?;
            itself["Config"]["NodeName"].as_str().unwrap_or_default().to_owned()
        }
    };
    let nodes: Vec<NodeCoordinate> =
        client.get("/v1/coordinate/nodes", &[]).map_err(|error| format!("Error getting coordinates: {error}"))?;
    let find = |name: &str| {
        let found = nodes.iter().find(|node| node.node == name).and_then(|node| node.coord.as_ref());
        found.ok_or_else(|| format!("Could not find a coordinate for node {name:?}"))
    };
    let seconds = distance(find(first)?, find(&second)?);
    context.say(&format!("Estimated {first} <-> {second} rtt: {:.3} ms (using LAN coordinates)", seconds * 1000.0));
    Ok(())
}

/// Vivaldi's distance in seconds: the way through the space, both heights, and both adjustments unless they make it
/// negative (gossip spec §12).
fn distance(a: &Coordinate, b: &Coordinate) -> f64 {
    let (x, y) = (a.vec.as_deref().unwrap_or_default(), b.vec.as_deref().unwrap_or_default());
    let through: f64 = x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f64>().sqrt();
    let plain = through + a.height + b.height;
    let adjusted = plain + a.adjustment + b.adjustment;
    if adjusted > 0.0 { adjusted } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::consul;

    #[test]
    fn distances() {
        let at = |x: f64, height: f64, adjustment: f64| Coordinate {
            vec: Some(vec![x, 0.0]),
            error: 0.0,
            adjustment,
            height,
        };
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        assert!(near(distance(&at(0.0, 1e-5, 0.0), &at(0.0, 1e-5, 0.0)), 2e-5));
        assert!(near(distance(&at(0.0, 0.0, 0.001), &at(0.01, 0.0, 0.0)), 0.011));
        assert!(near(distance(&at(0.0, 0.0, -1.0), &at(0.01, 0.0, 0.0)), 0.01));
    }

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
