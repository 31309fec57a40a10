//! What a name asks for (dns spec §1 and §4).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Rules;
use crate::wire::dns::{Query, rtype};

/// Longest name as text: 255 octets on the wire are 253 with dots between the labels.
const MAX_TEXT: usize = 253;

/// What is looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A node by name (RPC `Catalog.NodeServices`).
    Node,
    /// Instances of a service, perhaps with a tag (RPC `Health.ServiceNodes`).
    Service,
    /// Mesh proxies of a service (`Health.ServiceNodes` with `Connect`).
    Connect,
    /// Ingress gateways of a service (`Health.ServiceNodes` with `Ingress`).
    Ingress,
    /// A prepared query by name or id (RPC `PreparedQuery.Execute`).
    Query,
    /// Node, or else service, with an address: see [`Lookup::address`].
    Reverse,
    /// The servers of this datacenter: NS records.
    Servers,
}

/// One look-up: what a [`Directory`](super::Directory) is asked for. Owned, about 300 octets.
#[derive(Clone)]
pub struct Lookup {
    text: Text,
    kind: Kind,
    name: Span,
    tag: Span,
    datacenter: Span,
    address: Option<IpAddr>,
}

impl Lookup {
    /// The servers of this datacenter.
    pub(super) fn servers() -> Self {
        Lookup::of(Kind::Servers, Text::EMPTY, NONE)
    }

    fn of(kind: Kind, text: Text, name: Span) -> Self {
        Lookup { text, kind, name, tag: NONE, datacenter: NONE, address: None }
    }

    /// What is looked up.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Name of the node, service or query, in lower case. Names in the catalog match without regard to case.
    pub fn name(&self) -> &str {
        self.text.part(self.name)
    }

    /// Tag that the instances must have, in lower case; empty: any.
    pub fn tag(&self) -> &str {
        self.text.part(self.tag)
    }

    /// Datacenter named by the asker, in lower case; empty: this one.
    pub fn datacenter(&self) -> &str {
        self.text.part(self.datacenter)
    }

    /// The address of a reverse look-up.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }
}

impl PartialEq for Lookup {
    fn eq(&self, other: &Self) -> bool {
        let parts = |lookup: &Self| (lookup.kind, lookup.address);
        parts(self) == parts(other)
            && self.name() == other.name()
            && self.tag() == other.tag()
            && self.datacenter() == other.datacenter()
    }
}

impl Eq for Lookup {}

impl core::fmt::Debug for Lookup {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Lookup")
            .field("kind", &self.kind)
            .field("name", &self.name())
            .field("tag", &self.tag())
            .field("datacenter", &self.datacenter())
            .field("address", &self.address)
            .finish()
    }
}

/// Where a name lies.
#[allow(clippy::large_enum_variant)] // no heap to box it on
pub(super) enum Place {
    /// In no zone of ours.
    Outside,
    /// Below `arpa`; the look-up if the name is a whole address.
    Arpa(Option<Lookup>),
    /// In our zone, but it cannot name anything.
    Nothing,
    /// In our zone: `<hex>.addr`. The address, if the digits have the length of one, and the name before the zone.
    Addr(Option<IpAddr>, Text),
    /// In our zone: to be looked up.
    Name(Lookup),
}

/// Where the question's name lies.
pub(super) fn place_of(rules: &Rules<'_>, query: &Query<'_>) -> Place {
    let mut text = Text::EMPTY;
    let mut odd = false;
    for label in query.labels() {
        if text.len != 0 {
            text.push(b'.');
        }
        for octet in label {
            // A dot inside a label, or what no keyboard has: no name in a catalog is reached that way.
            odd |= !octet.is_ascii_graphic() || matches!(octet, b'.' | b'\\');
            text.push(if octet.is_ascii_graphic() { octet.to_ascii_lowercase() } else { b'?' });
        }
    }
    match locate(rules, text, query.rtype) {
        Place::Name(_) | Place::Addr(..) if odd => Place::Nothing,
        Place::Arpa(_) if odd => Place::Arpa(None),
        place => place,
    }
}

/// Where a registered host name lies, asked for like `rtype`.
pub(super) fn place_of_text(rules: &Rules<'_>, name: &str, rtype: u16) -> Place {
    let mut text = Text::EMPTY;
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > MAX_TEXT || !name.bytes().all(|octet| octet.is_ascii_graphic()) {
        return Place::Outside;
    }
    name.bytes().for_each(|octet| text.push(octet.to_ascii_lowercase()));
    locate(rules, text, rtype)
}

fn locate(rules: &Rules<'_>, text: Text, rtype: u16) -> Place {
    let all = text.as_str();
    let Some(before) = before_zone(all, rules.domain).or_else(|| before_zone(all, rules.alt_domain)) else {
        return match before_zone(all, "arpa") {
            Some(reversed) => Place::Arpa(reverse(reversed).map(|address| {
                let name = Span { start: 0, end: text.len };
                Lookup { address: Some(address), ..Lookup::of(Kind::Reverse, text, name) }
            })),
            None => Place::Outside,
        };
    };
    inside(&text, before.len(), rtype)
}

