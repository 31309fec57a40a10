//! `/v1/agent/check…` (http spec §5).

use agent_core::checks::Health;
use serde::Deserialize;
use serde_json::json;

use super::{Api, Ask, HttpError, Reply, Result};
use crate::{
    config::{load, schema},
    definition::{CheckKind, RawCheck},
    filter::{Filter, Shape, shape},
    http::body,
};

/// Longest output that an update keeps: Consul's 4 KiB.
const OUTPUT_LIMIT: usize = 4096;

/// What a script over HTTP is answered while scripts are off.
pub(super) const SCRIPTS_OFF: &str = "Scripts are disabled on this agent; to enable, configure 'enable_script_checks' or \
                                      'enable_local_script_checks' to true";

pub(super) async fn list(api: &Api, ask: &Ask) -> Result {
    let filter = filter(ask, &shape::CHECK)?;
    let mut checks = api.local.checks().await;
    checks.retain(|_, check| filter.as_ref().is_none_or(|filter| filter.matches(check)));
    for check in checks.values_mut() {
        check.for_json();
    }
    Ok(Reply::json(&checks))
}

/// `?filter=` of a list that this agent itself answers.
pub(super) fn filter(ask: &Ask, shape: &Shape) -> std::result::Result<Option<Filter>, HttpError> {
    match ask.params.first("filter") {
        "" => Ok(None),
        text => Filter::new(text, shape)
            .map(Some)
            .map_err(|error| HttpError::new(500, format!("Failed to create boolean expression evaluator: {error}"))),
    }
}

pub(super) async fn register(api: &Api, ask: &Ask) -> Result {
    let mut value = body::value(&ask.body)?;
    let failed = |why: String| HttpError::bad(format!("Request decode failed: {why}"));
    load::parse_body(schema::CHECK, &mut value).map_err(failed)?;
    let raw: RawCheck = serde_json::from_value(value).map_err(|error| failed(error.to_string()))?;
    let check = raw.resolve(None, None).map_err(HttpError::bad)?;
    if matches!(check.kind, CheckKind::Script { .. }) && !api.settings.enable_script_checks {
        return Err(HttpError::new(500, SCRIPTS_OFF));
    }
    if !check.service_id.is_empty() && !api.local.services().await.contains_key(&check.service_id) {
        return Err(HttpError::new(500, format!("ServiceID {:?} does not exist", check.service_id)));
    }
    api.local.register_check(check).await?;
    Ok(Reply::empty())
}

pub(super) async fn deregister(api: &Api, ask: &Ask) -> Result {
    api.local.deregister_check(ask.rest.clone()).await?;
    Ok(Reply::empty())
}

pub(super) async fn set(api: &Api, ask: &Ask, health: Health) -> Result {
    api.local.update_ttl(ask.rest.clone(), health, ask.params.first("note").to_owned()).await?;
    Ok(Reply::empty())
}

/// The body of an update.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Update {
    status: String,
    output: String,
}

pub(super) async fn update(api: &Api, ask: &Ask) -> Result {
    let update: Update = body::decode(&ask.body, &json!({"Status": 0, "Output": 0, "CheckID": 0}), false)?;
    let health = match update.status.as_str() {
        "passing" => Health::Passing,
        "warning" => Health::Warning,
        "critical" => Health::Critical,
        other => return Err(HttpError::bad(format!("Invalid check status: '{other}'"))),
    };
    api.local.update_ttl(ask.rest.clone(), health, cut(update.output)).await?;
    Ok(Reply::empty())
}

/// At most 4 KiB, with a note about the rest.
fn cut(mut output: String) -> String {
    if output.len() <= OUTPUT_LIMIT {
        return output;
    }
    let total = output.len();
    output.truncate(output.floor_char_boundary(OUTPUT_LIMIT));
    output.push_str(&format!(" ... (captured {OUTPUT_LIMIT} of {total} bytes)"));
    output
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_outputs_are_cut_between_characters() {
        assert_eq!(cut("short".into()), "short");
        let cut = cut("ä".repeat(3000));
        assert!(cut.starts_with('ä') && cut.ends_with("ä ... (captured 4096 of 6000 bytes)"));
    }
}
