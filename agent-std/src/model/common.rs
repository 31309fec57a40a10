//! What several families share: octets, durations, and the parts that every read carries.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use super::is_zero;

/// Go's `[]byte`: raw on the RPC port, base64 in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Octets(pub Vec<u8>);

impl Serialize for Octets {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&BASE64.encode(&self.0))
        } else {
            serializer.serialize_bytes(&self.0)
        }
    }
}

impl<'de> Deserialize<'de> for Octets {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            return BASE64.decode(text).map(Octets).map_err(de::Error::custom);
        }
        struct Raw;
        impl<'de> de::Visitor<'de> for Raw {
            type Value = Octets;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("octets")
            }

            fn visit_bytes<E>(self, octets: &[u8]) -> Result<Octets, E> {
                Ok(Octets(octets.to_vec()))
            }

            fn visit_str<E>(self, text: &str) -> Result<Octets, E> {
                Ok(Octets(text.as_bytes().to_vec()))
            }
        }
        deserializer.deserialize_bytes(Raw)
    }
}

impl From<Vec<u8>> for Octets {
    fn from(octets: Vec<u8>) -> Self {
        Octets(octets)
    }
}

impl From<&str> for Octets {
    fn from(text: &str) -> Self {
        Octets(text.as_bytes().to_vec())
    }
}

/// Go's `time.Duration`: whole nanoseconds, in both formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub i64);

impl Nanos {
    /// As a std duration; what is negative counts as zero.
    pub fn duration(self) -> Duration {
        Duration::from_nanos(u64::try_from(self.0).unwrap_or(0))
    }
}

impl From<Duration> for Nanos {
    fn from(duration: Duration) -> Self {
        Nanos(i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX))
    }
}

/// Go's `time.Time` in UTC: 15 octets on the RPC port (rpc spec §4), RFC 3339 in JSON. The default is Go's zero time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoTime {
    /// Seconds since the year 1.
    seconds: i64,
    nanos: u32,
}

impl GoTime {
    /// Seconds from the year 1 to 1970.
    const UNIX: i64 = 62_135_596_800;
    /// Version of the binary form.
    const VERSION: u8 = 1;
    /// UTC in the binary form: no offset is minus one.
    const UTC: [u8; 2] = [0xff, 0xff];

    /// From the system's clock.
    pub fn from_unix(since: Duration) -> Self {
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX - Self::UNIX);
        GoTime { seconds: seconds + Self::UNIX, nanos: since.subsec_nanos() }
    }

    fn emit(self) -> [u8; 15] {
        let mut out = [Self::VERSION; 15];
        out[1..9].copy_from_slice(&self.seconds.to_be_bytes());
        out[9..13].copy_from_slice(&self.nanos.to_be_bytes());
        out[13..].copy_from_slice(&Self::UTC);
        out
    }

    fn parse(octets: &[u8]) -> Option<Self> {
        let [Self::VERSION, seconds @ .., _, _, _, _, _, _] = octets else { return None };
        let nanos = octets.get(9..13)?.try_into().ok()?;
        Some(GoTime { seconds: i64::from_be_bytes(seconds.try_into().ok()?), nanos: u32::from_be_bytes(nanos) })
    }

    fn rfc3339(self) -> String {
        let since = u64::try_from(self.seconds.saturating_sub(Self::UNIX)).ok();
        let time = since.and_then(|seconds| std::time::UNIX_EPOCH.checked_add(Duration::new(seconds, self.nanos)));
        match time {
            // Go's zero time, and all others before 1970, which nothing here ever is.
            None => "0001-01-01T00:00:00Z".to_owned(),
            Some(time) => humantime::format_rfc3339(time).to_string(),
        }
    }
}

impl Serialize for GoTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            serializer.serialize_str(&self.rfc3339())
        } else {
            serializer.serialize_bytes(&self.emit())
        }
    }
}

impl<'de> Deserialize<'de> for GoTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            let text = String::deserialize(deserializer)?;
            let time = humantime::parse_rfc3339_weak(&text).map_err(de::Error::custom)?;
            return Ok(time
                .duration_since(std::time::UNIX_EPOCH)
                .map_or_else(|_| GoTime::default(), GoTime::from_unix));
        }
        let Octets(octets) = Octets::deserialize(deserializer)?;
        GoTime::parse(&octets).ok_or_else(|| de::Error::custom("not Go's binary time"))
    }
}

/// What every read carries, flattened into its request (rpc spec §5). The fields that only an agent's own cache uses
/// (`UseCache`, `MaxAge`, `MustRevalidate`, `StaleIfError`) are not sent and not kept: servers ignore them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryOptions {
    /// Secret of the ACL token.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nil_is_zero")]
    pub token: String,
    /// Block until the result's index is above this; 0: answer at once.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nil_is_zero")]
    pub min_query_index: u64,
    /// How long to block; 0: the server's default.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nil_is_zero")]
    pub max_query_time: Nanos,
    /// Any server may answer, from what it has.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nil_is_zero")]
    pub allow_stale: bool,
    /// The leader must make sure that it still leads.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nil_is_zero")]
    pub require_consistent: bool,
    /// With `allow_stale`: ask the leader when older than this.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nil_is_zero")]
    pub max_stale_duration: Nanos,
    /// Boolean expression the results must satisfy.
    #[serde(skip_serializing_if = "is_zero", deserialize_with = "nil_is_zero")]
    pub filter: String,
}

/// Flattened fields pass through serde's own buffer, where our reader's leniency about nil is lost.
fn nil_is_zero<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What every indexed reply carries, flattened into it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QueryMeta {
    /// The raft index at which the result last changed; never 0 where a read can block.
    #[serde(deserialize_with = "nil_is_zero")]
    pub index: u64,
    /// Time since the answering server heard from the leader.
    #[serde(deserialize_with = "nil_is_zero")]
    pub last_contact: Nanos,
    /// Whether the answering server knows a leader.
    #[serde(deserialize_with = "nil_is_zero")]
    pub known_leader: bool,
    /// Empty on the wire; HTTP fills it.
    #[serde(deserialize_with = "nil_is_zero")]
    pub consistency_level: String,
}

/// Who asks: the reply is sorted by distance from there. All empty: no sorting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct QuerySource {
    /// Its datacenter.
    pub datacenter: String,
    /// Its network segment.
    pub segment: String,
    /// Its node name.
    pub node: String,
    /// Its address.
    pub ip: String,
}

/// A read that needs nothing but the datacenter: `Status.*`, `Session.List`, `Catalog.ListDatacenters`, …
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DcRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Only nodes with all of this metadata.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_meta_filters: Option<super::Map<String>>,
    /// Who asks.
    #[serde(skip_serializing_if = "is_zero")]
    pub source: QuerySource,
    /// Options of the read.
    #[serde(flatten)]
    pub options: QueryOptions,
}

/// A read about one node: `Catalog.NodeServices`, `Health.NodeChecks`, `Session.NodeSessions`, `Coordinate.Node`, …
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NodeRequest {
    /// Datacenter.
    pub datacenter: String,
    /// Node name.
    pub node: String,
    /// Options of the read.
    #[serde(flatten)]
    pub options: QueryOptions,
}

/// Arguments or a reply without fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}
