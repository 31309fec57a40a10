//! The member table as the other parts of the process see it: a copy that follows the driver's notices.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, PoisonError, RwLock},
};

use agent_core::pool::{MemberChange, MemberStatus};
use tokio::sync::{broadcast::error::RecvError, mpsc, watch};

use crate::{
    driver::{AgentKind, Handle, Kind, Machine as _, MemberInfo, Notice},
    leader::{MemberNews, MemberRecord},
    rpc::ServerInfo,
};

/// A copy of the member table. Cheap to clone.
#[derive(Clone, Default)]
pub struct Members {
    table: Arc<RwLock<BTreeMap<String, MemberInfo>>>,
}

impl Members {
    /// All members as the leader's work wants them.
    pub fn records(&self) -> Vec<MemberRecord> {
        self.read().values().map(record).collect()
    }

    /// Servers of `datacenter` that are alive.
    pub fn servers(&self, datacenter: &str) -> Vec<MemberInfo> {
        let alive = |member: &&MemberInfo| member.status == MemberStatus::Alive;
        self.read().values().filter(|member| is_server(member, datacenter)).filter(alive).cloned().collect()
    }

    /// True when a member with that address is a server.
    pub fn is_server_address(&self, ip: std::net::IpAddr) -> bool {
        self.read().values().any(|member| member.address.ip() == ip && member.tag("role") == Some("consul"))
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, MemberInfo>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn replace(&self, members: Vec<MemberInfo>) {
        let table = members.into_iter().map(|member| (member.name.clone(), member)).collect();
        *self.table.write().unwrap_or_else(PoisonError::into_inner) = table;
    }

    fn change(&self, change: MemberChange, member: MemberInfo) {
        let mut table = self.table.write().unwrap_or_else(PoisonError::into_inner);
        if change == MemberChange::Reaped {
            table.remove(&member.name);
        } else {
            table.insert(member.name.clone(), member);
        }
    }
}

/// True for a server of `datacenter` whose RPC address is known.
fn is_server(member: &MemberInfo, datacenter: &str) -> bool {
    member.tag("role") == Some("consul") && member.tag("dc") == Some(datacenter) && rpc_address(member).is_some()
}

/// Where a server takes RPC: its gossip address with the port of tag `port` (gossip spec §10.2).
pub fn rpc_address(member: &MemberInfo) -> Option<SocketAddr> {
    let port = member.tag("port")?.parse().ok().filter(|&port| port != 0)?;
    Some(SocketAddr::new(member.address.ip(), port))
}

fn record(member: &MemberInfo) -> MemberRecord {
    MemberRecord {
        name: member.name.clone(),
        address: member.address,
        status: member.status,
        tags: member.tags.clone(),
        vsn: member.vsn,
    }
}

/// Follows the driver until it stops: keeps the copy, the list of servers, and tells the leader's work.
pub async fn follow(
    handle: Handle<AgentKind>,
    members: Members,
    datacenter: String,
    servers: watch::Sender<Vec<ServerInfo>>,
    news: Option<mpsc::Sender<MemberNews>>,
) {
    let mut notices = handle.subscribe();
    // Subscribed first, read then: nothing falls between.
    let mut lost = true;
    loop {
        if std::mem::take(&mut lost) {
            let Ok(all) = all(&handle).await else { return };
            members.replace(all);
            tell(&news, MemberNews::Lagged).await;
        }
        let known = members.servers(&datacenter);
        let info = |member: MemberInfo| Some(ServerInfo { address: rpc_address(&member)?, name: member.name });
        let list: Vec<ServerInfo> = known.into_iter().filter_map(info).collect();
        servers.send_if_modified(|known| {
            let changed = *known != list;
            *known = list;
            changed
        });
        match notices.recv().await {
            Ok(Notice::Member(change, member)) => {
                log_change(change, &member);
                let happened = record(&member);
                members.change(change, member);
                let reaped = change == MemberChange::Reaped;
                tell(&news, if reaped { MemberNews::Reaped(happened) } else { MemberNews::Changed(happened) }).await;
            }
            Ok(Notice::Lagged) | Err(RecvError::Lagged(_)) => lost = true,
            Ok(Notice::User { .. } | Notice::Local | Notice::Keys | Notice::Trouble { .. }) => {}
            Err(RecvError::Closed) => return,
        }
    }
}

/// All members, from the driver.
pub async fn all<K: Kind>(handle: &Handle<K>) -> Result<Vec<MemberInfo>, crate::driver::Stopped> {
    handle.with(|machine, _| machine.pool().members().map(|member| MemberInfo::from(&member)).collect()).await
}

async fn tell(news: &Option<mpsc::Sender<MemberNews>>, what: MemberNews) {
    if let Some(news) = news {
        // The leader's work may have ended before us.
        let _ = news.send(what).await;
    }
}

/// Serf's lines.
pub fn log_change(change: MemberChange, member: &MemberInfo) {
    let event = match change {
        MemberChange::Joined => "EventMemberJoin",
        MemberChange::Updated => "EventMemberUpdate",
        MemberChange::Failed => "EventMemberFailed",
        MemberChange::Left => "EventMemberLeave",
        MemberChange::Reaped => "EventMemberReap",
    };
    log::info!("serf: {event}: {} {}", member.name, member.address.ip());
}
