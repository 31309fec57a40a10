//! The expected replies are Consul 1.8.7's, recorded for the same catalog and question.

use core::net::Ipv4Addr;

use hickory_proto::{
    op::{Message, ResponseCode},
    rr::{Record, RecordType},
};
use proptest::prelude::*;

use super::{super::Soa, *};
use crate::rand::Rng;

/// One registration.
#[derive(Clone, Default)]
struct Row {
    kind: &'static str,
    name: &'static str,
    tags: &'static [&'static str],
    node: String,
    address: &'static str,
    own: &'static str,
    port: u16,
    health: Health,
    weights: (u16, u16),
    ttl: Option<u32>,
    meta: &'static [(&'static str, &'static str)],
}

/// A passing instance of `name` on node `node`.
fn service(name: &'static str, node: &str, address: &'static str, port: u16) -> Row {
    let health = Health::Passing;
    Row { kind: "service", name, node: node.into(), address, port, health, weights: (1, 1), ..Row::default() }
}

fn node(name: &'static str, address: &'static str) -> Row {
    Row { kind: "node", name, node: name.into(), address, ..Row::default() }
}

#[derive(Default)]
struct Catalog {
    rows: Vec<Row>,
    /// Look-ups that somebody else must answer.
    far: &'static [&'static str],
}

impl Directory for Catalog {
    fn find(&self, lookup: &Lookup, visit: &mut dyn FnMut(Instance<'_>) -> ControlFlow<()>) -> Found {
        if self.far.contains(&lookup.name()) {
            return Found::Ask;
        }
        if !matches!(lookup.datacenter(), "" | "dc1") {
            return Found::No;
        }
        let kind = match lookup.kind() {
            Kind::Node => "node",
            Kind::Service => "service",
            Kind::Query => "query",
            Kind::Servers => "server",
            Kind::Reverse => "reverse",
            Kind::Connect | Kind::Ingress => return Found::No,
        };
        let mut found = Found::No;
        for row in &self.rows {
            let tagged = lookup.tag().is_empty() || row.tags.iter().any(|tag| tag.eq_ignore_ascii_case(lookup.tag()));
            let named = kind == "server" || row.name.eq_ignore_ascii_case(lookup.name());
            if row.kind != kind || !tagged || !named {
                continue;
            }
            found = Found::Yes;
            let mut instance = Instance::new(&row.node, Address::parse(row.address));
            instance.service = if row.kind == "node" { "" } else { row.name };
            if row.kind == "reverse" {
                instance.service = row.own;
            } else {
                instance.service_address = Address::parse(row.own);
            }
            (instance.port, instance.weights, instance.health) = (row.port, row.weights, row.health);
            (instance.ttl, instance.meta) = (row.ttl, &row.meta);
            if visit(instance).is_break() {
                break;
            }
        }
        found
    }

    fn serial(&self) -> u32 {
        77
    }
}

fn rows(rows: impl IntoIterator<Item = Row>) -> Catalog {
    Catalog { rows: rows.into_iter().collect(), far: &[] }
}

fn question(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let mut out = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns.is_some())];
    for label in name.split('.').filter(|label| !label.is_empty()) {
        out.push(label.len() as u8);
        out.extend(label.as_bytes());
    }
    out.push(0);
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    if let Some(size) = edns {
        out.extend([0, 0, 41]);
        out.extend(size.to_be_bytes());
        out.extend([0; 6]);
    }
    out
}

const RULES: Rules<'_> = Rules::new("consul", "dc1");

fn raw(rules: &Rules<'_>, catalog: &Catalog, query: &[u8], via: Transport) -> Option<Vec<u8>> {
    let mut out = vec![0; 65_535];
    match respond(rules, catalog, query, via, &mut Rng::from_seed(&[3; 32]), &mut out) {
        Outcome::Reply(len) => {
            out.truncate(len);
            Some(out)
        }
        Outcome::Drop => None,
        other => panic!("{other:?}"),
    }
}

