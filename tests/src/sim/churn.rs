//! The scenario of all runs: a cluster grows, is shaken, and must come to rest with the truth in every table.

use agent_core::{
    rand::Rng,
    time::{Duration, Instant},
};
use bumpalo::Bump;

use super::{
    invariants::{Invariants, Truth},
    model::{World, address, seed_octets},
    net::Weather,
    pool::{Event, Member},
};

/// The plan's own generator; the network's is 0 and the nodes' begin at 1.
const PLAN: u64 = u64::MAX;
/// All nodes have been started by then.
const GROWTH: Duration = Duration::from_secs(10);
/// A grown cluster is complete by then: a push/pull of every node with another takes 60 s with 200 members.
const GROWN: Duration = Duration::from_secs(240);
/// It then must stay complete for so long.
const CALM: Duration = Duration::from_secs(60);
/// Length of the disturbances.
const SHAKEN: Duration = Duration::from_secs(120);
/// After them the truth is everywhere by then. Failed members are tried again one by one every 30 s.
const SETTLED: Duration = Duration::from_secs(1200);
/// The plan does something at most so often.
const BEAT: Duration = Duration::from_secs(1);

/// What to simulate.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Nodes, at least four.
    pub nodes: usize,
    /// The network.
    pub weather: Weather,
    /// Kill, restart, pause, partition, cut and leave, or only let time pass.
    pub shaken: bool,
}

/// What a run came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Fingerprint of all events.
    pub trace: u64,
    /// Events handled.
    pub steps: u64,
    /// Virtual time until all nodes knew all others.
    pub grown: Duration,
    /// Virtual time from the last disturbance until the truth was everywhere.
    pub settled: Duration,
}

/// A cluster and the plan's state.
struct Run<'m> {
    world: World<Member<'m>>,
    rules: Invariants,
    bump: &'m Bump,
    rng: Rng,
    plan: Plan,
    seed: u64,
    /// Nodes that are not in the cluster yet and must ask again.
    outside: Vec<usize>,
    paused: Vec<(usize, Instant)>,
    heal_at: Option<Instant>,
}

/// Runs the scenario with one seed.
///
/// # Errors
///
/// The first rule that was broken, with the virtual time. The same seed and plan break it again.
pub fn run(seed: u64, plan: Plan) -> Result<Report, String> {
    let bump = Bump::new();
    let mut run = Run {
        world: World::new(plan.nodes, plan.weather, seed),
        rules: Invariants::new(plan.nodes),
        bump: &bump,
        rng: Rng::from_seed(&seed_octets(seed, PLAN)),
        plan,
        seed,
        outside: Vec::new(),
        paused: Vec::new(),
        heal_at: None,
    };
    run.whole().map_err(|error| {
        let micros = run.world.now().as_micros();
        format!("seed {seed}, {} nodes, at {}.{:06} s: {error}", plan.nodes, micros / 1_000_000, micros % 1_000_000)
    })
}

