//! Which records answer a question (dns spec §2 to §7).

use core::{net::IpAddr, ops::ControlFlow};

use super::{
    Address, Directory, Found, Instance, Kind, Lookup, Outcome, Pairs, Rules, Transport,
    name::{Place, place_of, place_of_text},
};
use crate::{
    checks::Health,
    rand::Rng,
    wire::dns::{Data, Owner, Query, Rcode, Reply, Scope, Section, Unanswerable, WireName, flag, rtype},
};

/// UDP payload without EDNS (RFC 1035 §4.2.1).
const UDP_PLAIN: usize = 512;

/// Most answers in such a payload, whatever is configured (dns spec §6).
const UDP_PLAIN_ANSWERS: u16 = 8;

/// Consul's limits of a TCP reply: octets, answers, SRV answers.
const TCP_LIMITS: (usize, u16, u16) = (65_523, 4096, 1024);

/// What Consul keeps free below the limit without EDNS.
const SPARE: usize = 7;

/// Name servers in one reply.
const MAX_SERVERS: u16 = 3;

/// Aliases followed inside the zone.
const MAX_ALIASES: u8 = 3;

/// Addresses of an alias without EDNS.
const MAX_ALIAS_RECORDS: u16 = 5;

/// Answers `query` from `dir` into `out`. Never panics, whatever the octets; a reply is never longer than `out` or than
/// the asker can take. At least 512 octets of `out` are needed to answer every query.
///
/// Cost: one to four walks over the instances of one name.
pub fn respond(
    rules: &Rules<'_>,
    dir: &dyn Directory,
    query: &[u8],
    via: Transport,
    rng: &mut Rng,
    out: &mut [u8],
) -> Outcome {
    let query = match Query::parse(query) {
        Ok(query) => query,
        Err(refusal) => return refuse(refusal, out),
    };
    let place = place_of(rules, &query);
    let zone = matches!(place, Place::Nothing | Place::Addr(..) | Place::Name(_));
    if rules.recursors && matches!(place, Place::Outside | Place::Arpa(None)) {
        return Outcome::Recurse;
    }
    let edns = query.edns.is_some();
    // Names outside the zone are refused without an EDNS record (dns spec §3).
    let query = if matches!(place, Place::Outside) { Query { edns: None, ..query } } else { query };
    let (bytes, plain, most) = limits(rules, &query, via);
    let cut = bytes.min(out.len());
    let Some(reply) = Reply::new(&query, plain, rules.compress, &mut out[..cut]) else {
        return Outcome::Drop;
    };
    let mut answer = Answer { rules, dir, rtype: query.rtype, edns, most, reply, cut: false, ask: None };
    let scope = match &place {
        Place::Name(lookup) if lookup.kind() == Kind::Query => Scope::Source,
        _ => Scope::World,
    };
    let rcode = match (query.rtype, place) {
        (_, Place::Outside) => Rcode::Refused,
        (_, Place::Arpa(lookup)) => {
            let rcode = lookup.map_or(Rcode::ServFail, |lookup| answer.reverse(&lookup));
            if rules.recursors && rcode == Rcode::ServFail && answer.ask.is_none() {
                return Outcome::Recurse;
            }
            rcode
        }
        (rtype::SOA, _) => answer.soa(rng),
        (rtype::NS, _) => answer.servers(Section::Answer, rng),
        (rtype::AXFR, _) => Rcode::NotImp,
        (_, Place::Nothing) => Rcode::NxDomain,
        (_, Place::Addr(address, name)) => answer.addr(address, name.as_str()),
        (_, Place::Name(lookup)) if lookup.kind() == Kind::Node => answer.node(&lookup),
        (_, Place::Name(lookup)) => answer.service(&lookup, rng),
    };
    if let Some(lookup) = answer.ask {
        return Outcome::Ask(lookup);
    }
    if rcode == Rcode::NxDomain {
        answer.push_soa(Section::Authority);
    }
    let mut flags = if zone || rcode == Rcode::NoError { flag::AA } else { 0 };
    if rules.recursors || (rcode == Rcode::ServFail && !zone) {
        flags |= flag::RA;
    }
    if answer.cut && rules.enable_truncate {
        flags |= flag::TC;
    }
    Outcome::Reply(answer.reply.finish(flags, rcode, scope))
}

