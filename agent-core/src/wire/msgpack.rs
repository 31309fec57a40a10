//! msgpack as Go's encoder writes it (gossip spec §3, rpc spec §4).
//!
//! [`Reader`] pulls values out of a slice; [`Writer`] appends values to a slice and keeps counting when it is full, so
//! that the same `emit` code measures and writes. Strings and octet strings share the *raw* family on the wire: we
//! write only fixraw, raw16 and raw32, and also read str8 and the bin family.

use super::Error;

/// Nesting deeper than this is refused; the deepest real message (an RPC reply) has 8 levels.
const MAX_PENDING: u32 = u32::MAX / 4;

/// Pulls msgpack values from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    data: &'a [u8],
    at: usize,
}

/// What kind of value comes next; see [`Reader::peek`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// nil
    Nil,
    /// true or false
    Bool,
    /// Any integer form
    Int,
    /// A 32 or 64 bit float
    Float,
    /// Text or octets
    Raw,
    /// A list
    Array,
    /// A map
    Map,
    /// An extension or the reserved byte 0xc1: never sent by our peers
    Other,
}

/// The kind of value that begins with octet `byte`.
pub const fn kind_of(byte: u8) -> Kind {
    match byte {
        0xc0 => Kind::Nil,
        0xc2 | 0xc3 => Kind::Bool,
        0x00..=0x7f | 0xe0..=0xff | 0xcc..=0xd3 => Kind::Int,
        0xca | 0xcb => Kind::Float,
        0xa0..=0xbf | 0xd9..=0xdb | 0xc4..=0xc6 => Kind::Raw,
        0x90..=0x9f | 0xdc | 0xdd => Kind::Array,
        0x80..=0x8f | 0xde | 0xdf => Kind::Map,
        _ => Kind::Other,
    }
}

impl<'a> Reader<'a> {
    /// A reader at the start of `data`.
    pub const fn new(data: &'a [u8]) -> Self {
        Reader { data, at: 0 }
    }

