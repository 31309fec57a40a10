//! `operator raft`: the servers of the consensus.

use clap::ArgMatches;
use serde::Deserialize;

use crate::cli::{
    Kind, Spec,
    client::Client,
    context::{Context, Outcome},
    flags,
    table::{columns, row},
};

pub(crate) const GROUP: Spec = Spec {
    path: "operator raft",
    synopsis: "Provides cluster-level tools for Consul operators",
    usage: "<subcommand> [options] [args]",
    about: "Shows and changes which servers take part in the consensus.\n\n$ {cmd} operator raft list-peers\n\n$ {cmd} \
            operator raft remove-peer -address=10.0.0.1:8300",
    kind: Kind::Group,
    ours: false,
};

pub(crate) const LIST: Spec = Spec {
    path: "operator raft list-peers",
    synopsis: "Display the current Raft peer configuration",
    usage: "[options]",
    about: "Lists the servers of the consensus.",
    kind: Kind::Leaf { flags: |command| flags::http_and_server(command).arg(flags::format()), run: list },
    ours: false,
};

pub(crate) const REMOVE: Spec = Spec {
    path: "operator raft remove-peer",
    synopsis: "Remove a Consul server from the Raft configuration",
    usage: "[options]",
    about: "Takes a server out of the consensus that failed and will not come back. A server that lives is added again \
            by the leader: stop it first.",
    kind: Kind::Leaf {
        flags: |command| {
            flags::http_and_server(command).args([
                flags::text("address", "string", "Address and port of the server."),
                flags::text("id", "string", "Node id of the server."),
            ])
        },
        run: remove,
    },
    ours: false,
};

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Configuration {
    servers: Vec<Server>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Server {
    #[serde(rename = "ID")]
    id: String,
    node: String,
    address: String,
    leader: bool,
    protocol_version: String,
    voter: bool,
}

const PATH: &str = "/v1/operator/raft/configuration";

fn list(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let client = Client::new(context, matches).map_err(|error| format!("Error initializing client: {error}"))?;
    let failed = |error| format!("Error getting peers: Failed to retrieve raft configuration: {error}");
    if flags::value(matches, "format") == Some("json") {
        let all: serde_json::Value = client.get(PATH, &[]).map_err(failed)?;
        context.say(&serde_json::to_string_pretty(&all).map_err(|error| error.to_string())?);
        return Ok(());
    }
    let configuration: Configuration = client.get(PATH, &[]).map_err(failed)?;
    context.say(&table(&configuration.servers));
    Ok(())
}

fn table(servers: &[Server]) -> String {
    let mut rows = vec![row(["Node", "ID", "Address", "State", "Voter", "RaftProtocol"])];
    for Server { id, node, address, leader, protocol_version, voter } in servers {
        let state = if *leader { "leader" } else { "follower" };
        rows.push(row([node, id, address, state, &voter.to_string(), protocol_version]));
    }
    columns(&rows)
}

fn remove(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let given = |name| flags::value(matches, name).filter(|value| !value.is_empty());
    let (name, value) = match (given("address"), given("id")) {
        (None, None) => {
            return Err("Error removing peer: an address or id is required for the peer to remove".into());
        }
        (Some(_), Some(_)) => return Err("Error removing peer: cannot give both an address and id".into()),
        (Some(address), None) => ("address", address),
        (None, Some(id)) => ("id", id),
    };
    let client = Client::new(context, matches).map_err(|error| format!("Error initializing client: {error}"))?;
    client
        .delete("/v1/operator/raft/peer", &[(name, value)])
        .map_err(|error| format!("Error removing peer: {error}"))?;
    context.say(&format!("Removed peer with {name} {value:?}"));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::consul;

    #[test]
    fn a_peer_is_named_in_one_way() {
        for (args, text) in [
            (&[][..], "an address or id is required for the peer to remove"),
            (&["-address=a:1", "-id=b"], "cannot give both an address and id"),
        ] {
            let ran = consul(&[&["operator", "raft", "remove-peer"], args].concat());
            assert_eq!((ran.code, ran.err), (1, format!("Error removing peer: {text}\n")));
        }
    }

    #[test]
    fn the_table() {
        let server = |leader| Server {
            id: "i".into(),
            node: "n".into(),
            address: "127.0.0.1:8300".into(),
            leader,
            protocol_version: "3".into(),
            voter: true,
        };
        let wanted = "Node  ID  Address         State     Voter  RaftProtocol\n\
                      n     i   127.0.0.1:8300  leader    true   3\n\
                      n     i   127.0.0.1:8300  follower  true   3";
        assert_eq!(table(&[server(true), server(false)]), wanted);
    }
}
