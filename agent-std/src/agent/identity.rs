//! Who this agent is: a UUID that outlives restarts.

use std::{fs, io, path::Path};

use crate::whole_file;

/// File in the data directory; Consul's name for it.
const FILE: &str = "node-id";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The configured id is no UUID. Consul's text.
    #[error("failed to setup node ID: specified NodeID is invalid: {0}")]
    Invalid(&'static str),
    /// The id on disk is no UUID.
    #[error(
        "{path} holds {text:?}, which is no node id: {why}; put the right one there, or delete the file to become a new node"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What it holds.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The data directory.
    #[error("{path}: {source}; the agent needs a data_dir that it can write to")]
    Io {
        /// The file.
        path: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The system's random numbers.
    #[error("no random numbers for a node id: {0}")]
    Random(#[from] getrandom::Error),
}

/// The id: the configured one, the one on disk, or a new one that is put there. Without `data_dir` it lasts until the
/// agent stops.
///
/// # Errors
/// See [`IdentityError`]; nothing is overwritten.
pub fn node_id(configured: Option<&str>, data_dir: Option<&Path>) -> Result<String, IdentityError> {
    if let Some(id) = configured {
        check(id).map_err(IdentityError::Invalid)?;
        return Ok(id.to_ascii_lowercase());
    }
    let Some(data_dir) = data_dir else { return Ok(fresh()?) };
    let path = data_dir.join(FILE);
    let io = |source| IdentityError::Io { path: path.display().to_string(), source };
    match fs::read_to_string(&path) {
        Ok(text) => {
            let id = text.trim().to_ascii_lowercase();
            match check(&id) {
                Ok(()) => Ok(id),
                Err(why) => Err(IdentityError::Damaged { path: path.display().to_string(), text: id, why }),
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let id = fresh()?;
            fs::create_dir_all(data_dir).and_then(|()| whole_file::write(&path, id.as_bytes())).map_err(io)?;
            Ok(id)
        }
        Err(error) => Err(io(error)),
    }
}

/// A random UUID (RFC 9562 §5.4).
fn fresh() -> Result<String, getrandom::Error> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets)?;
    octets[6] = octets[6] & 0x0f | 0x40;
    octets[8] = octets[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, octet) in octets.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        text.push_str(&format!("{octet:02x}"));
    }
    Ok(text)
}

fn check(id: &str) -> Result<(), &'static str> {
    if id.len() != 36 {
        return Err("uuid string is wrong length");
    }
    let good =
        id.char_indices().all(|(at, c)| if matches!(at, 8 | 13 | 18 | 23) { c == '-' } else { c.is_ascii_hexdigit() });
    if good { Ok(()) } else { Err("uuid is improperly formatted") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_lasts_and_a_damaged_one_is_not_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let first = node_id(None, Some(directory.path())).unwrap();
        assert_eq!(check(&first), Ok(()));
        assert_eq!(node_id(None, Some(directory.path())).unwrap(), first);
        fs::write(directory.path().join(FILE), "nonsense").unwrap();
        let error = node_id(None, Some(directory.path())).unwrap_err().to_string();
        assert!(error.contains("nonsense") && error.contains("delete the file"), "{error}");
        assert_eq!(fs::read_to_string(directory.path().join(FILE)).unwrap(), "nonsense");
        assert_ne!(node_id(None, None).unwrap(), node_id(None, None).unwrap());
    }

    #[test]
    fn configured_ids_are_checked_as_consul_does() {
        assert!(node_id(Some("abc"), None).unwrap_err().to_string().ends_with("uuid string is wrong length"));
        let id = "ADF4238A-882B-9DDC-4A9D-5B6758E4159E";
        assert_eq!(node_id(Some(id), None).unwrap(), id.to_ascii_lowercase());
    }
}