/// A name in our zone whose first `len` octets stand before the zone.
fn inside(text: &Text, len: usize, rtype: u16) -> Place {
    let all = text.as_str().get(..len).unwrap_or("");
    // The right-most kind word counts.
    let mut end = all.len();
    let (kind, names, after) = loop {
        let start = all[..end].rfind('.').map_or(0, |dot| dot + 1);
        let names = &all[..start.saturating_sub(1)];
        let after = all.get(end + 1..).unwrap_or("");
        match &all[start..end] {
            "node" => break (Some(Kind::Node), names, after),
            "service" => break (Some(Kind::Service), names, after),
            "connect" => break (Some(Kind::Connect), names, after),
            "ingress" => break (Some(Kind::Ingress), names, after),
            "query" => break (Some(Kind::Query), names, after),
            "addr" => break (None, names, after),
            // RFC 2782 names do without the word `service`.
            label if rtype == rtype::SRV && label.starts_with('_') => break (Some(Kind::Service), &all[..end], after),
            _ if start == 0 => return Place::Nothing,
            _ => end = start - 1,
        }
    };
    if names.is_empty() || after.contains('.') {
        return Place::Nothing;
    }
    let whole = Span::of(0, names.len());
    let datacenter = Span::of(all.len() - after.len(), all.len());
    let (name, tag) = match kind {
        None => return addr(names, text.clone(), len),
        Some(Kind::Service) => service_and_tag(names),
        Some(Kind::Connect | Kind::Ingress) => (Span::of(names.rfind('.').map_or(0, |dot| dot + 1), names.len()), NONE),
        Some(_) => (whole, NONE),
    };
    match kind {
        Some(kind) if name.start < name.end => {
            Place::Name(Lookup { tag, datacenter, ..Lookup::of(kind, text.clone(), name) })
        }
        _ => Place::Nothing,
    }
}

/// `[tag.]name`, or `_name._tag` where the tag `tcp` means none.
fn service_and_tag(names: &str) -> (Span, Span) {
    let Some((first, last)) = names.rsplit_once('.') else {
        return (Span::of(0, names.len()), NONE);
    };
    if first.starts_with('_') && last.starts_with('_') && !first.contains('.') {
        let tag = if last == "_tcp" { NONE } else { Span::of(first.len() + 2, names.len()) };
        return (Span::of(1, first.len()), tag);
    }
    (Span::of(first.len() + 1, names.len()), Span::of(0, first.len()))
}

/// `<hex>.addr`: 8 digits are an IPv4 address, 32 an IPv6 one; other lengths exist but have no address.
fn addr(hex: &str, text: Text, len: usize) -> Place {
    let name = Text { len: len as u8, ..text.clone() };
    let value = match (hex.contains('.'), hex.len() / 2) {
        (true, _) => return Place::Nothing,
        (_, 4 | 16) if hex.len().is_multiple_of(2) => {
            u128::from_str_radix(hex, 16).ok().filter(|_| !hex.starts_with('+'))
        }
        (_, 4 | 16) => None,
        _ => return Place::Addr(None, name),
    };
    match value {
        Some(value) if hex.len() == 8 => Place::Addr(Some(IpAddr::V4(Ipv4Addr::from_bits(value as u32))), name),
        Some(value) => Place::Addr(Some(IpAddr::V6(Ipv6Addr::from_bits(value))), name),
        None => Place::Nothing,
    }
}

/// The part of `name` before the dot before `zone`; empty when they are the same.
fn before_zone<'n>(name: &'n str, zone: &str) -> Option<&'n str> {
    let start = name.len().checked_sub(zone.len()).filter(|_| !zone.is_empty())?;
    if !name.get(start..)?.eq_ignore_ascii_case(zone) {
        return None;
    }
    match start {
        0 => Some(""),
        _ => name.get(..start)?.strip_suffix('.'),
    }
}

/// The address in `4.3.2.1.in-addr` or 32 nibbles and `ip6`.
fn reverse(name: &str) -> Option<IpAddr> {
    if let Some(octets) = before_zone(name, "in-addr") {
        let mut v4 = [0; 4];
        let mut parts = octets.split('.');
        for octet in v4.iter_mut().rev() {
            let digits = parts.next().filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))?;
            *octet = digits.parse().ok()?;
        }
        return parts.next().is_none().then_some(IpAddr::from(v4));
    }
    let nibbles = before_zone(name, "ip6")?;
    let mut v6 = 0u128;
    let mut parts = nibbles.split('.');
    for place in 0..32 {
        let digit = parts.next().filter(|digit| digit.len() == 1)?.chars().next()?.to_digit(16)?;
        v6 |= u128::from(digit) << (4 * place);
    }
    parts.next().is_none().then_some(IpAddr::V6(Ipv6Addr::from_bits(v6)))
}

/// A name in lower case with dots, ASCII only.
#[derive(Clone)]
pub(super) struct Text {
    octets: [u8; MAX_TEXT],
    len: u8,
}

