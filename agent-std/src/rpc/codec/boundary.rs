//! Where a value ends, while its octets still arrive.

use agent_core::wire::Error;

/// Finds the end of one msgpack value in octets that arrive in pieces. No stack, whatever the nesting, and every octet
/// is looked at once: the state is the count of values and of plain octets still to come.
#[derive(Debug)]
pub struct Boundary {
    /// Values still to come.
    values: u64,
    /// Octets of the current value's body still to come.
    body: u64,
    /// Octets of a length still to come, what they said so far, and what they count.
    length: (u8, u64, Counts),
    at: usize,
}

#[derive(Clone, Copy, Debug)]
enum Counts {
    Octets,
    /// Octets after one more for the extension's type.
    Extension,
    Elements,
    Entries,
}

impl Default for Boundary {
    fn default() -> Self {
        Boundary { values: 1, body: 0, length: (0, 0, Counts::Octets), at: 0 }
    }
}

impl Boundary {
    /// Looks at the octets that `octets` has beyond what it had at the last call. `Some(len)`: the value ends there.
    ///
    /// # Errors
    /// When an octet cannot begin a value.
    pub fn find(&mut self, octets: &[u8]) -> Result<Option<usize>, Error> {
        loop {
            let have = octets.len().saturating_sub(self.at);
            if self.body > 0 {
                let step = have.min(usize::try_from(self.body).unwrap_or(usize::MAX));
                self.at += step;
                self.body -= step as u64;
                if self.body > 0 {
                    return Ok(None);
                }
            } else if self.values == 0 && self.length.0 == 0 {
                return Ok(Some(self.at));
            } else {
                let Some(&byte) = octets.get(self.at) else { return Ok(None) };
                self.step(byte)?;
                self.at += 1;
            }
        }
    }

    fn step(&mut self, byte: u8) -> Result<(), Error> {
        let (left, sum, counts) = self.length;
        if left > 0 {
            let sum = (sum << 8) | u64::from(byte);
            self.length = (left - 1, sum, counts);
            if left == 1 {
                self.counted(sum, counts);
            }
            return Ok(());
        }
        self.values -= 1;
        let wide = |log2: u8| 1u8 << log2;
        match byte {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => {}
            0xa0..=0xbf => self.body = u64::from(byte & 0x1f),
            0xc4..=0xc6 => self.length = (wide(byte - 0xc4), 0, Counts::Octets),
            0xd9..=0xdb => self.length = (wide(byte - 0xd9), 0, Counts::Octets),
            0xcc..=0xcf => self.body = u64::from(wide(byte - 0xcc)),
            0xd0..=0xd3 => self.body = u64::from(wide(byte - 0xd0)),
            0xca => self.body = 4,
            0xcb => self.body = 8,
            0x90..=0x9f => self.values += u64::from(byte & 0x0f),
            0xdc | 0xdd => self.length = (wide(byte - 0xdc + 1), 0, Counts::Elements),
            0x80..=0x8f => self.values += 2 * u64::from(byte & 0x0f),
            0xde | 0xdf => self.length = (wide(byte - 0xde + 1), 0, Counts::Entries),
            0xd4..=0xd8 => self.body = 1 + u64::from(wide(byte - 0xd4)),
            0xc7..=0xc9 => self.length = (wide(byte - 0xc7), 0, Counts::Extension),
            0xc1 => return Err(Error { what: "reserved msgpack byte", at: self.at }),
        }
        Ok(())
    }

    fn counted(&mut self, sum: u64, counts: Counts) {
        match counts {
            Counts::Octets => self.body = sum,
            Counts::Extension => self.body = sum + 1,
            // Values of this size never arrive: each needs an octet, and the reader stops at its limit long before.
            Counts::Elements => self.values = self.values.saturating_add(sum),
            Counts::Entries => self.values = self.values.saturating_add(2 * sum),
        }
    }
}
