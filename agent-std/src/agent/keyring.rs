//! Gossip keys: kept in `serf/local.keyring` and, for the WAN pool, `serf/remote.keyring` as Consul keeps them, and
//! changed on all members by queries.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use agent_core::{
    agent::Command,
    pool::MemberStatus,
    wire::{crypt::Key, msgpack::Writer, serf},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;
use tokio::sync::broadcast::error::RecvError;

use crate::{
    config::Config,
    driver::{CommandFailed, Handle, Kind, Machine as _, Notice},
    model::{KeyringRequest, KeyringResponse, Map},
    rpc::codec,
    whole_file,
};

const LAN: &str = "serf/local.keyring";
const WAN: &str = "serf/remote.keyring";

/// Why the keys cannot be had. The text never holds one.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The file cannot be read or written.
    #[error("{path}: {source}; the agent needs a data_dir that it can write to")]
    Io {
        /// The file.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is not a list of keys.
    #[error("{path}: {why}; put a JSON list of base64 keys there, or remove the file to start with `encrypt`")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The configured key.
    #[error("{0}")]
    Setting(String),
}

/// Where the keys of a pool are kept; nowhere without a data directory or when that is not wanted.
pub fn path(config: &Config, wan: bool) -> Option<PathBuf> {
    let file = if wan { WAN } else { LAN };
    config.data_dir.as_ref().filter(|_| !config.disable_keyring_file).map(|data_dir| data_dir.join(file))
}

/// The keys to start with, the primary first. What is on disk wins over `encrypt`, which only begins a new file: after
/// a rotation the configured key may be one that nobody uses any more.
///
/// # Errors
/// See [`KeyringError`]; nothing is overwritten.
pub fn load(config: &Config, wan: bool) -> Result<Vec<Key>, KeyringError> {
    let configured = config.encrypt.as_ref().map(|key| key.key()).transpose().map_err(KeyringError::Setting)?;
    let Some(path) = path(config, wan) else { return Ok(configured.into_iter().collect()) };
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let keys: Vec<Key> = configured.into_iter().collect();
            if !keys.is_empty() {
                save(&path, &keys)?;
            }
            return Ok(keys);
        }
        Err(source) => return Err(KeyringError::Io { path: path.display().to_string(), source }),
    };
    let keys = parse(&text).map_err(|why| KeyringError::Damaged { path: path.display().to_string(), why })?;
    if configured.is_some_and(|key| !keys.contains(&key)) {
        log::warn!("the key of encrypt is not in {}, whose keys are used", path.display());
    }
    Ok(keys)
}

fn parse(text: &str) -> Result<Vec<Key>, String> {
    let texts: Vec<String> = serde_json::from_str(text).map_err(|_| "not a JSON list of texts".to_owned())?;
    if texts.is_empty() {
        return Err("an empty list".to_owned());
    }
    texts
        .iter()
        .enumerate()
        .map(|(at, text)| {
            let octets = STANDARD.decode(text).map_err(|_| format!("entry {at} is not base64"))?;
            Key::new(&octets).ok_or_else(|| format!("entry {at} has {} octets, not 16, 24 or 32", octets.len()))
        })
        .collect()
}

/// Replaces the file as a whole, readable by nobody else.
fn save(path: &Path, keys: &[Key]) -> Result<(), KeyringError> {
    let texts: Vec<String> = keys.iter().map(|key| STANDARD.encode(key.as_octets())).collect();
    let write = || {
        fs::create_dir_all(path.parent().unwrap_or(Path::new(".")))?;
        whole_file::write(path, &serde_json::to_vec_pretty(&texts)?)
    };
    write().map_err(|source| KeyringError::Io { path: path.display().to_string(), source })
}

/// Keeps the file as the ring is, until the agent ends.
pub async fn follow<K: Kind>(handle: Handle<K>, path: PathBuf) {
    let mut notices = handle.subscribe();
    loop {
        match notices.recv().await {
            Ok(Notice::Keys) | Err(RecvError::Lagged(_)) => {}
            Ok(_) => continue,
            Err(RecvError::Closed) => return,
        }
        let Ok(keys) = handle.with(|machine, _| machine.pool().keys().to_vec()).await else { return };
        if keys.is_empty() {
            continue;
        }
        if let Err(error) = save(&path, &keys) {
            log::error!("the gossip keys were not kept: {error}");
        }
    }
}

/// What is to be done with the gossip keys of all members.
#[derive(Clone, PartialEq, Eq)]
enum Operation {
    /// Count them.
    List,
    /// Let this key decrypt.
    Install(Vec<u8>),
    /// Encrypt with this key.
    Use(Vec<u8>),
    /// Forget this key.
    Remove(Vec<u8>),
}

