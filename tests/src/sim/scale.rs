//! Clusters of every size: a thousand full tables, ten thousand partial ones, and single tables full of strangers.

use std::time::Instant as Clock;

use agent_core::{
    agent::Output,
    pool::{MAX_DATAGRAM, MemberStatus},
    time::{Duration, Instant},
    wire::{
        gossip::{Alive, Claim, DEAD},
        msgpack::Writer,
        tags,
    },
};
use bumpalo::Bump;

use super::{
    cluster::Cluster,
    model::{Machine, address},
    net::Weather,
    pool::{Member, SERVERS, Setup, Size, name},
    trials::Report,
};

const SECOND: Duration = Duration::from_secs(1);

fn seconds(time: Duration) -> f64 {
    time.as_micros() as f64 / 1e6
}

/// What a push/pull, a join and an event take at most, by the formula that serf gives queries for a cluster of `n`: 16
/// gossip rounds × ⌈log₁₀(n + 1)⌉ for question and answers, so half of them for one way.
fn spread_limit(n: usize) -> Duration {
    Duration::from_millis(200 * 16 / 2 * u64::from(n.ilog10() + 1))
}

/// When a killed member is known by all at the latest: the first probe of it fails, nobody confirms the suspicion, and
/// the news spreads (gossip spec: suspicion timer).
fn kill_limit(n: usize) -> Duration {
    let shortest = 4.0 * (n as f64).log10().max(1.0);
    // Among n members somebody probes any one of them within a few rounds: (1 − 1/n)ⁿ per round that nobody does.
    let found = 10.0;
    Duration::from_micros(((found + 6.0 * shortest) * 1e6) as u64) + spread_limit(n)
}

fn no_false_failure(cluster: &Cluster<'_>) -> Result<(), String> {
    match cluster.false_failures.first() {
        None => Ok(()),
        Some(first) => Err(format!("{} false failures, the first: {first:?}", cluster.false_failures.len())),
    }
}

/// A thousand full tables (300 for every commit): a join, an event and a kill must be known by all in time.
pub fn thousand(seed: u64, long: bool) -> Result<Report, String> {
    let nodes = if long { 1_000 } else { 300 };
    let bump = Bump::new();
    let full = Setup::new(Size::Full(nodes + 24));
    let mut cluster = Cluster::new(&bump, nodes, Weather::CALM, seed);
    let last = nodes - 1;
    cluster.grow(0..last, &full, Duration::from_secs(30));
    let complete = |cluster: &Cluster<'_>, count| cluster.running().all(|node| cluster.count_alive(node) == count);
    let grown = cluster.until(SECOND, Duration::from_secs(400), |cluster| complete(cluster, last));
    let grown = grown.ok_or("the cluster does not come together")?;
    // Let the gossip of the growth run dry.
    cluster.pass(Duration::from_secs(10));

    let (step, limit) = (Duration::from_millis(100), spread_limit(nodes));
    cluster.start(last, &full);
    cluster.join(last, 1);
    let joined =
        cluster.until(step, limit, |cluster| complete(cluster, nodes)).ok_or("a join is not known by all in time")?;

    let fired = cluster.world.command(last, |member, now| member.0.user_event(now, "deploy", b"", false).is_ok());
    let mut heard = 0;
    let event = cluster.until(step, limit, |cluster| {
        heard += cluster.told.iter().filter(|(_, told)| matches!(told, super::pool::Event::User(_))).count();
        heard == nodes
    });
    let event = event.filter(|_| fired).ok_or("an event is not heard by all in time")?;

    cluster.kill(nodes / 2);
    let is_known = |cluster: &Cluster<'_>| {
        cluster.running().all(|node| cluster.status(node, nodes / 2) == Some(MemberStatus::Failed))
    };
    let killed = cluster.until(step, kill_limit(nodes), is_known).ok_or("a kill is not known by all in time")?;
    no_false_failure(&cluster)?;
    let figures = [
        ("members", nodes as f64),
        ("complete after growth, s", seconds(grown)),
        ("join known by all, s", seconds(joined)),
        ("event heard by all, s", seconds(event)),
        ("kill known by all, s", seconds(killed)),
        ("its limit, s", seconds(kill_limit(nodes))),
        ("octets per member and table", bump.allocated_bytes() as f64 / (nodes * nodes) as f64),
    ];
    Ok(Report::of(&cluster, &figures))
}