impl Run<'_> {
    fn whole(&mut self) -> Result<Report, String> {
        let start = self.world.now();
        for node in 0..self.plan.nodes {
            self.start(node);
            let stagger = Duration::from_micros(GROWTH.as_micros() / self.plan.nodes as u64);
            self.pass(stagger)?;
        }
        self.until_converged("the grown cluster", GROWN)?;
        let grown = self.world.now().saturating_since(start);
        self.stays_converged("the calm cluster")?;
        if self.plan.shaken {
            let end = self.world.now() + SHAKEN;
            while self.world.now() < end {
                self.shake();
                self.pass(BEAT)?;
            }
        }
        self.world.net.heal();
        self.rules.disturb_all(self.world.now());
        for (node, _) in std::mem::take(&mut self.paused) {
            self.resume(node);
        }
        let rest = self.world.now();
        self.until_converged("the shaken cluster", SETTLED)?;
        let settled = self.world.now().saturating_since(rest);
        self.stays_converged("the settled cluster")?;
        Ok(Report { trace: self.world.trace(), steps: self.world.steps(), grown, settled })
    }

    /// Lets time pass, all rules watched.
    fn pass(&mut self, span: Duration) -> Result<(), String> {
        let end = self.world.now() + span;
        while let Some(touched) = self.world.step(end) {
            let events = self.world.take_events();
            self.rules.check(&self.world, touched, &events)?;
            for (node, event) in events {
                match event {
                    Event::Joined(true) => self.outside.retain(|&outside| outside != node),
                    Event::Left => {
                        self.world.kill(node);
                        self.rules.truth[node] = Truth::Left;
                    }
                    _ => {}
                }
            }
        }
        // Whoever has not got in asks another member, as retry_join does.
        for node in self.outside.clone() {
            self.join(node);
        }
        Ok(())
    }

    fn until_converged(&mut self, what: &str, limit: Duration) -> Result<(), String> {
        let end = self.world.now() + limit;
        loop {
            match self.rules.converged(&self.world) {
                Ok(()) => return Ok(()),
                Err(error) if self.world.now() >= end => return Err(format!("{what} does not agree: {error}")),
                Err(_) => self.pass(BEAT)?,
            }
        }
    }

    fn stays_converged(&mut self, what: &str) -> Result<(), String> {
        let end = self.world.now() + CALM;
        while self.world.now() < end {
            self.pass(BEAT)?;
            self.rules.converged(&self.world).map_err(|error| format!("{what} agrees no more: {error}"))?;
        }
        Ok(())
    }

    /// One disturbance, or none.
    fn shake(&mut self) {
        let now = self.world.now();
        if self.heal_at.is_some_and(|at| at <= now) {
            self.heal_at = None;
            self.world.net.heal();
            self.rules.disturb_all(now);
        }
        for at in (0..self.paused.len()).rev() {
            if self.paused[at].1 <= now {
                let (node, _) = self.paused.swap_remove(at);
                self.resume(node);
            }
        }
        let node = self.rng.below(self.plan.nodes);
        let is_paused = self.paused.iter().any(|&(paused, _)| paused == node);
        let is_free = self.rules.truth[node] == Truth::Up && !is_paused && !self.outside.contains(&node);
        match self.rng.below(12) {
            0..=1 if is_free => {
                self.world.kill(node);
                self.rules.truth[node] = Truth::Killed;
                self.rules.disturb(node, now);
            }
            2..=4 if self.rules.truth[node] == Truth::Killed => self.start(node),
            2 if is_free => {
                self.world.kill(node);
                self.start(node);
            }
            3..=4 if is_free => {
                let until = now + Duration::from_millis(500) + self.rng.up_to(Duration::from_secs(20));
                self.world.pause(node);
                self.paused.push((node, until));
                // A process that wakes up may have suspected others before it slept.
                self.rules.disturb_all(until);
            }
            5 if is_free && node > 3 && self.world.command(node, |member, now| member.0.leave(now)).is_ok() => {
                self.rules.disturb(node, now);
                self.rules.truth[node] = Truth::Left;
            }
            6..=7 => {
                let other = self.rng.below(self.plan.nodes);
                self.world.net.cut(node, other);
            }
            8 if self.heal_at.is_none() => {
                for node in 0..self.plan.nodes {
                    let side = u8::from(self.rng.below(3) == 0);
                    self.world.net.set_side(node, side);
                }
                self.heal_at = Some(now + Duration::from_secs(5) + self.rng.up_to(Duration::from_secs(40)));
                self.rules.disturb_all(now);
            }
            _ => {}
        }
    }

    fn resume(&mut self, node: usize) {
        self.world.resume(node);
        // What has waited for it may have made it refute, and it may be killed before its next step.
        if let Some(Member(pool)) = self.world.machine(node) {
            self.rules.witness(node, pool.local().incarnation);
        }
    }

    fn start(&mut self, node: usize) {
        let now = self.world.now();
        let life = self.world.life(node) + 1;
        self.world.start(node, Member::new(self.bump, node, life, self.plan.nodes + 8, self.seed, now));
        self.rules.truth[node] = Truth::Up;
        self.rules.disturb(node, now);
        if node > 0 || life > 1 {
            self.outside.push(node);
            self.join(node);
        }
    }

    /// Asks one of the first nodes, or any when the network is shaken; never itself, and at first only those that are
    /// there, or the cluster would begin as several.
    fn join(&mut self, node: usize) {
        let seeds = if self.heal_at.is_some() { self.plan.nodes } else { 3 };
        let known = (0..seeds).filter(|&seed| seed != node && self.rules.truth[seed] != Truth::Unborn).count();
        let at = self.rng.below(known);
        let seed = (0..seeds).filter(|&seed| seed != node && self.rules.truth[seed] != Truth::Unborn).nth(at);
        if let Some(seed) = seed
            && self.rules.truth[node] == Truth::Up
            && self.paused.iter().all(|&(paused, _)| paused != node)
        {
            // A full queue of joins means that the earlier ones are still under way.
            let _ = self.world.command(node, |member, now| member.0.join(now, &address(seed).to_string(), true));
        }
    }
}