fn ask_with(rules: &Rules<'_>, catalog: &Catalog, name: &str, kind: u16, edns: Option<u16>, via: Transport) -> Message {
    let reply = raw(rules, catalog, &question(name, kind, edns), via).expect("a reply");
    let limit = if via == Transport::Tcp { 65_535 } else { edns.map_or(512, |size| usize::from(size.max(512))) };
    assert!(reply.len() <= limit, "{} octets", reply.len());
    let message = Message::from_vec(&reply).expect("hickory can read it");
    assert_eq!(message.metadata.id, 0xabcd);
    assert!(message.metadata.recursion_desired);
    message
}

fn ask(catalog: &Catalog, name: &str, kind: u16) -> Message {
    ask_with(&RULES, catalog, name, kind, None, Transport::Udp)
}

/// Records as sorted lines: owner, TTL, type, data.
fn lines(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<_> =
        records.iter().map(|r| format!("{} {} {} {}", r.name, r.ttl, r.record_type(), r.data)).collect();
    lines.sort();
    lines
}

const SOA: &str = "consul. 0 SOA ns.consul. hostmaster.consul. 77 3600 600 86400 0";

#[track_caller]
fn is_absent(message: &Message, code: ResponseCode) {
    assert_eq!(message.metadata.response_code, code);
    assert!(message.metadata.authoritative && message.answers.is_empty() && message.additionals.is_empty());
    assert_eq!(lines(&message.authorities), [SOA]);
}

#[test]
fn nodes() {
    let catalog = rows([
        Row { meta: &[("rack", "r1"), ("rfc1035-00", "raw text")], ..node("node-1", "10.0.0.1") },
        node("dn.dots.x", "fd00::2"),
        node("dn-cn", "www.example.com"),
    ]);
    let meta = ["NODE-1.Node.CONSUL. 0 TXT rack=r1", "NODE-1.Node.CONSUL. 0 TXT raw text"];
    let reply = ask(&catalog, "NODE-1.Node.CONSUL", rtype::A);
    assert!(reply.metadata.authoritative && !reply.metadata.recursion_available);
    assert_eq!(lines(&reply.answers), ["NODE-1.Node.CONSUL. 0 A 10.0.0.1"]);
    assert_eq!(lines(&reply.additionals), meta);
    assert_eq!(reply.queries[0].name().to_string(), "NODE-1.Node.CONSUL.");

    let any = ask(&catalog, "NODE-1.Node.CONSUL", rtype::ANY);
    assert_eq!(lines(&any.answers)[1..], meta);
    assert_eq!((any.answers.len(), any.additionals.len()), (3, 0));
    assert_eq!(lines(&ask(&catalog, "NODE-1.Node.CONSUL", rtype::TXT).answers), meta);

    // The wrong family and other types: empty, without SOA, even for nodes nobody knows.
    let v6 = ask(&catalog, "node-1.node.consul", rtype::AAAA);
    assert_eq!((v6.answers.len(), v6.authorities.len(), v6.additionals.len()), (0, 0, 2));
    for name in ["node-1.node.consul", "nobody.node.consul"] {
        let mx = ask(&catalog, name, 15);
        assert_eq!(mx.metadata.response_code, ResponseCode::NoError);
        assert_eq!(mx.answers.len() + mx.authorities.len() + mx.additionals.len(), 0);
    }
    assert_eq!(
        lines(&ask(&catalog, "dn.dots.x.node.dc1.consul", rtype::AAAA).answers),
        ["dn.dots.x.node.dc1.consul. 0 AAAA fd00::2"]
    );
    assert_eq!(
        lines(&ask(&catalog, "dn-cn.node.consul", rtype::A).answers),
        ["dn-cn.node.consul. 0 CNAME www.example.com."]
    );
    is_absent(&ask(&catalog, "nobody.node.consul", rtype::A), ResponseCode::NXDomain);
    is_absent(&ask(&catalog, "node-1.node.dc9.consul", rtype::A), ResponseCode::NXDomain);
}

