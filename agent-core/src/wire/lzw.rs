//! LZW as Go's `compress/lzw` writes it: least significant bit first, 8-bit literals, codes of 9 to 12 bits
//! (gossip spec §4).
//!
//! Three tools for three budgets. [`inflate`] decodes a datagram whole and needs two octets of table per code, because
//! every table entry is a stretch of the output that is still there. [`Inflater`] decodes a stream of any length in a
//! fixed 9.6 KB: 20 bits per entry, and no stack to turn chains around, since a chain is walked by reversing its links
//! in place and restoring them on the way back. [`deflate`] encodes, for servers and std clients (feature `compress`).

/// Resets the table.
const CLEAR: u16 = 256;
/// Ends the data.
const END: u16 = 257;
/// First width of a code, in bits.
const FIRST_WIDTH: u8 = 9;
/// Largest width of a code, in bits.
const MAX_WIDTH: u8 = 12;
/// No code.
const NONE: u16 = 0xffff;
/// Codes that can be defined: 258 to 4095.
const ENTRIES: usize = (1 << MAX_WIDTH) - FIRST_FREE;
/// First code that can be defined.
const FIRST_FREE: usize = 258;

/// Why compressed data makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LzwError {
    /// A code that is not defined yet.
    BadCode,
    /// The end code never came.
    CutShort,
    /// More output than there is room for.
    TooLong,
}

/// The reader's side of the code stream: how wide codes are and which is defined next (spec §4, "Reader").
#[derive(Clone, Copy, Debug)]
struct Codes {
    bits: u32,
    available: u8,
    width: u8,
    /// The highest code in use; the next entry gets this number.
    hi: u16,
    /// The previous code, or `NONE` just after a clear or when the table is frozen.
    last: u16,
}

impl Codes {
    const fn new() -> Self {
        Codes { bits: 0, available: 0, width: FIRST_WIDTH, hi: END, last: NONE }
    }

    fn push(&mut self, byte: u8) {
        self.bits |= u32::from(byte) << self.available;
        self.available += 8;
    }

    fn next(&mut self) -> Option<u16> {
        if self.available < self.width {
            return None;
        }
        let code = (self.bits & ((1 << self.width) - 1)) as u16;
        self.bits >>= self.width;
        self.available -= self.width;
        Some(code)
    }

    fn clear(&mut self) {
        self.width = FIRST_WIDTH;
        self.hi = END;
        self.last = NONE;
    }

    fn advance(&mut self, code: u16) {
        self.last = code;
        self.hi += 1;
        if self.hi >= 1 << self.width {
            if self.width == MAX_WIDTH {
                self.hi -= 1;
                self.last = NONE;
            } else {
                self.width += 1;
            }
        }
    }
}

/// Octets of table that [`inflate`] needs for `output` octets of output: one `u16` per code.
pub const fn inflate_table(output: usize) -> usize {
    2 * (output + 1)
}

/// Decodes all of `input` into `out`, using `table` (see [`inflate_table`]) as scratch. Returns the output's length.
///
/// Code number k of the data produced the stretch of output that begins at `table[k]`; entry 258 + k is that stretch and
/// one octet more, which the output holds too. Hence no strings are stored.
pub fn inflate(input: &[u8], table: &mut [u8], out: &mut [u8]) -> Result<usize, LzwError> {
    let mut codes = Codes::new();
    let mut len = 0;
    // Codes since the last clear; entry 4095 ends where code number 3838 begins, the last start that is ever needed.
    let mut count = 0usize;
    let start_of = |table: &[u8], i: usize| {
        table.get(2 * i..2 * i + 2).map(|pair| usize::from(u16::from_le_bytes([pair[0], pair[1]])))
    };
    for &byte in input {
        codes.push(byte);
        while let Some(code) = codes.next() {
            match code {
                CLEAR => {
                    codes.clear();
                    count = 0;
                    continue;
                }
                END => return Ok(len),
                _ => {}
            }
            let (from, size) = if code < CLEAR {
                *out.get_mut(len).ok_or(LzwError::TooLong)? = code as u8;
                (len, 1)
            } else if code <= codes.hi {
                let entry = usize::from(code) - FIRST_FREE;
                let from = start_of(table, entry).ok_or(LzwError::BadCode)?;
                let next = if entry + 1 < count { start_of(table, entry + 1).ok_or(LzwError::BadCode)? } else { len };
                (from, next - from + 1)
            } else {
                return Err(LzwError::BadCode);
            };
            if code >= CLEAR {
                if len + size > out.len() {
                    return Err(LzwError::TooLong);
                }
                // Octet by octet: the last one of an entry defined just now is the first one written here.
                for i in 0..size {
                    out[len + i] = out[from + i];
                }
            }
            if count <= ENTRIES {
                let start = u16::try_from(len).map_err(|_| LzwError::TooLong)?;
                table.get_mut(2 * count..2 * count + 2).ok_or(LzwError::TooLong)?.copy_from_slice(&start.to_le_bytes());
                count += 1;
            }
            len += size;
            codes.advance(code);
        }
    }
    Err(LzwError::CutShort)
}

