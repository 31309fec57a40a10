//! `raft/peers.json`: an operator's way out when a majority of the servers is lost for ever.

use std::{fs, io, path::Path, sync::Arc};

use crate::{
    raft::{self, Disk, Found, Survivor, SurvivorError, peers},
    state::{Machine, Store},
    whole_file,
};

/// Consul's name for it.
pub const FILE: &str = "peers.json";
/// Beside it, for who looks for help there.
const INFO: &str = "peers.info";
const INFO_TEXT: &str = "\
A majority of this cluster's servers is lost for ever, and the others wait for a leader in vain?

1. Stop the servers that are left. `lictor operator raft recover -dry-run -data-dir=DIR` says what each of them has; take
   the one with the greatest term and index of the last entry.
2. Either run the same command there without -dry-run: this server is the whole cluster then. Or write a file peers.json
   beside this one, with all servers that the cluster is to have, and start the server:

   [
     { \"id\": \"NODE-ID, from the file node-id in the data_dir\", \"address\": \"10.1.0.1:8300\", \"non_voter\": false }
   ]

   The server reads it at its start, removes it when it is done, and says so in its log.
3. Start every other server with an empty data_dir; the leader fills it. Never start one with what it had before: it
   belongs to a cluster that is no more.
";

/// Why there was no recovery.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// The file cannot be read, removed or understood.
    #[error("{path}: {reason}; nothing was recovered. Mend the file, or remove it to start as before")]
    File {
        /// Which.
        path: String,
        /// What is wrong.
        reason: String,
    },
    /// This server cannot be the one that is left.
    #[error("recovery failed: {0}")]
    Survivor(#[from] SurvivorError),
}

/// Gives this server the configuration of `peers.json`, if there is one. The server must not run yet.
///
/// # Errors
/// See [`RecoveryError`]; the server must not start then, because its operator expects another cluster than it would find.
pub fn carry_out(folder: &Path, own: &raft::Server, disk: &Arc<dyn Disk>) -> Result<(), RecoveryError> {
    let info = folder.join(INFO);
    if !info.exists()
        && let Err(error) = whole_file::write(&info, INFO_TEXT.as_bytes())
    {
        log::warn!("{}: {error}", info.display());
    }
    let path = folder.join(FILE);
    let wrong = |reason: String| RecoveryError::File { path: path.display().to_string(), reason };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(wrong(error.to_string())),
    };
    log::info!("found peers.json file, recovering Raft configuration...");
    let survivor = Survivor::open(&own.id, Arc::clone(disk), Machine(Arc::new(Store::default())))?;
    let servers = peers::parse(&text, &survivor.found().servers, own).map_err(wrong)?;
    let Found { last: (index, term), known_decided, .. } = *survivor.found();
    survivor.recover(&servers)?;
    fs::remove_file(&path)
        .and_then(|()| whole_file::sync_directory(folder))
        .map_err(|error| wrong(error.to_string()))?;
    log::info!(
        "deleted peers.json file after successful recovery: everything up to index {index}, term {term} is kept, {} \
         entries of it without knowing whether the lost servers had decided them; the servers are {}",
        index - known_decided.min(index),
        servers.iter().map(|server| format!("{} ({})", server.name, server.address)).collect::<Vec<_>>().join(", ")
    );
    Ok(())
}
