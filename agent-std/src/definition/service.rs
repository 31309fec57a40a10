//! Service definitions.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Check, RawCheck};
use crate::config::{meta, secret::Secret};

/// A service, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Unique on this agent; the name unless given.
    pub id: String,
    /// Service name.
    pub name: String,
    /// Tags.
    pub tags: Vec<String>,
    /// Own address; empty: the node's.
    pub address: String,
    /// Port; 0: none.
    pub port: u16,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// Named addresses.
    pub tagged_addresses: BTreeMap<String, (String, u16)>,
    /// DNS weights while passing and while warning.
    pub weights: (u16, u16),
    /// Let the catalog's tags win over ours.
    pub enable_tag_override: bool,
    /// Token for this registration; empty: the agent's.
    pub token: Secret,
    /// Its checks, with their ids and names filled in.
    pub checks: Vec<Check>,
}

/// A service as written.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct RawService {
    id: Option<String>,
    name: Option<String>,
    tags: Option<Vec<String>>,
    address: Option<String>,
    port: Option<i64>,
    meta: Option<BTreeMap<String, String>>,
    tagged_addresses: Option<BTreeMap<String, RawAddress>>,
    weights: Option<RawWeights>,
    enable_tag_override: Option<bool>,
    token: Secret,
    kind: Option<String>,
    check: Option<RawCheck>,
    checks: Option<Vec<RawCheck>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct RawAddress {
    address: String,
    port: i64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
struct RawWeights {
    passing: Option<i64>,
    warning: Option<i64>,
}

impl RawService {
    /// What was written, checked.
    ///
    /// # Errors
    /// Consul's sentence about the first problem (http spec §5, "Register errors").
    pub fn resolve(self) -> Result<Service, String> {
        let name = self.name.unwrap_or_default();
        if name.is_empty() {
            return Err("Missing service name".to_owned());
        }
        if let Some(kind) = self.kind.filter(|kind| !kind.is_empty()) {
            return Err(format!("service kind {kind:?} is not implemented yet by lictor"));
        }
        let id = self.id.filter(|id| !id.is_empty()).unwrap_or_else(|| name.clone());
        let address = self.address.unwrap_or_default();
        if matches!(address.as_str(), "0.0.0.0" | "::" | "[::]") {
            return Err("Invalid service address".to_owned());
        }
        let meta = self.meta.unwrap_or_default();
        meta::check(&meta).map_err(|why| format!("Invalid Service Meta: {why}"))?;
        let mut tagged_addresses = BTreeMap::new();
        for (tag, raw) in self.tagged_addresses.unwrap_or_default() {
            let port = port(raw.port).ok_or_else(|| format!("Invalid tagged address {tag:?}: port {}", raw.port))?;
            tagged_addresses.insert(tag, (raw.address, port));
        }
        let given = self.port.unwrap_or(0);
        let port = port(given).ok_or_else(|| format!("Invalid service port {given}: use 0 to 65535"))?;
        let mut checks: Vec<RawCheck> = self.check.into_iter().collect();
        checks.extend(self.checks.unwrap_or_default());
        let several = checks.len() > 1;
        let checks: Result<Vec<Check>, String> = checks
            .into_iter()
            .enumerate()
            .map(|(index, raw)| {
                let suffix = if several { format!(":{}", index + 1) } else { String::new() };
                let default_id = format!("service:{id}{suffix}");
                let mut check = raw.resolve(Some(&default_id), Some(&format!("Service '{name}' check")))?;
                check.service_id = id.clone();
                Ok(check)
            })
            .collect();
        let weights = self.weights.map_or(Ok((1, 1)), weights)?;
        Ok(Service {
            checks: checks?,
            id,
            name,
            tags: self.tags.unwrap_or_default(),
            address,
            port,
            meta,
            tagged_addresses,
            weights,
            enable_tag_override: self.enable_tag_override.unwrap_or(false),
            token: self.token,
        })
    }
}

fn port(number: i64) -> Option<u16> {
    u16::try_from(number).ok()
}

/// Passing at least 1, warning at least 0, both within DNS's 16 bits.
fn weights(raw: RawWeights) -> Result<(u16, u16), String> {
    let (passing, warning) = (raw.passing.unwrap_or(0), raw.warning.unwrap_or(0));
    if passing < 1 {
        return Err("Invalid Weights: Passing must be greater than 0".to_owned());
    }
    if warning < 0 {
        return Err("Invalid Weights: Warning must be greater or equal than 0".to_owned());
    }
    match (u16::try_from(passing), u16::try_from(warning)) {
        (Ok(passing), Ok(warning)) => Ok((passing, warning)),
        _ => Err("Invalid Weights: DNS Weight must be between 0 and 65535".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> Result<Service, String> {
        serde_json::from_str::<RawService>(text).unwrap().resolve()
    }

    #[test]
    fn defaults() {
        let service = resolve(r#"{"name":"web","checks":[{"ttl":"5s"},{"tcp":"x:1","interval":"1s"}]}"#).unwrap();
        assert_eq!((service.id.as_str(), service.weights, service.port), ("web", (1, 1), 0));
        let ids: Vec<&str> = service.checks.iter().map(|check| check.id.as_str()).collect();
        assert_eq!(ids, ["service:web:1", "service:web:2"]);
        assert_eq!(service.checks[0].name, "Service 'web' check");
        assert!(service.checks.iter().all(|check| check.service_id == "web"));
        let one = resolve(r#"{"name":"web","id":"w1","check":{"ttl":"5s"}}"#).unwrap();
        assert_eq!(one.checks[0].id, "service:w1");
    }

    #[test]
    fn refusals() {
        for (text, why) in [
            ("{}", "Missing service name"),
            (r#"{"name":"a","address":"0.0.0.0"}"#, "Invalid service address"),
            (r#"{"name":"a","meta":{"consul-x":"1"}}"#, {
                "Invalid Service Meta: Couldn't load metadata pair ('consul-x', '1'): Key prefix 'consul-' is reserved for internal use"
            }),
            (r#"{"name":"a","weights":{"passing":0}}"#, "Invalid Weights: Passing must be greater than 0"),
            (r#"{"name":"a","weights":{"passing":70000}}"#, "Invalid Weights: DNS Weight must be between 0 and 65535"),
            (r#"{"name":"a","port":-1}"#, "Invalid service port -1: use 0 to 65535"),
        ] {
            assert_eq!(resolve(text), Err(why.to_owned()));
        }
    }
}
