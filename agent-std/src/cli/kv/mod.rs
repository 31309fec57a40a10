//! `kv`: the key/value store (cli spec §3).

pub(super) mod delete;
pub(super) mod export;
pub(super) mod get;
pub(super) mod import;
pub(super) mod put;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Arg;
use serde::Deserialize;

use super::{Kind, Spec, context::Context, flags};
use crate::http::url;

pub(super) const GROUP: Spec = Spec {
    path: "kv",
    synopsis: "Interact with the key-value store",
    usage: "<subcommand> [options] [args]",
    about: "Reads and writes the key/value store.\n\n$ {cmd} kv put config/port 5\n\n$ {cmd} kv get config/port",
    kind: Kind::Group,
    ours: false,
};

/// An entry as `/v1/kv` gives it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    lock_index: u64,
    key: String,
    flags: u64,
    value: Option<String>,
    #[serde(default)]
    session: String,
    create_index: u64,
    modify_index: u64,
}

impl Entry {
    /// The value's octets; none when there is no value.
    fn octets(&self) -> Result<Vec<u8>, String> {
        let text = self.value.as_deref().unwrap_or_default();
        STANDARD.decode(text).map_err(|error| format!("the agent sent a value that is no base64: {error}"))
    }
}

fn namespace() -> Arg {
    flags::text("namespace", "default", "Namespaces exist in Consul Enterprise only.")
}

fn modify_index() -> Arg {
    flags::text("modify-index", super::goflags::UINT, "ModifyIndex that the key must still have. Used with -cas.")
}

/// The path of a key; a slash in front is dropped as in Consul, where no key begins with one.
fn path(key: &str) -> String {
    format!("/v1/kv/{}", url::escape_path(key.strip_prefix('/').unwrap_or(key)))
}

/// `@file`, `-` for standard input, or the text itself.
fn data(context: &mut Context<'_>, argument: &str) -> Result<Vec<u8>, String> {
    if argument == "-" {
        let mut octets = Vec::new();
        context.input.read_to_end(&mut octets).map_err(|error| format!("Failed to read stdin: {error}"))?;
        return Ok(octets);
    }
    match argument.strip_prefix('@') {
        None => Ok(argument.as_bytes().to_vec()),
        Some(file) => std::fs::read(file).map_err(|error| {
            let why = match error.kind() {
                std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
                _ => error.to_string(),
            };
            format!("Failed to read file: open {file}: {why}")
        }),
    }
}
