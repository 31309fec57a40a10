//! Members as others may look at them.

use core::net::SocketAddr;

/// Serf's status of a member (gossip spec §9.2). The numbers are Consul's HTTP API's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberStatus {
    /// Answers probes.
    Alive = 1,
    /// Said that it will leave.
    Leaving = 2,
    /// Left on its own, or was made to.
    Left = 3,
    /// Stopped answering.
    Failed = 4,
}

impl MemberStatus {
    /// The word `members` shows.
    pub const fn as_str(self) -> &'static str {
        match self {
            MemberStatus::Alive => "alive",
            MemberStatus::Leaving => "leaving",
            MemberStatus::Left => "left",
            MemberStatus::Failed => "failed",
        }
    }
}

/// A member as the table has it.
#[derive(Clone, Copy, Debug)]
pub struct Member<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its gossip address.
    pub address: SocketAddr,
    /// Its encoded tags; see [`Member::tags`].
    pub meta: &'a [u8],
    /// Serf status.
    pub status: MemberStatus,
    /// Incarnation.
    pub incarnation: u32,
    /// memberlist and delegate versions: min, max, current of each.
    pub vsn: [u8; 6],
}

impl<'a> Member<'a> {
    /// Its tags, in wire order. A `Meta` without serf's magic octet is the value of `role` alone (gossip spec §9.7).
    pub fn tags(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        crate::wire::tags::parse(self.meta)
    }

    /// The value of one tag.
    pub fn tag(&self, key: &str) -> Option<&'a str> {
        self.tags().find(|&(k, _)| k == key).map(|(_, value)| value)
    }

    /// True for a Consul server: tag `role` is `consul`.
    pub fn is_server(&self) -> bool {
        self.tag("role") == Some("consul")
    }
}

/// What happened to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// New, or back.
    Joined,
    /// Address, tags or version changed.
    Updated,
    /// Stopped answering.
    Failed,
    /// Left.
    Left,
    /// Forgotten after its time, or pruned.
    Reaped,
}

/// A change in the member table.
#[derive(Clone, Copy, Debug)]
pub struct MemberEvent<'a> {
    /// What happened.
    pub change: MemberChange,
    /// The member after the change.
    pub member: Member<'a>,
}