#[test]
fn services() {
    let tagged = Row { tags: &["amqp", "v1.2"], ..service("web", "n1", "10.6.1.1", 8001) };
    let catalog = rows([tagged, service("web", "n2", "10.6.1.2", 8002)]);
    let a = ask(&catalog, "web.service.dc1.consul", rtype::A);
    assert_eq!(lines(&a.answers), ["web.service.dc1.consul. 0 A 10.6.1.1", "web.service.dc1.consul. 0 A 10.6.1.2"]);
    for name in ["WEB.service.consul", "_WEB._tcp.service.consul"] {
        let srv = ask(&catalog, name, rtype::SRV);
        let expected = [1, 2].map(|n| format!("{name}. 0 SRV 1 1 800{n} n{n}.node.dc1.consul."));
        assert_eq!(lines(&srv.answers), expected);
        assert_eq!(lines(&srv.additionals), ["n1.node.dc1.consul. 0 A 10.6.1.1", "n2.node.dc1.consul. 0 A 10.6.1.2"]);
    }
    for name in ["amqp.web.service.consul", "V1.2.web.service.consul", "_web._amqp.service.consul"] {
        assert_eq!(lines(&ask(&catalog, name, rtype::A).answers), [format!("{name}. 0 A 10.6.1.1")]);
    }
    assert_eq!(ask(&catalog, "_web._amqp.consul", rtype::SRV).answers.len(), 1);
    is_absent(&ask(&catalog, "_web._udp.service.consul", rtype::SRV), ResponseCode::NXDomain);
    is_absent(&ask(&catalog, "none.service.consul", rtype::A), ResponseCode::NXDomain);
    is_absent(&ask(&catalog, "none.connect.consul", rtype::A), ResponseCode::NXDomain);
    for kind in [rtype::AAAA, 15, rtype::CNAME] {
        is_absent(&ask(&catalog, "web.service.consul", kind), ResponseCode::NoError);
    }
    assert_eq!(ask(&catalog, "web.service.consul", rtype::TXT).answers[0].record_type(), RecordType::A);
    for name in ["foo.consul", "service.consul", "x.service.a.b.consul", "ns.consul", "consul"] {
        is_absent(&ask(&catalog, name, rtype::A), ResponseCode::NXDomain);
    }
}

#[test]
fn targets_of_services_with_an_address() {
    let catalog = rows([
        Row { own: "10.6.2.9", meta: &[("a", "b")], ..service("ip", "n1", "10.6.1.1", 1) },
        Row { own: "fd00::9", ..service("v6", "n1", "10.6.1.1", 1) },
        Row { own: "www.example.com", ..service("far", "n1", "10.6.1.1", 2) },
        Row { own: "ip.service.consul", ..service("near", "n1", "10.6.1.1", 3) },
        Row { own: "near.service.consul.", ..service("two", "n1", "10.6.1.1", 3) },
        Row { own: "self.service.consul", ..service("self", "n1", "10.6.1.1", 3) },
        Row { own: "www.example.com", ..service("mixed", "n1", "10.6.1.1", 3) },
        service("mixed", "n2", "10.6.1.2", 3),
    ]);
    let srv = ask(&catalog, "ip.service.consul", rtype::SRV);
    assert_eq!(lines(&srv.answers), ["ip.service.consul. 0 SRV 1 1 1 0a060209.addr.dc1.consul."]);
    assert_eq!(lines(&srv.additionals), ["0a060209.addr.dc1.consul. 0 A 10.6.2.9"]);
    let srv = ask(&catalog, "v6.service.consul", rtype::SRV);
    assert_eq!(lines(&srv.additionals), ["fd000000000000000000000000000009.addr.dc1.consul. 0 AAAA fd00::9"]);
    let srv = ask(&catalog, "far.service.consul", rtype::SRV);
    assert_eq!(lines(&srv.answers), ["far.service.consul. 0 SRV 1 1 2 www.example.com."]);
    assert!(srv.additionals.is_empty());
    let srv = ask(&catalog, "near.service.consul", rtype::SRV);
    assert_eq!(lines(&srv.additionals), ["ip.service.consul. 0 A 10.6.2.9"]);

    let alias = "far.service.consul. 0 CNAME www.example.com.";
    assert_eq!(lines(&ask(&catalog, "far.service.consul", rtype::A).answers), [alias]);
    assert_eq!(lines(&ask(&catalog, "far.service.consul", rtype::ANY).answers), [alias]);
    assert_eq!(
        lines(&ask(&catalog, "two.service.consul", rtype::A).answers),
        [
            "ip.service.consul. 0 A 10.6.2.9",
            "near.service.consul. 0 CNAME ip.service.consul.",
            "two.service.consul. 0 CNAME near.service.consul.",
        ]
    );
    // An alias of itself ends after three steps.
    assert_eq!(ask(&catalog, "self.service.consul", rtype::A).answers.len(), 4);
    assert_eq!(lines(&ask(&catalog, "mixed.service.consul", rtype::A).answers), ["mixed.service.consul. 0 A 10.6.1.2"]);
}

