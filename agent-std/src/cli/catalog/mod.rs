//! `catalog`: what the servers know.

pub(super) mod datacenters;
pub(super) mod nodes;
pub(super) mod services;

use super::{Kind, Spec};

pub(super) const GROUP: Spec = Spec {
    path: "catalog",
    synopsis: "Interact with the catalog",
    usage: "<subcommand> [options] [args]",
    about: "Asks the catalog: the servers' record of all nodes and services.\n\n$ {cmd} catalog nodes",
    kind: Kind::Group,
    ours: false,
};

/// `key=value` flags as `node-meta=key:value` parameters.
fn node_meta(pairs: &[String]) -> Vec<(&'static str, String)> {
    pairs
        .iter()
        .map(|pair| match pair.split_once('=') {
            Some((key, value)) => ("node-meta", format!("{key}:{value}")),
            None => ("node-meta", format!("{pair}:")),
        })
        .collect()
}