/// Octets of memory an [`Inflater`] works in: suffix, low prefix octet and half an octet of high prefix bits per entry.
pub const INFLATER_MEMORY: usize = 2 * ENTRIES + ENTRIES / 2;

/// Decodes a stream as it comes. The table lives in memory that the caller lends with every call, at least
/// [`INFLATER_MEMORY`] octets that nobody else touches between the first call and the last.
#[derive(Clone, Copy, Debug)]
pub struct Inflater {
    codes: Codes,
    ended: bool,
    /// First octet of the previous code's expansion.
    first: u8,
}

impl Default for Inflater {
    fn default() -> Self {
        Inflater::new()
    }
}

impl Inflater {
    /// An inflater in front of the first code.
    pub const fn new() -> Self {
        Inflater { codes: Codes::new(), ended: false, first: 0 }
    }

    /// True once the end code was read; what follows is not ours.
    pub const fn ended(&self) -> bool {
        self.ended
    }

    /// Takes one octet of input; calls `sink` with pieces of output in order. Octets after the end are ignored.
    pub fn push(&mut self, memory: &mut [u8], byte: u8, sink: &mut dyn FnMut(&[u8])) -> Result<(), LzwError> {
        if self.ended {
            return Ok(());
        }
        let mut table = Table::new(memory).ok_or(LzwError::TooLong)?;
        self.codes.push(byte);
        while !self.ended {
            let Some(code) = self.codes.next() else { break };
            match code {
                CLEAR => {
                    self.codes.clear();
                    continue;
                }
                END => {
                    self.ended = true;
                    break;
                }
                _ => {}
            }
            let last = self.codes.last;
            if code < CLEAR {
                self.first = code as u8;
                sink(&[self.first]);
            } else if code == self.codes.hi && last != NONE {
                let first = self.first;
                self.first = table.expand(last, sink)?;
                sink(&[first]);
            } else if code <= self.codes.hi {
                self.first = table.expand(code, sink)?;
            } else {
                return Err(LzwError::BadCode);
            }
            if last != NONE {
                table.set(self.codes.hi, last, self.first);
            }
            self.codes.advance(code);
        }
        Ok(())
    }
}

/// The 20-bit entries of an [`Inflater`], spread over three arrays in the lent memory.
struct Table<'a> {
    suffix: &'a mut [u8],
    low: &'a mut [u8],
    high: &'a mut [u8],
}

impl<'a> Table<'a> {
    fn new(memory: &'a mut [u8]) -> Option<Self> {
        let memory = memory.get_mut(..INFLATER_MEMORY)?;
        let (suffix, rest) = memory.split_at_mut(ENTRIES);
        let (low, high) = rest.split_at_mut(ENTRIES);
        Some(Table { suffix, low, high })
    }

    fn prefix(&self, code: u16) -> u16 {
        let i = usize::from(code) - FIRST_FREE;
        let nibble = (self.high[i / 2] >> (4 * (i % 2))) & 0x0f;
        u16::from(self.low[i]) | (u16::from(nibble) << 8)
    }