#[test]
fn health_weights_and_duplicates() {
    let with =
        |health, node: &str, address, port| Row { health, weights: (10, 3), ..service("web", node, address, port) };
    let catalog = rows([
        with(Health::Passing, "n1", "10.0.0.1", 1),
        with(Health::Critical, "n2", "10.0.0.2", 2),
        with(Health::Warning, "n3", "10.0.0.3", 3),
        with(Health::Passing, "n1", "10.0.0.1", 4),
        with(Health::Passing, "n1", "10.0.0.1", 4),
        Row { health: Health::Critical, ..service("down", "n1", "10.0.0.1", 1) },
    ]);
    assert_eq!(
        lines(&ask(&catalog, "web.service.consul", rtype::A).answers),
        ["web.service.consul. 0 A 10.0.0.1", "web.service.consul. 0 A 10.0.0.3"]
    );
    let srv = ask_with(&RULES, &catalog, "web.service.consul", rtype::SRV, Some(4096), Transport::Udp);
    assert_eq!(
        lines(&srv.answers),
        [
            "web.service.consul. 0 SRV 1 10 1 n1.node.dc1.consul.",
            "web.service.consul. 0 SRV 1 10 4 n1.node.dc1.consul.",
            "web.service.consul. 0 SRV 1 3 3 n3.node.dc1.consul.",
        ]
    );
    // Consul gives each SRV its address, also when the target repeats.
    assert_eq!(srv.additionals.len(), 3);
    let strict = Rules { only_passing: true, ..RULES };
    let a = ask_with(&strict, &catalog, "web.service.consul", rtype::A, None, Transport::Udp);
    assert_eq!(lines(&a.answers), ["web.service.consul. 0 A 10.0.0.1"]);
    is_absent(&ask(&catalog, "down.service.consul", rtype::A), ResponseCode::NXDomain);
}

fn many(count: u8) -> Catalog {
    rows((1..=count).map(|n| Row {
        node: format!("dn-many-{n}"),
        address: Box::leak(Ipv4Addr::new(10, 67, n / 8, n).to_string().into_boxed_str()),
        ..service("ds-many", "", "", 9000 + u16::from(n))
    }))
}

#[test]
fn sizes_are_those_of_the_spec() {
    let catalog = many(30);
    let truncate = Rules { enable_truncate: true, ..RULES };
    for (kind, edns, via, answers, extras, whole) in [
        (rtype::A, None, Transport::Udp, 3, 0, false),
        (rtype::SRV, None, Transport::Udp, 3, 3, false),
        (rtype::ANY, None, Transport::Udp, 3, 0, false),
        (rtype::A, Some(512), Transport::Udp, 3, 0, false),
        (rtype::SRV, Some(100), Transport::Udp, 3, 3, false),
        (rtype::A, Some(1232), Transport::Udp, 30, 0, true),
        (rtype::A, Some(600), Transport::Udp, 30, 0, true),
        (rtype::SRV, Some(600), Transport::Udp, 8, 8, false),
        (rtype::SRV, Some(900), Transport::Udp, 13, 13, false),
        (rtype::SRV, Some(1232), Transport::Udp, 19, 19, false),
        (rtype::SRV, Some(1400), Transport::Udp, 21, 21, false),
        (rtype::SRV, Some(1800), Transport::Udp, 28, 28, false),
        (rtype::SRV, Some(4096), Transport::Udp, 30, 30, true),
        (rtype::A, None, Transport::Tcp, 30, 0, true),
        (rtype::SRV, None, Transport::Tcp, 30, 30, true),
    ] {
        for (rules, tc) in [(&RULES, false), (&truncate, !whole)] {
            let reply = ask_with(rules, &catalog, "ds-many.service.consul", kind, edns, via);
            let case = (kind, edns, via);
            assert_eq!((reply.answers.len(), reply.additionals.len()), (answers, extras), "{case:?}");
            assert_eq!(reply.metadata.truncation, tc, "{case:?}");
        }
    }
    let limited = Rules { a_record_limit: 2, ..RULES };
    let reply = ask_with(&limited, &catalog, "ds-many.service.consul", rtype::A, None, Transport::Tcp);
    assert_eq!(reply.answers.len(), 2);
    let wide = Rules { udp_answer_limit: 50, ..RULES };
    let reply = ask_with(&wide, &catalog, "ds-many.service.consul", rtype::A, None, Transport::Udp);
    assert_eq!(reply.answers.len(), 8);
}

