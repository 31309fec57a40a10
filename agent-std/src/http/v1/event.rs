//! `/v1/event`: user events (http spec §8).

use regex::Regex;

use super::{Api, Ask, HttpError, Reply, Result, named};
use crate::{
    http::{local::UserEvent, read},
    model::{Octets, QueryMeta},
};

pub(super) async fn fire(api: &Api, ask: &Ask) -> Result {
    let name = named(ask, "Missing name")?.to_owned();
    let filter = |name: &str| ask.params.first(name).to_owned();
    let event = UserEvent {
        id: uuid()?,
        name,
        payload: (!ask.body.is_empty()).then(|| Octets(ask.body.to_vec())),
        node_filter: filter("node"),
        service_filter: filter("service"),
        tag_filter: filter("tag"),
        version: 1,
        ltime: 0,
    };
    if !event.tag_filter.is_empty() && event.service_filter.is_empty() {
        return Err(HttpError::new(500, "Cannot provide tag filter without service filter"));
    }
    for (kind, pattern) in
        [("node", &event.node_filter), ("service", &event.service_filter), ("tag", &event.tag_filter)]
    {
        if let Err(error) = Regex::new(pattern) {
            let text = error.to_string();
            let why = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
            return Err(HttpError::new(500, format!("Invalid {kind} filter: error parsing regexp: {why}")));
        }
    }
    api.local.fire(event.clone(), api.datacenter(ask), ask.token.clone()).await?;
    Ok(Reply::json(&event))
}

pub(super) async fn list(api: &Api, ask: &Ask) -> Result {
    let options = read::options(api, ask)?;
    let mut changes = api.local.changes();
    let deadline = tokio::time::Instant::now() + options.max_query_time.duration();
    loop {
        changes.borrow_and_update();
        let mut events = api.local.events().await;
        // Names beyond the first are not filtered out of the index: it is that of the last event shown.
        if ask.params.has("name") {
            events.retain(|event| event.name == ask.params.first("name"));
        }
        let index = events.last().map_or(0, |event| index_of(&event.id));
        if options.min_query_index == 0 || index != options.min_query_index {
            return Ok(listed(&events, index));
        }
        // Not monotone: blocks while equal.
        let changed = tokio::time::timeout_at(deadline, changes.changed()).await;
        if !matches!(changed, Ok(Ok(()))) {
            return Ok(listed(&events, index));
        }
    }
}

/// Events carry their index, but neither leader nor contact.
fn listed(events: &[UserEvent], index: u64) -> Reply {
    let meta = QueryMeta { index, ..QueryMeta::default() };
    Reply::json(events).with_header("X-Consul-Index", meta.index.max(1).to_string())
}

/// The two halves of a UUID, one over the other.
fn index_of(id: &str) -> u64 {
    let digits: String = id.chars().filter(char::is_ascii_hexdigit).collect();
    let half = |range| digits.get(range).and_then(|half| u64::from_str_radix(half, 16).ok()).unwrap_or(0);
    half(0..16) ^ half(16..32)
}

/// A random id in the form of a UUID, as Consul makes them.
fn uuid() -> std::result::Result<String, HttpError> {
    let mut octets = [0; 16];
    getrandom::fill(&mut octets).map_err(|error| HttpError::new(500, format!("no random numbers: {error}")))?;
    let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
    Ok(format!("{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_is_consuls() {
        // Seen from Consul 1.8.7: id and X-Consul-Index of one answer.
        assert_eq!(index_of("2f62a20e-c51f-eaf5-dedc-71984715da41"), 17_419_593_052_095_918_260);
        assert_eq!(uuid().unwrap().len(), 36);
    }
}