    fn set_prefix(&mut self, code: u16, prefix: u16) {
        let i = usize::from(code) - FIRST_FREE;
        self.low[i] = prefix as u8;
        let shift = 4 * (i % 2);
        self.high[i / 2] = (self.high[i / 2] & !(0x0f << shift)) | ((prefix >> 8) as u8 & 0x0f) << shift;
    }

    fn set(&mut self, code: u16, prefix: u16, suffix: u8) {
        // At width 12 with a full table `hi` is 4095 and stays there; the entry is defined once.
        if let Some(place) = self.suffix.get_mut(usize::from(code) - FIRST_FREE) {
            *place = suffix;
            self.set_prefix(code, prefix);
        }
    }

    /// Writes the expansion of `code` and returns its first octet.
    ///
    /// A chain runs from the last octet to the first. It is walked down once with every link turned to point back, and
    /// up again writing octets and turning the links as they were: O(length) time, no stack.
    fn expand(&mut self, code: u16, sink: &mut dyn FnMut(&[u8])) -> Result<u8, LzwError> {
        if code < CLEAR {
            sink(&[code as u8]);
            return Ok(code as u8);
        }
        let (mut above, mut at) = (CLEAR, code);
        // A prefix is always older than its entry, so the walk ends; 256 marks the top and no entry has it as prefix.
        while at >= FIRST_FREE as u16 {
            let below = self.prefix(at);
            self.set_prefix(at, above);
            above = at;
            at = below;
        }
        if at >= CLEAR {
            return Err(LzwError::BadCode);
        }
        let first = at as u8;
        let mut piece = [0u8; 32];
        piece[0] = first;
        let mut len = 1;
        while above != CLEAR {
            let next = self.prefix(above);
            self.set_prefix(above, at);
            if len == piece.len() {
                sink(&piece);
                len = 0;
            }
            piece[len] = self.suffix[usize::from(above) - FIRST_FREE];
            len += 1;
            at = above;
            above = next;
        }
        sink(&piece[..len]);
        Ok(first)
    }
}

/// Octets of scratch that [`deflate`] needs: a hash table of 2 × 4,096 entries of 4 octets.
#[cfg(feature = "compress")]
pub const DEFLATE_MEMORY: usize = 4 * HASH;

#[cfg(feature = "compress")]
const HASH: usize = 2 << MAX_WIDTH;

/// Encodes `input` into `out`; `None` when it does not fit. `leading_clear` begins with a clear code, as newer Go does.
#[cfg(feature = "compress")]
pub fn deflate(input: &[u8], leading_clear: bool, memory: &mut [u8], out: &mut [u8]) -> Option<usize> {
    let mut bits = BitWriter { out, len: 0, bits: 0, available: 0 };
    let memory = memory.get_mut(..DEFLATE_MEMORY)?;
    memory.fill(0);
    let (mut width, mut hi) = (FIRST_WIDTH, END);
    if leading_clear || input.is_empty() {
        bits.put(CLEAR, width)?;
    }
    let mut pending = NONE;
    for &byte in input {
        if pending == NONE {
            pending = u16::from(byte);
            continue;
        }
        let key = (u32::from(pending) << 8) | u32::from(byte);
        let slot = match find(memory, key) {
            Ok(code) => {
                pending = code;
                continue;
            }
            Err(slot) => slot,
        };
        bits.put(pending, width)?;
        pending = u16::from(byte);
        match step(&mut width, &mut hi) {
            Step::Define => memory[slot..slot + 4].copy_from_slice(&((key << 12) | u32::from(hi)).to_le_bytes()),
            Step::Clear => {
                bits.put(CLEAR, width)?;
                (width, hi) = (FIRST_WIDTH, END);
                memory.fill(0);
            }
        }
    }
    if pending != NONE {
        bits.put(pending, width)?;
        if let Step::Clear = step(&mut width, &mut hi) {
            bits.put(CLEAR, width)?;
            width = FIRST_WIDTH;
        }
    }
    bits.put(END, width)?;
    bits.flush()
}

#[cfg(feature = "compress")]
enum Step {
    Define,
    Clear,
}