#[test]
fn what_is_cut_loses_metadata_first() {
    let mut catalog = many(2);
    for row in &mut catalog.rows {
        row.meta = &[("consul-network-segment", "")];
    }
    let srv = ask(&catalog, "ds-many.service.consul", rtype::SRV);
    assert_eq!((srv.answers.len(), srv.additionals.len()), (2, 4));
    for row in &mut catalog.rows {
        row.meta =
            &[("long", "0123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890")];
    }
    let srv = ask(&catalog, "ds-many.service.consul", rtype::SRV);
    assert_eq!((srv.answers.len(), srv.additionals.len()), (2, 2));
    assert!(srv.additionals.iter().all(|record| record.record_type() == RecordType::A));
}

#[test]
fn every_instance_is_first_equally_often() {
    let catalog = many(10);
    let mut rng = Rng::from_seed(&[9; 32]);
    let mut first = [0u32; 10];
    let query = question("ds-many.service.consul", rtype::A, None);
    for _ in 0..2000 {
        let mut out = [0; 512];
        let Outcome::Reply(len) = respond(&RULES, &catalog, &query, Transport::Udp, &mut rng, &mut out) else {
            panic!("no reply")
        };
        // The last octet of the first of three addresses of 16 octets each.
        first[usize::from(out[len - 33]) - 1] += 1;
    }
    assert!(first.iter().all(|count| (140..260).contains(count)), "{first:?}");
}

#[test]
fn the_zone_itself() {
    let server = |name: &'static str, address| Row { kind: "server", ..service(name, name, address, 8300) };
    let catalog = rows([
        server("s1", "10.0.0.1"),
        server("s2", "10.0.0.2"),
        server("bad..name", "10.0.0.3"),
        server("s3", "10.0.0.4"),
        server("s4", "10.0.0.5"),
    ]);
    let rules = Rules { node_ttl: 11, alt_domain: "alt.example", ..RULES };
    let one = rows([server("s1", "10.0.0.1")]);
    for name in ["consul", "x.y.consul", "alt.example"] {
        let ns = ask_with(&rules, &one, name, rtype::NS, None, Transport::Udp);
        assert_eq!(lines(&ns.answers), ["consul. 11 NS s1.node.dc1.consul."]);
        assert_eq!(lines(&ns.additionals), ["s1.node.dc1.consul. 11 A 10.0.0.1"]);
        let soa = ask_with(&rules, &one, name, rtype::SOA, None, Transport::Udp);
        assert_eq!(lines(&soa.answers), [SOA]);
        assert_eq!(lines(&soa.authorities), ["consul. 11 NS s1.node.dc1.consul."]);
        assert_eq!(lines(&soa.additionals), ["s1.node.dc1.consul. 11 A 10.0.0.1"]);
    }
    let ns = ask(&catalog, "consul", rtype::NS);
    assert_eq!((ns.answers.len(), ns.additionals.len()), (3, 3));
    let axfr = ask(&catalog, "consul", rtype::AXFR);
    assert_eq!((axfr.metadata.response_code, axfr.answers.len()), (ResponseCode::NotImp, 0));
    let addr = ask_with(&rules, &catalog, "0A060001.addr.alt.example", 15, None, Transport::Udp);
    assert_eq!(lines(&addr.answers), ["0a060001.addr.consul. 11 A 10.6.0.1"]);
    let v6 = ask(&catalog, "fd000000000000000000000000000001.addr.consul", rtype::A);
    assert_eq!(v6.answers[0].record_type(), RecordType::AAAA);
    let short = ask(&catalog, "1234.addr.consul", rtype::A);
    assert_eq!((short.metadata.response_code, short.answers.len()), (ResponseCode::NoError, 0));
}

