//! `/v1/kv` (http spec §2).

use super::{Api, Ask, HttpError, Reply, Result};
use crate::{
    http::reply::Body,
    model::{DirEntriesReply, DirEntry, KeyListRequest, KeyRequest, KeysReply, KvsRequest, Octets, QueryMeta},
};

pub(super) async fn call(api: &Api, ask: &Ask) -> Result {
    match ask.method.as_str() {
        "GET" if ask.params.has("keys") => keys(api, ask).await,
        "GET" => get(api, ask).await,
        "PUT" => put(api, ask).await,
        _ => delete(api, ask).await,
    }
}

fn missing(meta: QueryMeta) -> Reply {
    Reply { meta: Some(meta), ..Reply::empty().with_status(404) }
}

/// Refusals of this family alone come without index headers.
fn bare(error: HttpError) -> HttpError {
    HttpError { indexed: false, ..error }
}

async fn get(api: &Api, ask: &Ask) -> Result {
    let recurse = ask.params.has("recurse");
    if !recurse && ask.rest.is_empty() {
        return Err(HttpError::bad("Missing key name"));
    }
    let (datacenter, key) = (api.datacenter(ask), ask.rest.clone());
    let method = if recurse { "KVS.List" } else { "KVS.Get" };
    let reply: DirEntriesReply = api
        .read(ask, method, |options| KeyRequest { datacenter: datacenter.clone(), key: key.clone(), options })
        .await
        .map_err(bare)?;
    let entries = reply.entries.unwrap_or_default();
    match entries.first() {
        None => Ok(missing(reply.meta)),
        Some(entry) if ask.params.has("raw") && !recurse => {
            let octets = entry.value.clone().unwrap_or_default().0;
            let raw = Reply { meta: Some(reply.meta), body: Body::Raw("text/plain", octets.into()), ..Reply::empty() };
            Ok(raw.with_header("X-Content-Type-Options", "nosniff").with_header("Content-Security-Policy", "sandbox"))
        }
        Some(_) => Ok(Reply::read(&entries, &reply.meta)),
    }
}

async fn keys(api: &Api, ask: &Ask) -> Result {
    let params = &ask.params;
    let separator = if params.has("separator") { params.first("separator") } else { params.first("seperator") };
    let request = KeyListRequest {
        datacenter: api.datacenter(ask),
        prefix: ask.rest.clone(),
        separator: separator.to_owned(),
        ..KeyListRequest::default()
    };
    let reply: KeysReply =
        api.read(ask, "KVS.ListKeys", |options| KeyListRequest { options, ..request.clone() }).await.map_err(bare)?;
    let keys = reply.keys.unwrap_or_default();
    // The root always exists.
    if keys.is_empty() && !ask.rest.is_empty() {
        return Ok(missing(reply.meta));
    }
    Ok(Reply::read(&keys, &reply.meta))
}

async fn put(api: &Api, ask: &Ask) -> Result {
    if ask.rest.is_empty() {
        return Err(HttpError::bad("Missing key name"));
    }
    conflict(ask, &["cas", "acquire", "release"])?;
    let mut entry = DirEntry {
        key: ask.rest.clone(),
        flags: number(ask, "flags")?,
        // As Consul stores it: nothing, not an empty value.
        value: (!ask.body.is_empty()).then(|| Octets(ask.body.to_vec())),
        ..DirEntry::default()
    };
    let op = if ask.params.has("cas") {
        entry.modify_index = number(ask, "cas")?;
        "cas"
    } else if ask.params.has("acquire") {
        entry.session = ask.params.first("acquire").to_owned();
        "lock"
    } else if ask.params.has("release") {
        entry.session = ask.params.first("release").to_owned();
        "unlock"
    } else {
        "set"
    };
    apply(api, ask, op, entry).await
}

async fn delete(api: &Api, ask: &Ask) -> Result {
    conflict(ask, &["recurse", "cas"])?;
    let mut entry = DirEntry { key: ask.rest.clone(), ..DirEntry::default() };
    let op = if ask.params.has("recurse") {
        "delete-tree"
    } else if ask.rest.is_empty() {
        return Err(HttpError::bad("Missing key name"));
    } else if ask.params.has("cas") {
        entry.modify_index = number(ask, "cas")?;
        "delete-cas"
    } else {
        "delete"
    };
    apply(api, ask, op, entry).await
}

async fn apply(api: &Api, ask: &Ask, op: &str, dir_ent: DirEntry) -> Result {
    let (datacenter, token) = (api.datacenter(ask), ask.token.clone());
    let request = KvsRequest { datacenter, op: op.to_owned(), dir_ent, token };
    let done: bool = api.rpc.call("KVS.Apply", &request).await?;
    // The bool means something only where there is a condition (rpc spec §6).
    Ok(Reply::json(&(done || matches!(op, "set" | "delete" | "delete-tree"))))
}

fn conflict(ask: &Ask, names: &[&str]) -> std::result::Result<(), HttpError> {
    if names.iter().filter(|name| ask.params.has(name)).count() > 1 {
        return Err(HttpError::bad(format!("Conflicting flags: {}", ask.params.encode())));
    }
    Ok(())
}

/// Go's number, with its error and status.
fn number(ask: &Ask, name: &str) -> std::result::Result<u64, HttpError> {
    if !ask.params.has(name) {
        return Ok(0);
    }
    let text = ask.params.first(name);
    let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
    match text.parse() {
        Ok(number) if digits => Ok(number),
        _ => {
            let why = if digits { "value out of range" } else { "invalid syntax" };
            Err(HttpError::new(500, format!("strconv.ParseUint: parsing {text:?}: {why}")))
        }
    }
}
