//! Which endpoint a path means, and with which methods: Go's mux and Consul's method check (http spec §1, §11).

use super::url;

/// All endpoints that we have. Each name is its path; see the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    Root,
    AgentCheckDeregister,
    AgentCheckFail,
    AgentCheckPass,
    AgentCheckRegister,
    AgentCheckUpdate,
    AgentCheckWarn,
    AgentChecks,
    AgentForceLeave,
    AgentHealthId,
    AgentHealthName,
    AgentJoin,
    AgentLeave,
    AgentMaintenance,
    AgentMembers,
    AgentReload,
    AgentSelf,
    AgentService,
    AgentServiceDeregister,
    AgentServiceMaintenance,
    AgentServiceRegister,
    AgentServices,
    AutopilotConfiguration,
    AutopilotHealth,
    CatalogConnect,
    CatalogDatacenters,
    CatalogDeregister,
    CatalogNode,
    CatalogNodeServices,
    CatalogNodes,
    CatalogRegister,
    CatalogService,
    CatalogServices,
    CoordinateDatacenters,
    CoordinateNode,
    CoordinateNodes,
    CoordinateUpdate,
    EventFire,
    EventList,
    HealthChecks,
    HealthConnect,
    HealthNode,
    HealthService,
    HealthState,
    Keyring,
    Kv,
    Queries,
    Query,
    RaftConfiguration,
    RaftPeer,
    SessionCreate,
    SessionDestroy,
    SessionInfo,
    SessionList,
    SessionNode,
    SessionRenew,
    Snapshot,
    StatusLeader,
    StatusPeers,
    Txn,
}

