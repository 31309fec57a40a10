//! The deserializer: lenient where Go is (nil is zero, any width, unknown keys), bounded in depth and in number.

use std::borrow::Cow;

use agent_core::wire::msgpack::{Kind, Reader};
use serde::de::{self, DeserializeSeed, Visitor};

use super::{Error, MAX_DEPTH};

pub(super) struct Deserializer<'de> {
    reader: Reader<'de>,
    depth: u32,
    /// List elements and map entries that may still come.
    items: usize,
}

impl<'de> Deserializer<'de> {
    pub(super) fn new(octets: &'de [u8], items: usize) -> Self {
        Deserializer { reader: Reader::new(octets), depth: 0, items }
    }

    fn enter(&mut self, len: usize) -> Result<(), Error> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Error::TooDeep);
        }
        self.items = self.items.checked_sub(len).ok_or(Error::TooMany)?;
        Ok(())
    }

    fn list<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        let left = self.reader.array()?;
        self.enter(left)?;
        let mut items = Items { de: self, left };
        let value = visitor.visit_seq(&mut items)?;
        items.drain()?;
        self.depth -= 1;
        Ok(value)
    }

    fn entries<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        // Go takes an empty list for an empty struct.
        let left = if self.reader.rest().first() == Some(&0x90) { self.reader.array()? } else { self.reader.map()? };
        self.enter(left)?;
        let mut items = Items { de: self, left };
        let value = visitor.visit_map(&mut items)?;
        self.depth -= 1;
        Ok(value)
    }

    /// Go strings may hold anything, e.g. a script's output; what is not UTF-8 is replaced rather than refused.
    fn text(&mut self) -> Result<Cow<'de, str>, Error> {
        Ok(String::from_utf8_lossy(self.reader.raw()?))
    }

    fn int<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Error> {
        match self.reader.rest().first() {
            Some(0xe0..=0xff | 0xd0..=0xd3) => visitor.visit_i64(self.reader.int()?),
            _ => visitor.visit_u64(self.reader.uint()?),
        }
    }

    fn is_nil(&self) -> Result<bool, Error> {
        Ok(self.reader.peek()? == Kind::Nil)
    }
}

/// The elements of a list, or keys and values of a map, that are still to come.
struct Items<'a, 'de> {
    de: &'a mut Deserializer<'de>,
    left: usize,
}

impl Items<'_, '_> {
    /// Steps over elements the type did not take, e.g. a ninth value of a fixed array.
    fn drain(&mut self) -> Result<(), Error> {
        for _ in 0..std::mem::take(&mut self.left) {
            self.de.reader.skip()?;
        }
        Ok(())
    }
}

impl<'de> de::SeqAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.de).map(Some)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

impl<'de> de::MapAccess<'de> for Items<'_, 'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        let Some(left) = self.left.checked_sub(1) else { return Ok(None) };
        self.left = left;
        seed.deserialize(&mut *self.de).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        seed.deserialize(&mut *self.de)
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.left)
    }
}

macro_rules! integers {
    ($($method:ident),*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            self.int(visitor)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for &mut Deserializer<'de> {
    type Error = Error;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.reader.peek()? {
            Kind::Nil => self.deserialize_unit(visitor),
            Kind::Bool => visitor.visit_bool(self.reader.bool()?),
            Kind::Int => self.int(visitor),
            Kind::Float => visitor.visit_f64(self.reader.float()?),
            Kind::Raw => self.deserialize_str(visitor),
            Kind::Array => self.list(visitor),
            Kind::Map => self.entries(visitor),
            Kind::Other => Err(self.reader.error("msgpack extension").into()),
        }
    }

    integers!(
        deserialize_i8,
        deserialize_i16,
        deserialize_i32,
        deserialize_i64,
        deserialize_u8,
        deserialize_u16,
        deserialize_u32,
        deserialize_u64
    );

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_bool(self.reader.bool()?)
    }

    fn deserialize_f32<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_f64(visitor)
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_f64(self.reader.float()?)
    }

    fn deserialize_char<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.text()? {
            Cow::Borrowed(text) => visitor.visit_borrowed_str(text),
            Cow::Owned(text) => visitor.visit_string(text),
        }
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_borrowed_bytes(self.reader.raw()?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_nil()? {
            self.reader.byte()?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_unit<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.reader.skip()?;
        visitor.visit_unit()
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.list(visitor)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        self.list(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.list(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.entries(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.entries(visitor)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.reader.peek()? == Kind::Map {
            if self.reader.map()? != 1 {
                return Err(self.reader.error("one variant expected").into());
            }
            self.enter(1)?;
            let value = visitor.visit_enum(&mut *self)?;
            self.depth -= 1;
            return Ok(value);
        }
        visitor.visit_enum(de::value::CowStrDeserializer::<Error>::new(self.text()?))
    }

    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_str(visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        self.deserialize_unit(visitor)
    }
}

impl<'de> de::EnumAccess<'de> for &mut Deserializer<'de> {
    type Error = Error;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Error> {
        Ok((seed.deserialize(&mut *self)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for &mut Deserializer<'de> {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        self.reader.skip()?;
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, Error> {
        Err(self.reader.error("variant with several values").into())
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        self.entries(visitor)
    }
}