/// Ten thousand devices (500 for every commit) around three servers: the servers see everybody, every device sees the
/// servers and a sample of the others, and who is killed is found.
pub fn devices(seed: u64, long: bool) -> Result<Report, String> {
    let devices = if long { 10_000 } else { 500 };
    let nodes = SERVERS + devices;
    let bump = Bump::new();
    let mut cluster = Cluster::new(&bump, nodes, Weather::CALM, seed);
    cluster.grow(0..SERVERS, &Setup::new(Size::Full(nodes + nodes / 8)), SECOND);
    let device = Setup::new(Size::Device);
    let span = Duration::from_millis(20).saturating_mul(devices as u64);
    for node in SERVERS..nodes {
        cluster.start(node, &device);
        // Few ask a server, whose state is the whole cluster; the rest ask a device that is there.
        cluster.join(node, if node % 10 == 0 || node < 20 { node % SERVERS } else { node - 10 });
        cluster.pass(Duration::from_micros(span.as_micros() / devices as u64));
    }
    let sees_servers = |cluster: &Cluster<'_>, node| {
        (0..SERVERS).all(|server| cluster.status(node, server) == Some(MemberStatus::Alive))
    };
    let complete = |cluster: &Cluster<'_>| {
        (0..SERVERS).all(|server| cluster.count_alive(server) == nodes)
            && (SERVERS..nodes).all(|node| sees_servers(cluster, node))
    };
    let mut grown = None;
    for _ in 0..10 {
        grown = cluster.until(SECOND, Duration::from_secs(30), complete);
        if grown.is_some() {
            break;
        }
        // A device whose exchange was refused, because others had the stream, asks again as retry_join does.
        let alone: Vec<usize> = (SERVERS..nodes).filter(|&node| cluster.count_alive(node) == 1).collect();
        for node in alone {
            cluster.join(node, node % SERVERS);
        }
    }
    let grown = grown.ok_or_else(|| {
        let at_server: Vec<usize> = (0..SERVERS).map(|server| cluster.count_alive(server)).collect();
        let blind = (SERVERS..nodes).filter(|&node| !sees_servers(&cluster, node)).count();
        format!("the servers see {at_server:?} of {nodes}, {blind} devices do not see all servers")
    })?;
    let view = |cluster: &Cluster<'_>| -> Vec<std::collections::BTreeSet<usize>> {
        (SERVERS..nodes).filter(|&node| cluster.is_up(node)).map(|node| cluster.alive(node)).collect()
    };
    let before = view(&cluster);
    cluster.pass(Duration::from_secs(600));
    let after = view(&cluster);
    let largest = after.iter().map(std::collections::BTreeSet::len).max().unwrap_or(0);
    let replaced = before.iter().zip(&after).map(|(before, after)| after.difference(before).count()).sum::<usize>();
    let mut known = vec![0u32; nodes];
    after.iter().flatten().for_each(|&node| known[node] += 1);
    let known_by = &known[SERVERS..];
    if largest > 16 {
        return Err(format!("a device with room for 16 sees {largest}"));
    }
    if replaced * 2 < devices {
        return Err(format!("only {replaced} of {devices} views' entries were replaced in ten minutes"));
    }
    no_false_failure(&cluster)?;

    let victims: Vec<usize> = (0..10).map(|n| SERVERS + 7 + n * (devices / 11)).collect();
    victims.iter().for_each(|&victim| cluster.kill(victim));
    let is_found = |cluster: &Cluster<'_>| {
        victims
            .iter()
            .all(|&victim| (0..SERVERS).all(|server| cluster.status(server, victim) == Some(MemberStatus::Failed)))
    };
    let limit = kill_limit(nodes) + Duration::from_secs(60);
    let killed = cluster.until(SECOND, limit, is_found).ok_or("killed devices are not found by the servers in time")?;
    no_false_failure(&cluster)?;
    let figures = [
        ("devices", devices as f64),
        ("complete after growth, s", seconds(grown)),
        ("known by so many devices at least", f64::from(*known_by.iter().min().unwrap_or(&0))),
        ("known by so many devices at most", f64::from(*known_by.iter().max().unwrap_or(&0))),
        ("entries replaced in 10 minutes per device", replaced as f64 / devices as f64),
        ("ten kills known by the servers, s", seconds(killed)),
    ];
    Ok(Report::of(&cluster, &figures))
}

