//! A member of a plain Serf pool, whichever program it is: the same wishes and the same questions for all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use agent_embedded::provision::Settings;
use serde_json::{Value, json};

use super::KEY_OCTETS;
use crate::{
    Result,
    cluster::{Agent, Role},
    http::{list, text},
    ports::Network,
    qemu::{self, Board, Button, Forward},
    serf::Serf,
    subject::Kind,
    wait,
};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Serf 0.9.4: shows that a scenario is right.
    Serf,
    /// Serf 0.10.1, whose wire is newer.
    NewSerf,
    /// Our agent in plain Serf pools.
    Lictor,
    /// The emulated board in plain Serf pools.
    Board,
}

impl Subject {
    /// All of them.
    pub const ALL: [Subject; 4] = [Subject::Serf, Subject::NewSerf, Subject::Lictor, Subject::Board];
}

/// Whom an agent knows, and their status in Serf's words.
pub type Table = BTreeMap<String, String>;

/// A query is over after 6.4 s in a pool of 10 to 99 members.
const QUERY: Duration = Duration::from_secs(15);
/// A board looks at its buttons ten times a second, one after the other.
const BUTTON: Duration = Duration::from_secs(10);

/// A running member. Host 1 of its network is whom it joins; that one itself joins nobody.
pub struct Member {
    /// Its node name.
    pub name: String,
    /// Which program it is.
    pub subject: Subject,
    host: u8,
    network: Network,
    key: Option<&'static str>,
    runs: Runs,
}

enum Runs {
    Serf(Serf),
    Lictor(Agent),
    Board(Board),
    Nothing,
}

impl Member {
    /// Starts it as host `host` of `network`. `key` is none or [`super::KEY`].
    ///
    /// # Errors
    ///
    /// When it cannot be started.
    pub fn start(subject: Subject, network: Network, host: u8, key: Option<&'static str>) -> Result<Self> {
        let mut member = Member { name: String::new(), subject, host, network, key, runs: Runs::Nothing };
        member.run()?;
        Ok(member)
    }

    /// Starts it again after its end. An agent of ours has its data folder, the others have forgotten everything.
    ///
    /// # Errors
    ///
    /// As [`Member::start`].
    pub fn restart(&mut self) -> Result<()> {
        match &mut self.runs {
            Runs::Lictor(agent) => agent.restart(),
            _ => self.run(),
        }
    }

    fn run(&mut self) -> Result<()> {
        let (network, host, key) = (self.network, self.host, self.key);
        let seed = format!("{}:{}", network.address(1), network.ports.serf_lan);
        self.runs = Runs::Nothing; // what ran before gives its ports up first
        (self.name, self.runs) = match self.subject {
            Subject::Serf | Subject::NewSerf => {
                let program = if self.subject == Subject::Serf { "serf" } else { "serf-0.10" };
                let serf = Serf::start(network, host, program, key)?;
                if host != 1 {
                    serf.call(&["join", &seed])?;
                }
                (serf.name.clone(), Runs::Serf(serf))
            }
            Subject::Lictor => {
                let mut settings = json!({ "lictor": { "serf_only": true } });
                if let Some(key) = key {
                    settings["encrypt"] = key.into();
                }
                // One "server" makes the first host the seed.
                let agent = Agent::start(network, host, Kind::Lictor, Role::Client(1), &settings)?;
                (agent.name.clone(), Runs::Lictor(agent))
            }
            Subject::Board => {
                let (name, forward) = (format!("board-{host}"), Forward::new(&network, host));
                let mut settings = Settings {
                    node_name: &name,
                    advertise: forward.advertise(),
                    serf_only: true,
                    ..Settings::default()
                };
                settings.seeds.push(&seed).map_err(|_| "more than four seeds")?;
                if key.is_some() {
                    settings.keys.push(&KEY_OCTETS).map_err(|_| "more than four keys")?;
                }
                let board = Board::start(host, qemu::Network::Forward(forward), &settings);
                (name.clone(), Runs::Board(board))
            }
        };
        Ok(())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        match &self.runs {
            Runs::Serf(serf) => serf.log(),
            Runs::Lictor(agent) => agent.log(),
            Runs::Board(board) => board.log(),
            Runs::Nothing => String::new(),
        }
    }

    /// The board behind it.
    pub fn board(&self) -> Option<&Board> {
        if let Runs::Board(board) = &self.runs { Some(board) } else { None }
    }

    /// Whom it knows. A board knows only as many as its memory holds.
    ///
    /// # Errors
    ///
    /// When it does not answer.
    pub fn table(&self) -> Result<Table> {
        match &self.runs {
            Runs::Serf(serf) => serf.table(),
            Runs::Lictor(agent) => {
                let words = ["none", "alive", "leaving", "left", "failed"];
                let members = agent.http.get("/v1/agent/members")?;
                let word = |row: &Value| row["Status"].as_u64().and_then(|at| words.get(at as usize).copied());
                let row = |row: &Value| Some((text(row, "Name").to_owned(), word(row)?.to_owned()));
                list(&members).iter().map(row).collect::<Option<_>>().ok_or_else(|| members.to_string().into())
            }
            Runs::Board(board) => {
                let seen = board.lines();
                board.press(Button::Left);
                board.wait_for_new(seen, "knows nobody else", BUTTON);
                let log = board.log();
                let rows = log.lines().skip(seen).filter_map(|line| line.split_once("knows ")?.1.rsplit_once(' '));
                let rows = rows.filter(|row| *row != ("nobody", "else"));
                Ok(rows.map(|(name, status)| (name.to_owned(), status.to_owned())).collect())
            }
            Runs::Nothing => Err(format!("{} does not run", self.name).into()),
        }
    }

