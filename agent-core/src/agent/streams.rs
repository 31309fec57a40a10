//! The agent's own TCP exchanges: RPC and checks. The pool keeps its own.

use super::input::{Owner, StreamId};
use crate::checks::http::Response;

/// Who uses an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Usage {
    /// Nobody.
    Free,
    /// The connection to a server.
    Rpc,
    /// The run of the check in slot `index`.
    Check,
    /// Nobody any more; the driver is still to be told.
    Closing,
}

/// What the driver is to be told of an exchange, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Wish {
    Connect = 1,
    Writable = 2,
    Close = 4,
}

/// One exchange. When all are taken, a check waits and tries again.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionSlot {
    generation: u16,
    pub(super) usage: Usage,
    /// The check, for `Usage::Check`.
    pub(super) index: u16,
    /// The registration of that check that the run belongs to.
    pub(super) check_generation: u8,
    wishes: u8,
    pub(super) opened: bool,
    /// Octets of the request that are sent.
    pub(super) sent: u32,
    pub(super) response: Response,
}

impl ConnectionSlot {
    /// A free slot; all zero bits.
    pub const EMPTY: Self = ConnectionSlot {
        generation: 0,
        usage: Usage::Free,
        index: 0,
        check_generation: 0,
        wishes: 0,
        opened: false,
        sent: 0,
        response: Response::EMPTY,
    };
}

const _: () = assert!(size_of::<ConnectionSlot>() <= 96);

/// The table.
pub(super) struct Streams<'m> {
    slots: &'m mut [ConnectionSlot],
    /// Some slot has wishes.
    wishing: bool,
}

impl<'m> Streams<'m> {
    pub(super) fn new(slots: &'m mut [ConnectionSlot]) -> Self {
        let len = slots.len().min(usize::from(u16::MAX));
        Streams { slots: &mut slots[..len], wishing: false }
    }

    /// A free slot, now in use.
    pub(super) fn open(&mut self, usage: Usage, index: u16) -> Option<u16> {
        let slot = self.slots.iter().position(|slot| slot.usage == Usage::Free)?;
        let generation = self.slots[slot].generation.wrapping_add(1);
        self.slots[slot] = ConnectionSlot { generation, usage, index, ..ConnectionSlot::EMPTY };
        Some(slot as u16)
    }

    /// The id of a slot.
    pub(super) fn id(&self, slot: u16) -> StreamId {
        let generation = self.slots.get(usize::from(slot)).map_or(0, |slot| slot.generation);
        StreamId { owner: Owner::Agent, slot, generation }
    }

    /// The slot of `id`, unless that exchange is over.
    pub(super) fn find(&self, id: StreamId) -> Option<u16> {
        let slot = self.slots.get(usize::from(id.slot))?;
        let open = !matches!(slot.usage, Usage::Free | Usage::Closing);
        (open && slot.generation == id.generation).then_some(id.slot)
    }

    /// The slot that the check in slot `index` runs on.
    pub(super) fn of_check(&self, index: u16) -> Option<u16> {
        let found = self.slots.iter().position(|slot| slot.usage == Usage::Check && slot.index == index);
        found.map(|slot| slot as u16)
    }

    /// The slot of the connection to a server.
    pub(super) fn of_rpc(&self) -> Option<u16> {
        self.slots.iter().position(|slot| slot.usage == Usage::Rpc).map(|slot| slot as u16)
    }

    /// True when taking one exchange leaves another.
    pub(super) fn has_two_free(&self) -> bool {
        self.slots.iter().filter(|slot| slot.usage == Usage::Free).nth(1).is_some()
    }

    pub(super) fn get(&self, slot: u16) -> Option<&ConnectionSlot> {
        self.slots.get(usize::from(slot))
    }

    pub(super) fn get_mut(&mut self, slot: u16) -> Option<&mut ConnectionSlot> {
        self.slots.get_mut(usize::from(slot))
    }

    /// The driver is to be told.
    pub(super) fn wish(&mut self, slot: u16, wish: Wish) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            slot.wishes |= wish as u8;
            self.wishing = true;
        }
    }

    /// We are done with the exchange.
    pub(super) fn close(&mut self, slot: u16) {
        let Some(entry) = self.slots.get_mut(usize::from(slot)) else { return };
        // The driver never heard of it: nothing to close.
        let unknown = entry.wishes & Wish::Connect as u8 != 0;
        entry.usage = if unknown { Usage::Free } else { Usage::Closing };
        entry.wishes = 0;
        if !unknown {
            self.wish(slot, Wish::Close);
        }
    }

    /// The driver said that the exchange is dead.
    pub(super) fn forget(&mut self, slot: u16) {
        if let Some(slot) = self.slots.get_mut(usize::from(slot)) {
            slot.usage = Usage::Free;
            slot.wishes = 0;
        }
    }

    /// The next thing to tell the driver.
    pub(super) fn next_wish(&mut self) -> Option<(u16, Wish)> {
        if !self.wishing {
            return None;
        }
        let Some(index) = self.slots.iter().position(|slot| slot.wishes != 0) else {
            self.wishing = false;
            return None;
        };
        let slot = &mut self.slots[index];
        let order = [Wish::Connect, Wish::Writable, Wish::Close];
        let wish = order.into_iter().find(|&wish| slot.wishes & wish as u8 != 0)?;
        slot.wishes &= !(wish as u8);
        if wish == Wish::Close {
            slot.usage = Usage::Free;
        }
        Some((index as u16, wish))
    }
}
