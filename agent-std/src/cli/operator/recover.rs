//! `operator raft recover`: one server goes on alone when the others are lost for ever.

use std::{fs, path::Path, sync::Arc};

use clap::ArgMatches;

use crate::{
    cli::{
        Kind, Spec,
        context::{Context, Failure, Outcome, none},
        flags,
        table::{columns, row},
    },
    raft::{Directory, Disk, Found, ReadOnly, Server, Servers, Suffrage, Survivor, peers},
    state::{Machine, Store},
};

pub(crate) const SPEC: Spec = Spec {
    path: "operator raft recover",
    synopsis: "Make a server the whole cluster when a majority is lost for ever",
    usage: "[options] -data-dir=DIR",
    about: "Gives a stopped server a new configuration, without the servers that will never come back. Works on its \
            data_dir; no agent is asked. First say -dry-run, on every server that is left, and take the one with the \
            greatest term and index of the last entry.\n\nWhat only the lost servers had is lost. Start all other servers \
            with an empty data_dir afterwards; a server of the old cluster must never come back with what it had.\n\n$ \
            {cmd} operator raft recover -dry-run -data-dir=/var/lib/{cmd}",
    kind: Kind::Leaf {
        flags: |command| {
            command.args([
                flags::text("data-dir", "value", "The stopped server's data_dir."),
                flags::switch("dry-run", "Say what would be kept and lost, and change nothing."),
                flags::text("node-id", "value", "Its node id, if it is configured; else it is in the data_dir."),
                flags::text(
                    "peers",
                    "FILE",
                    "The servers of the new cluster, as in peers.json. By default this server alone.",
                ),
            ])
        },
        run,
    },
    ours: true,
};

fn run(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    none(&flags::values(matches, "args"))?;
    let data_dir = flags::value(matches, "data-dir").ok_or("Missing -data-dir: the data_dir of a stopped server")?;
    let data_dir = Path::new(data_dir);
    let id = match flags::value(matches, "node-id") {
        Some(id) => id.to_ascii_lowercase(),
        None => read(&data_dir.join("node-id"))?.trim().to_ascii_lowercase(),
    };
    let folder = data_dir.join("raft");
    if !folder.is_dir() {
        return Err(format!("{}: there is no server's data here", folder.display()).into());
    }
    let directory = Directory::open(&folder).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => error.to_string(),
        _ => format!("{}: {error}", folder.display()),
    })?;
    let dry = flags::is_on(matches, "dry-run");
    let disk: Arc<dyn Disk> = if dry { Arc::new(ReadOnly(directory)) } else { Arc::new(directory) };
    let store = Arc::new(Store::default());
    let survivor = Survivor::open(&id, disk, Machine(Arc::clone(&store))).map_err(|error| error.to_string())?;
    let known = &survivor.found().servers;
    let own = known.by_id(&id).cloned().ok_or_else(|| {
        format!("the cluster that this server knows does not have it ({id}); it was removed, or never added")
    })?;
    let after = match flags::value(matches, "peers") {
        None => Servers::new([Server { suffrage: Suffrage::Voter, ..own }]),
        Some(path) => peers::parse(&read(Path::new(path))?, known, &own).map_err(|error| format!("{path}: {error}"))?,
    };
    context.say(&report(survivor.found(), &after, &counts(&store)));
    if dry {
        context.say("\nNothing was changed. The same command without -dry-run does it.");
    } else {
        survivor.recover(&after).map_err(|error| error.to_string())?;
        context.say("\nDone: start the server. Start the others with an empty data_dir.");
    }
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()).into())
}

fn counts(store: &Store) -> String {
    let state = store.state();
    let (nodes, keys, sessions) = (state.nodes().count(), state.kv_tree("").1.len(), state.sessions().count());
    format!("{nodes} nodes, {keys} keys, {sessions} sessions")
}

fn report(found: &Found, after: &Servers, counts: &str) -> String {
    let (index, term) = found.last;
    let in_doubt = index - found.known_decided.min(index);
    let voters = |servers: &Servers| {
        let voters = servers.iter().filter(|server| server.suffrage == Suffrage::Voter);
        voters.map(|server| format!("{} ({})", server.name, server.address)).collect::<Vec<_>>().join(", ")
    };
    columns(&[
        row(["Last entry", &format!("index {index}, term {term}; newest term heard of {}", found.term)]),
        row(["Snapshot", &format!("index {}, term {}", found.snapshot.0, found.snapshot.1)]),
        row(["Kept", &format!("everything up to index {index}: {counts}")]),
        row([
            "In doubt",
            &format!("{in_doubt} entries after index {}: kept, though perhaps never acknowledged", found.known_decided),
        ]),
        row(["Lost", &format!("what the lost servers acknowledged after index {index}, if anything")]),
        row(["Voters before", &voters(&found.servers)]),
        row(["Voters after", &voters(after)]),
    ])
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::consul;

    #[test]
    fn what_is_no_servers_data_is_left_alone() {
        let run = |args: &[&str]| consul(&[&["operator", "raft", "recover"], args].concat());
        assert!(run(&[]).err.contains("Missing -data-dir"));
        let folder = tempfile::tempdir().unwrap();
        let flag = format!("-data-dir={}", folder.path().display());
        assert!(run(&[&flag]).err.contains("node-id: No such file"));
        std::fs::write(folder.path().join("node-id"), "00000000-0000-4000-8000-000000000001").unwrap();
        let ran = run(&[&flag]);
        assert!(ran.code == 1 && ran.err.contains("there is no server's data here"), "{}", ran.err);
        std::fs::create_dir(folder.path().join("raft")).unwrap();
        let ran = run(&[&flag, "-dry-run"]);
        assert!(ran.code == 1 && ran.err.contains("never belonged to a cluster"), "{}", ran.err);
    }
}