/// Path, methods, endpoint. A path that ends with a slash also means everything below it.
const TABLE: &[(&str, &[&str], Endpoint)] = &[
    ("/v1/agent/check/deregister/", &["PUT"], Endpoint::AgentCheckDeregister),
    ("/v1/agent/check/fail/", &["PUT"], Endpoint::AgentCheckFail),
    ("/v1/agent/check/pass/", &["PUT"], Endpoint::AgentCheckPass),
    ("/v1/agent/check/register", &["PUT"], Endpoint::AgentCheckRegister),
    ("/v1/agent/check/update/", &["PUT"], Endpoint::AgentCheckUpdate),
    ("/v1/agent/check/warn/", &["PUT"], Endpoint::AgentCheckWarn),
    ("/v1/agent/checks", &["GET"], Endpoint::AgentChecks),
    ("/v1/agent/force-leave/", &["PUT"], Endpoint::AgentForceLeave),
    ("/v1/agent/health/service/id/", &["GET"], Endpoint::AgentHealthId),
    ("/v1/agent/health/service/name/", &["GET"], Endpoint::AgentHealthName),
    ("/v1/agent/join/", &["PUT"], Endpoint::AgentJoin),
    ("/v1/agent/leave", &["PUT"], Endpoint::AgentLeave),
    ("/v1/agent/maintenance", &["PUT"], Endpoint::AgentMaintenance),
    ("/v1/agent/members", &["GET"], Endpoint::AgentMembers),
    ("/v1/agent/reload", &["PUT"], Endpoint::AgentReload),
    ("/v1/agent/self", &["GET"], Endpoint::AgentSelf),
    ("/v1/agent/service/", &["GET"], Endpoint::AgentService),
    ("/v1/agent/service/deregister/", &["PUT"], Endpoint::AgentServiceDeregister),
    ("/v1/agent/service/maintenance/", &["PUT"], Endpoint::AgentServiceMaintenance),
    ("/v1/agent/service/register", &["PUT"], Endpoint::AgentServiceRegister),
    ("/v1/agent/services", &["GET"], Endpoint::AgentServices),
    ("/v1/catalog/connect/", &["GET"], Endpoint::CatalogConnect),
    ("/v1/catalog/datacenters", &["GET"], Endpoint::CatalogDatacenters),
    ("/v1/catalog/deregister", &["PUT"], Endpoint::CatalogDeregister),
    ("/v1/catalog/node-services/", &["GET"], Endpoint::CatalogNodeServices),
    ("/v1/catalog/node/", &["GET"], Endpoint::CatalogNode),
    ("/v1/catalog/nodes", &["GET"], Endpoint::CatalogNodes),
    ("/v1/catalog/register", &["PUT"], Endpoint::CatalogRegister),
    ("/v1/catalog/service/", &["GET"], Endpoint::CatalogService),
    ("/v1/catalog/services", &["GET"], Endpoint::CatalogServices),
    ("/v1/coordinate/datacenters", &["GET"], Endpoint::CoordinateDatacenters),
    ("/v1/coordinate/node/", &["GET"], Endpoint::CoordinateNode),
    ("/v1/coordinate/nodes", &["GET"], Endpoint::CoordinateNodes),
    ("/v1/coordinate/update", &["PUT"], Endpoint::CoordinateUpdate),
    ("/v1/event/fire/", &["PUT"], Endpoint::EventFire),
    ("/v1/event/list", &["GET"], Endpoint::EventList),
    ("/v1/health/checks/", &["GET"], Endpoint::HealthChecks),
    ("/v1/health/connect/", &["GET"], Endpoint::HealthConnect),
    ("/v1/health/node/", &["GET"], Endpoint::HealthNode),
    ("/v1/health/service/", &["GET"], Endpoint::HealthService),
    ("/v1/health/state/", &["GET"], Endpoint::HealthState),
    ("/v1/kv/", &["GET", "PUT", "DELETE"], Endpoint::Kv),
    ("/v1/operator/autopilot/configuration", &["GET", "PUT"], Endpoint::AutopilotConfiguration),
    ("/v1/operator/autopilot/health", &["GET"], Endpoint::AutopilotHealth),
    ("/v1/operator/keyring", &["GET", "POST", "PUT", "DELETE"], Endpoint::Keyring),
    ("/v1/operator/raft/configuration", &["GET"], Endpoint::RaftConfiguration),
    ("/v1/operator/raft/peer", &["DELETE"], Endpoint::RaftPeer),
    ("/v1/query", &["GET", "POST"], Endpoint::Queries),
    ("/v1/query/", &["GET", "PUT", "DELETE"], Endpoint::Query),
    ("/v1/session/create", &["PUT"], Endpoint::SessionCreate),
    ("/v1/session/destroy/", &["PUT"], Endpoint::SessionDestroy),
    ("/v1/session/info/", &["GET"], Endpoint::SessionInfo),
    ("/v1/session/list", &["GET"], Endpoint::SessionList),
    ("/v1/session/node/", &["GET"], Endpoint::SessionNode),
    ("/v1/session/renew/", &["PUT"], Endpoint::SessionRenew),
    ("/v1/snapshot", &["GET", "PUT"], Endpoint::Snapshot),
    ("/v1/status/leader", &["GET"], Endpoint::StatusLeader),
    ("/v1/status/peers", &["GET"], Endpoint::StatusPeers),
    ("/v1/txn", &["PUT"], Endpoint::Txn),
];

/// Families of Consul's that we do not have yet: refused by name.
const MISSING: &[&str] = &[
    "/v1/acl/",
    "/v1/agent/connect/",
    "/v1/agent/host",
    "/v1/agent/metrics",
    "/v1/agent/monitor",
    "/v1/agent/token/",
    "/v1/catalog/gateway-services/",
    "/v1/config",
    "/v1/connect/",
    "/v1/discovery-chain/",
    "/v1/health/ingress/",
    "/v1/internal/",
    "/v1/operator/",
];

/// Where a request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// To an endpoint; `rest` is what follows its prefix, decoded.
    Found {
        /// The endpoint.
        endpoint: Endpoint,
        /// Its methods.
        methods: &'static [&'static str],
        /// What follows the prefix.
        rest: String,
    },
    /// Elsewhere: this path, encoded.
    Redirect(String),
    /// Consul has it, we do not.
    Missing,
    /// Nowhere.
    Unknown,
    /// The path holds characters that cannot be printed, or a broken escape.
    Bad,
}

