//! The memory of an agent.

use super::{
    names::{LookUpSlot, QuerySlot},
    streams::ConnectionSlot,
};
use crate::{config::ConfigError, local::LocalRegions, pool::PoolRegions};

/// Smallest `request`: a call that carries a service of about 300 octets.
pub const REQUEST_MIN: usize = 768;

/// The only memory there is. Lengths are the limits; a static of all the `EMPTY` slots and zeros lies in .bss.
pub struct Regions<'m> {
    /// Gossip.
    pub pool: PoolRegions<'m>,
    /// Services and checks.
    pub local: LocalRegions<'m>,
    /// TCP exchanges of our own calls, of checks and of DNS, at least one. All taken: checks wait.
    pub connections: &'m mut [ConnectionSlot],
    /// One call to a server, at least [`REQUEST_MIN`] octets. A service or check that does not fit is refused.
    pub request: &'m mut [u8],
    /// DNS queries under way. All taken: queries are dropped, and the asker tries again. None: DNS is off.
    pub queries: &'m mut [QuerySlot],
    /// Look-ups for them, remembered for seconds; at least one, four for names that are aliases. All in use: the oldest is
    /// forgotten.
    pub look_ups: &'m mut [LookUpSlot],
}

impl Regions<'_> {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let fits = [
            ("connections", !self.connections.is_empty()),
            ("request", self.request.len() >= REQUEST_MIN),
            ("look_ups", self.queries.is_empty() || !self.look_ups.is_empty()),
        ];
        match fits.iter().find(|(_, fits)| !fits) {
            Some(&(region, _)) => Err(ConfigError::Region(region)),
            None => Ok(()),
        }
    }
}