#[test]
fn outside_reverse_and_failures() {
    let reverse = |name, own| Row { kind: "reverse", own, ..node(name, "") };
    let catalog = rows([
        Row { node: "n1".into(), ..reverse("99.77.66.10.in-addr.arpa", "") },
        Row { node: "n1".into(), ..reverse("98.77.66.10.in-addr.arpa", "web") },
    ]);
    let refused = ask_with(&RULES, &catalog, "example.com", rtype::A, Some(1232), Transport::Udp);
    assert_eq!(refused.metadata.response_code, ResponseCode::Refused);
    assert!(!refused.metadata.authoritative && !refused.metadata.recursion_available && refused.edns.is_none());
    assert_eq!(refused.queries.len(), 1);

    let ptr = ask(&catalog, "99.77.66.10.in-addr.arpa", rtype::PTR);
    assert_eq!(lines(&ptr.answers), ["99.77.66.10.in-addr.arpa. 0 PTR n1.node.dc1.consul."]);
    assert!(ptr.metadata.authoritative);
    let ptr = ask(&catalog, "98.77.66.10.in-addr.arpa", rtype::A);
    assert_eq!(lines(&ptr.answers), ["98.77.66.10.in-addr.arpa. 0 PTR web.service.dc1.consul."]);
    let miss = ask(&catalog, "1.0.0.127.in-addr.arpa", rtype::PTR);
    assert_eq!(miss.metadata.response_code, ResponseCode::ServFail);
    assert!(miss.metadata.recursion_available && !miss.metadata.authoritative);

    let recursive = Rules { recursors: true, ..RULES };
    let mut out = [0; 512];
    for name in ["example.com", "1.0.0.127.in-addr.arpa", "x.arpa"] {
        let query = question(name, rtype::A, None);
        let outcome = respond(&recursive, &catalog, &query, Transport::Udp, &mut Rng::from_seed(&[0; 32]), &mut out);
        assert!(matches!(outcome, Outcome::Recurse), "{name}: {outcome:?}");
    }
    for (name, authoritative) in [("web.service.consul", true), ("example.com", false)] {
        let Outcome::Reply(len) = fail(&RULES, &question(name, rtype::A, Some(4096)), &mut out) else { panic!() };
        let failed = Message::from_vec(&out[..len]).unwrap();
        assert_eq!(failed.metadata.response_code, ResponseCode::ServFail);
        assert_eq!(failed.metadata.authoritative, authoritative);
        assert!(failed.edns.is_some());
    }
}

#[test]
fn edns_is_echoed() {
    let catalog = rows([
        node("n1", "10.0.0.1"),
        Row { kind: "query", ..service("q", "n1", "10.0.0.1", 1) },
        service("web", "n1", "10.0.0.1", 1),
    ]);
    for (name, scope) in [("n1.node.consul", 0), ("none.service.consul", 0), ("q.query.consul", 24)] {
        let mut query = question(name, rtype::A, Some(100));
        let length = query.len() - 1;
        query[length] = 11;
        query.extend([0, 8, 0, 7, 0, 1, 24, 0, 10, 0, 0]);
        let reply = raw(&RULES, &catalog, &query, Transport::Udp).unwrap();
        let opt = [&[0, 0, 41, 0, 100, 0, 0, 0, 0, 0, 11, 0, 8, 0, 7, 0, 1, 24, scope, 10, 0, 0][..]].concat();
        assert!(reply.ends_with(&opt), "{name}: {reply:x?}");
        assert!(Message::from_vec(&reply).unwrap().edns.is_some());
    }
    assert!(ask(&catalog, "n1.node.consul", rtype::A).edns.is_none());
}