    /// Fires a user event and gives its name.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn fire(&self) -> Result<String> {
        let name = format!("from-{}", self.name);
        match &self.runs {
            Runs::Serf(serf) => serf.call(&["event", &name, "payload"]).map(drop)?,
            Runs::Lictor(agent) => agent.http.put(&format!("/v1/event/fire/{name}"), "payload").map(drop)?,
            Runs::Board(board) => {
                board.press(Button::Up);
                return Ok("button".into());
            }
            Runs::Nothing => return Err(format!("{} does not run", self.name).into()),
        }
        Ok(name)
    }

    /// Whether it has heard of user event `name`.
    pub fn has_heard(&self, name: &str) -> bool {
        let heard = match self.subject {
            Subject::Serf | Subject::NewSerf => format!("Received event: user-event: {name}"),
            Subject::Lictor => format!("EventUser: {name}"),
            Subject::Board => format!("event {name}"),
        };
        self.log().lines().any(|line| line.trim_end().ends_with(&heard))
    }

    /// Asks a query and gives how many members answered: what each kind can ask by itself is a query that all answer.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn ask(&self) -> Result<usize> {
        match &self.runs {
            Runs::Serf(serf) => {
                let answer: Value = serde_json::from_str(&serf.call(&["query", "-format=json", "hello"])?)?;
                Ok(list(&answer["Acks"]).iter().filter_map(Value::as_str).collect::<BTreeSet<_>>().len())
            }
            Runs::Lictor(agent) => {
                let answer = agent.http.get("/v1/operator/keyring")?;
                let counts = answer[0]["Keys"].as_object().into_iter().flatten();
                Ok(counts.filter_map(|(_, count)| count.as_u64()).max().unwrap_or(0) as usize)
            }
            Runs::Board(board) => {
                let seen = board.lines();
                board.press(Button::Down);
                board.wait_for_new(seen, "command finished", QUERY);
                let log = board.log();
                let from = log.lines().skip(seen).filter_map(|line| Some(line.split_once("answer from ")?.1));
                Ok(from.collect::<BTreeSet<_>>().len())
            }
            Runs::Nothing => Err(format!("{} does not run", self.name).into()),
        }
    }

    /// Changes the keys of the whole pool: `operation` is `install`, `use` or `remove`. Boards cannot.
    ///
    /// # Errors
    ///
    /// When a member does not confirm it.
    pub fn change_keys(&self, operation: &str, key: &str) -> Result<()> {
        match &self.runs {
            Runs::Serf(serf) => serf.call(&["keys", &format!("-{operation}={key}")]).map(drop),
            Runs::Lictor(agent) => agent.command("keyring", &[&format!("-{operation}={key}")]).map(drop),
            _ => Err(format!("{} starts no rotation", self.name).into()),
        }
    }

    /// How many members have which key.
    ///
    /// # Errors
    ///
    /// When a member does not answer.
    pub fn keys(&self) -> Result<BTreeMap<String, usize>> {
        let rows = match &self.runs {
            Runs::Serf(serf) => serf.call(&["keys", "-list"])?,
            Runs::Lictor(agent) => agent.command("keyring", &["-list"])?,
            _ => return Err(format!("{} starts no rotation", self.name).into()),
        };
        // `KEY [3/3]`, with all sorts of words around.
        let row = |line: &str| {
            let (key, count) = line.trim().split_once(" [")?;
            Some((key.trim().to_owned(), count.split_once('/')?.0.parse().ok()?))
        };
        Ok(rows.lines().filter_map(row).collect())
    }

    /// Makes a failed member count as left, or forgets it.
    ///
    /// # Errors
    ///
    /// When it is refused.
    pub fn force_leave(&self, name: &str, prune: bool) -> Result<()> {
        let prune = if prune { &["-prune"][..] } else { &[] };
        match &self.runs {
            Runs::Serf(serf) => serf.call(&[&["force-leave"], prune, &[name]].concat()).map(drop),
            Runs::Lictor(agent) => agent.command("force-leave", &[prune, &[name]].concat()).map(drop),
            _ => Err(format!("{} forces nobody", self.name).into()),
        }
    }

    /// Makes it leave. A program has ended then; a board goes on, as nobody.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn leave(&mut self) -> Result<()> {
        match &mut self.runs {
            Runs::Serf(serf) => serf.leave(),
            Runs::Lictor(agent) => agent.terminate().map(drop),
            Runs::Board(board) => {
                let seen = board.lines();
                board.press(Button::Select);
                board.wait_for_new(seen, "command finished", QUERY);
                Ok(())
            }
            Runs::Nothing => Ok(()),
        }
    }

    /// Ends it as a power cut would.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn kill(&mut self) -> Result<()> {
        match &mut self.runs {
            Runs::Serf(serf) => serf.kill(),
            Runs::Lictor(agent) => agent.kill(),
            Runs::Board(board) => {
                board.power_off();
                Ok(())
            }
            Runs::Nothing => Ok(()),
        }
    }

    /// A look: it counts `name` as `status`. Of a board the log is asked, which also knows whom it has forgotten.
    ///
    /// # Errors
    ///
    /// When it does not.
    pub fn sees(&self, name: &str, status: &str) -> Result<()> {
        if let Runs::Board(board) = &self.runs {
            let line = format!("member {name} {status}");
            return wait::check(board.has_logged(&line), || format!("the board has not logged: {line}"));
        }
        let table = self.table()?;
        let found = table.get(name).is_some_and(|found| found == status);
        wait::check(found, || format!("{} sees no {name} {status}, but {table:?}", self.name))
    }
}
