//! Octets on their way between two polls: packets for one address, payloads of events, names of seeds.

use super::{Pack, Place};

/// Pieces held at once. They wait for one poll, or one address look-up, each.
const PIECES: usize = 24;

/// Names a piece until it is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MailId(u8);

/// A few pieces of octets of any length.
#[derive(Debug)]
pub(crate) struct Mail<'m> {
    pack: Pack<'m>,
    places: [Place; PIECES],
}

impl<'m> Mail<'m> {
    pub fn new(memory: &'m mut [u8]) -> Self {
        Mail { pack: Pack::new(memory), places: [Place::EMPTY; PIECES] }
    }

    /// Room for `len` octets, at least one; `None` when there is none.
    pub fn put(&mut self, len: usize) -> Option<MailId> {
        let id = self.places.iter().position(|place| place.is_empty())?;
        let places = &mut self.places;
        let place = self.pack.push(id as u16, len.max(1), &mut |owner, _, new| places[usize::from(owner)] = new)?;
        self.places[id] = place;
        Some(MailId(id as u8))
    }

    /// A piece's octets.
    pub fn get(&self, id: MailId) -> &[u8] {
        self.pack.get(self.places[usize::from(id.0)])
    }

    /// A piece's octets, to write.
    pub fn get_mut(&mut self, id: MailId) -> &mut [u8] {
        self.pack.get_mut(self.places[usize::from(id.0)])
    }

    /// Gives a piece up.
    pub fn free(&mut self, id: MailId) {
        let place = core::mem::take(&mut self.places[usize::from(id.0)]);
        self.pack.free(place);
    }
}