/// A client's tags as Consul 1.8.7 sends them (gossip spec §10.2).
fn meta(node: usize, out: &mut [u8]) -> usize {
    let id = format!("00000000-0000-0000-0000-{node:012}");
    let list = [
        ("role", "node"),
        ("dc", "dc1"),
        ("segment", ""),
        ("id", &*id),
        ("vsn", "2"),
        ("vsn_min", "2"),
        ("vsn_max", "3"),
        ("build", "1.8.7:5ef7d6f3"),
        ("acls", "0"),
    ];
    let mut writer = Writer::new(out);
    tags::emit(&mut writer, &list);
    writer.finish().expect("tags of a client are short")
}

fn alive(node: usize, incarnation: u32) -> Vec<u8> {
    let (mut octets, mut tags) = (vec![0; 1024], [0; 512]);
    let len = meta(node, &mut tags);
    let node_name = name(node);
    let alive = Alive {
        node: &node_name,
        address: address(node),
        meta: &tags[..len],
        incarnation,
        vsn: Some([1, 5, 2, 2, 5, 4]),
    };
    let mut writer = Writer::new(&mut octets);
    alive.emit(&mut writer);
    let len = writer.finish().expect("an alive message is shorter");
    octets.truncate(len);
    octets
}

fn dead(node: usize, incarnation: u32) -> Vec<u8> {
    let mut octets = vec![0; 256];
    let node_name = name(node);
    let mut writer = Writer::new(&mut octets);
    Claim { node: &node_name, incarnation, from: "node-0" }.emit(&mut writer, DEAD);
    let len = writer.finish().expect("a dead message is shorter");
    octets.truncate(len);
    octets
}

/// Gives a machine a datagram and lets it come to rest; counts the datagrams that it sends.
fn feed(member: &mut Member<'_>, now: Instant, mut octets: Vec<u8>) -> usize {
    member.datagram(now, address(0), &mut octets);
    drain(member)
}

fn drain(member: &mut Member<'_>) -> usize {
    let mut buffer = [0; MAX_DATAGRAM];
    let mut sent = 0;
    loop {
        match member.0.poll_output(&mut buffer) {
            Output::Transmit { .. } => sent += 1,
            Output::Wait { .. } => return sent,
            _ => {}
        }
    }
}

