//! Events of the machine, owned, for subscribers.

use std::net::SocketAddr;

use agent_core::{
    agent::{Event, Trouble},
    pool::{Member, MemberChange, MemberStatus},
};

/// An event that outlives the loop's turn.
#[derive(Clone, Debug)]
pub enum Notice {
    /// A change in the member table.
    Member(MemberChange, MemberInfo),
    /// A user event.
    User {
        /// Lamport time of the event clock.
        ltime: u64,
        /// Event name.
        name: String,
        /// Payload.
        payload: Vec<u8>,
    },
    /// The gossip keys have changed.
    Keys,
    /// A service or check changed state or reached the catalog.
    Local,
    /// Something is wrong with a member.
    Trouble {
        /// Its name.
        member: String,
        /// What, and what to do.
        text: String,
    },
    /// Events were lost: look at the tables.
    Lagged,
}

impl Notice {
    /// The event, unless it is one that goes to a single waiter.
    pub(super) fn new(event: &Event<'_>) -> Option<Self> {
        match *event {
            Event::Member(ref event) => Some(Notice::Member(event.change, MemberInfo::from(&event.member))),
            Event::User { ltime, name, payload } => {
                Some(Notice::User { ltime, name: name.into(), payload: payload.into() })
            }
            Event::Finished { .. } | Event::Answer { .. } => None,
            Event::Keys => Some(Notice::Keys),
            Event::Local => Some(Notice::Local),
            Event::Trouble(trouble) => {
                let member = match trouble {
                    Trouble::SameName { holder: member, .. } | Trouble::OneWay { member } => member.name,
                    Trouble::SameId { name, .. } => name,
                };
                Some(Notice::Trouble { member: member.into(), text: trouble.to_string() })
            }
            Event::Lagged => Some(Notice::Lagged),
        }
    }
}

/// A member, owned. Fields as in [`Member`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberInfo {
    /// Its name.
    pub name: String,
    /// Its gossip address.
    pub address: SocketAddr,
    /// Its tags, in wire order.
    pub tags: Vec<(String, String)>,
    /// Serf status.
    pub status: MemberStatus,
    /// memberlist and delegate versions: min, max, current of each.
    pub vsn: [u8; 6],
}

impl From<&Member<'_>> for MemberInfo {
    fn from(member: &Member<'_>) -> Self {
        MemberInfo {
            name: member.name.into(),
            address: member.address,
            tags: member.tags().map(|(key, value)| (key.into(), value.into())).collect(),
            status: member.status,
            vsn: member.vsn,
        }
    }
}

impl MemberInfo {
    /// The value of one tag.
    pub fn tag(&self, key: &str) -> Option<&str> {
        self.tags.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }
}
