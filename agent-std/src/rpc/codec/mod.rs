//! msgpack for any serde type, exactly as go-msgpack writes it (rpc spec §4), over the core's reader and writer.
//!
//! What we send: text and octets in the raw family only, integers in their shortest form, structs as maps whose keys
//! are sorted bytewise. What we read: any key order, every integer width, str8 and bin, nil for zero, unknown keys.
//! No existing crate does this: rmp-serde always writes str8 for 32 to 255 octets, which Go servers of that age do read,
//! but bin for octets, which they do not.
//!
//! [`Boundary`] finds the end of a value while its octets still arrive; the format has no length in front.

mod boundary;
mod de;
mod ser;

use serde::{Serialize, de::DeserializeOwned};

pub use boundary::Boundary;

/// Containers nested deeper than this are refused; the deepest real message has 8 levels.
const MAX_DEPTH: u32 = 64;

/// List elements and map entries read from one request. Bounds the memory that a request of few octets can claim (an
/// empty health check is one octet on the wire and some 400 in memory).
const MAX_REQUEST_ITEMS: usize = 1 << 16;

/// `{}`: what follows the header of a failed call.
pub const EMPTY_MAP: [u8; 1] = [0x80];

/// A value cannot be written or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The octets are not msgpack, or not of the expected shape.
    #[error("msgpack: {0}")]
    Wire(#[from] agent_core::wire::Error),
    /// More containers inside each other than any real message has.
    #[error("msgpack: nested too deep")]
    TooDeep,
    /// More list elements and map entries than a request may have.
    #[error("msgpack: too many values in one message")]
    TooMany,
    /// A type says what is wrong.
    #[error("msgpack: {0}")]
    Shape(String),
}

impl serde::ser::Error for Error {
    fn custom<T: std::fmt::Display>(text: T) -> Self {
        Error::Shape(text.to_string())
    }
}

impl serde::de::Error for Error {
    fn custom<T: std::fmt::Display>(text: T) -> Self {
        Error::Shape(text.to_string())
    }
}

/// `value` as msgpack.
///
/// # Errors
/// When a type cannot be expressed, e.g. an enum with fields inside a tuple; never for the types of [`crate::model`].
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, Error> {
    let mut out = Vec::new();
    append(&mut out, value)?;
    Ok(out)
}

/// Appends `value` as msgpack to `out`.
///
/// # Errors
/// As [`to_vec`]; `out` may then hold a part.
pub fn append<T: Serialize + ?Sized>(out: &mut Vec<u8>, value: &T) -> Result<(), Error> {
    value.serialize(&mut ser::Serializer::new(out))
}

/// The value that `octets` hold; what follows it is ignored. For replies and for what we wrote ourselves.
///
/// # Errors
/// When the octets are not such a value.
pub fn from_slice<T: DeserializeOwned>(octets: &[u8]) -> Result<T, Error> {
    T::deserialize(&mut de::Deserializer::new(octets, usize::MAX))
}

/// Like [`from_slice`], for what anybody may send to us: bounded in memory as well.
///
/// # Errors
/// When the octets are not such a value, or claim too much.
pub fn from_request<T: DeserializeOwned>(octets: &[u8]) -> Result<T, Error> {
    T::deserialize(&mut de::Deserializer::new(octets, MAX_REQUEST_ITEMS))
}

#[cfg(test)]
mod tests;
