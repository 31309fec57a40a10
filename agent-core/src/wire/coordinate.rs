//! Network coordinates in acks (gossip spec §9.6): version octet 1, then {Adjustment, Error, Height, Vec}.

use super::{
    Error,
    msgpack::{Reader, Writer},
};

/// Dimensions of serf's coordinate space.
pub const DIMENSIONS: usize = 8;
/// Version octet of a ping payload.
const VERSION: u8 = 1;
/// Octets of a payload.
pub const PAYLOAD: usize = 130;

/// A Vivaldi coordinate, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Coordinate {
    /// Place in the space.
    pub vec: [f64; DIMENSIONS],
    /// Confidence, 0 (sure) to 1.5.
    pub error: f64,
    /// Correction for what the space cannot express.
    pub adjustment: f64,
    /// Distance to the space itself, as of an access link.
    pub height: f64,
}

impl Coordinate {
    /// Where every agent begins.
    pub const ORIGIN: Coordinate = Coordinate { vec: [0.0; DIMENSIONS], error: 1.5, adjustment: 0.0, height: 10e-6 };

    /// True when every component is a number that can be computed with.
    pub fn is_valid(&self) -> bool {
        self.vec.iter().chain([&self.error, &self.adjustment, &self.height]).all(|x| x.is_finite())
    }

    /// Reads an ack's payload; `None` for an empty one or another version.
    ///
    /// # Errors
    /// Octets that are no coordinate, or one with a wrong dimension, a NaN or an infinity.
    pub fn parse(payload: &[u8]) -> Result<Option<Self>, Error> {
        let Some((&VERSION, body)) = payload.split_first() else { return Ok(None) };
        let mut r = Reader::new(body);
        let coordinate = Coordinate::read(&mut r)?;
        if !coordinate.is_valid() {
            return Err(r.error("coordinate is not a number"));
        }
        Ok(Some(coordinate))
    }

    fn read(r: &mut Reader<'_>) -> Result<Self, Error> {
        let mut c = Coordinate { vec: [0.0; DIMENSIONS], error: 0.0, adjustment: 0.0, height: 0.0 };
        r.fields(|key, r| {
            match key {
                b"Adjustment" => c.adjustment = r.float()?,
                b"Error" => c.error = r.float()?,
                b"Height" => c.height = r.float()?,
                b"Vec" => {
                    if r.array()? != DIMENSIONS {
                        return Err(r.error("coordinate of another dimension"));
                    }
                    for x in &mut c.vec {
                        *x = r.float()?;
                    }
                }
                _ => return Ok(false),
            }
            Ok(true)
        })?;
        Ok(c)
    }

    /// Writes an ack's payload.
    pub fn emit(&self, w: &mut Writer<'_>) {
        w.byte(VERSION);
        self.emit_map(w);
    }

    /// Writes the map alone, as in `Coordinate.Update`.
    pub fn emit_map(&self, w: &mut Writer<'_>) {
        w.map(4);
        w.text("Adjustment");
        w.float(self.adjustment);
        w.text("Error");
        w.float(self.error);
        w.text("Height");
        w.float(self.height);
        w.text("Vec");
        w.array(DIMENSIONS);
        for x in self.vec {
            w.float(x);
        }
    }
}