#[test]
fn ttls() {
    let catalog = rows([
        node("n1", "10.0.0.1"),
        service("exact", "n1", "10.0.0.1", 1),
        service("exactly", "n1", "10.0.0.1", 1),
        service("other", "n1", "10.0.0.1", 1),
        Row { kind: "query", ..service("exact", "n1", "10.0.0.1", 1) },
        Row { kind: "query", ttl: Some(12), ..service("own", "n1", "10.0.0.1", 1) },
    ]);
    let ttls = [("*", 3), ("ex*", 5), ("exac*", 7), ("exact", 9)];
    let rules = Rules { node_ttl: 11, service_ttl: &ttls, ..RULES };
    for (name, ttl) in [
        ("n1.node.consul", 11),
        ("0a000001.addr.consul", 11),
        ("exact.service.consul", 9),
        ("exactly.service.consul", 7),
        ("other.service.consul", 3),
        ("exact.query.consul", 9),
        ("own.query.consul", 12),
    ] {
        let reply = ask_with(&rules, &catalog, name, rtype::A, None, Transport::Udp);
        assert_eq!(reply.answers[0].ttl, ttl, "{name}");
    }
    let srv = ask_with(&rules, &catalog, "exact.service.consul", rtype::SRV, None, Transport::Udp);
    assert_eq!((srv.answers[0].ttl, srv.additionals[0].ttl), (9, 9));
    let soa = Soa { min_ttl: 44, refresh: 1, retry: 2, expire: 3 };
    let none = ask_with(&Rules { soa, ..rules }, &catalog, "x.service.consul", rtype::A, None, Transport::Udp);
    assert_eq!(lines(&none.authorities), ["consul. 44 SOA ns.consul. hostmaster.consul. 77 1 2 3 44"]);
}

#[test]
fn metadata_is_quoted_and_split() {
    let long: &'static str = Box::leak("x".repeat(460).into_boxed_str());
    let pairs: &'static [(&str, &str)] =
        Box::leak(Box::new([(" a=b`c ", "v`=w"), ("RFC1035-x", "`bare`"), ("long", long), ("empty", "")]));
    let catalog = rows([Row { meta: pairs, ..node("n1", "10.0.0.1") }]);
    let txt = ask_with(&RULES, &catalog, "n1.node.consul", rtype::TXT, None, Transport::Tcp);
    assert_eq!(
        lines(&txt.answers),
        [
            "n1.node.consul. 0 TXT ` a`=b``c` =v``=w".to_string(),
            "n1.node.consul. 0 TXT `bare`".to_string(),
            "n1.node.consul. 0 TXT empty=".to_string(),
            format!("n1.node.consul. 0 TXT long={long}"),
        ]
    );
    // What does not fit is left out, and the asker is told when that is configured.
    let truncate = Rules { enable_truncate: true, ..RULES };
    let short = ask_with(&truncate, &catalog, "n1.node.consul", rtype::TXT, None, Transport::Udp);
    assert!(short.metadata.truncation && !short.answers.is_empty());
}

#[test]
fn compression_can_be_turned_off() {
    let catalog = rows([service("web", "n1", "10.0.0.1", 1)]);
    let plain = Rules { compress: false, ..RULES };
    let query = question("web.service.consul", rtype::SRV, None);
    let long = raw(&plain, &catalog, &query, Transport::Udp).unwrap();
    let short = raw(&RULES, &catalog, &query, Transport::Udp).unwrap();
    assert!(long.len() > short.len() + 20 && !long.contains(&0xc0));
    let sections = |octets: &[u8]| {
        let message = Message::from_vec(octets).unwrap();
        (lines(&message.answers), lines(&message.additionals))
    };
    assert_eq!(sections(&long), sections(&short));
}

