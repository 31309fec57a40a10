//! A cluster that scenarios are told with: members start, join, die and return; time passes; and everybody who is taken
//! for failed although it runs is counted.

use std::collections::BTreeSet;

use agent_core::{
    pool::{MemberChange, MemberStatus},
    time::{Duration, Instant},
};
use bumpalo::Bump;

use super::{
    model::World,
    net::Weather,
    pool::{Event, Member, Setup, name, node},
};

/// Somebody who runs was taken for failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FalseFailure {
    /// When.
    pub at: Instant,
    /// By whom.
    pub observer: usize,
    /// Who.
    pub member: usize,
}

/// A world of members, and what is true of them.
pub struct Cluster<'m> {
    /// The world.
    pub world: World<Member<'m>>,
    /// What was told wrongly.
    pub false_failures: Vec<FalseFailure>,
    /// What members told their owners since [`Cluster::pass`] began, changes of members left out.
    pub told: Vec<(usize, Event)>,
    bump: &'m Bump,
    seed: u64,
    up: Vec<bool>,
}

impl<'m> Cluster<'m> {
    /// Nobody yet.
    pub fn new(bump: &'m Bump, nodes: usize, weather: Weather, seed: u64) -> Self {
        let world = World::new(nodes, weather, seed);
        Cluster { world, false_failures: Vec::new(), told: Vec::new(), bump, seed, up: vec![false; nodes] }
    }

    /// Starts a node.
    pub fn start(&mut self, node: usize, setup: &Setup) {
        let life = self.world.life(node) + 1;
        let member = Member::with(self.bump, node, life, setup, self.seed, self.world.clock(node));
        self.up[node] = true;
        self.world.start(node, member);
    }

    /// Ends a node without a word.
    pub fn kill(&mut self, node: usize) {
        self.up[node] = false;
        self.world.kill(node);
    }

    /// Makes `node` ask `seed`.
    pub fn join(&mut self, node: usize, seed: usize) {
        let seed = self.world.net.address(seed).to_string();
        // A full queue of joins means that earlier ones are still under way.
        let _ = self.world.command(node, |member, now| member.0.join(now, &seed, true));
    }

    /// Starts `nodes` one after the other within `span`; all but the first ask one of the first three.
    pub fn grow(&mut self, nodes: std::ops::Range<usize>, setup: &Setup, span: Duration) {
        let step = Duration::from_micros(span.as_micros() / nodes.len().max(1) as u64);
        for node in nodes {
            self.start(node, setup);
            if node > 0 {
                self.join(node, if node < 4 { 0 } else { node % 3 });
            }
            self.pass(step);
        }
    }

    /// True while the node runs.
    pub fn is_up(&self, node: usize) -> bool {
        self.up[node]
    }

    /// Running nodes.
    pub fn running(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.up.len()).filter(|&node| self.up[node])
    }

    /// Lets time pass.
    pub fn pass(&mut self, span: Duration) {
        self.told.clear();
        let end = self.world.now() + span;
        while self.world.step(end).is_some() {
            for (observer, event) in self.world.take_events() {
                match event {
                    Event::Member { change: MemberChange::Failed, member, .. } => {
                        if self.up[member] && self.up[observer] {
                            let at = self.world.now();
                            self.false_failures.push(FalseFailure { at, observer, member });
                        }
                    }
                    Event::Member { .. } => {}
                    Event::Left => {
                        // Other commands end well too, and the process goes on.
                        if self.world.machine(observer).is_some_and(|Member(pool)| pool.is_leaving()) {
                            self.kill(observer);
                            self.told.push((observer, Event::Left));
                        }
                    }
                    other => self.told.push((observer, other)),
                }
            }
        }
    }

    /// Lets time pass until `done` holds, looked at every `step`; gives the time it took, or none after `limit`.
    pub fn until(&mut self, step: Duration, limit: Duration, mut done: impl FnMut(&Self) -> bool) -> Option<Duration> {
        let start = self.world.now();
        while !done(self) {
            if self.world.now() >= start + limit {
                return None;
            }
            self.pass(step);
        }
        Some(self.world.now().saturating_since(start))
    }

    /// How `observer` sees `member`.
    pub fn status(&self, observer: usize, member: usize) -> Option<MemberStatus> {
        self.world.machine(observer)?.0.member(&name(member)).map(|member| member.status)
    }

    /// Members that `observer` sees alive, itself included.
    pub fn alive(&self, observer: usize) -> BTreeSet<usize> {
        let Some(Member(pool)) = self.world.machine(observer) else { return BTreeSet::new() };
        let alive = pool.members().filter(|member| member.status == MemberStatus::Alive);
        alive.filter_map(|member| node(member.name)).collect()
    }

    /// Members that `observer` sees alive, without looking who they are.
    pub fn count_alive(&self, observer: usize) -> usize {
        let Some(Member(pool)) = self.world.machine(observer) else { return 0 };
        pool.members().filter(|member| member.status == MemberStatus::Alive).count()
    }

    /// True when all running nodes of `observers` see exactly the running ones alive.
    pub fn agree(&self, mut observers: impl Iterator<Item = usize>) -> bool {
        let running: BTreeSet<usize> = self.running().collect();
        observers.all(|observer| !self.up[observer] || self.alive(observer) == running)
    }
}
