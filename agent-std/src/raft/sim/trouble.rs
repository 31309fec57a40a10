//! What goes wrong, and how it ends.

use tokio::sync::oneshot;

use super::machine::content;
use super::world::World;
use crate::raft::faulty::Fault;
use crate::raft::servers::{Server, Suffrage};

/// Twice the longest election timeout: more than any lease.
const LONG_PAUSE: u64 = 4000;
/// A day in milliseconds.
const DAY: u64 = 86_400_000;

impl World {
    fn change_servers(&mut self) {
        let Some(leader) = self.leader() else { return };
        let number = self.random.below(self.hosts.len() as u64) as usize;
        let mut server = self.hosts[number].server.clone();
        server.suffrage = Suffrage::Staging;
        let (reply, _) = oneshot::channel();
        // At least three voters stay, so that the run gets on.
        let voters = self.node(leader).servers().voters();
        if number != leader && voters > 3 && self.random.one_in(2) {
            self.node(leader).remove_server(&server.id, reply);
        } else {
            self.node(leader).add_server(server, reply);
        }
        self.process(leader);
    }

    pub(super) fn trouble(&mut self) {
        let number = self.random.below(self.hosts.len() as u64) as usize;
        let kind = self.random.below(17);
        self.trace.add(&[self.now, number as u64, kind]);
        match kind {
            0 => self.loss = self.random.below(30),
            1 => self.loss = 0,
            2 | 3 => {
                for number in 0..self.hosts.len() {
                    self.group[number] = self.random.below(2);
                }
            }
            4 | 5 => self.group.fill(0),
            6 if self.hosts[number].node.is_some() => self.stop(number, true),
            7 if self.hosts[number].node.is_some() => self.stop(number, false),
            8 if self.hosts[number].node.is_some() => self.fail_disk(number),
            9 => self.change_servers(),
            10 => {
                if let Some(leader) = self.leader() {
                    let (reply, _) = oneshot::channel();
                    self.node(leader).transfer(None, reply);
                    self.process(leader);
                }
            }
            // A process that is stopped and goes on, most often the leader.
            11 | 12 => {
                let number = self.leader().unwrap_or(number);
                let until = self.now + 1 + self.random.below(LONG_PAUSE);
                self.hosts[number].paused_until = self.hosts[number].paused_until.max(until);
            }
            // Somebody sets the clock, or the time service does.
            13 => self.hosts[number].ahead = self.random.below(2 * DAY),
            14 => self.hosts[number].slow = if self.random.one_in(2) { 1 + self.random.below(100) } else { 0 },
            15 if self.may_flip(number) => self.flip(number),
            _ => {
                self.repair_servers();
                for number in 0..self.hosts.len() {
                    if self.hosts[number].node.is_none() {
                        self.start(number);
                    }
                }
            }
        }
    }

    fn fail_disk(&mut self, number: usize) {
        let after = self.random.below(5);
        let fault = match self.random.below(3) {
            0 => Fault::SyncFails(after),
            1 => Fault::Full(after * 100),
            _ => Fault::ReadFails(after),
        };
        self.hosts[number].disk.set_fault(Some(fault));
    }

    /// Raft survives the loss of one server's data, if no other one is being replaced and everybody knows it: a server
    /// that has not heard that another one's removal is decided still counts that one for its quorum.
    fn may_flip(&self, number: usize) -> bool {
        let Some(leader) = self.leader().and_then(|leader| self.hosts[leader].node.as_ref()) else { return false };
        let servers = leader.servers();
        let known = |server: &Server| {
            let host = self.hosts.iter().find(|host| host.server.id == server.id);
            let node = host.filter(|host| host.flipped.is_none()).and_then(|host| host.node.as_ref());
            node.is_some_and(|node| node.servers() == servers)
        };
        servers.voters() >= 3 && servers.iter().all(known) && self.hosts[number].node.is_some()
    }

    /// One bit of what the server has on disk changes while it does not run.
    fn flip(&mut self, number: usize) {
        self.stop(number, false);
        let disk = self.hosts[number].disk.clone();
        let mut names = disk.names();
        let kept = |name: &str| name == "mark" || name.starts_with("log-") || name.starts_with("snapshot-");
        names.retain(|name| kept(name) && disk.octets(name) > 0);
        if names.is_empty() {
            return;
        }
        let name = names.swap_remove(self.random.below(names.len() as u64) as usize);
        disk.flip(&name, self.random.below(disk.octets(&name) * 8));
        self.hosts[number].flipped = Some(name);
    }

    /// Replaced servers leave the configuration, their successors join it.
    fn repair_servers(&mut self) {
        let Some(leader) = self.leader() else { return };
        let servers = self.node(leader).servers().clone();
        let is_ours = |server: &&Server| self.hosts.iter().any(|host| host.server.id == server.id);
        let (reply, _) = oneshot::channel();
        if let Some(gone) = servers.iter().find(|server| !is_ours(server)) {
            self.node(leader).remove_server(&gone.id, reply);
        } else if let Some(host) = self.hosts.iter().find(|host| servers.by_id(&host.server.id).is_none()) {
            let server = Server { suffrage: Suffrage::Staging, ..host.server.clone() };
            self.node(leader).add_server(server, reply);
        }
        self.process(leader);
    }

    /// Everything heals; then everybody must agree on everything acknowledged.
    pub(super) fn settle(&mut self) {
        self.loss = 0;
        self.group.fill(0);
        self.quiet = true;
        for number in 0..self.hosts.len() {
            self.hosts[number].disk.set_fault(None);
            self.hosts[number].slow = 0;
            if self.hosts[number].node.is_none() {
                self.start(number);
            }
        }
        let mut nudged = false;
        for _ in 0..60_000 {
            self.step();
            if self.now.is_multiple_of(1000) {
                self.repair_servers();
                self.nudge();
                nudged = self.leader().is_some();
            }
            if nudged && self.agreed() {
                return self.compare();
            }
        }
        let nodes = self.hosts.iter().filter_map(|host| host.node.as_ref());
        let states: Vec<_> = nodes.map(|node| (node.status(), node.servers().clone())).collect();
        panic!("no agreement a minute after all faults ended: {states:#?}");
    }

    fn members(&self) -> Vec<usize> {
        let Some(leader) = self.leader() else { return Vec::new() };
        let servers = self.hosts[leader].node.as_ref().expect("leads").servers();
        (0..self.hosts.len()).filter(|number| servers.by_id(&self.hosts[*number].server.id).is_some()).collect()
    }

    fn agreed(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let status = |number: usize| self.hosts[number].node.as_ref().expect("all run").status();
        let reached = status(leader);
        let all = self.members().into_iter().all(|number| status(number).applied_index == reached.last_log_index);
        all && self.clients_are_idle() && reached.applied_index == reached.last_log_index
    }

    fn compare(&mut self) {
        let index = self.leader().map(|leader| self.node(leader).status().applied_index).expect("agreed on one");
        let reference = self.reference.state(index);
        for number in self.members() {
            let state = self.node(number).machine().state();
            assert_eq!(content(&state), content(&reference), "server {number} has another state");
        }
        self.read_all(&reference);
        if let Err(violation) = self.histories.check() {
            panic!("{violation}");
        }
    }
}