#[test]
fn asks_when_the_directory_does_not_know() {
    let mut catalog = rows([Row { own: "far.service.consul", ..service("near", "n1", "10.0.0.1", 1) }]);
    catalog.far = &["far", "5.0.0.10.in-addr.arpa"];
    let mut out = [0; 512];
    for (name, kind, wanted) in [
        ("Far.service.dc2.consul", rtype::A, (Kind::Service, "far", "dc2")),
        ("far.node.consul", rtype::A, (Kind::Node, "far", "")),
        ("far.query.consul", rtype::SRV, (Kind::Query, "far", "")),
        ("near.service.consul", rtype::A, (Kind::Service, "far", "")),
        ("near.service.consul", rtype::SRV, (Kind::Service, "far", "")),
        ("5.0.0.10.in-addr.arpa", rtype::PTR, (Kind::Reverse, "5.0.0.10.in-addr.arpa", "")),
    ] {
        let query = question(name, kind, None);
        match respond(&RULES, &catalog, &query, Transport::Udp, &mut Rng::from_seed(&[0; 32]), &mut out) {
            Outcome::Ask(lookup) => assert_eq!((lookup.kind(), lookup.name(), lookup.datacenter()), wanted),
            other => panic!("{name}: {other:?}"),
        }
    }
    assert!(size_of::<Lookup>() <= 300, "{}", size_of::<Lookup>());
}

fn everything() -> Catalog {
    let mut catalog = many(40);
    catalog.rows.push(Row { meta: &[("a", "b"), ("c", "d")], ..node("web", "10.0.0.1") });
    catalog.rows.push(Row { own: "web.service.consul", ..service("web", "n1", "10.0.0.1", 1) });
    catalog
}

#[test]
fn every_truncation_and_every_changed_octet() {
    let catalog = everything();
    for (name, kind) in
        [("ds-many.service.consul", rtype::SRV), ("web.service.consul", rtype::A), ("web.node.consul", rtype::ANY)]
    {
        let query = question(name, kind, Some(1232));
        for len in 0..query.len() {
            hostile(&catalog, &query[..len]);
        }
        for at in 0..query.len() {
            for flip in 1..=255 {
                let mut query = query.clone();
                query[at] ^= flip;
                hostile(&catalog, &query);
            }
        }
    }
}

/// Whatever comes in: a readable reply within every limit, or none.
fn hostile(catalog: &Catalog, query: &[u8]) {
    let mut rng = Rng::from_seed(&[1; 32]);
    for (room, via) in [(512, Transport::Udp), (4096, Transport::Udp), (65_535, Transport::Tcp), (40, Transport::Udp)] {
        let mut out = vec![0; room];
        match respond(&RULES, catalog, query, via, &mut rng, &mut out) {
            Outcome::Reply(len) => {
                let reply = &out[..len];
                assert_eq!(reply[..2], query[..2]);
                assert!(reply[2] & 0x80 != 0, "QR");
                Message::from_vec(reply).unwrap_or_else(|error| panic!("{error}: {query:x?} -> {reply:x?}"));
            }
            Outcome::Drop => {}
            other => panic!("{other:?}"),
        }
        if let Outcome::Reply(len) = fail(&RULES, query, &mut out) {
            Message::from_vec(&out[..len]).expect("readable");
        }
    }
}

proptest! {
    #[test]
    fn random_octets(query in proptest::collection::vec(any::<u8>(), 0..600)) {
        hostile(&everything(), &query);
    }

    #[test]
    fn random_names(labels in proptest::collection::vec("[ -~]{0,63}", 0..6), kind in 0u16..260, size: u16) {
        for zone in ["consul", "service.consul", "node.dc1.consul", "addr.consul", "in-addr.arpa", "com"] {
            let name = labels.join(".") + "." + zone;
            if name.len() < 250 && name.split('.').all(|label| label.len() < 64) {
                hostile(&everything(), &question(&name, kind, Some(size)));
            }
        }
    }

    #[test]
    fn hostile_registrations(node in "[ -~\u{e4}]{0,70}(\\.[a-z]{0,70}){0,3}", own in "[ -~]{0,300}", size in 0u16..5000) {
        let own: &'static str = Box::leak(own.into_boxed_str());
        let catalog = rows([
            Row { node, own: if size % 2 == 0 { own } else { "" }, meta: &[("key", "value")], ..service("web", "", "10.0.0.1", 1) },
            Row { own, ..service("web", "n2", "10.0.0.2", 2) },
        ]);
        for kind in [rtype::A, rtype::SRV, rtype::ANY] {
            hostile(&catalog, &question("web.service.consul", kind, Some(size)));
        }
    }
}
