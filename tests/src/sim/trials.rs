//! Small clusters on bad networks: one scenario for each thing that networks and hosts do to agents.
//!
//! Each runs with one seed and gives figures, or the first thing that must not be. [`ALL`] has them by name, for
//! `cargo xtask sim --scenario NAME`.

use agent_core::{pool::MemberStatus, time::Duration};
use bumpalo::Bump;

use super::{
    cluster::Cluster,
    net::{Bursts, Weather},
    pool::{Event, Member, SERVERS, Setup, Size},
    scale,
};

/// What a run came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Fingerprint of all events.
    pub trace: u64,
    /// Events handled.
    pub steps: u64,
    /// What was measured.
    pub figures: Vec<(&'static str, f64)>,
}

impl Report {
    /// The report of a cluster's run.
    pub fn of(cluster: &Cluster<'_>, figures: &[(&'static str, f64)]) -> Self {
        Report { trace: cluster.world.trace(), steps: cluster.world.steps(), figures: figures.to_vec() }
    }
}

/// A scenario: runs with a seed, at full length or at the one for every commit.
pub type Scenario = fn(seed: u64, long: bool) -> Result<Report, String>;

/// All scenarios: name, what it shows.
pub const ALL: &[(&str, &str, Scenario)] = &[
    ("loss", "50 members at 10 % loss, 24 hours: nobody is taken for failed", loss),
    ("loss-30", "50 members at 30 % loss of UDP and TCP, 30 minutes: counts those who are taken for failed", loss_30),
    ("bursts", "50 members whose ways fail for a second every half minute: nobody is taken for failed", bursts),
    ("one-way", "a way works in one direction only: nobody is taken for failed", one_way),
    ("translated", "a member behind address translation whose outside address changes: stays alive", translated),
    ("mtu", "datagrams above 1,000 octets vanish: all see all, nobody is taken for failed", mtu),
    ("pauses", "processes stand still: who wakes up accuses nobody", pauses),
    ("leaps", "a clock leaps forward: nobody is taken for failed", leaps),
    ("restarts", "members are killed and return, with and without what they had kept", restarts),
    ("moved", "all servers get new addresses: every member is back within 60 s", moved),
    ("thousand", "1,000 full tables: join, event and kill are known by all in the reference's time", scale::thousand),
    ("devices", "10,000 devices with partial views around three servers", scale::devices),
    ("crowd", "one device's memory while 10,000 members come and go", scale::crowd),
    ("table", "one table for 16,384 members is given 10,000 records", scale::table),
];

/// A full member of these small clusters.
const FULL: Setup = Setup::new(Size::Full(64));

/// A cluster of `nodes` that all know each other, in `weather`.
fn grown<'m>(bump: &'m Bump, nodes: usize, weather: Weather, seed: u64) -> Result<Cluster<'m>, String> {
    let mut cluster = Cluster::new(bump, nodes, weather, seed);
    cluster.grow(0..nodes, &FULL, Duration::from_secs(5));
    grow_together(&mut cluster)?;
    Ok(cluster)
}

/// Waits until all see all; who found nobody asks again.
fn grow_together(cluster: &mut Cluster<'_>) -> Result<(), String> {
    for _ in 0..20 {
        if cluster.until(SECOND, Duration::from_secs(30), |cluster| cluster.agree(cluster.running())).is_some() {
            return Ok(());
        }
        let alone: Vec<usize> = cluster.running().filter(|&node| node > 0 && cluster.count_alive(node) == 1).collect();
        for node in alone {
            cluster.join(node, 0);
        }
    }
    Err("the cluster does not come together".into())
}

const SECOND: Duration = Duration::from_secs(1);

/// Nobody may have been taken for failed.
fn all_calm(cluster: &Cluster<'_>) -> Result<(), String> {
    match cluster.false_failures.first() {
        None => Ok(()),
        Some(first) => Err(format!(
            "{} false failures, the first at {} s: node {} takes node {} for failed",
            cluster.false_failures.len(),
            first.at.as_micros() / 1_000_000,
            first.observer,
            first.member
        )),
    }
}

/// What members have counted, all together.
fn sum(cluster: &Cluster<'_>, of: impl Fn(&agent_core::pool::PoolStats) -> u32) -> f64 {
    cluster
        .running()
        .filter_map(|node| cluster.world.machine(node))
        .map(|Member(pool)| f64::from(of(&pool.stats())))
        .sum()
}

fn loss(seed: u64, long: bool) -> Result<Report, String> {
    let bump = Bump::new();
    let mut cluster = grown(&bump, 50, Weather { lost: 10, ..Weather::CALM }, seed)?;
    let minutes = if long { 24 * 60 } else { 10 };
    cluster.pass(Duration::from_secs(60 * minutes));
    all_calm(&cluster)?;
    Ok(Report::of(&cluster, &[("suspicions", sum(&cluster, |stats| stats.suspected)), ("minutes", minutes as f64)]))
}

