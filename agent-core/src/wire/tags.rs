//! Serf tags inside `Meta` (gossip spec §9.7): 0xFF, then a msgpack map of text to text; at most 512 octets.

use super::msgpack::{Reader, Writer};

/// First octet of an encoded tag map.
const MAGIC: u8 = 0xff;

/// Largest `Meta`, in octets.
pub const MAX_META: usize = 512;

/// The tags in `meta`, in wire order. Stops at the first octet that makes no sense.
pub fn parse(meta: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let (mut reader, mut left, mut role) = match meta.split_first() {
        Some((&MAGIC, map)) => {
            let mut reader = Reader::new(map);
            let left = reader.map().unwrap_or(0);
            (reader, left, None)
        }
        _ => (Reader::new(&[]), 0, core::str::from_utf8(meta).ok().filter(|text| !text.is_empty())),
    };
    core::iter::from_fn(move || {
        if let Some(role) = role.take() {
            return Some(("role", role));
        }
        left = left.checked_sub(1)?;
        Some((reader.text().ok()?, reader.text().ok()?))
    })
}

/// Writes `tags` in the given order.
pub fn emit(writer: &mut Writer<'_>, tags: &[(&str, &str)]) {
    writer.byte(MAGIC);
    writer.map(tags.len());
    for (key, value) in tags {
        writer.text(key);
        writer.text(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_round_trip_and_old_role_is_read() {
        let tags = [("role", "node"), ("dc", "dc1")];
        let mut meta = vec![0; Writer::measure(|w| emit(w, &tags))];
        emit(&mut Writer::new(&mut meta), &tags);
        assert!(parse(&meta).eq(tags));
        assert!(parse(b"web").eq([("role", "web")]));
        assert_eq!(parse(&meta[..7]).count(), 0);
        assert_eq!(parse(b"").count(), 0);
    }
}