    /// Octets read so far.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The octets not yet read.
    pub fn rest(&self) -> &'a [u8] {
        self.data.get(self.at..).unwrap_or(&[])
    }

    /// True when nothing is left.
    pub fn is_empty(&self) -> bool {
        self.at >= self.data.len()
    }

    /// An error at the current position.
    pub const fn error(&self, what: &'static str) -> Error {
        Error { what, at: self.at }
    }

    /// The kind of the next value, without reading it.
    pub fn peek(&self) -> Result<Kind, Error> {
        self.data.get(self.at).map(|&byte| kind_of(byte)).ok_or(self.error("value missing"))
    }

    /// One octet.
    pub fn byte(&mut self) -> Result<u8, Error> {
        let byte = *self.data.get(self.at).ok_or(self.error("octet missing"))?;
        self.at += 1;
        Ok(byte)
    }

    /// Exactly `len` octets.
    pub fn take(&mut self, len: usize) -> Result<&'a [u8], Error> {
        let taken = self.rest().get(..len).ok_or(self.error("cut short"))?;
        self.at += len;
        Ok(taken)
    }

    fn be(&mut self, octets: usize) -> Result<u64, Error> {
        Ok(self.take(octets)?.iter().fold(0, |acc, &byte| (acc << 8) | u64::from(byte)))
    }

    /// Entries of a map; nil counts as an empty map.
    pub fn map(&mut self) -> Result<usize, Error> {
        let start = *self;
        let len = match self.byte()? {
            0xc0 => 0,
            byte @ 0x80..=0x8f => usize::from(byte & 0x0f),
            0xde => self.be(2)? as usize,
            0xdf => self.be(4)? as usize,
            _ => return Err(start.error("map expected")),
        };
        // Each entry needs at least two octets: a claim beyond that is a lie, found before any work.
        if len > self.rest().len() / 2 {
            return Err(start.error("map longer than its message"));
        }
        Ok(len)
    }

    /// Elements of a list; nil counts as an empty list.
    pub fn array(&mut self) -> Result<usize, Error> {
        let start = *self;
        let len = match self.byte()? {
            0xc0 => 0,
            byte @ 0x90..=0x9f => usize::from(byte & 0x0f),
            0xdc => self.be(2)? as usize,
            0xdd => self.be(4)? as usize,
            _ => return Err(start.error("list expected")),
        };
        if len > self.rest().len() {
            return Err(start.error("list longer than its message"));
        }
        Ok(len)
    }

    /// Text or octets; nil counts as empty.
    pub fn raw(&mut self) -> Result<&'a [u8], Error> {
        let len = self.raw_head()?;
        self.take(len)
    }

    /// The length of text or octets, which come next and may still be on their way.
    pub fn raw_head(&mut self) -> Result<usize, Error> {
        let start = *self;
        Ok(match self.byte()? {
            0xc0 => 0,
            byte @ 0xa0..=0xbf => usize::from(byte & 0x1f),
            0xd9 | 0xc4 => self.be(1)? as usize,
            0xda | 0xc5 => self.be(2)? as usize,
            0xdb | 0xc6 => self.be(4)? as usize,
            _ => return Err(start.error("text expected")),
        })
    }

    /// Text. Old Go peers refuse the bin family for text (gossip spec §3), so it is refused here too.
    pub fn text(&mut self) -> Result<&'a str, Error> {
        let start = *self;
        if matches!(self.data.get(self.at), Some(0xc4..=0xc6)) {
            return Err(start.error("octets where text belongs"));
        }
        core::str::from_utf8(self.raw()?).map_err(|_| start.error("text is not UTF-8"))
    }

    /// An integer that is not negative; nil counts as 0.
    pub fn uint(&mut self) -> Result<u64, Error> {
        let start = *self;
        u64::try_from(self.wide()?).map_err(|_| start.error("negative number"))
    }

    /// An integer; nil counts as 0.
    pub fn int(&mut self) -> Result<i64, Error> {
        let start = *self;
        i64::try_from(self.wide()?).map_err(|_| start.error("integer out of range"))
    }

    /// A number that must fit `u32`.
    pub fn u32(&mut self) -> Result<u32, Error> {
        let start = *self;
        u32::try_from(self.uint()?).map_err(|_| start.error("integer out of range"))
    }

    /// A number that must fit `u16`.
    pub fn u16(&mut self) -> Result<u16, Error> {
        let start = *self;
        u16::try_from(self.uint()?).map_err(|_| start.error("integer out of range"))
    }

    /// A number that must fit `u8`.
    pub fn u8(&mut self) -> Result<u8, Error> {
        let start = *self;
        u8::try_from(self.uint()?).map_err(|_| start.error("integer out of range"))
    }

    fn wide(&mut self) -> Result<i128, Error> {
        let start = *self;
        Ok(match self.byte()? {
            0xc0 => 0,
            byte @ 0x00..=0x7f => i128::from(byte),
            byte @ 0xe0..=0xff => i128::from(byte as i8),
            0xcc => i128::from(self.be(1)?),
            0xcd => i128::from(self.be(2)?),
            0xce => i128::from(self.be(4)?),
            0xcf => i128::from(self.be(8)?),
            0xd0 => i128::from(self.be(1)? as u8 as i8),
            0xd1 => i128::from(self.be(2)? as u16 as i16),
            0xd2 => i128::from(self.be(4)? as u32 as i32),
            0xd3 => i128::from(self.be(8)? as i64),
            _ => return Err(start.error("integer expected")),
        })
    }

    /// True or false; 0, 1 and nil are read too, as Go does.
    pub fn bool(&mut self) -> Result<bool, Error> {
        let start = *self;
        match self.byte()? {
            0xc0 | 0xc2 | 0x00 => Ok(false),
            0xc3 | 0x01 => Ok(true),
            _ => Err(start.error("true or false expected")),
        }
    }

    /// A float; integers and nil are read too.
    pub fn float(&mut self) -> Result<f64, Error> {
        match self.data.get(self.at) {
            Some(0xca) => {
                self.at += 1;
                Ok(f64::from(f32::from_bits(self.be(4)? as u32)))
            }
            Some(0xcb) => {
                self.at += 1;
                Ok(f64::from_bits(self.be(8)?))
            }
            _ => self.wide().map(|n| n as f64),
        }
    }

    /// Steps over one value of any shape and returns its octets. Needs no stack, whatever the nesting: a counter of the
    /// values still to come is enough.
    pub fn skip(&mut self) -> Result<&'a [u8], Error> {
        let start = self.at;
        let mut pending: u32 = 1;
        while pending > 0 {
            pending -= 1;
            pending = pending
                .checked_add(self.skip_one()?)
                .filter(|&n| n < MAX_PENDING)
                .ok_or(self.error("too many values"))?;
        }
        Ok(&self.data[start..self.at])
    }

    /// Steps over one head and its own octets; returns how many values it contains.
    fn skip_one(&mut self) -> Result<u32, Error> {
        let mut body = 0;
        let mut inner = 0u64;
        let start = *self;
        match self.byte()? {
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => {}
            byte @ 0xa0..=0xbf => body = u64::from(byte & 0x1f),
            0xc4 | 0xd9 => body = self.be(1)?,
            0xc5 | 0xda => body = self.be(2)?,
            0xc6 | 0xdb => body = self.be(4)?,
            0xcc | 0xd0 => body = 1,
            0xcd | 0xd1 => body = 2,
            0xca | 0xce | 0xd2 => body = 4,
            0xcb | 0xcf | 0xd3 => body = 8,
            byte @ 0x90..=0x9f => inner = u64::from(byte & 0x0f),
            0xdc => inner = self.be(2)?,
            0xdd => inner = self.be(4)?,
            byte @ 0x80..=0x8f => inner = 2 * u64::from(byte & 0x0f),
            0xde => inner = 2 * self.be(2)?,
            0xdf => inner = 2 * self.be(4)?,
            byte @ 0xd4..=0xd8 => body = 1 + (1 << (byte - 0xd4)),
            byte @ 0xc7..=0xc9 => body = 1 + self.be(1 << (byte - 0xc7))?,
            _ => return Err(start.error("reserved msgpack byte")),
        }
        self.take(usize::try_from(body).map_err(|_| start.error("cut short"))?)?;
        u32::try_from(inner).map_err(|_| start.error("too many values"))
    }

    /// Reads a map whose keys are text: calls `field` with each key and this reader at its value. `field` returns
    /// `false` for a key it does not know, and the value is skipped; a repeated key simply wins again.
    pub fn fields(&mut self, mut field: impl FnMut(&'a [u8], &mut Self) -> Result<bool, Error>) -> Result<(), Error> {
        for _ in 0..self.map()? {
            let key = self.raw()?;
            if !field(key, self)? {
                self.skip()?;
            }
        }
        Ok(())
    }
}

