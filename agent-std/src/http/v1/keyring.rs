//! `/v1/operator/keyring`: the gossip keys of all members (http spec §8). Only servers change them, as in Consul; in a
//! plain Serf pool every member does, as in Serf.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::{Api, Ask, HttpError, Reply, Result};
use crate::http::local::{KeyOperation, KeyringAnswer};

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Body {
    key: String,
}

pub(super) async fn call(api: &Api, ask: &Ask) -> Result {
    let relay = ask.params.first("relay-factor");
    if !relay.is_empty() && !relay.parse::<u8>().is_ok_and(|factor| factor <= 5) {
        return Err(HttpError::bad("Relay factor must be in range: [0, 5]"));
    }
    // Our answers need no relays, and all of ours are local: there is one datacenter.
    let local = ask.params.first("local-only");
    if !local.is_empty() && crate::cli::goflags::parse_bool(local).is_none() {
        return Err(HttpError::bad(format!("Error parsing local-only: {local:?}")));
    }
    let operation = if ask.method == "GET" {
        KeyOperation::List
    } else {
        let body: Body = serde_json::from_slice(&ask.body)
            .map_err(|error| HttpError::bad(format!("Request decode failed: {error}")))?;
        let key = STANDARD
            .decode(&body.key)
            .map_err(|_| HttpError::new(500, "the key is no base64; `keygen` makes one that is"))?;
        match ask.method.as_str() {
            "POST" => KeyOperation::Install(key),
            "PUT" => KeyOperation::Use(key),
            _ => KeyOperation::Remove(key),
        }
    };
    if !api.settings.server && !api.settings.serf_only {
        return Err(HttpError::new(500, "keyring operations must run against a server node"));
    }
    let list = operation == KeyOperation::List;
    let answers = api.local.keyring(operation).await?;
    if let Some(text) = failures(&answers) {
        return Err(HttpError::new(500, text));
    }
    Ok(if list { Reply::json(&answers) } else { Reply::empty() })
}

/// What went wrong in the pools, in Consul's words.
fn failures(answers: &[KeyringAnswer]) -> Option<String> {
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
        let fine = KeyringAnswer::default();
        assert_eq!(failures(std::slice::from_ref(&fine)), None);
        let bad = KeyringAnswer {
            datacenter: "dc1".into(),
            error: "1/2 nodes reported failure".into(),
            messages: Some([("n2".to_owned(), "no".to_owned())].into()),
            ..fine
        };
        let text = "2 errors occurred:\n\t* dc1 (LAN) error: 1/2 nodes reported failure\n\t* n2: no\n\n";
        assert_eq!(failures(&[bad]).as_deref(), Some(text));
    }
}
