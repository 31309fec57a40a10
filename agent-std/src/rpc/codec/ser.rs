//! The serializer: structs become maps with sorted keys, octets and text become raw.

use agent_core::wire::msgpack::Writer;
use serde::ser::{self, Serialize};

use super::{Error, MAX_DEPTH};

pub(super) struct Serializer<'a> {
    out: &'a mut Vec<u8>,
    depth: u32,
}

impl<'a> Serializer<'a> {
    pub(super) fn new(out: &'a mut Vec<u8>) -> Self {
        Serializer { out, depth: 0 }
    }

    /// Writes a head or a small value through the core's writer; none is longer than 9 octets.
    fn put(&mut self, emit: impl FnOnce(&mut Writer<'_>)) {
        let mut scratch = [0; 9];
        let mut writer = Writer::new(&mut scratch);
        emit(&mut writer);
        let len = writer.finish().unwrap_or(0);
        self.out.extend_from_slice(&scratch[..len]);
    }

    fn raw(&mut self, octets: &[u8]) {
        self.put(|w| w.raw_head(octets.len()));
        self.out.extend_from_slice(octets);
    }

    fn enter(&mut self) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Error::TooDeep) } else { Ok(()) }
    }

    fn list(&mut self, len: Option<usize>) -> Result<List<'_, 'a>, Error> {
        self.enter()?;
        let len = len.ok_or_else(|| Error::Shape("list of unknown length".into()))?;
        self.put(|w| w.array(len));
        Ok(List { ser: self })
    }

    fn sorted(&mut self) -> Result<Map<'_, 'a>, Error> {
        self.enter()?;
        let start = self.out.len();
        Ok(Map { ser: self, start, entries: Vec::new(), sort: true })
    }
}

/// Elements after their head.
pub(super) struct List<'s, 'a> {
    ser: &'s mut Serializer<'a>,
}

/// Entries. Structs (`sort`) are collected and put in order at their end; real maps come ordered, with their length.
pub(super) struct Map<'s, 'a> {
    ser: &'s mut Serializer<'a>,
    start: usize,
    /// Where each entry's key text lies, and where the entry begins.
    entries: Vec<Entry>,
    sort: bool,
}

struct Entry {
    begin: usize,
    key: std::ops::Range<usize>,
}

impl Map<'_, '_> {
    fn key<K: Serialize + ?Sized>(&mut self, key: &K) -> Result<(), Error> {
        let begin = self.ser.out.len();
        key.serialize(&mut *self.ser)?;
        if self.sort {
            let end = self.ser.out.len();
            // A raw value's head is 1 octet below 32 octets of text, else 3: go-msgpack has no shorter form.
            let head = if end - begin <= 32 { 1 } else { 3 };
            self.entries.push(Entry { begin, key: begin + head..end });
        }
        Ok(())
    }

    fn finish(self) -> Result<(), Error> {
        self.ser.depth -= 1;
        if !self.sort {
            return Ok(());
        }
        let body = self.ser.out.split_off(self.start);
        let at = |n: usize| n - self.start;
        let mut ranges: Vec<_> = (0..self.entries.len())
            .map(|i| {
                let end = self.entries.get(i + 1).map_or(body.len(), |next| at(next.begin));
                let Entry { begin, key } = &self.entries[i];
                (at(key.start)..at(key.end), at(*begin)..end)
            })
            .collect();
        ranges.sort_by(|(a, _), (b, _)| body[a.clone()].cmp(&body[b.clone()]));
        self.ser.put(|w| w.map(ranges.len()));
        for (_, entry) in ranges {
            self.ser.out.extend_from_slice(&body[entry]);
        }
        Ok(())
    }
}

impl<'s, 'a> ser::Serializer for &'s mut Serializer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = List<'s, 'a>;
    type SerializeTuple = List<'s, 'a>;
    type SerializeTupleStruct = List<'s, 'a>;
    type SerializeTupleVariant = List<'s, 'a>;
    type SerializeMap = Map<'s, 'a>;
    type SerializeStruct = Map<'s, 'a>;
    type SerializeStructVariant = Map<'s, 'a>;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Result<(), Error> {
        self.put(|w| w.bool(value));
        Ok(())
    }

    fn serialize_i8(self, value: i8) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i16(self, value: i16) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i32(self, value: i32) -> Result<(), Error> {
        self.serialize_i64(value.into())
    }

    fn serialize_i64(self, value: i64) -> Result<(), Error> {
        self.put(|w| w.int(value));
        Ok(())
    }

    fn serialize_u8(self, value: u8) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u16(self, value: u16) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u32(self, value: u32) -> Result<(), Error> {
        self.serialize_u64(value.into())
    }

    fn serialize_u64(self, value: u64) -> Result<(), Error> {
        self.put(|w| w.uint(value));
        Ok(())
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.serialize_f64(value.into())
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.put(|w| w.float(value));
        Ok(())
    }

    fn serialize_char(self, value: char) -> Result<(), Error> {
        self.serialize_str(value.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, value: &str) -> Result<(), Error> {
        self.raw(value.as_bytes());
        Ok(())
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<(), Error> {
        self.raw(value);
        Ok(())
    }

    fn serialize_none(self) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<(), Error> {
        self.put(|w| w.nil());
        Ok(())
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        self.serialize_unit()
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<(), Error> {
        self.serialize_str(variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.enter()?;
        self.put(|w| w.map(1));
        self.raw(variant.as_bytes());
        value.serialize(&mut *self)?;
        self.depth -= 1;
        Ok(())
    }

    fn serialize_seq(self, len: Option<usize>) -> Result<List<'s, 'a>, Error> {
        self.list(len)
    }

    fn serialize_tuple(self, len: usize) -> Result<List<'s, 'a>, Error> {
        self.list(Some(len))
    }

    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<List<'s, 'a>, Error> {
        self.list(Some(len))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<List<'s, 'a>, Error> {
        Err(Error::Shape("variant with several values".into()))
    }

    fn serialize_map(self, len: Option<usize>) -> Result<Map<'s, 'a>, Error> {
        let Some(len) = len else { return self.sorted() };
        self.enter()?;
        self.put(|w| w.map(len));
        Ok(Map { start: 0, ser: self, entries: Vec::new(), sort: false })
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Map<'s, 'a>, Error> {
        self.sorted()
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Map<'s, 'a>, Error> {
        Err(Error::Shape("variant with fields".into()))
    }
}

macro_rules! elements {
    ($($part:ident::$method:ident),*) => {$(
        impl ser::$part for List<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
                value.serialize(&mut *self.ser)
            }

            fn end(self) -> Result<(), Error> {
                self.ser.depth -= 1;
                Ok(())
            }
        }
    )*};
}

elements!(
    SerializeSeq::serialize_element,
    SerializeTuple::serialize_element,
    SerializeTupleStruct::serialize_field,
    SerializeTupleVariant::serialize_field
);

impl ser::SerializeMap for Map<'_, '_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        self.key(key)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut *self.ser)
    }

    fn end(self) -> Result<(), Error> {
        self.finish()
    }
}

macro_rules! fields {
    ($($part:ident),*) => {$(
        impl ser::$part for Map<'_, '_> {
            type Ok = ();
            type Error = Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
                self.key(key)?;
                value.serialize(&mut *self.ser)
            }

            fn end(self) -> Result<(), Error> {
                self.finish()
            }
        }
    )*};
}

fields!(SerializeStruct, SerializeStructVariant);