/// Answers `query` with SERVFAIL: the look-up or all recursors failed.
pub fn fail(rules: &Rules<'_>, query: &[u8], out: &mut [u8]) -> Outcome {
    let query = match Query::parse(query) {
        Ok(query) => query,
        Err(refusal) => return refuse(refusal, out),
    };
    let zone = !matches!(place_of(rules, &query), Place::Outside | Place::Arpa(_));
    let flags = if zone { flag::AA } else { flag::RA } | if rules.recursors { flag::RA } else { 0 };
    let cut = UDP_PLAIN.min(out.len());
    match Reply::new(&query, cut, rules.compress, &mut out[..cut]) {
        Some(reply) => Outcome::Reply(reply.finish(flags, Rcode::ServFail, Scope::World)),
        None => Outcome::Drop,
    }
}

fn refuse(refusal: Unanswerable, out: &mut [u8]) -> Outcome {
    match (refusal, out) {
        (Unanswerable::Header(header), out) if out.len() >= header.len() => {
            out[..header.len()].copy_from_slice(&header);
            Outcome::Reply(header.len())
        }
        _ => Outcome::Drop,
    }
}

/// What a reply may have: octets, octets if it were not compressed, answers (dns spec §6).
fn limits(rules: &Rules<'_>, query: &Query<'_>, via: Transport) -> (usize, usize, u16) {
    let (tcp_octets, tcp_answers, tcp_srv) = TCP_LIMITS;
    let many = if query.rtype == rtype::SRV { tcp_srv } else { tcp_answers };
    match (via, query.edns.map(|edns| usize::from(edns.udp_size))) {
        (Transport::Tcp, _) => (tcp_octets, usize::MAX, many),
        (Transport::Udp, Some(size)) if size > UDP_PLAIN => (size, usize::MAX, many),
        (Transport::Udp, _) => (UDP_PLAIN, UDP_PLAIN - SPARE, rules.udp_answer_limit.clamp(1, UDP_PLAIN_ANSWERS)),
    }
}

/// An answer in the making.
struct Answer<'a, 'o, 'q> {
    rules: &'a Rules<'a>,
    dir: &'a dyn Directory,
    rtype: u16,
    edns: bool,
    /// Most answers.
    most: u16,
    reply: Reply<'o, 'q>,
    /// Something was left out.
    cut: bool,
    /// What the directory must find out first.
    ask: Option<Lookup>,
}

