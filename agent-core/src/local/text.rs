//! Packed blocks in lent memory.
//!
//! Blocks lie one behind the other, each behind a head that names its owner. Freeing only marks; when the end of the
//! region is reached everything is moved together in one pass and the owners are told. Cost: O(octets), then only.

/// Octets of a block's head: owner, length.
const HEAD: usize = 6;

/// Owner of freed blocks.
const NOBODY: u16 = u16::MAX;

/// The region.
#[derive(Debug)]
pub(super) struct Arena<'m> {
    octets: &'m mut [u8],
    /// Octets from the start that hold blocks, freed ones included.
    used: usize,
    /// Octets of freed blocks among them.
    freed: usize,
}

impl<'m> Arena<'m> {
    pub(super) fn new(octets: &'m mut [u8]) -> Self {
        Arena { octets, used: 0, freed: 0 }
    }

    /// Octets that blocks of the given lengths would take.
    pub(super) const fn cost(len: usize) -> usize {
        len + HEAD
    }

    /// Octets that are or can be made free.
    pub(super) fn room(&self) -> usize {
        self.octets.len() - self.used + self.freed
    }

    /// A new block, zeroed, at the returned offset. `moved` is told the new offset of every block that had to move.
    pub(super) fn allocate(&mut self, owner: u16, len: usize, moved: &mut dyn FnMut(u16, u32)) -> Option<u32> {
        if Self::cost(len) > self.room() {
            return None;
        }
        if Self::cost(len) > self.octets.len() - self.used {
            self.compact(moved);
        }
        let at = self.used;
        let claimed = u32::try_from(len).ok()?;
        u32::try_from(at + HEAD).ok()?;
        self.octets[at..at + 2].copy_from_slice(&owner.to_le_bytes());
        self.octets[at + 2..at + HEAD].copy_from_slice(&claimed.to_le_bytes());
        self.octets[at + HEAD..at + HEAD + len].fill(0);
        self.used += HEAD + len;
        Some((at + HEAD) as u32)
    }

    /// Gives the block at `at` back.
    pub(super) fn free(&mut self, at: u32) {
        let head = at as usize - HEAD;
        let (_, len) = self.head(head);
        self.octets[head..head + 2].copy_from_slice(&NOBODY.to_le_bytes());
        self.freed += HEAD + len;
    }

    pub(super) fn get(&self, at: u32, len: u32) -> &[u8] {
        self.octets.get(at as usize..at as usize + len as usize).unwrap_or(&[])
    }

    pub(super) fn get_mut(&mut self, at: u32, len: u32) -> &mut [u8] {
        self.octets.get_mut(at as usize..at as usize + len as usize).unwrap_or(&mut [])
    }

    fn head(&self, at: usize) -> (u16, usize) {
        let octet = |i: usize| self.octets[at + i];
        let owner = u16::from_le_bytes([octet(0), octet(1)]);
        (owner, u32::from_le_bytes([octet(2), octet(3), octet(4), octet(5)]) as usize)
    }

    fn compact(&mut self, moved: &mut dyn FnMut(u16, u32)) {
        let (mut from, mut to) = (0, 0);
        while from < self.used {
            let (owner, len) = self.head(from);
            let whole = HEAD + len;
            if owner != NOBODY {
                if from != to {
                    self.octets.copy_within(from..from + whole, to);
                    moved(owner, (to + HEAD) as u32);
                }
                to += whole;
            }
            from += whole;
        }
        self.used = to;
        self.freed = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rand::Rng;

    #[test]
    fn blocks_keep_their_octets_through_compaction() {
        let mut memory = [0u8; 512];
        let mut arena = Arena::new(&mut memory);
        let mut rng = Rng::from_seed(&[3; 32]);
        let mut blocks: [Option<(u32, u32)>; 12] = [None; 12];
        let mut refused = 0;
        for _ in 0..5000 {
            let owner = rng.below(blocks.len());
            match blocks[owner].take() {
                Some((at, len)) => {
                    assert!(arena.get(at, len).iter().all(|&octet| octet == owner as u8 + 1));
                    arena.free(at);
                }
                None => {
                    let len = rng.below(90);
                    let fits = Arena::cost(len) <= arena.room();
                    let mut moves = vec![];
                    let at = arena.allocate(owner as u16, len, &mut |who, at| moves.push((who, at)));
                    assert_eq!(at.is_some(), fits);
                    for (who, at) in moves {
                        blocks[usize::from(who)].as_mut().unwrap().0 = at;
                    }
                    match at {
                        Some(at) => {
                            arena.get_mut(at, len as u32).fill(owner as u8 + 1);
                            blocks[owner] = Some((at, len as u32));
                        }
                        None => refused += 1,
                    }
                }
            }
        }
        assert!(refused > 0);
    }
}