/// A device is told of ten thousand members that come and go. It has no heap, so its memory cannot grow; what could fill
/// up are its tables. Afterwards it must take in a server and answer as on its first day.
pub fn crowd(seed: u64, _: bool) -> Result<Report, String> {
    const CROWD: usize = 10_000;
    let bump = Bump::new();
    let mut now = Instant::ZERO;
    let mut device = Member::with(&bump, 50_000, 1, &Setup::new(Size::Device), seed, now);
    let memory = bump.allocated_bytes();
    let mut most = 0;
    for node in SERVERS..SERVERS + CROWD {
        feed(&mut device, now, alive(node, 1));
        if node % 2 == 0 {
            feed(&mut device, now, dead(node, 1));
        }
        if node % 5 == 0 {
            now = now + Duration::from_millis(100);
            device.timeout(now);
            drain(&mut device);
        }
        most = most.max(device.0.members().count());
    }
    feed(&mut device, now, server_alive(1));
    if device.0.member("node-1").is_none_or(|server| server.status != MemberStatus::Alive) {
        return Err("a server finds no room after the crowd".into());
    }
    let mut ping = vec![0; 128];
    let mut writer = Writer::new(&mut ping);
    let own = name(50_000);
    agent_core::wire::gossip::Ping { node: &own, seq: 1, source: None, source_node: "" }.emit(&mut writer);
    let len = writer.finish().expect("a ping is shorter");
    ping.truncate(len);
    if feed(&mut device, now, ping) == 0 {
        return Err("a ping is not answered after the crowd".into());
    }
    if most > 16 || bump.allocated_bytes() != memory {
        return Err(format!("{most} members in a table of 16, {} octets more memory", bump.allocated_bytes() - memory));
    }
    let stats = device.0.stats();
    let turned_away = stats.members_evicted + stats.members_refused;
    if (turned_away as usize) < CROWD - 16 {
        return Err(format!("only {turned_away} of {CROWD} were counted as turned away or forgotten"));
    }
    let figures = [
        ("octets of memory", memory as f64),
        ("members forgotten", f64::from(stats.members_evicted)),
        ("members refused", f64::from(stats.members_refused)),
        ("broadcasts dropped", f64::from(stats.broadcasts_dropped)),
    ];
    Ok(Report { trace: 0, steps: CROWD as u64, figures: figures.to_vec() })
}

fn server_alive(node: usize) -> Vec<u8> {
    let mut tags_octets = [0; 512];
    let mut writer = Writer::new(&mut tags_octets);
    tags::emit(&mut writer, &[("role", "consul"), ("dc", "dc1"), ("id", "00000000-0000-0000-0000-000000099999")]);
    let len = writer.finish().expect("tags of a server are short");
    let (mut octets, node_name) = (vec![0; 1024], name(node));
    let mut writer = Writer::new(&mut octets);
    let address = address(node);
    Alive { node: &node_name, address, meta: &tags_octets[..len], incarnation: 1, vsn: Some([1, 5, 2, 2, 5, 4]) }
        .emit(&mut writer);
    let len = writer.finish().expect("an alive message is shorter");
    octets.truncate(len);
    octets
}

/// One table for 16,384 members is given 10,000 records of Consul clients, and gives them all to another one.
pub fn table(seed: u64, _: bool) -> Result<Report, String> {
    const RECORDS: usize = 10_000;
    let bump = Bump::new();
    let mut cluster = Cluster::new(&bump, 2, Weather::CALM, seed);
    let full = Setup::new(Size::Full(16_384));
    cluster.start(0, &full);
    let octets = bump.allocated_bytes();
    let clock = Clock::now();
    cluster.world.command(0, |member, now| {
        for node in 2..RECORDS + 2 {
            feed(member, now, alive(node, 1));
        }
    });
    let fed = clock.elapsed();
    let count = cluster.count_alive(0);
    if count != RECORDS + 1 {
        return Err(format!("{count} of {} members are there", RECORDS + 1));
    }
    // The second one comes before anybody of the ten thousand, who do not run, is missed.
    cluster.start(1, &full);
    cluster.join(1, 0);
    let clock = Clock::now();
    let took = cluster
        .until(Duration::from_millis(50), Duration::from_secs(10), |cluster| cluster.count_alive(1) == RECORDS + 2);
    let took = took.ok_or_else(|| format!("a joiner learns of {} of {}", cluster.count_alive(1), RECORDS + 2))?;
    let figures = [
        ("records", RECORDS as f64),
        ("octets per slot", octets as f64 / 16_384.0),
        ("µs per alive message (host time)", fed.as_secs_f64() * 1e6 / RECORDS as f64),
        ("push/pull of all, virtual s", seconds(took)),
        ("push/pull of all, host s", clock.elapsed().as_secs_f64()),
    ];
    Ok(Report { figures: figures.to_vec(), ..Report::of(&cluster, &[]) })
}