fn loss_30(seed: u64, _: bool) -> Result<Report, String> {
    let bump = Bump::new();
    let weather = Weather { lost: 30, tcp_loses: true, ..Weather::CALM };
    let mut cluster = grown(&bump, 50, Weather::CALM, seed)?;
    cluster.world.net.weather = weather;
    cluster.pass(Duration::from_secs(30 * 60));
    let mut members: Vec<usize> = cluster.false_failures.iter().map(|failure| failure.member).collect();
    members.sort_unstable();
    members.dedup();
    Ok(Report::of(
        &cluster,
        &[
            ("false failures", cluster.false_failures.len() as f64),
            ("members concerned", members.len() as f64),
            ("suspicions", sum(&cluster, |stats| stats.suspected)),
            ("minutes", 30.0),
        ],
    ))
}

fn bursts(seed: u64, long: bool) -> Result<Report, String> {
    let bump = Bump::new();
    let bursts = Bursts { every: Duration::from_secs(30), length: SECOND, lost: 90 };
    let mut cluster = grown(&bump, 50, Weather { bursts: Some(bursts), tcp_loses: true, ..Weather::CALM }, seed)?;
    cluster.pass(Duration::from_secs(if long { 6 * 3600 } else { 300 }));
    all_calm(&cluster)?;
    Ok(Report::of(&cluster, &[("suspicions", sum(&cluster, |stats| stats.suspected))]))
}

fn one_way(seed: u64, _: bool) -> Result<Report, String> {
    let bump = Bump::new();
    let mut cluster = grown(&bump, 12, Weather::CALM, seed)?;
    cluster.world.net.cut(4, 5);
    cluster.pass(Duration::from_secs(300));
    all_calm(&cluster)?;
    // Both ends know whom they do not reach, and nobody else is named.
    for (observer, other) in [(4, "node-5 "), (5, "node-4 ")] {
        let named = |(at, told): &&(usize, Event)| {
            *at == observer && matches!(told, Event::Trouble(text) if text.starts_with(other))
        };
        if cluster.told.iter().filter(named).count() != 1 {
            return Err(format!("node {observer} does not name {other}once: {:?}", cluster.told));
        }
    }
    let told = cluster.told.iter().filter(|(_, told)| matches!(told, Event::Trouble(_))).count();
    if told != 2 {
        return Err(format!("{told} troubles are told, not 2"));
    }
    Ok(Report::of(&cluster, &[]))
}

fn translated(seed: u64, _: bool) -> Result<Report, String> {
    let bump = Bump::new();
    let mut cluster = Cluster::new(&bump, 8, Weather::CALM, seed);
    cluster.grow(0..7, &FULL, Duration::from_secs(2));
    // Its own address is reached through a forwarded port; what it sends comes from wherever the translation wants.
    let outside = |round: u16| std::net::SocketAddr::from(([192, 0, 2, 1], 20_000 + round));
    cluster.world.net.mask(7, outside(0));
    cluster.start(7, &Setup { tells_address: false, ..FULL });
    cluster.join(7, 0);
    grow_together(&mut cluster)?;
    for round in 1..20 {
        cluster.pass(Duration::from_secs(15));
        cluster.world.net.mask(7, outside(round));
    }
    all_calm(&cluster)?;
    let suspicions = sum(&cluster, |stats| stats.suspected);
    // One round may be under way when the address changes.
    if suspicions > 40.0 {
        return Err(format!("{suspicions} suspicions: acks do not find the member"));
    }
    Ok(Report::of(&cluster, &[("suspicions", suspicions)]))
}

fn mtu(seed: u64, _: bool) -> Result<Report, String> {
    let bump = Bump::new();
    let mut cluster = grown(&bump, 40, Weather { mtu: 1_000, ..Weather::CALM }, seed)?;
    cluster.pass(Duration::from_secs(120));
    all_calm(&cluster)?;
    Ok(Report::of(&cluster, &[("suspicions", sum(&cluster, |stats| stats.suspected))]))
}

fn pauses(seed: u64, long: bool) -> Result<Report, String> {
    let bump = Bump::new();
    let mut cluster = grown(&bump, 30, Weather::CALM, seed)?;
    for round in 0..if long { 200 } else { 20 } {
        // Short ones are answered by refuting, long ones fail; neither makes others fail.
        let node = 3 + round % 27;
        let length = [2, 5, 40][round % 3];
        cluster.world.pause(node);
        cluster.pass(Duration::from_secs(length));
        cluster.world.resume(node);
        cluster.pass(Duration::from_secs(15));
        let wrong = |cluster: &Cluster<'_>| cluster.false_failures.iter().any(|failure| failure.member != node);
        if wrong(&cluster) {
            cluster.false_failures.retain(|failure| failure.member != node);
            all_calm(&cluster)?;
        }
        if length < 40 {
            all_calm(&cluster)?;
        }
        cluster.false_failures.clear();
        if cluster.until(SECOND, Duration::from_secs(60), |cluster| cluster.agree(cluster.running())).is_none() {
            return Err(format!("node {node} is not back a minute after a pause of {length} s"));
        }
    }
    let late = sum(&cluster, |stats| stats.late);
    if late < 10.0 {
        return Err(format!("only {late} of the sleepers noticed that they had slept"));
    }
    Ok(Report::of(&cluster, &[("suspicions", sum(&cluster, |stats| stats.suspected)), ("late", late)]))
}

