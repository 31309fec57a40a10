//! Members of all kinds in one Consul cluster: real servers, real and our clients, and boards.

use std::{
    collections::BTreeMap,
    process::Command,
    time::{Duration, Instant},
};

use agent_embedded::provision::Settings;
use serde_json::{Value, json};

use super::{KEY, KEY_OCTETS};
use crate::{
    Result,
    cluster::{Agent, Role},
    http::{list, text},
    ports::Network,
    qemu::{self, Board, Button, Forward},
    subject::Kind,
    wait,
};

/// How many of each kind.
const SERVERS: u8 = 3;
const CLIENTS: u8 = 5;
const OURS: u8 = 5;
const BOARDS: u8 = 3;
/// A cluster agrees when the slowest suspicion has run out and a push/pull or the leader's comparison of catalog and
/// members, once a minute, has told the rest.
const AGREE: Duration = Duration::from_secs(150);
/// A board's query and its button.
const BOARD: Duration = Duration::from_secs(20);
/// 32 octets in base64.
const NEW: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A cluster, and what everybody must come to see.
pub struct Cluster {
    network: Network,
    /// Servers first, then real clients, then ours.
    agents: Vec<Agent>,
    boards: BTreeMap<String, Board>,
    expected: BTreeMap<String, String>,
    start: Instant,
}

impl Cluster {
    /// Starts everybody, with encryption.
    ///
    /// # Errors
    ///
    /// What was not as it must be.
    pub fn start() -> Result<Self> {
        let count = SERVERS + CLIENTS + OURS;
        let network = Network::free(count + BOARDS)?;
        let settings = json!({ "encrypt": KEY });
        let (mut agents, start) = (Vec::new(), Instant::now());
        for host in 1..=count {
            let role = if host <= SERVERS { Role::Server(SERVERS) } else { Role::Client(SERVERS) };
            let kind = if host <= SERVERS + CLIENTS { Kind::Consul } else { Kind::Lictor };
            agents.push(Agent::start(network, host, kind, role, &settings)?);
        }
        agents.iter_mut().try_for_each(Agent::ready)?;
        let expected = agents.iter().map(|agent| (agent.name.clone(), "alive".to_owned())).collect();
        let mut cluster = Cluster { network, agents, boards: BTreeMap::new(), expected, start };
        (count + 1..=count + BOARDS).try_for_each(|host| cluster.power_on(host))?;
        cluster.agree("all see all")?;
        Ok(cluster)
    }

    /// The member list is the same through both programs' command lines, whichever agent is asked, and the catalog's.
    ///
    /// # Errors
    ///
    /// What was not as it must be.
    pub fn lists_are_one(&self) -> Result<()> {
        for agent in &self.agents {
            for teller in [Kind::Consul, Kind::Lictor] {
                let address = format!("-http-addr={}:{}", self.network.address(agent.host), self.network.ports.http);
                let output = Command::new(teller.program()?).args(["members", &address]).output()?;
                let printed = String::from_utf8(output.stdout)?;
                let row = |line: &str| {
                    let mut words = line.split_whitespace();
                    Some((words.next()?.to_owned(), words.nth(1)?.to_owned()))
                };
                let shown: BTreeMap<String, String> = printed.lines().skip(1).filter_map(row).collect();
                wait::check(shown == self.expected, || format!("{teller:?} shows of {}: {printed}", agent.name))?;
            }
        }
        let names: Vec<&String> = self.expected.keys().collect();
        for agent in &self.agents {
            wait::until("the catalog", AGREE, || {
                let nodes = agent.http.get("/v1/catalog/nodes")?;
                let mut found: Vec<&str> = list(&nodes).iter().map(|node| text(node, "Node")).collect();
                found.sort_unstable();
                wait::check(found == names, || format!("{} has {found:?} in the catalog", agent.name))
            })?;
        }
        self.report("one list, whoever is asked");
        Ok(())
    }

    /// An event and a query of each kind reach everybody.
    ///
    /// # Errors
    ///
    /// What was not as it must be.
    pub fn all_hear_all(&self) -> Result<()> {
        let speakers = [0, SERVERS.into(), usize::from(SERVERS + CLIENTS)].map(|at: usize| &self.agents[at]);
        for speaker in speakers {
            let event = format!("from-{}", speaker.name);
            speaker.command("event", &[&format!("-name={event}"), "payload"])?;
            for agent in &self.agents {
                wait::until(&event, AGREE, || {
                    let events = agent.http.get(&format!("/v1/event/list?name={event}"))?;
                    wait::check(list(&events).len() == 1, || format!("{} has heard {events}", agent.name))
                })?;
            }
            for (name, board) in &self.boards {
                let heard = || wait::check(board.has_logged(&format!("event consul:event:{event}")), || name.clone());
                wait::until(&event, AGREE, heard)?;
            }
        }
        for (name, board) in &self.boards {
            wait::until(&format!("all answers to {name}"), AGREE, || {
                let seen = board.lines();
                board.press(Button::Down);
                board.wait_for_new(seen, "command finished", BOARD);
                let log = board.log();
                let lines = log.lines().skip(seen).filter_map(|line| Some(line.split_once("answer from ")?.1));
                let answered: BTreeMap<&str, ()> = lines.map(|name| (name, ())).collect();
                wait::check(answered.keys().eq(self.expected.keys()), || format!("only {answered:?}"))
            })?;
        }
        self.report("events and queries of each kind have reached all");
        Ok(())
    }

