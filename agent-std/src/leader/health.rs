//! Health of the servers, as the leader sees it, and the end of dead ones (Consul calls this autopilot).

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agent_core::pool::MemberStatus;
use tokio::{
    task::JoinSet,
    time::{Instant, timeout},
};

use super::{MemberRecord, Members};
use crate::{
    model::{AutopilotConfig, Empty, GoTime, Nanos, RaftStats, ServerHealth, ServerHealthReply},
    raft::{self, Suffrage},
    rpc::{RpcError, Server, codec},
    text,
};

/// A server that has not answered by then is not healthy. Consul's time.
const ANSWER: Duration = Duration::from_secs(1);

/// Looks at every server of the configuration.
pub(super) async fn look(server: &Server, members: &Members) -> ServerHealthReply {
    let before = server.server_health();
    let (servers, _) = server.consensus().configuration();
    let (view, config, records) = (server.consensus().view(), server.store().state().autopilot(), members());
    let mut answers = JoinSet::new();
    for raft_server in servers {
        let (pool, is_leader) = (server.pool().clone(), view.leader == Some(raft_server.address));
        answers.spawn(async move {
            let stats = match is_leader {
                true => None,
                false => Some(stats(&pool, &raft_server).await),
            };
            (raft_server, stats)
        });
    }
    let mut rows = Vec::new();
    while let Some(answer) = answers.join_next().await {
        let Ok((raft_server, stats)) = answer else { continue };
        let stats = stats.unwrap_or_else(|| {
            Some(RaftStats { last_contact: "0".into(), last_index: view.last_index, last_term: view.last_term })
        });
        let member = records.iter().find(|member| member.tag("id").eq_ignore_ascii_case(&raft_server.id));
        let is_leader = view.leader == Some(raft_server.address);
        let mut row = judge(raft_server, member, stats, is_leader, view.last_index, &config);
        let known = before.servers.iter().flatten().find(|known| known.id == row.id && known.healthy == row.healthy);
        row.stable_since = known.map_or_else(now, |known| known.stable_since);
        rows.push(row);
    }
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    summed(rows)
}