/// Declares a struct with all the memory of a small agent, for a `static`.
///
/// ```
/// agent_core::lictor_memory! {
///     /// 32 members, some of our own services, DNS.
///     pub struct Memory { members: 32, services: 4, checks: 8, connections: 3, queries: 2 }
/// }
/// let mut memory = Memory::new();
/// let regions = memory.regions();
/// assert_eq!(regions.pool.members.len(), 32);
/// ```
///
/// `new` is `const` and all zero bits: in a `static_cell::ConstStaticCell` it lies in .bss. `members` counts ourselves;
/// `connections` are TCP exchanges of checks and of calls to servers, and gossip has three more; each of the `queries` is
/// a DNS query under way, 0 turns DNS off. The rest follows: a member takes about 330 octets, a service 280, a check 400.
///
/// Where RAM is short, three regions can be given in octets behind `queries`, in this order, each or none:
/// `outbox` (1,536), `stage` (2,048) and `request` (1,280). [`PoolRegions`] and [`Regions`] say what less of them means.
#[macro_export]
macro_rules! lictor_memory {
    ($(#[$meta:meta])* $vis:vis struct $name:ident {
        members: $members:expr, services: $services:expr, checks: $checks:expr, connections: $connections:expr,
        queries: $queries:expr
        $(, outbox: $outbox:expr)? $(, stage: $stage:expr)? $(, request: $request:expr)? $(,)?
    }) => {
        $(#[$meta])*
        $vis struct $name {
            members: [$crate::membership::MemberSlot; $members],
            index: [u16; (2 * $members as usize).next_power_of_two()],
            names: [u8; $crate::agent::at_least(192 * $members, 768)],
            broadcasts: [$crate::membership::BroadcastSlot; 16],
            outbox: [u8; $name::OUTBOX],
            mail: [u8; 512],
            queues: $crate::pool::Queues,
            relays: [$crate::pool::RelaySlot; 2],
            seen: [$crate::serf::SeenSlot; 16],
            events: [$crate::serf::EventSlot; 8],
            event_text: [u8; $crate::pool::EVENT_TEXT_MIN],
            intents: [$crate::serf::IntentSlot; 8],
            // One that others open; a push/pull and a ping that we open.
            streams: [$crate::pool::StreamSlot; 3],
            inflate: [u8; $crate::pool::INFLATE_MIN],
            datagram: [u8; $crate::pool::DATAGRAM_MIN],
            stage: [u8; $name::STAGE],
            image: [u8; $crate::pool::IMAGE_MIN],
            deflate: [u8; $crate::pool::DEFLATE],
            services: [$crate::local::ServiceSlot; $services],
            checks: [$crate::local::CheckSlot; $checks],
            text: [u8; 256 * $services + 320 * $checks],
            connections: [$crate::agent::ConnectionSlot; $connections],
            request: [u8; $name::REQUEST],
            queries: [$crate::agent::QuerySlot; $queries],
            look_ups: [$crate::agent::LookUpSlot; $queries],
        }

        impl $name {
            const OUTBOX: usize = $crate::agent::given(&[$($outbox)?], 2 * $crate::pool::OUTBOX_MIN);
            const STAGE: usize = $crate::agent::given(&[$($stage)?], 2048);
            const REQUEST: usize = $crate::agent::given(&[$($request)?], 1280);

            /// All zero bits.
            #[allow(clippy::new_without_default, reason = "a default would be built on the stack")]
            $vis const fn new() -> Self {
                $name {
                    members: [const { $crate::membership::MemberSlot::EMPTY }; $members],
                    index: [0; (2 * $members as usize).next_power_of_two()],
                    names: [0; $crate::agent::at_least(192 * $members, 768)],
                    broadcasts: [const { $crate::membership::BroadcastSlot::EMPTY }; 16],
                    outbox: [0; $name::OUTBOX],
                    mail: [0; 512],
                    queues: $crate::pool::Queues::EMPTY,
                    relays: [const { $crate::pool::RelaySlot::EMPTY }; 2],
                    seen: [const { $crate::serf::SeenSlot::EMPTY }; 16],
                    events: [$crate::serf::EventSlot::EMPTY; 8],
                    event_text: [0; $crate::pool::EVENT_TEXT_MIN],
                    intents: [const { $crate::serf::IntentSlot::EMPTY }; 8],
                    streams: [const { $crate::pool::StreamSlot::EMPTY }; 3],
                    inflate: [0; $crate::pool::INFLATE_MIN],
                    datagram: [0; $crate::pool::DATAGRAM_MIN],
                    stage: [0; $name::STAGE],
                    image: [0; $crate::pool::IMAGE_MIN],
                    deflate: [0; $crate::pool::DEFLATE],
                    services: [$crate::local::ServiceSlot::EMPTY; $services],
                    checks: [$crate::local::CheckSlot::EMPTY; $checks],
                    text: [0; 256 * $services + 320 * $checks],
                    connections: [$crate::agent::ConnectionSlot::EMPTY; $connections],
                    request: [0; $name::REQUEST],
                    queries: [$crate::agent::QuerySlot::EMPTY; $queries],
                    look_ups: [$crate::agent::LookUpSlot::EMPTY; $queries],
                }
            }

            /// Lends all of it.
            $vis fn regions(&mut self) -> $crate::agent::Regions<'_> {
                $crate::agent::Regions {
                    pool: $crate::pool::PoolRegions {
                        members: &mut self.members,
                        index: &mut self.index,
                        text: &mut self.names,
                        broadcasts: &mut self.broadcasts,
                        outbox: &mut self.outbox,
                        mail: &mut self.mail,
                        queues: &mut self.queues,
                        relays: &mut self.relays,
                        seen: &mut self.seen,
                        events: &mut self.events,
                        event_text: &mut self.event_text,
                        intents: &mut self.intents,
                        streams: &mut self.streams,
                        inflate: &mut self.inflate,
                        datagram: &mut self.datagram,
                        stage: &mut self.stage,
                        image: &mut self.image,
                        deflate: &mut self.deflate,
                    },
                    local: $crate::local::LocalRegions {
                        services: &mut self.services,
                        checks: &mut self.checks,
                        text: &mut self.text,
                    },
                    connections: &mut self.connections,
                    request: &mut self.request,
                    queries: &mut self.queries,
                    look_ups: &mut self.look_ups,
                }
            }
        }
    };
}

/// The greater of both; for [`lictor_memory!`](crate::lictor_memory).
#[doc(hidden)]
pub const fn at_least(wanted: usize, least: usize) -> usize {
    if wanted < least { least } else { wanted }
}

/// The size that was given, or the usual one; for [`lictor_memory!`](crate::lictor_memory).
#[doc(hidden)]
pub const fn given(size: &[usize], usual: usize) -> usize {
    match size {
        [size, ..] => *size,
        [] => usual,
    }
}