    /// A real server rotates the key on all members, boards too, told by both programs.
    ///
    /// # Errors
    ///
    /// What was not as it must be.
    pub fn rotates_keys(&self) -> Result<()> {
        let all = format!("[{0}/{0}]", self.expected.len());
        let tell = |teller: Kind, arguments: &[&str]| -> Result<String> {
            let address = format!("-http-addr={}:{}", self.network.address(1), self.network.ports.http);
            let output = Command::new(teller.program()?).args(["keyring", &address]).args(arguments).output()?;
            wait::check(output.status.success(), || String::from_utf8_lossy(&output.stderr).into_owned())?;
            Ok(String::from_utf8(output.stdout)?)
        };
        for (teller, from, to) in [(Kind::Consul, KEY, NEW), (Kind::Lictor, NEW, KEY)] {
            for step in [format!("-install={to}"), format!("-use={to}"), format!("-remove={from}")] {
                wait::until(&step, AGREE, || tell(teller, &[&step]))?;
            }
            wait::until("the key on all members", AGREE, || {
                let printed = tell(teller, &["-list"])?;
                let lan = printed.split("dc1 (LAN):\n").nth(1).unwrap_or_default();
                let lines: Vec<&str> = lan.lines().map(str::trim).take_while(|line| !line.is_empty()).collect();
                wait::check(lines == [format!("{to} {all}")], || printed.clone())
            })?;
        }
        self.report("the key was rotated, and back");
        Ok(())
    }

    /// A real client, one of ours and a board are killed, come back or are forced out or erased; others leave.
    ///
    /// # Errors
    ///
    /// What was not as it must be.
    pub fn churns(&mut self) -> Result<()> {
        let (real, ours) = (usize::from(SERVERS), usize::from(SERVERS + CLIENTS));
        let mut boards = self.boards.keys().cloned();
        let (first, second) = (boards.next().ok_or("a board")?, boards.next().ok_or("a second board")?);
        drop(boards);
        for at in [real, real + 1, ours, ours + 1] {
            self.agents[at].kill()?;
            self.expect(at, "failed");
        }
        self.boards.get_mut(&first).ok_or("the first board")?.power_off();
        self.expected.insert(first.clone(), "failed".into());
        self.agree("the dead to count as failed")?;

        // Each forces the other kind out; the board is forced out by ours and comes back after that.
        let forced = [self.agents[real].name.clone(), self.agents[ours].name.clone()];
        self.agents[ours + 2].command("force-leave", &[&forced[0]])?;
        self.agents[real + 2].command("force-leave", &[&forced[1]])?;
        self.agents[ours + 2].command("force-leave", &[&first])?;
        for name in forced.iter().chain([&first]) {
            self.expected.insert(name.clone(), "left".into());
        }
        self.agree("those forced out to count as left")?;

        for at in [real, real + 1, ours, ours + 1] {
            self.agents[at].restart()?;
            self.expect(at, "alive");
        }
        let host = first.trim_start_matches("board-").parse()?;
        self.power_on(host)?;
        self.agree("those who came back to be alive")?;

        for at in [real + 3, ours + 3] {
            self.agents[at].terminate()?;
            self.expect(at, "left");
        }
        let board = self.boards.get(&second).ok_or("the second board")?;
        board.press(Button::Select);
        board.wait_for("command finished", BOARD);
        self.expected.insert(second, "left".into());
        self.agree("those who left to have left")
    }

    /// Keeps the deepest stack of the boards.
    ///
    /// # Errors
    ///
    /// When a stack used all of its room.
    pub fn note_stacks(&self) -> Result<()> {
        self.boards.values().try_for_each(Board::note_stack)
    }

    /// Starts the board that is host `host`.
    fn power_on(&mut self, host: u8) -> Result<()> {
        let (name, forward) = (format!("board-{host}"), Forward::new(&self.network, host));
        let seed = self.agents[0].gossip().to_string();
        let mut settings = Settings { node_name: &name, advertise: forward.advertise(), ..Settings::default() };
        settings.seeds.push(&seed).map_err(|_| "more than four seeds")?;
        settings.keys.push(&KEY_OCTETS).map_err(|_| "more than four keys")?;
        let board = Board::start(host, qemu::Network::Forward(forward), &settings);
        self.expected.insert(name.clone(), "alive".into());
        self.boards.insert(name.clone(), board);
        Ok(())
    }

    fn expect(&mut self, at: usize, status: &str) {
        self.expected.insert(self.agents[at].name.clone(), status.into());
    }

    /// Waits until every agent that should be alive sees what is expected.
    fn agree(&self, what: &str) -> Result<()> {
        let words = ["none", "alive", "leaving", "left", "failed"];
        for agent in self.agents.iter().filter(|agent| self.expected[&agent.name] == "alive") {
            wait::until(what, AGREE, || {
                let members = agent.http.get("/v1/agent/members")?;
                let word = |row: &Value| row["Status"].as_u64().and_then(|at| words.get(at as usize).copied());
                let row = |row: &Value| Some((text(row, "Name").to_owned(), word(row)?.to_owned()));
                let table: BTreeMap<String, String> = list(&members).iter().filter_map(row).collect();
                let differs = self.expected.iter().filter(|(name, status)| table.get(*name) != Some(status));
                let differs: Vec<_> = differs.collect();
                wait::check(differs.is_empty() && table.len() == self.expected.len(), || {
                    format!("{} does not see {differs:?} in {table:?}", agent.name)
                })
            })?;
        }
        self.report(what);
        Ok(())
    }

    /// A line for those who look at times. Nothing is held to them.
    fn report(&self, what: &str) {
        println!("{:6.1} s: {what}", self.start.elapsed().as_secs_f32());
    }
}