/// What happens after each emitted code (spec §4, "Writer").
#[cfg(feature = "compress")]
fn step(width: &mut u8, hi: &mut u16) -> Step {
    *hi += 1;
    if *hi == 1 << *width {
        *width += 1;
    }
    if *hi == (1 << MAX_WIDTH) - 1 { Step::Clear } else { Step::Define }
}

/// The code of (prefix, octet), or the free place for it. A key fits 20 bits, so key and code share 32.
#[cfg(feature = "compress")]
fn find(memory: &[u8], key: u32) -> Result<u16, usize> {
    let mut slot = (key.wrapping_mul(0x9e37_79b1) >> 19) as usize % HASH;
    loop {
        let at = 4 * slot;
        let entry = u32::from_le_bytes([memory[at], memory[at + 1], memory[at + 2], memory[at + 3]]);
        // A defined code is at least 258, so zero is free.
        if entry == 0 {
            return Err(at);
        }
        if entry >> 12 == key {
            return Ok((entry & 0xfff) as u16);
        }
        slot = (slot + 1) % HASH;
    }
}

#[cfg(feature = "compress")]
struct BitWriter<'a> {
    out: &'a mut [u8],
    len: usize,
    bits: u32,
    available: u8,
}

#[cfg(feature = "compress")]
impl BitWriter<'_> {
    fn put(&mut self, code: u16, width: u8) -> Option<()> {
        self.bits |= u32::from(code) << self.available;
        self.available += width;
        while self.available >= 8 {
            self.byte()?;
            self.available -= 8;
        }
        Some(())
    }

    fn byte(&mut self) -> Option<()> {
        *self.out.get_mut(self.len)? = self.bits as u8;
        self.bits >>= 8;
        self.len += 1;
        Some(())
    }

    fn flush(mut self) -> Option<usize> {
        if self.available > 0 {
            self.byte()?;
        }
        Some(self.len)
    }
}

#[cfg(all(test, feature = "compress"))]
mod tests {
    use super::*;
    use crate::rand::Rng;

    fn packed(input: &[u8], lead: bool) -> Vec<u8> {
        let mut out = vec![0; input.len() * 2 + 16];
        let len = deflate(input, lead, &mut vec![0; DEFLATE_MEMORY], &mut out).expect("there is room");
        out.truncate(len);
        out
    }

    fn unpacked(input: &[u8], room: usize) -> Result<Vec<u8>, LzwError> {
        let mut out = vec![0; room];
        let len = inflate(input, &mut vec![0; inflate_table(room)], &mut out)?;
        out.truncate(len);
        Ok(out)
    }

    fn streamed(input: &[u8]) -> Result<Vec<u8>, LzwError> {
        let (mut inflater, mut memory, mut out) = (Inflater::default(), vec![0; INFLATER_MEMORY], Vec::new());
        for &byte in input {
            inflater.push(&mut memory, byte, &mut |piece| out.extend_from_slice(piece))?;
        }
        if inflater.ended() { Ok(out) } else { Err(LzwError::CutShort) }
    }

    #[test]
    fn both_decoders_read_what_we_write() {
        let mut rng = Rng::from_seed(&[3; 32]);
        for round in 0..60 {
            let len = [0, 1, 2, 3, 700, 1402, 5000, 60_000][round % 8];
            let spread = [2, 4, 40, 256][round % 4];
            let input: Vec<u8> = (0..len).map(|_| rng.below(spread) as u8).collect();
            for lead in [false, true] {
                let packed = packed(&input, lead);
                assert_eq!(streamed(&packed).as_ref(), Ok(&input), "len {len} spread {spread}");
                assert_eq!(unpacked(&packed, len.min(65_000) + 1).as_ref(), Ok(&input), "len {len} spread {spread}");
            }
        }
        assert_eq!(packed(b"", true), [0x00, 0x03, 0x02]);
    }

    #[test]
    fn both_decoders_agree_on_garbage() {
        let mut rng = Rng::from_seed(&[4; 32]);
        for _ in 0..4000 {
            let len = 1 + rng.below(60);
            let input: Vec<u8> = (0..len).map(|_| rng.next_u32() as u8).collect();
            let (whole, stream) = (unpacked(&input, 60_000), streamed(&input));
            assert_eq!(whole, stream, "{input:02x?}");
        }
    }
}
