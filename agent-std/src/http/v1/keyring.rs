//! `/v1/operator/keyring`: the gossip keys of all members (http spec §8). Only servers change them, as in Consul; in a
//! plain Serf pool every member does, as in Serf.

use serde::Deserialize;

use super::{Api, Ask, HttpError, Reply, Result};
use crate::model::{KeyringReply, KeyringRequest, KeyringResponse, QueryOptions};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Body {
    key: String,
}

pub(super) async fn call(api: &Api, ask: &Ask) -> Result {
    let relay_factor = match ask.params.first("relay-factor") {
        "" => 0,
        text => text
            .parse()
            .ok()
            .filter(|factor| *factor <= 5)
            .ok_or_else(|| HttpError::bad("Relay factor must be in range: [0, 5]"))?,
    };
    let local_only = match ask.params.first("local-only") {
        "" => false,
        text => crate::cli::goflags::parse_bool(text)
            .ok_or_else(|| HttpError::bad(format!("Error parsing local-only: {text:?}")))?,
    };
    let list = ask.method == "GET";
    if local_only && !list {
        let text = "Bad request: Invalid use of local-only: local-only can only be set for list requests";
        return Err(HttpError::bad(text));
    }
    let body = if list {
        Body::default()
    } else {
        serde_json::from_slice(&ask.body).map_err(|error| HttpError::bad(format!("Request decode failed: {error}")))?
    };
    if !api.settings.server && !api.settings.serf_only {
        return Err(HttpError::new(500, "keyring operations must run against a server node"));
    }
    let operation = match ask.method.as_str() {
        "GET" => "list",
        "POST" => "install",
        "PUT" => "use",
        _ => "remove",
    };
    let request = KeyringRequest {
        operation: operation.to_owned(),
        key: body.key,
        datacenter: api.settings.datacenter.clone(),
        relay_factor,
        local_only,
        options: QueryOptions { token: ask.token.clone(), ..QueryOptions::default() },
        ..KeyringRequest::default()
    };
    let answers = if api.settings.serf_only {
        vec![api.local.keyring(request).await]
    } else {
        let reply: KeyringReply = api.rpc.call("Internal.KeyringOperation", &request).await?;
        reply.responses.unwrap_or_default()
    };
    if let Some(text) = failures(&answers) {
        return Err(HttpError::new(500, text));
    }
    Ok(if list { Reply::json(&answers) } else { Reply::empty() })
}

/// What went wrong in the pools, in Consul's words.
fn failures(answers: &[KeyringResponse]) -> Option<String> {
    let mut lines = Vec::new();
    for answer in answers.iter().filter(|answer| !answer.error.is_empty()) {
        let pool = if answer.wan { "WAN".to_owned() } else { format!("{} (LAN)", answer.datacenter) };
        lines.push(format!("{pool} error: {}", answer.error));
        lines.extend(answer.messages.iter().flatten().map(|(node, message)| format!("{node}: {message}")));
    }
    let noun = if lines.len() == 1 { "error" } else { "errors" };
    let list: String = lines.iter().map(|line| format!("\t* {line}\n")).collect();
    (!lines.is_empty()).then(|| format!("{} {noun} occurred:\n{list}\n", lines.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_failure_is_listed() {
        let fine = KeyringResponse::default();
        assert_eq!(failures(std::slice::from_ref(&fine)), None);
        let bad = KeyringResponse {
            datacenter: "dc1".into(),
            error: "1/2 nodes reported failure".into(),
            messages: Some([("n2".to_owned(), "no".to_owned())].into()),
            ..fine
        };
        let text = "2 errors occurred:\n\t* dc1 (LAN) error: 1/2 nodes reported failure\n\t* n2: no\n\n";
        assert_eq!(failures(&[bad]).as_deref(), Some(text));
    }
}