impl Operation {
    /// The operation of a request, whose key is base64.
    ///
    /// # Errors
    /// Another operation, or a key that is no base64. The text has no part of the key.
    fn new(name: &str, key: &str) -> Result<Self, String> {
        let key = || STANDARD.decode(key).map_err(|_| "the key is no base64; `keygen` makes one that is".to_owned());
        match name {
            "list" => Ok(Operation::List),
            "install" => Ok(Operation::Install(key()?)),
            "use" => Ok(Operation::Use(key()?)),
            "remove" => Ok(Operation::Remove(key()?)),
            _ => Err(format!("unknown keyring operation {name:?}: use list, install, use or remove")),
        }
    }
}

/// What a member answers to a key query.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct KeyResponse {
    keys: Option<Vec<String>>,
    message: String,
    primary_key: String,
    result: bool,
}

/// Does what a request says to the pool of `handle`. What went wrong is in the response.
pub async fn answer<K: Kind>(handle: &Handle<K>, datacenter: &str, asked: &KeyringRequest) -> KeyringResponse {
    let failed = |error: String| KeyringResponse { datacenter: datacenter.to_owned(), error, ..<_>::default() };
    match Operation::new(&asked.operation, &asked.key) {
        Ok(operation) => request(handle, datacenter, &operation, asked.relay_factor)
            .await
            .unwrap_or_else(|error| failed(error.to_string())),
        Err(error) => failed(error),
    }
}

/// Asks every member of a pool for `operation` and sums up what they say.
///
/// # Errors
/// The query could not be sent.
async fn request<K: Kind>(
    handle: &Handle<K>,
    datacenter: &str,
    operation: &Operation,
    relay_factor: u8,
) -> Result<KeyringResponse, CommandFailed> {
    let (name, key) = match operation {
        Operation::List => ("_serf_list-keys", &[][..]),
        Operation::Install(key) => ("_serf_install-key", &key[..]),
        Operation::Use(key) => ("_serf_use-key", &key[..]),
        Operation::Remove(key) => ("_serf_remove-key", &key[..]),
    };
    let emit = |w: &mut Writer<'_>| serf::emit_key_request(w, key);
    let mut payload = vec![0; Writer::measure(emit)];
    emit(&mut Writer::new(&mut payload));
    let alive = |status| matches!(status, MemberStatus::Alive | MemberStatus::Leaving);
    let nodes =
        handle.with(move |machine, _| machine.pool().members().filter(|member| alive(member.status)).count()).await?;
    let answers = handle
        .ask(nodes, move |machine, now| {
            machine.command(now, Command::Query { name, payload: &payload, ack: false, relay_factor })
        })
        .await?;
    let (mut keys, mut primary_keys, mut messages) = (Map::new(), Map::new(), Map::new());
    let (mut failed, mut heard) = (0, 0);
    for answer in answers {
        // Acks are not asked for, and other payloads are no answer.
        let Some((&serf::KEY_RESPONSE, body)) = answer.payload.as_deref().and_then(<[u8]>::split_first) else {
            continue;
        };
        let Ok(response) = codec::from_slice::<KeyResponse>(body) else { continue };
        heard += 1;
        failed += usize::from(!response.result);
        for key in response.keys.into_iter().flatten() {
            *keys.entry(key).or_default() += 1;
        }
        if matches!(operation, Operation::List) {
            *primary_keys.entry(response.primary_key).or_default() += 1;
        }
        if !response.message.is_empty() {
            messages.insert(answer.from, response.message);
        }
    }
    let error = match (failed, heard) {
        (1.., _) => format!("{failed}/{nodes} nodes reported failure"),
        _ if heard != nodes => format!("{heard}/{nodes} nodes reported success"),
        _ => String::new(),
    };
    Ok(KeyringResponse {
        datacenter: datacenter.to_owned(),
        messages: Some(messages).filter(|all| !all.is_empty()),
        keys: Some(keys),
        primary_keys: Some(primary_keys),
        num_nodes: nodes as u64,
        error,
        ..KeyringResponse::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_from_their_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LAN);
        let keys = [Key::new(&[1; 32]).unwrap(), Key::new(&[2; 16]).unwrap()];
        save(&path, &keys).unwrap();
        save(&path, &keys).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(parse(&text).unwrap(), keys);
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_damaged_file_is_refused_without_showing_keys() {
        for text in ["", "[]", "{}", "[1]", "[\"AAAA\"]", "[\"@secret@\"]"] {
            let why = parse(text).unwrap_err();
            assert!(!why.contains("secret") && !why.contains("AAAA"), "{why}");
        }
    }
}
