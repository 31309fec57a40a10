//! `snapshot`: everything the servers hold, as one file (cli spec §3).

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    time::Duration,
};

use clap::ArgMatches;
use indicatif::{ProgressBar, ProgressStyle};

use super::{
    Kind, Spec,
    client::Client,
    context::{Context, Failure, Outcome, single},
    flags,
    product::Product,
};
use crate::{
    archive::{self, ArchiveError, Meta},
    state::{NotHeld, State},
    whole_file,
};

pub(super) const GROUP: Spec = Spec {
    path: "snapshot",
    synopsis: "Saves, restores and inspects snapshots of Consul server state",
    usage: "<subcommand> [options] [args]",
    about: "Saves everything that the servers hold into a file, and puts it back.\n\n$ {cmd} snapshot save \
            backup.snap\n\n$ {cmd} snapshot restore backup.snap",
    kind: Kind::Group,
    ours: false,
};

pub(super) const SAVE: Spec = Spec {
    path: "snapshot save",
    synopsis: "Saves snapshot of Consul server state",
    usage: "[options] FILE",
    about: "Saves everything that the servers hold into FILE, which real Consul servers restore too. FILE changes only \
            when the archive has come and is whole. It holds secrets: sessions, and tokens in queries.",
    kind: Kind::Leaf { flags: flags::http_and_server, run: save },
    ours: false,
};

pub(super) const RESTORE: Spec = Spec {
    path: "snapshot restore",
    synopsis: "Restores snapshot of Consul server state",
    usage: "[options] FILE",
    about: "Replaces everything that the servers hold by what FILE has, all of it or nothing. What FILE has and these \
            servers do not keep is named.",
    kind: Kind::Leaf { flags: flags::http_and_server, run: restore },
    ours: false,
};

pub(super) const INSPECT: Spec = Spec {
    path: "snapshot inspect",
    synopsis: "Displays information about a Consul snapshot file",
    usage: "[options] FILE",
    about: "Checks FILE and shows what it is. No agent is asked.",
    kind: Kind::Leaf { flags: |command| command, run: inspect },
    ours: false,
};

fn file_of(matches: &ArgMatches) -> Result<PathBuf, Failure> {
    single(&flags::values(matches, "args"), "Missing FILE argument").map(PathBuf::from)
}

/// An archive that is whole, with what is in it that we do not hold. The state itself is let go again.
fn checked(from: impl Read) -> Result<(Meta, NotHeld), ArchiveError> {
    archive::read(from, |state| match State::read_consul(state, 0) {
        Ok((_, not_held)) => Ok(not_held),
        Err(error) => Err(error.to_string()),
    })
}

/// Something to look at while the servers work: on standard error, and only where that is a terminal.
fn progress(template: &str, message: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner());
    let progress = ProgressBar::no_length().with_style(style).with_message(message);
    progress.enable_steady_tick(Duration::from_millis(100));
    progress
}

fn opened(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| {
        let why = match error.kind() {
            io::ErrorKind::NotFound => "no such file or directory".to_owned(),
            io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
            _ => error.to_string(),
        };
        Failure::Text(format!("Error opening snapshot file: open {}: {why}", path.display()))
    })
}

fn save(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let path = file_of(matches)?;
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    let progress = progress("{msg} {bar:30} {bytes}/{total_bytes}", "receiving the archive:");
    let client = client.with_progress(progress.clone());
    let archive = client.octets("/v1/snapshot").map_err(|error| format!("Error saving snapshot: {error}"))?;
    let (meta, _) = checked(&archive[..]).map_err(|error| format!("Error verifying snapshot: {error}"))?;
    progress.finish_and_clear();
    whole_file::write(&path, &archive).map_err(|error| format!("Error writing snapshot file: {error}"))?;
    context.say(&format!("Saved and verified snapshot to index {}", meta.index));
    Ok(())
}

fn restore(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let path = file_of(matches)?;
    let mut archive = Vec::new();
    opened(&path)?.read_to_end(&mut archive).map_err(|error| format!("Error reading snapshot file: {error}"))?;
    let client = Client::new(context, matches)
        .map_err(|error| format!("Error connecting to {} agent: {error}", context.product.name()))?;
    // Whether it is good is the servers' to say, which may know more than this program.
    let not_held = checked(&archive[..]).map(|(_, not_held)| not_held).unwrap_or_default();
    let progress = progress("{spinner} {msg} {elapsed}", "the servers restore it:");
    client.put("/v1/snapshot", &[], archive).map_err(|error| format!("Error restoring snapshot: {error}"))?;
    progress.finish_and_clear();
    context.say("Restored snapshot");
    if context.product == Product::Lictor {
        for (name, count) in not_held {
            context.complain(&format!("Not restored, because lictor servers do not hold it: {name} ({count})"));
        }
    }
    Ok(())
}

fn inspect(context: &mut Context<'_>, matches: &ArgMatches) -> Outcome {
    let path = file_of(matches)?;
    let (meta, not_held) = checked(opened(&path)?).map_err(|error| format!("Error verifying snapshot: {error}"))?;
    for (name, value) in [
        ("ID", meta.id),
        ("Size", meta.size.to_string()),
        ("Index", meta.index.to_string()),
        ("Term", meta.term.to_string()),
        ("Version", meta.version.to_string()),
    ] {
        context.say(&format!("{name:<13}{value}"));
    }
    if context.product == Product::Lictor {
        for (name, count) in not_held {
            context.say(&format!("{:<13}{name} ({count})", "Not held"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::cli::tests::consul;

    #[test]
    fn inspect_shows_what_consul_does() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/vectors/snapshot/catalog.tgz");
        let ran = consul(&["snapshot", "inspect", file]);
        let wanted =
            "ID           2-20-1795549474321\nSize         5278\nIndex        20\nTerm         2\nVersion      1\n";
        assert_eq!((ran.code, ran.out.as_str(), ran.err.as_str()), (0, wanted, ""));
    }

    #[test]
    fn refusals() {
        for (args, text) in [
            (&["snapshot", "inspect"][..], "Missing FILE argument\n"),
            (&["snapshot", "save"], "Missing FILE argument\n"),
            (&["snapshot", "restore", "a", "b"], "Too many arguments (expected 1, got 2)\n"),
            (
                &["snapshot", "inspect", "/none/x"],
                "Error opening snapshot file: open /none/x: no such file or directory\n",
            ),
            (
                &["snapshot", "inspect", "/dev/null"],
                "Error verifying snapshot: failed to decompress snapshot: unexpected EOF\n",
            ),
        ] {
            let ran = consul(args);
            assert_eq!((ran.code, ran.err.as_str()), (1, text));
        }
    }
}