/// Appends msgpack values to a slice. When the slice is full it goes on counting, so `len()` of a writer over an empty
/// slice measures an encoding.
#[derive(Debug)]
pub struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl<'a> Writer<'a> {
    /// A writer at the start of `out`.
    pub fn new(out: &'a mut [u8]) -> Self {
        Writer { out, len: 0 }
    }

    /// Octets that `emit` writes, found by running it without room.
    pub fn measure(emit: impl FnOnce(&mut Writer<'_>)) -> usize {
        let mut writer = Writer { out: &mut [], len: 0 };
        emit(&mut writer);
        writer.len
    }

    /// Octets written or, beyond the end, wanted.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True before the first octet.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// `Some(len)` when everything fitted.
    pub fn finish(self) -> Option<usize> {
        (self.len <= self.out.len()).then_some(self.len)
    }

    /// Octets as they are, without a head.
    pub fn octets(&mut self, octets: &[u8]) {
        if let Some(room) = self.out.get_mut(self.len..).and_then(|rest| rest.get_mut(..octets.len())) {
            room.copy_from_slice(octets);
        }
        self.len = self.len.saturating_add(octets.len());
    }

    /// One octet as it is.
    pub fn byte(&mut self, byte: u8) {
        self.octets(&[byte]);
    }

    /// Overwrites octets that were written before, e.g. a count that is known only now. Nothing happens beyond the end.
    pub fn patch(&mut self, at: usize, octets: &[u8]) {
        if at.saturating_add(octets.len()) <= self.len
            && let Some(place) = self.out.get_mut(at..at + octets.len())
        {
            place.copy_from_slice(octets);
        }
    }

    /// nil
    pub fn nil(&mut self) {
        self.byte(0xc0);
    }

    /// true or false
    pub fn bool(&mut self, value: bool) {
        self.byte(if value { 0xc3 } else { 0xc2 });
    }

    /// Head of a map with `entries` entries.
    pub fn map(&mut self, entries: usize) {
        match entries {
            0..=15 => self.byte(0x80 | entries as u8),
            16..=0xffff => self.head(0xde, &(entries as u16).to_be_bytes()),
            _ => self.head(0xdf, &(entries as u32).to_be_bytes()),
        }
    }

    /// Head of a list with `elements` elements.
    pub fn array(&mut self, elements: usize) {
        match elements {
            0..=15 => self.byte(0x90 | elements as u8),
            16..=0xffff => self.head(0xdc, &(elements as u16).to_be_bytes()),
            _ => self.head(0xdd, &(elements as u32).to_be_bytes()),
        }
    }

    /// Head of a raw value of `len` octets, which the caller writes next.
    pub fn raw_head(&mut self, len: usize) {
        match len {
            0..=31 => self.byte(0xa0 | len as u8),
            32..=0xffff => self.head(0xda, &(len as u16).to_be_bytes()),
            _ => self.head(0xdb, &(len as u32).to_be_bytes()),
        }
    }

    /// Octets in the raw family.
    pub fn raw(&mut self, octets: &[u8]) {
        self.raw_head(octets.len());
        self.octets(octets);
    }

    /// Text in the raw family.
    pub fn text(&mut self, text: &str) {
        self.raw(text.as_bytes());
    }

    /// A number in its shortest unsigned form.
    pub fn uint(&mut self, value: u64) {
        match value {
            0..=0x7f => self.byte(value as u8),
            0x80..=0xff => self.head(0xcc, &[value as u8]),
            0x100..=0xffff => self.head(0xcd, &(value as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.head(0xce, &(value as u32).to_be_bytes()),
            _ => self.head(0xcf, &value.to_be_bytes()),
        }
    }

    /// A number that may be negative; the others are written like [`Writer::uint`].
    pub fn int(&mut self, value: i64) {
        match value {
            0.. => self.uint(value as u64),
            -32..=-1 => self.byte(value as u8),
            -0x80..=-33 => self.head(0xd0, &[value as u8]),
            -0x8000..=-0x81 => self.head(0xd1, &(value as i16).to_be_bytes()),
            -0x8000_0000..=-0x8001 => self.head(0xd2, &(value as i32).to_be_bytes()),
            _ => self.head(0xd3, &value.to_be_bytes()),
        }
    }

    /// A 64 bit float.
    pub fn float(&mut self, value: f64) {
        self.head(0xcb, &value.to_bits().to_be_bytes());
    }

    fn head(&mut self, byte: u8, rest: &[u8]) {
        self.byte(byte);
        self.octets(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(emit: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
        let len = Writer::measure(&emit);
        let mut out = vec![0; len];
        let mut writer = Writer::new(&mut out);
        emit(&mut writer);
        assert_eq!(writer.finish(), Some(len));
        out
    }

    #[test]
    fn integers_take_their_shortest_form_and_come_back() {
        for value in [0u64, 1, 127, 128, 255, 256, 65535, 65536, u32::MAX.into(), 1 << 32, u64::MAX] {
            let bytes = written(|w| w.uint(value));
            assert_eq!(Reader::new(&bytes).uint(), Ok(value));
        }
        for value in [0i64, -1, -32, -33, -128, -129, -32768, -32769, i32::MIN.into(), i64::MIN, i64::MAX] {
            let bytes = written(|w| w.int(value));
            assert_eq!(Reader::new(&bytes).int(), Ok(value));
        }
        // Newer peers write signed forms as soon as a value exceeds 127 (gossip spec §3).
        assert_eq!(Reader::new(&[0xd1, 0x01, 0x00]).uint(), Ok(256));
        assert!(Reader::new(&[0xd0, 0xff]).uint().is_err());
    }

    #[test]
    fn raw_family_is_the_old_one() {
        assert_eq!(written(|w| w.text(&"x".repeat(36)))[..3], [0xda, 0, 36]);
        assert_eq!(written(|w| w.raw(b""))[..], [0xa0]);
        assert_eq!(Reader::new(&[0xd9, 1, b'a']).text(), Ok("a"));
        assert_eq!(Reader::new(&[0xc4, 1, b'a']).raw(), Ok(&b"a"[..]));
        assert!(Reader::new(&[0xc4, 1, b'a']).text().is_err());
    }

    #[test]
    fn skip_survives_depth_and_lies() {
        let deep = vec![0x91; 100_000];
        assert!(Reader::new(&deep).skip().is_err());
        let mut closed = deep.clone();
        closed.push(0xc0);
        assert_eq!(Reader::new(&closed).skip().map(<[u8]>::len), Ok(closed.len()));
        assert!(Reader::new(&[0xdf, 0xff, 0xff, 0xff, 0xff]).map().is_err());
        assert!(Reader::new(&[0xdb, 0xff, 0xff, 0xff, 0xff]).raw().is_err());
        assert!(Reader::new(&[0xc1]).skip().is_err());
    }

    #[test]
    fn a_full_writer_counts_on_and_says_so() {
        let mut out = [0u8; 2];
        let mut writer = Writer::new(&mut out);
        writer.text("abc");
        assert_eq!(writer.len(), 4);
        assert_eq!(writer.finish(), None);
    }
}