fn leaps(seed: u64, _: bool) -> Result<Report, String> {
    let bump = Bump::new();
    let mut cluster = grown(&bump, 12, Weather { lost: 5, ..Weather::CALM }, seed)?;
    for round in 0..20 {
        cluster.world.leap(round % 12, Duration::from_secs([1, 7, 60, 3_600][round % 4]));
        cluster.pass(Duration::from_secs(20));
    }
    all_calm(&cluster)?;
    if !cluster.agree(cluster.running()) {
        return Err("members do not agree after the clocks' leaps".into());
    }
    Ok(Report::of(&cluster, &[("suspicions", sum(&cluster, |stats| stats.suspected))]))
}

fn restarts(seed: u64, _: bool) -> Result<Report, String> {
    let bump = Bump::new();
    let mut cluster = grown(&bump, 12, Weather { lost: 5, ..Weather::CALM }, seed)?;
    let fired = cluster.world.command(0, |member, now| member.0.user_event(now, "before", b"", false).is_ok());
    cluster.pass(Duration::from_secs(5));
    let heard = cluster.told.iter().filter(|(_, told)| *told == Event::User("before".into())).count();
    if !fired || heard != 12 {
        return Err(format!("an event reached {heard} of 12"));
    }
    let mut slowest = Duration::ZERO;
    for round in 0..12 {
        let node = 3 + round % 9;
        let mut setup = FULL;
        if round % 2 == 0 {
            let Some(Member(pool)) = cluster.world.machine(node) else { return Err("a node is missing".into()) };
            let (member, event, query) = pool.clocks();
            setup.clocks = agent_core::wire::push_pull::Clocks { member, event: event - 1, query };
        }
        cluster.kill(node);
        // Restarted before anybody notices, while suspected, and when it has failed.
        cluster.pass(Duration::from_secs([1, 6, 40][round % 3]));
        cluster.start(node, &setup);
        cluster.join(node, round % 3);
        let mut again = 0;
        let back = (0..120).find(|_| {
            cluster.pass(SECOND);
            again += cluster.told.iter().filter(|told| **told == (node, Event::User("before".into()))).count();
            cluster.agree(cluster.running())
        });
        let Some(back) = back else { return Err(format!("node {node} is not back after two minutes, round {round}")) };
        slowest = slowest.max(Duration::from_secs(back + 1));
        if round % 2 == 0 && again > 0 {
            return Err(format!("node {node} kept its clocks and is told an old event again"));
        }
    }
    Ok(Report::of(&cluster, &[("slowest return, s", slowest.as_micros() as f64 / 1e6)]))
}

fn moved(seed: u64, _: bool) -> Result<Report, String> {
    const NODES: usize = 12;
    let bump = Bump::new();
    let mut cluster = Cluster::new(&bump, NODES, Weather::CALM, seed);
    let addresses = |cluster: &Cluster<'_>| (0..SERVERS).map(|node| cluster.world.net.address(node).ip()).collect();
    let list = addresses(&cluster);
    cluster.world.net.name("servers.example", list);
    let seeds = vec!["servers.example:8301".to_owned()];
    for node in 0..NODES {
        // Boards among them.
        let size = if node % 4 == 3 { Size::Device } else { Size::Full(64) };
        cluster.start(node, &Setup { seeds: seeds.clone(), ..Setup::new(size) });
        cluster.pass(Duration::from_millis(100));
    }
    let all = |cluster: &Cluster<'_>| cluster.agree(cluster.running());
    cluster.until(SECOND, Duration::from_secs(120), all).ok_or_else(|| {
        let seen: Vec<usize> = (0..NODES).map(|node| cluster.count_alive(node)).collect();
        format!("members with seeds do not come together: they see {seen:?} of {NODES}")
    })?;
    for node in 0..SERVERS {
        cluster.kill(node);
        cluster.world.net.move_to(node, std::net::SocketAddr::from(([10, 77, 0, node as u8 + 1], 8301)));
    }
    let list = addresses(&cluster);
    cluster.world.net.name("servers.example", list);
    for node in 0..SERVERS {
        let at = Some(cluster.world.net.address(node));
        cluster.start(node, &Setup { seeds: seeds.clone(), at, ..FULL });
    }
    let is_back = |cluster: &Cluster<'_>| {
        (SERVERS..NODES).all(|node| {
            (0..SERVERS).all(|server| {
                cluster.status(node, server) == Some(MemberStatus::Alive)
                    && cluster.status(server, node) == Some(MemberStatus::Alive)
                    && cluster.world.machine(node).is_some_and(|Member(pool)| {
                        pool.member(&super::pool::name(server))
                            .is_some_and(|seen| seen.address == cluster.world.net.address(server))
                    })
            })
        })
    };
    let back = cluster
        .until(SECOND, Duration::from_secs(60), is_back)
        .ok_or("not all are back 60 s after the servers moved")?;
    Ok(Report::of(&cluster, &[("back after, s", back.as_micros() as f64 / 1e6)]))
}