fn now() -> GoTime {
    GoTime::from_unix(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

async fn stats(pool: &crate::rpc::Pool, server: &raft::Server) -> Option<RaftStats> {
    let ask = async {
        let args = codec::to_vec(&Empty {})?;
        let reply = pool.call(server.address, "Status.RaftStats", &args).await?;
        Ok::<RaftStats, RpcError>(codec::from_slice(&reply)?)
    };
    timeout(ANSWER, ask).await.ok()?.ok()
}

/// One server's row; when it became so is filled in by the caller.
fn judge(
    server: raft::Server,
    member: Option<&MemberRecord>,
    stats: Option<RaftStats>,
    leader: bool,
    leader_index: u64,
    config: &AutopilotConfig,
) -> ServerHealth {
    let serf_status = member.map_or(0, |member| match member.status {
        MemberStatus::Alive => 1,
        MemberStatus::Leaving => 2,
        MemberStatus::Left => 3,
        MemberStatus::Failed => 4,
    });
    let contact = stats.as_ref().and_then(|stats| match stats.last_contact.as_str() {
        "0" => Some(Nanos(0)),
        text => text::parse_duration(text).ok(),
    });
    let (last_index, last_term) = stats.map_or((0, 0), |stats| (stats.last_index, stats.last_term));
    let healthy = serf_status == 1
        && contact.is_some_and(|contact| contact <= config.last_contact_threshold)
        && last_index + config.max_trailing_logs >= leader_index;
    let build = member.map_or("", |member| member.tag("build"));
    ServerHealth {
        id: server.id,
        name: server.name,
        address: server.address.to_string(),
        serf_status,
        version: build.split(':').next().unwrap_or_default().to_owned(),
        leader,
        last_contact: contact.unwrap_or(Nanos(-1)),
        last_term,
        last_index,
        healthy,
        voter: server.suffrage == Suffrage::Voter,
        stable_since: GoTime::default(),
    }
}

fn summed(rows: Vec<ServerHealth>) -> ServerHealthReply {
    let voters = rows.iter().filter(|row| row.voter).count() as i64;
    let healthy = rows.iter().filter(|row| row.voter && row.healthy).count() as i64;
    let quorum = voters / 2 + 1;
    ServerHealthReply {
        healthy: !rows.is_empty() && rows.iter().all(|row| row.healthy),
        failure_tolerance: (healthy - quorum).max(0),
        servers: Some(rows),
    }
}

/// Servers that failed and are to go: only when so few that the others go on without them, as Consul does. A cluster of
/// three keeps a failed one until its replacement has come.
pub(super) fn dead(health: &ServerHealthReply, config: &AutopilotConfig) -> Vec<String> {
    const FAILED: i64 = 4;
    let rows = health.servers.as_deref().unwrap_or_default();
    let dead: Vec<String> = rows.iter().filter(|row| row.serf_status == FAILED).map(|row| row.id.clone()).collect();
    let left = (rows.len() - dead.len()) as u64;
    let few = dead.len() < rows.len() / 2 && left >= config.min_quorum;
    if config.cleanup_dead_servers && few { dead } else { Vec::new() }
}

/// Since when servers are healthy, by a clock that nobody sets. Forgotten with the leadership.
#[derive(Debug, Default)]
pub struct Stability {
    since: HashMap<String, Instant>,
}

impl Stability {
    /// Notes what the latest look has seen; the ids of servers that have been healthy for `span`.
    pub fn update(&mut self, health: &ServerHealthReply, now: Instant, span: Duration) -> Vec<String> {
        let healthy = || health.servers.iter().flatten().filter(|row| row.healthy).map(|row| &row.id);
        self.since.retain(|id, _| healthy().any(|healthy| healthy == id));
        for id in healthy() {
            self.since.entry(id.clone()).or_insert(now);
        }
        let stable = self.since.iter().filter(|(_, since)| now.duration_since(**since) >= span);
        stable.map(|(id, _)| id.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(id: &str, serf_status: i64, healthy: bool) -> ServerHealth {
        ServerHealth { id: id.into(), serf_status, healthy, voter: true, ..ServerHealth::default() }
    }

    fn server(contact: &str, index: u64, status: MemberStatus) -> ServerHealth {
        let address = ([127, 0, 0, 1], 8300).into();
        let raft = raft::Server { id: "a".into(), name: "s".into(), address, suffrage: Suffrage::Voter };
        let tags = vec![("id".to_owned(), "A".to_owned()), ("build".to_owned(), "1.8.7:x".to_owned())];
        let member = MemberRecord { name: "s".into(), address, status, tags, vsn: [0; 6] };
        let stats = RaftStats { last_contact: contact.into(), last_index: index, last_term: 2 };
        judge(raft, Some(&member), Some(stats), false, 1000, &AutopilotConfig::default())
    }

    #[test]
    fn a_server_is_healthy_while_it_is_alive_in_contact_and_not_behind() {
        let good = server("5ms", 900, MemberStatus::Alive);
        assert!(good.healthy && good.version == "1.8.7", "{good:?}");
        assert!(server("0", 750, MemberStatus::Alive).healthy);
        for bad in [
            server("201ms", 900, MemberStatus::Alive),
            server("never", 900, MemberStatus::Alive),
            server("5ms", 749, MemberStatus::Alive),
            server("5ms", 900, MemberStatus::Failed),
        ] {
            assert!(!bad.healthy, "{bad:?}");
        }
    }

    #[test]
    fn the_tolerance_is_what_may_still_fail() {
        let three = |healthy: [bool; 3]| summed(healthy.iter().map(|&healthy| row("a", 1, healthy)).collect());
        let of = |reply: ServerHealthReply| (reply.healthy, reply.failure_tolerance);
        assert_eq!(of(three([true; 3])), (true, 1));
        assert_eq!(of(three([true, true, false])), (false, 0));
        assert_eq!(of(summed(vec![row("a", 1, true)])), (true, 0));
        assert_eq!(of(summed(Vec::new())), (false, 0));
    }

    #[test]
    fn a_server_is_stable_when_it_was_healthy_all_the_time() {
        let mut stability = Stability::default();
        let (begin, span) = (Instant::now(), Duration::from_secs(10));
        let mut at = |seconds, healthy| {
            let rows = vec![row("a", 1, true), row("b", 1, healthy)];
            let mut stable = stability.update(&summed(rows), begin + Duration::from_secs(seconds), span);
            stable.sort();
            stable.join(" ")
        };
        assert_eq!(at(0, true), "");
        assert_eq!(at(9, false), "");
        assert_eq!(at(11, true), "a");
        assert_eq!(at(20, true), "a");
        assert_eq!(at(21, true), "a b");
    }

    #[test]
    fn dead_servers_go_when_the_others_are_many() {
        let config = AutopilotConfig::default();
        let of = |dead_count: usize, alive: usize, config: &AutopilotConfig| {
            let rows = (0..dead_count + alive).map(|n| row(&n.to_string(), if n < dead_count { 4 } else { 1 }, true));
            dead(&ServerHealthReply { servers: Some(rows.collect()), ..ServerHealthReply::default() }, config).len()
        };
        assert_eq!((of(1, 2, &config), of(1, 3, &config), of(2, 3, &config), of(0, 3, &config)), (0, 1, 0, 0));
        assert_eq!(of(1, 3, &AutopilotConfig { min_quorum: 4, ..config.clone() }), 0);
        assert_eq!(of(1, 3, &AutopilotConfig { cleanup_dead_servers: false, ..config }), 0);
    }
}
