//! IP addresses as text: what the catalog, tags and people write. The standard library's own reader and writer do the same
//! in three times the room, and bring its whole formatting along.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::rpc::Text;

/// Octets of the longest address as text, `::ffff:255.255.255.255` and eight groups of four digits among them.
pub const MAX_TEXT: usize = 39;

/// Reads an address: four numbers with dots, or IPv6 in any of its forms, without brackets, zone or surroundings.
pub fn parse(text: &str) -> Option<IpAddr> {
    match text.contains(':') {
        true => v6(text.as_bytes()).map(IpAddr::V6),
        false => v4(text.as_bytes()).map(IpAddr::V4),
    }
}

fn v4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut octets = [0; 4];
    let mut parts = text.split(|&octet| octet == b'.');
    for octet in &mut octets {
        let digits = parts.next()?;
        // A leading zero once meant octal; nobody can tell what it means today.
        if digits.len() > 3 || digits.first() == Some(&b'0') && digits.len() > 1 {
            return None;
        }
        *octet = u8::try_from(number(digits, 10)?).ok()?;
    }
    parts.next().is_none().then_some(octets.into())
}

fn v6(text: &[u8]) -> Option<Ipv6Addr> {
    let mut all = [0; 8];
    match text.windows(2).position(|pair| pair == b"::") {
        None => (groups(text, &mut all, true)? == 8).then_some(all.into()),
        Some(gap) => {
            let (head, tail) = (&text[..gap], &text[gap + 2..]);
            let mut last = [0; 8];
            // The gap stands for one group at least.
            let before = groups(head, &mut all, false)?;
            let behind = groups(tail, &mut last, true)?;
            let start = 8usize.checked_sub(behind).filter(|&start| start > before)?;
            all[start..].copy_from_slice(&last[..behind]);
            Some(all.into())
        }
    }
}

/// Reads groups of digits with colons between them, the last two perhaps as IPv4; returns their number.
fn groups(text: &[u8], out: &mut [u16; 8], may_end_in_v4: bool) -> Option<usize> {
    let mut count = 0;
    if text.is_empty() {
        return Some(0);
    }
    let mut parts = text.split(|&octet| octet == b':').peekable();
    while let Some(part) = parts.next() {
        if may_end_in_v4 && parts.peek().is_none() && part.contains(&b'.') {
            let [a, b, c, d] = v4(part)?.octets();
            let place = out.get_mut(count..count + 2)?;
            place.copy_from_slice(&[u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]);
            return Some(count + 2);
        }
        if part.len() > 4 {
            return None;
        }
        *out.get_mut(count)? = number(part, 16)?;
        count += 1;
    }
    Some(count)
}

/// Up to four digits.
fn number(digits: &[u8], radix: u32) -> Option<u16> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0, |value, &digit| Some(value * radix as u16 + char::from(digit).to_digit(radix)? as u16))
}

/// Appends `ip` in its usual form (RFC 5952).
pub fn push<const N: usize>(text: &mut Text<N>, ip: IpAddr) {
    let mut line = Line { octets: [0; MAX_TEXT], len: 0 };
    line.ip(ip);
    text.push(&line.octets[..line.len]);
}

/// `ip` in its usual form.
pub fn text(ip: IpAddr) -> Text<MAX_TEXT> {
    let mut text = Text::EMPTY;
    push(&mut text, ip);
    text
}

struct Line {
    octets: [u8; MAX_TEXT],
    len: usize,
}

impl Line {
    fn put(&mut self, octet: u8) {
        if let Some(place) = self.octets.get_mut(self.len) {
            *place = octet;
            self.len += 1;
        }
    }

    fn number(&mut self, value: u16, radix: u16) {
        if value >= radix {
            self.number(value / radix, radix);
        }
        self.put(b"0123456789abcdef"[usize::from(value % radix)]);
    }

    fn list(&mut self, numbers: &[u16], radix: u16, between: u8) {
        for (nth, &number) in numbers.iter().enumerate() {
            if nth > 0 {
                self.put(between);
            }
            self.number(number, radix);
        }
    }

    fn ip(&mut self, ip: IpAddr) {
        match ip {
            IpAddr::V4(v4) => self.list(&v4.octets().map(u16::from), 10, b'.'),
            IpAddr::V6(v6) => {
                if let Some(v4) = v6.to_ipv4_mapped() {
                    b"::ffff:".iter().for_each(|&octet| self.put(octet));
                    return self.ip(IpAddr::V4(v4));
                }
                let groups = v6.segments();
                let (start, len) = longest_gap(&groups);
                if len < 2 {
                    return self.list(&groups, 16, b':');
                }
                self.list(&groups[..start], 16, b':');
                self.put(b':');
                self.put(b':');
                self.list(&groups[start + len..], 16, b':');
            }
        }
    }
}

/// Start and length of the longest run of zeros, the first of several.
fn longest_gap(groups: &[u16; 8]) -> (usize, usize) {
    let (mut longest, mut run) = ((0, 0), (0, 0));
    for (at, &group) in groups.iter().enumerate() {
        run = if group == 0 { (run.0, run.1 + 1) } else { (at + 1, 0) };
        if run.1 > longest.1 {
            longest = run;
        }
    }
    longest
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Addresses with many zeros, which is where their text differs.
    fn addresses() -> impl Strategy<Value = IpAddr> {
        let group = prop_oneof![3 => Just(0u16), 1 => Just(0xffff), 1 => any::<u16>(), 1 => 0u16..16];
        let v6 = prop::array::uniform8(group).prop_map(|groups| IpAddr::V6(groups.into()));
        prop_oneof![any::<Ipv4Addr>().prop_map(IpAddr::V4), v6]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn written_and_read_like_the_standard_library(ip in addresses()) {
            let expected = ip.to_string();
            let written = text(ip);
            prop_assert_eq!(written.as_str(), &expected);
            prop_assert_eq!(parse(&expected), Some(ip));
        }

        #[test]
        fn odd_texts_are_judged_like_the_standard_library(text in "[0-9a-f:.]{0,20}|([0-9]{1,3}[.:]){3,7}[0-9a-f]{1,4}|(::)?([0-9a-fG]{0,5}:?){0,9}") {
            prop_assert_eq!(parse(&text), text.parse().ok(), "{}", text);
        }
    }

    #[test]
    fn forms_of_one_address() {
        for text in ["::", "::1", "1::", "::1.2.3.4", "1:2:3:4:5:6:1.2.3.4", "1::2:1.2.3.4", "::ffff:1.2.3.4", "A::b"] {
            assert_eq!(parse(text), text.parse().ok(), "{text}");
            assert!(parse(text).is_some(), "{text}");
        }
        for text in
            ["", ":", ":::", "1:2:3:4:5:6:7:8::", "1::2::3", "1.2.3.4::", "01.2.3.4", "1.2.3", "1.2.3.4.5", "::é"]
        {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_eq!(text("1:0:0:2:0:0:0:3".parse().unwrap()).as_str(), "1:0:0:2::3");
    }
}