impl Answer<'_, '_, '_> {
    fn node(&mut self, lookup: &Lookup) -> Rcode {
        // Consul does not even look for nodes when other types are asked for.
        if !matches!(self.rtype, rtype::A | rtype::AAAA | rtype::TXT | rtype::ANY) {
            return Rcode::NoError;
        }
        let ttl = self.rules.node_ttl;
        let metadata = match self.rtype {
            rtype::TXT | rtype::ANY => Some(Section::Answer),
            _ if self.rules.node_meta_txt => Some(Section::Additional),
            _ => None,
        };
        let found = self.find(lookup, &mut |answer, node| {
            match node.address {
                Address::Ip(ip) if answer.wants(ip) && answer.rtype != rtype::TXT => {
                    answer.push(Section::Answer, Owner::Question, ttl, Data::Address(ip));
                }
                Address::Name(name) if answer.rtype != rtype::TXT => answer.alias(name, ttl),
                _ => {}
            }
            if let Some(section) = metadata {
                answer.metadata(section, Owner::Question, ttl, node.meta);
            }
            ControlFlow::Break(())
        });
        if found { Rcode::NoError } else { Rcode::NxDomain }
    }

    fn service(&mut self, lookup: &Lookup, rng: &mut Rng) -> Rcode {
        let mut usable = 0;
        let found = self.find(lookup, &mut |answer, instance| {
            usable += usize::from(answer.is_usable(lookup, instance));
            ControlFlow::Continue(())
        });
        if !found || usable == 0 {
            return Rcode::NxDomain;
        }
        // A prepared query's order is its answer.
        let first = if lookup.kind() == Kind::Query { 0 } else { rng.below(usable) };
        if self.rtype == rtype::SRV {
            // What is cut loses its extras first: metadata and repeated addresses (dns spec §6).
            let start = self.reply.mark();
            if usable > usize::from(self.most) || !self.targets(lookup, first, usable, true) {
                self.reply.rewind(start);
                self.cut = !self.targets(lookup, first, usable, false);
            }
        } else {
            self.addresses(lookup, first, usable);
        }
        if self.reply.count(Section::Answer) == 0 && self.ask.is_none() && !(self.cut && self.rules.enable_truncate) {
            self.push_soa(Section::Authority);
        }
        Rcode::NoError
    }

    /// A, AAAA and ANY answers; a host name only when no instance has an address.
    fn addresses(&mut self, lookup: &Lookup, first: usize, usable: usize) {
        self.rotate(lookup, first, usable, &mut |answer, instance| {
            let Address::Ip(ip) = instance.reach() else { return ControlFlow::Continue(()) };
            if !answer.wants(ip) || answer.reply.has_address(ip) {
                return ControlFlow::Continue(());
            }
            let count = answer.reply.count(Section::Answer);
            if answer.rules.a_record_limit != 0 && count >= answer.rules.a_record_limit {
                return ControlFlow::Break(());
            }
            let ttl = answer.ttl(lookup, instance);
            if count >= answer.most || !answer.push(Section::Answer, Owner::Question, ttl, Data::Address(ip)) {
                answer.cut = true;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        if self.reply.count(Section::Answer) != 0 {
            return;
        }
        self.rotate(lookup, first, usable, &mut |answer, instance| {
            let Address::Name(name) = instance.reach() else { return ControlFlow::Continue(()) };
            answer.alias(name, answer.ttl(lookup, instance));
            ControlFlow::Break(())
        });
    }

    /// SRV answers with the addresses of their targets. `false` when something did not fit.
    fn targets(&mut self, lookup: &Lookup, first: usize, usable: usize, extras: bool) -> bool {
        let mut all = true;
        self.rotate(lookup, first, usable, &mut |answer, instance| {
            let datacenter = answer.datacenter(lookup, instance);
            let domain = answer.rules.domain;
            let mut hex = [0; 32];
            let target = match (instance.service_address, instance.address) {
                (Address::Ip(ip), _) => WireName::new(&[hex_of(ip, &mut hex), "addr", datacenter, domain]),
                (Address::Name(name), _) | (Address::None, Address::Name(name)) => WireName::new(&[name]),
                (Address::None, Address::Ip(_)) => WireName::new(&[instance.node, "node", datacenter, domain]),
                (Address::None, Address::None) => None,
            };
            // Who cannot be named cannot be a target.
            let Some(target) = target else { return ControlFlow::Continue(()) };
            if answer.reply.has_srv(instance.port, &target) {
                return ControlFlow::Continue(());
            }
            let before = answer.reply.mark();
            let repeated = !extras && answer.reply.has_target(&target);
            let (passing, warning) = instance.weights;
            let weight = if instance.health == Health::Passing { passing } else { warning };
            let ttl = answer.ttl(lookup, instance);
            let srv = Data::Srv { weight, port: instance.port, target: &target };
            let count = answer.reply.count(Section::Answer);
            if count >= answer.most || !answer.push(Section::Answer, Owner::Question, ttl, srv) {
                all = false;
                return ControlFlow::Break(());
            }
            if repeated {
                return ControlFlow::Continue(());
            }
            let owner = Owner::Name(&target);
            let fits = match instance.reach() {
                Address::Ip(ip) => answer.push(Section::Additional, owner, ttl, Data::Address(ip)),
                Address::Name(name) => answer.follow(Section::Additional, name, ttl, MAX_ALIASES),
                Address::None => true,
            } && (!extras
                || !answer.rules.node_meta_txt
                || instance.service_address != Address::None
                || answer.metadata(Section::Additional, owner, ttl, instance.meta));
            // The first answer stays, even alone.
            if !fits && count != 0 {
                answer.reply.rewind(before);
            }
            all &= fits;
            if fits { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        all
    }

    fn addr(&mut self, address: Option<IpAddr>, name: &str) -> Rcode {
        if let Some(ip) = address
            && let Some(owner) = WireName::new(&[name, self.rules.domain])
        {
            self.push(Section::Answer, Owner::Name(&owner), self.rules.node_ttl, Data::Address(ip));
        }
        Rcode::NoError
    }

    fn reverse(&mut self, lookup: &Lookup) -> Rcode {
        let found = self.find(lookup, &mut |answer, owner| {
            let datacenter = answer.datacenter(lookup, owner);
            let domain = answer.rules.domain;
            let name = match owner.service {
                "" => WireName::new(&[owner.node, "node", datacenter, domain]),
                service => WireName::new(&[service, "service", datacenter, domain]),
            };
            if let Some(name) = name {
                answer.push(Section::Answer, Owner::Question, 0, Data::Name(rtype::PTR, &name));
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        });
        if found && self.reply.count(Section::Answer) != 0 { Rcode::NoError } else { Rcode::ServFail }
    }

    fn soa(&mut self, rng: &mut Rng) -> Rcode {
        self.push_soa(Section::Answer);
        self.servers(Section::Authority, rng)
    }

    /// NS records and the addresses of the servers.
    fn servers(&mut self, section: Section, rng: &mut Rng) -> Rcode {
        let (lookup, ttl) = (Lookup::servers(), self.rules.node_ttl);
        let Some(zone) = WireName::new(&[self.rules.domain]) else { return Rcode::ServFail };
        let mut usable = 0;
        self.find(&lookup, &mut |answer, server| {
            usable += usize::from(answer.is_usable(&lookup, server));
            ControlFlow::Continue(())
        });
        self.rotate(&lookup, rng.below(usable), usable, &mut |answer, server| {
            let datacenter = answer.datacenter(&lookup, server);
            let Some(name) = WireName::new(&[server.node, "node", datacenter, answer.rules.domain]) else {
                return ControlFlow::Continue(());
            };
            if answer.reply.count(section) >= MAX_SERVERS
                || !answer.push(section, Owner::Name(&zone), ttl, Data::Name(rtype::NS, &name))
            {
                return ControlFlow::Break(());
            }
            if let Address::Ip(ip) = server.reach() {
                answer.push(Section::Additional, Owner::Name(&name), ttl, Data::Address(ip));
            }
            ControlFlow::Continue(())
        });
        Rcode::NoError
    }

    fn push_soa(&mut self, section: Section) {
        let domain = self.rules.domain;
        let soa = self.rules.soa;
        let owner = WireName::new(&[domain]);
        let (mname, rname) = (&WireName::new(&["ns", domain]), &WireName::new(&["hostmaster", domain]));
        // By reference: each has 256 octets.
        if let (Some(owner), Some(mname), Some(rname)) = (&owner, mname, rname) {
            let numbers = [self.dir.serial(), soa.refresh, soa.retry, soa.expire, soa.min_ttl];
            self.push(section, Owner::Name(owner), soa.min_ttl, Data::Soa { mname, rname, numbers });
        }
    }

    /// CNAME for the question, then what is known about the alias.
    fn alias(&mut self, name: &str, ttl: u32) {
        if let Some(target) = WireName::new(&[name])
            && self.push(Section::Answer, Owner::Question, ttl, Data::Name(rtype::CNAME, &target))
        {
            self.cut |= !self.follow(Section::Answer, name, ttl, MAX_ALIASES);
        }
    }

    /// Adds the addresses of a host name inside the zone; nothing for other names. `false` when they do not fit.
    fn follow(&mut self, section: Section, name: &str, ttl: u32, levels: u8) -> bool {
        let Some(owner) = WireName::new(&[name]).filter(|_| levels != 0) else { return true };
        let owner = Owner::Name(&owner);
        let lookup = match place_of_text(self.rules, name, rtype::ANY) {
            Place::Addr(Some(ip), _) => return !self.wants(ip) || self.push(section, owner, ttl, Data::Address(ip)),
            Place::Name(lookup) => lookup,
            _ => return true,
        };
        let most = if self.edns { self.most } else { MAX_ALIAS_RECORDS };
        let (mut fits, mut records) = (true, 0);
        self.find(&lookup, &mut |answer, instance| {
            if !answer.is_usable(&lookup, instance) {
                return ControlFlow::Continue(());
            }
            match instance.reach() {
                Address::Ip(ip) if answer.wants(ip) => {
                    fits = answer.push(section, owner, ttl, Data::Address(ip));
                    records += 1;
                }
                Address::Name(next) if records == 0 => {
                    let Some(target) = WireName::new(&[next]) else { return ControlFlow::Continue(()) };
                    fits = answer.push(section, owner, ttl, Data::Name(rtype::CNAME, &target))
                        && answer.follow(section, next, ttl, levels - 1);
                    return ControlFlow::Break(());
                }
                _ => {}
            }
            if fits && records < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        fits
    }

    /// TXT records of node metadata. `false` when not all fit.
    fn metadata(&mut self, section: Section, owner: Owner<'_>, ttl: u32, pairs: &dyn Pairs) -> bool {
        let mut all = true;
        pairs.each(&mut |key, value| all &= self.push(section, owner, ttl, Data::Pair(key, value)));
        // Additional metadata is a courtesy; missing answers are not.
        self.cut |= !all && section == Section::Answer;
        all
    }

    fn push(&mut self, section: Section, owner: Owner<'_>, ttl: u32, data: Data<'_>) -> bool {
        self.reply.push(section, owner, ttl, data)
    }

    /// Looks up and remembers when somebody else has to be asked.
    fn find(&mut self, lookup: &Lookup, visit: &mut dyn FnMut(&mut Self, &Instance<'_>) -> ControlFlow<()>) -> bool {
        match self.dir.find(lookup, &mut |instance| visit(self, &instance)) {
            Found::Yes => return true,
            Found::No => {}
            Found::Ask => self.ask = Some(lookup.clone()),
        }
        false
    }

    /// Visits the usable instances, beginning with the one numbered `first`.
    fn rotate(
        &mut self,
        lookup: &Lookup,
        first: usize,
        usable: usize,
        visit: &mut dyn FnMut(&mut Self, &Instance<'_>) -> ControlFlow<()>,
    ) {
        let mut go_on = true;
        for range in [first..usable, 0..first] {
            let mut number = 0;
            if !go_on || range.is_empty() {
                continue;
            }
            self.find(lookup, &mut |answer, instance| {
                if !answer.is_usable(lookup, instance) {
                    return ControlFlow::Continue(());
                }
                let here = number;
                number += 1;
                if here < range.start {
                    return ControlFlow::Continue(());
                }
                if here >= range.end {
                    return ControlFlow::Break(());
                }
                let flow = visit(answer, instance);
                go_on = flow.is_continue();
                flow
            });
        }
    }

    /// Health decides for services; nodes always answer, and prepared queries come filtered (dns spec §5).
    fn is_usable(&self, lookup: &Lookup, instance: &Instance<'_>) -> bool {
        match lookup.kind() {
            Kind::Node | Kind::Query | Kind::Reverse => true,
            _ if self.rules.only_passing => instance.health == Health::Passing,
            _ => instance.health != Health::Critical,
        }
    }

    /// Whether an address answers the question. TXT is answered like ANY for services, as Consul does.
    fn wants(&self, ip: IpAddr) -> bool {
        match self.rtype {
            rtype::A => ip.is_ipv4(),
            rtype::AAAA => ip.is_ipv6(),
            rtype::ANY | rtype::TXT | rtype::SRV => true,
            _ => false,
        }
    }

    fn ttl(&self, lookup: &Lookup, instance: &Instance<'_>) -> u32 {
        let service = if lookup.kind() == Kind::Query { instance.service } else { lookup.name() };
        instance.ttl.unwrap_or_else(|| self.rules.ttl_of(service))
    }

    fn datacenter<'s>(&'s self, lookup: &'s Lookup, instance: &Instance<'s>) -> &'s str {
        [instance.datacenter, lookup.datacenter()]
            .into_iter()
            .find(|name| !name.is_empty())
            .unwrap_or(self.rules.datacenter)
    }
}

/// The digits of `<hex>.addr`.
fn hex_of(ip: IpAddr, digits: &mut [u8; 32]) -> &str {
    let mut len = 0;
    let mut add = |octets: &[u8]| {
        for nibble in octets.iter().flat_map(|octet| [octet >> 4, octet & 15]) {
            digits[len] = if nibble < 10 { b'0' + nibble } else { b'a' - 10 + nibble };
            len += 1;
        }
    };
    match ip {
        IpAddr::V4(v4) => add(&v4.octets()),
        IpAddr::V6(v6) => add(&v6.octets()),
    }
    core::str::from_utf8(&digits[..len]).unwrap_or("")
}

#[cfg(test)]
mod tests;
