//! The CRC layer of datagrams (gossip spec §2): type 12, `u32` big-endian IEEE CRC-32 of all that follows.
//!
//! Computed a nibble at a time: 64 octets of table instead of 1,024, and a datagram is at most 1,407 octets.

/// Octets in front of the protected message: type and checksum.
pub const HEADER: usize = 5;

/// CRC-32 of each nibble, polynomial 0xEDB88320.
const TABLE: [u32; 16] = table();

const fn table() -> [u32; 16] {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        let mut crc = i as u32;
        let mut bit = 0;
        while bit < 4 {
            crc = if crc & 1 == 1 { 0xedb8_8320 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}

/// IEEE CRC-32 of `data`.
pub fn checksum(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, &byte| {
        let crc = crc ^ u32::from(byte);
        let crc = (crc >> 4) ^ TABLE[(crc & 0x0f) as usize];
        (crc >> 4) ^ TABLE[(crc & 0x0f) as usize]
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn check_value_of_the_standard() {
        assert_eq!(super::checksum(b"123456789"), 0xcbf4_3926);
        assert_eq!(super::checksum(b""), 0);
    }
}
