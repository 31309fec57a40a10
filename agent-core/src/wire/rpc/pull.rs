//! msgpack heads from a stream that may be cut anywhere.

use crate::wire::Error;

/// The head of a value and, where it is a number, the value itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Token {
    Nil,
    Bool(bool),
    /// An integer; negative ones in two's complement, `negative` set.
    Int {
        value: u64,
        negative: bool,
    },
    /// Bits of a 64 bit float; a 32 bit one is not told apart, as none is ever wanted.
    Float(u64),
    /// Text or octets follow, read with [`Pull::piece`].
    Raw(u32),
    Array(u32),
    Map(u32),
    /// An extension: octets follow, for nobody.
    Extension,
}

/// Puts heads together from pieces of the stream. Nine octets are the longest head.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pull {
    head: [u8; 9],
    have: u8,
    raw_left: u64,
    /// Octets taken so far, for error messages.
    at: usize,
}

/// Octets that belong to a head after its first.
const fn rest_of_head(first: u8) -> usize {
    match first {
        0xc4 | 0xcc | 0xd0 | 0xd9 | 0xc7 => 1,
        0xc5 | 0xcd | 0xd1 | 0xda | 0xdc | 0xde | 0xc8 => 2,
        0xc6 | 0xca | 0xce | 0xd2 | 0xdb | 0xdd | 0xdf | 0xc9 => 4,
        0xcb | 0xcf | 0xd3 => 8,
        _ => 0,
    }
}

impl Pull {
    pub(super) const fn new() -> Self {
        Pull { head: [0; 9], have: 0, raw_left: 0, at: 0 }
    }

    pub(super) const fn at(&self) -> usize {
        self.at
    }

    /// True while octets of a raw value are still to come.
    pub(super) const fn in_raw(&self) -> bool {
        self.raw_left > 0
    }

    /// The next piece of the raw value whose head came last; empty when `data` is.
    pub(super) fn piece<'d>(&mut self, data: &mut &'d [u8]) -> &'d [u8] {
        let len = usize::try_from(self.raw_left).unwrap_or(usize::MAX).min(data.len());
        let (piece, rest) = data.split_at(len);
        *data = rest;
        self.raw_left -= len as u64;
        self.at = self.at.saturating_add(len);
        piece
    }

    /// The next head, once all of it has come. Only to be called when no raw value is open.
    pub(super) fn token(&mut self, data: &mut &[u8]) -> Result<Option<Token>, Error> {
        while let Some((&octet, rest)) = data.split_first() {
            *data = rest;
            self.at = self.at.saturating_add(1);
            let have = usize::from(self.have);
            self.head[have] = octet;
            if have == rest_of_head(self.head[0]) {
                self.have = 0;
                return self.complete().map(Some);
            }
            self.have += 1;
        }
        Ok(None)
    }

    fn complete(&mut self) -> Result<Token, Error> {
        let first = self.head[0];
        let octets = rest_of_head(first);
        let value = self.head[1..=octets].iter().fold(0u64, |acc, &octet| (acc << 8) | u64::from(octet));
        let signed = |value: i64| Token::Int { value: value as u64, negative: value < 0 };
        let counted = value as u32; // heads with a count have at most four octets
        let token = match first {
            0xc0 => Token::Nil,
            0xc2 | 0xc3 => Token::Bool(first == 0xc3),
            0x00..=0x7f => Token::Int { value: first.into(), negative: false },
            0xe0..=0xff => signed((first as i8).into()),
            0xcc..=0xcf => Token::Int { value, negative: false },
            0xd0 => signed((value as u8 as i8).into()),
            0xd1 => signed((value as u16 as i16).into()),
            0xd2 => signed((value as u32 as i32).into()),
            0xd3 => signed(value as i64),
            0xca | 0xcb => Token::Float(value),
            0xa0..=0xbf => Token::Raw(u32::from(first & 0x1f)),
            0xd9..=0xdb | 0xc4..=0xc6 => Token::Raw(counted),
            0x90..=0x9f => Token::Array(u32::from(first & 0x0f)),
            0xdc | 0xdd => Token::Array(counted),
            0x80..=0x8f => Token::Map(u32::from(first & 0x0f)),
            0xde | 0xdf => Token::Map(counted),
            0xd4..=0xd8 | 0xc7..=0xc9 => Token::Extension,
            0xc1 => return Err(Error { what: "reserved msgpack byte", at: self.at }),
        };
        self.raw_left = match token {
            Token::Raw(len) => len.into(),
            Token::Extension if first >= 0xd4 => 1 + (1 << (first - 0xd4)),
            Token::Extension => 1 + value,
            _ => 0,
        };
        Ok(token)
    }
}