/// Finds the endpoint for the path as it came over the wire.
pub fn route(raw: &str, allow_unprintable: bool) -> Route {
    let Ok(path) = url::unescape(raw, false) else { return Route::Bad };
    if !allow_unprintable && path.chars().any(|c| c.is_control() || c == '\u{fffd}') {
        return Route::Bad;
    }
    let cleaned = clean(&path);
    if cleaned != path {
        return Route::Redirect(url::escape_path(&cleaned));
    }
    if path == "/" {
        return Route::Found { endpoint: Endpoint::Root, methods: &["GET"], rest: String::new() };
    }
    // The longest prefix wins: `service/register` before `service/`.
    let best = TABLE
        .iter()
        .filter(|(known, ..)| path == *known || (known.ends_with('/') && path.starts_with(known)))
        .max_by_key(|(known, ..)| known.len());
    match best {
        Some(&(known, methods, endpoint)) => Route::Found { endpoint, methods, rest: path[known.len()..].to_owned() },
        None if TABLE.iter().any(|(known, ..)| known.strip_suffix('/') == Some(&path)) => {
            Route::Redirect(url::escape_path(&format!("{path}/")))
        }
        None if MISSING.iter().any(|known| path.starts_with(known)) => Route::Missing,
        None => Route::Unknown,
    }
}

/// Go's `path.Clean` with the final slash kept: no `//`, `.` or `..`.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    let mut cleaned = format!("/{}", parts.join("/"));
    let folder = path.ends_with('/') || path.ends_with("/.") || path.ends_with("/..");
    if folder && cleaned != "/" && path.ends_with('/') {
        cleaned.push('/');
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(path: &str) -> (Endpoint, String) {
        match route(path, false) {
            Route::Found { endpoint, rest, .. } => (endpoint, rest),
            other => panic!("{path}: {other:?}"),
        }
    }

    #[test]
    fn the_longest_prefix_wins() {
        assert_eq!(found("/v1/agent/service/register"), (Endpoint::AgentServiceRegister, String::new()));
        assert_eq!(found("/v1/agent/service/web"), (Endpoint::AgentService, "web".into()));
        assert_eq!(found("/v1/agent/service/deregister/web"), (Endpoint::AgentServiceDeregister, "web".into()));
        assert_eq!(found("/v1/kv/"), (Endpoint::Kv, String::new()));
        assert_eq!(found("/v1/kv/a%2Fb%20c/d"), (Endpoint::Kv, "a/b c/d".into()));
        assert_eq!(found("/"), (Endpoint::Root, String::new()));
    }

    #[test]
    fn redirects() {
        for (path, to) in [
            ("/v1/kv", "/v1/kv/"),
            ("//v1/kv", "/v1/kv"),
            ("/v1/./kv/a", "/v1/kv/a"),
            ("/v1/x/../kv/a/", "/v1/kv/a/"),
            ("/v1/catalog/service", "/v1/catalog/service/"),
            ("/v1/kv/a//b", "/v1/kv/a/b"),
        ] {
            assert_eq!(route(path, false), Route::Redirect(to.to_owned()), "{path}");
        }
    }

    #[test]
    fn refusals() {
        assert_eq!(route("/nope", false), Route::Unknown);
        assert_eq!(route("/v1/kvx", false), Route::Unknown);
        assert_eq!(route("/v1/agent/selfish", false), Route::Unknown);
        assert_eq!(route("/v1/acl/list", false), Route::Missing);
        assert_eq!(route("/v1/kv/%01", false), Route::Bad);
        assert!(matches!(route("/v1/kv/%01", true), Route::Found { .. }));
        assert_eq!(route("/v1/kv/%zz", true), Route::Bad);
    }

    proptest! {
        /// A redirect leads somewhere else at most twice: cleaned, then with its slash.
        #[test]
        fn redirects_end(path in "(/|/v1/kv|/v1|[.]{1,2}|a|//|%2[fF]|%2e){0,8}") {
            let mut path = format!("/{path}");
            for _ in 0..3 {
                match route(&path, false) {
                    Route::Redirect(to) => path = to,
                    _ => return Ok(()),
                }
            }
            prop_assert!(false, "still redirecting: {}", path);
        }

        #[test]
        fn any_path_is_survived(path in "[/%.a-f0-9]{0,30}|.{0,20}") {
            let _ = route(&path, false);
        }
    }
}
