//! Octets of many owners, packed into one slice.
//!
//! Records are appended; freed ones stay as holes until an append does not fit, then everything moves together and the
//! owners are told. A record is `owner (u16) | length (u16) | octets`, so that compaction is one walk and needs no list.

/// Octets in front of each record.
const HEAD: usize = 4;
/// Owner of a hole.
const FREE: u16 = u16::MAX;

/// Where a record's octets are. All zero: nowhere, empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place {
    at: u32,
    len: u16,
}

impl Place {
    /// No octets.
    pub const EMPTY: Place = Place { at: 0, len: 0 };

    /// Octets in the record.
    pub const fn len(self) -> usize {
        self.len as usize
    }

    /// True for [`Place::EMPTY`] and for a record without octets.
    pub const fn is_empty(self) -> bool {
        self.len == 0
    }
}

/// A slice of packed records.
#[derive(Debug)]
pub struct Pack<'m> {
    memory: &'m mut [u8],
    /// End of the last record.
    top: usize,
    /// Octets in holes below `top`, heads included.
    holes: usize,
}

impl<'m> Pack<'m> {
    /// An empty pack in `memory`.
    pub fn new(memory: &'m mut [u8]) -> Self {
        Pack { memory, top: 0, holes: 0 }
    }

    /// The octets at `place`.
    pub fn get(&self, place: Place) -> &[u8] {
        let at = place.at as usize;
        self.memory.get(at..at + place.len()).unwrap_or(&[])
    }

    /// The octets at `place`, to change.
    pub fn get_mut(&mut self, place: Place) -> &mut [u8] {
        let at = place.at as usize;
        self.memory.get_mut(at..at + place.len()).unwrap_or(&mut [])
    }

    /// Octets that an empty pack has room for, in one record.
    pub fn capacity(&self) -> usize {
        self.memory.len().saturating_sub(HEAD).min(usize::from(u16::MAX))
    }

    /// Octets that could still be appended after compaction, for one record.
    pub fn room(&self) -> usize {
        (self.memory.len() - self.top + self.holes).saturating_sub(HEAD)
    }

    /// Appends a record of `len` octets for `owner` (any number but 65,535) and returns its place; its octets are
    /// whatever was there. When only the holes have room for it, everything moves first and `moved` is told each owner's
    /// new place. `None`: there is no room.
    pub fn push(&mut self, owner: u16, len: usize, moved: &mut dyn FnMut(u16, Place, Place)) -> Option<Place> {
        debug_assert!(owner != FREE, "the number of holes");
        if len == 0 {
            return Some(Place::EMPTY);
        }
        let short = u16::try_from(len).ok()?;
        if self.top + HEAD + len > self.memory.len() {
            if len > self.room() {
                return None;
            }
            self.compact(moved);
        }
        let at = self.top + HEAD;
        self.set_head(self.top, owner, short);
        self.top = at + len;
        Some(Place { at: at as u32, len: short })
    }

    /// Gives a record up.
    pub fn free(&mut self, place: Place) {
        if place.is_empty() {
            return;
        }
        let head = place.at as usize - HEAD;
        let end = place.at as usize + place.len();
        self.set_head(head, FREE, place.len);
        if end == self.top {
            self.top = head;
        } else {
            self.holes += HEAD + place.len();
        }
    }

    /// Gives a record to another owner.
    pub fn set_owner(&mut self, place: Place, owner: u16) {
        debug_assert!(owner != FREE, "the number of holes");
        if !place.is_empty() {
            self.set_head(place.at as usize - HEAD, owner, place.len);
        }
    }

    fn compact(&mut self, moved: &mut dyn FnMut(u16, Place, Place)) {
        let (mut from, mut to) = (0, 0);
        while from < self.top {
            let head = &self.memory[from..from + HEAD];
            let owner = u16::from_le_bytes([head[0], head[1]]);
            let len = u16::from_le_bytes([head[2], head[3]]);
            let size = HEAD + usize::from(len);
            if owner != FREE {
                if from != to {
                    self.memory.copy_within(from..from + size, to);
                    let place = |at: usize| Place { at: (at + HEAD) as u32, len };
                    moved(owner, place(from), place(to));
                }
                to += size;
            }
            from += size;
        }
        self.top = to;
        self.holes = 0;
    }

    fn set_head(&mut self, at: usize, owner: u16, len: u16) {
        self.memory[at..at + 2].copy_from_slice(&owner.to_le_bytes());
        self.memory[at + 2..at + 4].copy_from_slice(&len.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rand::Rng;

    #[test]
    fn records_keep_their_octets_through_every_move() {
        let mut rng = Rng::from_seed(&[9; 32]);
        let mut memory = [0u8; 600];
        let mut pack = Pack::new(&mut memory);
        let mut owned = [Place::EMPTY; 20];
        let mut refused = 0;
        for step in 0..20_000u32 {
            let owner = rng.below(owned.len());
            pack.free(owned[owner]);
            owned[owner] = Place::EMPTY;
            let len = rng.below(80);
            let pushed = pack.push(owner as u16, len, &mut |who, old, new| {
                assert_eq!(owned[usize::from(who)], old);
                owned[usize::from(who)] = new;
            });
            match pushed {
                Some(place) => {
                    pack.get_mut(place).fill(owner as u8);
                    owned[owner] = place;
                }
                None => refused += 1,
            }
            let (one, other) = (rng.below(owned.len()), rng.below(owned.len()));
            for who in [one, other] {
                pack.get_mut(owned[who]).fill(if who == one { other as u8 } else { one as u8 });
            }
            pack.set_owner(owned[one], other as u16);
            pack.set_owner(owned[other], one as u16);
            owned.swap(one, other);
            for (who, place) in owned.iter().enumerate() {
                assert!(pack.get(*place).iter().all(|&octet| octet == who as u8), "step {step}");
            }
        }
        assert!(refused > 0, "the test must fill the pack");
        let used: usize = owned.iter().filter(|p| !p.is_empty()).map(|p| p.len() + HEAD).sum();
        assert_eq!(pack.room(), 600 - used - HEAD);
    }
}
