//! The agent's memory on a device: one static whose size is known when it is linked.

/// Declares a struct that holds an agent's memory, with a const `EMPTY` and a method `regions`.
///
/// ```ignore
/// agent_embedded::memory!(Memory: members 24, text 3600, services 1, checks 2, records 640);
/// static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::EMPTY);
/// ```
///
/// `members` counts the board itself; `text` holds their names and tags, about 150 octets each. `records` holds what
/// services and checks say of themselves: see [`LocalRegions`](agent_core::local::LocalRegions).
#[macro_export]
macro_rules! memory {
    (
        $name:ident: members $members:literal, text $text:literal,
        services $services:literal, checks $checks:literal, records $records:literal
    ) => {
        $crate::memory! { @fields $name
            members: [$crate::core::membership::MemberSlot; $members] = [$crate::core::membership::MemberSlot::EMPTY; $members],
            index: [u16; (2 * $members as usize).next_power_of_two()] = [0; (2 * $members as usize).next_power_of_two()],
            text: [u8; $text] = [0; $text],
            // A device starts little gossip itself; what it passes on is sent a few times and forgotten.
            broadcasts: [$crate::core::membership::BroadcastSlot; 12] = [$crate::core::membership::BroadcastSlot::EMPTY; 12],
            outbox: [u8; 1024] = [0; 1024],
            mail: [u8; 512] = [0; 512],
            queues: $crate::core::pool::Queues = $crate::core::pool::Queues::EMPTY,
            relays: [$crate::core::pool::RelaySlot; 2] = [$crate::core::pool::RelaySlot::EMPTY; 2],
            seen: [$crate::core::serf::SeenSlot; 12] = [$crate::core::serf::SeenSlot::EMPTY; 12],
            intents: [$crate::core::serf::IntentSlot; 4] = [$crate::core::serf::IntentSlot::EMPTY; 4],
            // One that listens, and those that the board begins.
            streams: [$crate::core::pool::StreamSlot; 3] = [$crate::core::pool::StreamSlot::EMPTY; 3],
            inflate: [u8; $crate::core::pool::INFLATE_MIN] = [0; $crate::core::pool::INFLATE_MIN],
            datagram: [u8; $crate::core::pool::DATAGRAM_MIN] = [0; $crate::core::pool::DATAGRAM_MIN],
            // The least: the board itself and servers are taken, others by gossip.
            stage: [u8; 1024] = [0; 1024],
            image: [u8; $crate::core::pool::IMAGE_MIN] = [0; $crate::core::pool::IMAGE_MIN],
            services: [$crate::core::local::ServiceSlot; $services] = [$crate::core::local::ServiceSlot::EMPTY; $services],
            checks: [$crate::core::local::CheckSlot; $checks] = [$crate::core::local::CheckSlot::EMPTY; $checks],
            records: [u8; $records] = [0; $records],
            connections: [$crate::core::agent::ConnectionSlot; 2] = [$crate::core::agent::ConnectionSlot::EMPTY; 2],
            request: [u8; $crate::core::agent::REQUEST_MIN] = [0; $crate::core::agent::REQUEST_MIN],
            queries: [$crate::core::agent::QuerySlot; 1] = [$crate::core::agent::QuerySlot::EMPTY; 1],
            look_ups: [$crate::core::agent::LookUpSlot; 1] = [$crate::core::agent::LookUpSlot::EMPTY; 1],
        }
    };
    (@fields $name:ident $($(#[$note:meta])* $field:ident: $type:ty = $empty:expr,)*) => {
        /// An agent's memory; all zero bits, so that a static lies in .bss.
        pub struct $name {
            $($field: $type,)*
        }

        impl $name {
            /// Nothing in it yet.
            pub const EMPTY: Self = Self { $($field: $empty,)* };

            /// Lends it to an agent.
            pub fn regions(&mut self) -> $crate::core::agent::Regions<'_> {
                $crate::core::agent::Regions {
                    pool: $crate::core::pool::PoolRegions {
                        members: &mut self.members,
                        index: &mut self.index,
                        text: &mut self.text,
                        broadcasts: &mut self.broadcasts,
                        outbox: &mut self.outbox,
                        mail: &mut self.mail,
                        queues: &mut self.queues,
                        relays: &mut self.relays,
                        seen: &mut self.seen,
                        intents: &mut self.intents,
                        streams: &mut self.streams,
                        inflate: &mut self.inflate,
                        datagram: &mut self.datagram,
                        stage: &mut self.stage,
                        image: &mut self.image,
                        deflate: &mut [],
                    },
                    local: $crate::core::local::LocalRegions {
                        services: &mut self.services,
                        checks: &mut self.checks,
                        text: &mut self.records,
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