impl Text {
    const EMPTY: Text = Text { octets: [0; MAX_TEXT], len: 0 };

    pub(super) fn as_str(&self) -> &str {
        self.part(Span { start: 0, end: self.len })
    }

    fn part(&self, span: Span) -> &str {
        let octets = self.octets.get(usize::from(span.start)..usize::from(span.end)).unwrap_or(&[]);
        core::str::from_utf8(octets).unwrap_or("")
    }

    /// Appends; a wire name of at most 255 octets always fits.
    fn push(&mut self, octet: u8) {
        if let Some(slot) = self.octets.get_mut(usize::from(self.len)) {
            *slot = octet;
            self.len += 1;
        }
    }
}

/// Part of a [`Text`], in octets.
#[derive(Clone, Copy)]
struct Span {
    start: u8,
    end: u8,
}

/// No part at all.
const NONE: Span = Span { start: 0, end: 0 };

impl Span {
    /// Offsets into a [`Text`], which are below 256.
    fn of(start: usize, end: usize) -> Self {
        Span { start: start as u8, end: end as u8 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: Rules<'_> = Rules { alt_domain: "alt.example", ..Rules::new("consul", "dc1") };

    fn locate(name: &str, rtype: u16) -> Place {
        place_of_text(&RULES, name, rtype)
    }

    fn lookup(name: &str, rtype: u16) -> Option<(Kind, String, String, String)> {
        match locate(name, rtype) {
            Place::Name(l) => Some((l.kind(), l.name().into(), l.tag().into(), l.datacenter().into())),
            _ => None,
        }
    }

    #[test]
    fn every_form_of_the_spec() {
        use Kind::*;
        for (name, kind, wanted, tag, dc) in [
            ("n1.node.consul", Node, "n1", "", ""),
            ("N1.Node.DC2.Consul.", Node, "n1", "", "dc2"),
            ("dn.dots.x.node.consul", Node, "dn.dots.x", "", ""),
            ("n1.node.alt.example", Node, "n1", "", ""),
            ("web.service.consul", Service, "web", "", ""),
            ("v1.2.web.service.dc2.consul", Service, "web", "v1.2", "dc2"),
            ("_web._tcp.service.consul", Service, "web", "", ""),
            ("_web._udp.service.consul", Service, "web", "udp", ""),
            ("_a._b._c.service.consul", Service, "_c", "_a._b", ""),
            ("q.with.dots.query.consul", Query, "q.with.dots", "", ""),
            ("web.connect.consul", Connect, "web", "", ""),
            ("x.web.ingress.consul", Ingress, "web", "", ""),
            ("x.service.node.consul", Node, "x.service", "", ""),
            ("node.service.consul", Service, "node", "", ""),
        ] {
            let expected = Some((kind, wanted.to_string(), tag.to_string(), dc.to_string()));
            assert_eq!(lookup(name, rtype::A), expected, "{name}");
        }
        let short = Some((Service, "web".to_string(), "amqp".to_string(), "dc2".to_string()));
        assert_eq!(lookup("_web._amqp.dc2.consul", rtype::SRV), short);
        assert_eq!(lookup("_web._amqp.dc2.consul", rtype::A), None);
    }

    #[test]
    fn names_of_nothing_and_names_outside() {
        for name in [
            "consul",
            "foo.consul",
            "service.consul",
            "node.consul",
            "x.service.a.b.consul",
            "ns.consul",
            "12345678.x.addr.consul",
            "zzzzzzzz.addr.consul",
            "+1234567.addr.consul",
            "123456789.addr.consul",
            "alt.example",
        ] {
            assert!(matches!(locate(name, rtype::A), Place::Nothing), "{name}");
        }
        for name in ["example.com", "consul.example.com", "xconsul", "", "example", "n.node.example"] {
            assert!(matches!(locate(name, rtype::A), Place::Outside), "{name}");
        }
    }

    #[test]
    fn addresses_in_names() {
        let addr = |name: &str| match locate(name, rtype::A) {
            Place::Addr(address, _) => address.map(|ip| ip.to_string()),
            _ => panic!("{name}"),
        };
        assert_eq!(addr("0a060209.addr.dc1.consul").unwrap(), "10.6.2.9");
        assert_eq!(addr("fd000000000000000000000000000001.addr.consul").unwrap(), "fd00::1");
        assert_eq!(addr("1234.addr.consul"), None);
        let reverse = |name: &str| match locate(name, rtype::PTR) {
            Place::Arpa(lookup) => lookup.and_then(|l| l.address()).map(|ip| ip.to_string()),
            _ => panic!("{name}"),
        };
        assert_eq!(reverse("99.77.66.10.in-addr.arpa").unwrap(), "10.66.77.99");
        let v6 = "6.6.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.d.f.ip6.arpa";
        assert_eq!(reverse(v6).unwrap(), "fd00::66");
        for odd in ["arpa", "in-addr.arpa", "1.2.3.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "+1.2.3.4.in-addr.arpa"] {
            assert_eq!(reverse(odd), None, "{odd}");
        }
    }
}
