//! An emulated 64 KB board as a member of a real Consul cluster of a server and a client, and of a plain Serf pool.

use std::{
    net::{IpAddr, SocketAddr},
    thread,
    time::{Duration, Instant},
};

use agent_embedded::provision::Settings;
use agent_tests::{
    Result,
    cluster::{Agent, Role, SETTLE, Status},
    dns::{self, Kind as Question, Record},
    http::{list, text},
    ports,
    qemu::{Board, Button, Forward, Network, firmware},
    scenario::{KEY, KEY_OCTETS, join::in_good_standing, member::Subject, pool},
    subject::Kind,
    wait,
};
use serde_json::json;

/// A server's leader compares catalog and members once a minute; what a late registration brought back goes then.
const RECONCILE: Duration = Duration::from_secs(70);
/// The board's service.
const SERVICE: &str = "thermo.service.consul";

/// A real server, a real client and a board.
struct Trio {
    server: Agent,
    client: Agent,
    board: Board,
    name: String,
    seed: String,
    forward: Forward,
    encrypted: bool,
}

impl Trio {
    fn start(name: &str, encrypted: bool) -> Result<Self> {
        let network = ports::Network::free(3)?;
        let settings = if encrypted { json!({ "encrypt": KEY }) } else { json!({}) };
        let mut server = Agent::start(network, 1, Kind::Consul, Role::Server(1), &settings)?;
        let mut client = Agent::start(network, 2, Kind::Consul, Role::Client(1), &settings)?;
        server.ready()?;
        client.ready()?;
        wait::until("the client in the cluster", SETTLE, || server.sees(&client.name, Status::Alive))?;
        let (seed, forward) = (server.gossip().to_string(), Forward::new(&network, 3));
        firmware();
        let start = Instant::now();
        let board = board(name, &seed, forward, encrypted);
        let trio = Trio { server, client, board, name: name.into(), seed, forward, encrypted };
        trio.print_figures(start)?;
        trio.is(Status::Alive)?;
        trio.check_is("serfHealth", "passing")?;
        for agent in [&trio.server, &trio.client] {
            trio.board.wait_for(&format!("member {} alive", agent.name), SETTLE);
        }
        Ok(trio)
    }

    /// Prints how long after its start the board did what. Nothing is held to these figures.
    fn print_figures(&self, start: Instant) -> Result<()> {
        let finds = |door: SocketAddr| {
            // Who is not there yet does not answer at all.
            let answer = dns::ask_within(door, SERVICE, Question::A, Duration::from_millis(50))?;
            wait::check(answer.records == [Record::A(self.forward.address)], || format!("{answer:?}"))
        };
        let goals: [(&str, &(dyn Fn() -> Result<()> + Sync)); 4] = [
            ("its agent runs and has registered its service", &|| {
                wait::check(self.board.has_logged(&format!("agent {} up", self.name)), || "not yet".into())
            }),
            ("the server sees it alive", &|| self.server.sees(&self.name, Status::Alive)),
            ("its own DNS finds its service", &|| finds((self.forward.address, self.forward.dns).into())),
            ("the server's DNS finds its service", &|| finds(self.server.dns())),
        ];
        thread::scope(|scope| {
            let reach = |(what, goal): (&'static str, &'_ (dyn Fn() -> Result<()> + Sync))| {
                wait::until(what, SETTLE, goal)?;
                println!("{}: {:.2} s after power on {what}", self.name, start.elapsed().as_secs_f32());
                Ok(())
            };
            let watchers = goals.map(|goal| scope.spawn(move || reach(goal)));
            watchers.into_iter().try_for_each(|watcher| watcher.join().expect("a look does not panic"))
        })
    }

    /// Switches the board, which is off, on again.
    fn power_on(&mut self) {
        self.board = board(&self.name, &self.seed, self.forward, self.encrypted);
    }

    /// Waits until both real agents see the board so.
    fn is(&self, status: Status) -> Result<()> {
        wait::until("the board's status", SETTLE, || {
            self.server.sees(&self.name, status)?;
            self.client.sees(&self.name, status)
        })
    }

    fn check_is(&self, check: &str, status: &str) -> Result<()> {
        wait::until("the board's check", SETTLE, || self.server.shows_check(&self.name, check, status))
    }

    fn stays_in_good_standing(&self) -> Result<()> {
        // Longer than the time between two push/pulls and between two of a server's comparisons with the catalog.
        let span = agent_tests::watch_time(Duration::from_secs(35), Duration::from_secs(180));
        in_good_standing(&self.server, &self.client, &self.name, span)
    }
}

fn board(name: &str, seed: &str, forward: Forward, encrypted: bool) -> Board {
    let mut settings = Settings { node_name: name, advertise: forward.advertise(), ..Settings::default() };
    settings.seeds.push(seed).expect("one of four");
    if encrypted {
        settings.keys.push(&KEY_OCTETS).expect("one of four");
    }
    Board::start(7, Network::Forward(forward), &settings)
}

/// The board's check follows its sensor, through gossip's membership and the board's own calls to the server.
fn follows_the_sensor(trio: &mut Trio) -> Result<()> {
    let row = wait::until("the service", SETTLE, || trio.server.shows_service(&trio.name, "thermo"))?;
    wait::check(row["ServicePort"] == 8301 && row["ServiceTags"] == json!(["celsius"]), || format!("catalog: {row}"))?;
    trio.check_is("temperature", "passing")?;
    trio.board.set_sensor(345);
    trio.check_is("temperature", "warning")?;
    trio.board.set_sensor(-412);
    trio.check_is("temperature", "passing")?;
    trio.board.set_sensor(999);
    trio.check_is("temperature", "critical")?;
    let checks = trio.server.http.get(&format!("/v1/health/node/{}", trio.name))?;
    let output = list(&checks).iter().find(|row| text(row, "CheckID") == "temperature").map(|row| text(row, "Output"));
    wait::check(output == Some("99.9 °C"), || format!("output {output:?}"))
}

/// It answers the cluster's names; what it does not know it asks the server.
fn answers_questions(trio: &Trio) -> Result<()> {
    trio.check_is("temperature", "passing")?;
    let door = (trio.forward.address, trio.forward.dns).into();
    let says = |name: &str, kind, code: u8, records: &[Record]| {
        wait::until("the board's answer", SETTLE, || {
            let answer = dns::ask(door, name, kind)?;
            wait::check((answer.code, &answer.records[..]) == (code, records), || format!("{name}: {answer:?}"))
        })
    };
    let own = [Record::A(trio.forward.address)];
    says(SERVICE, Question::A, 0, &own)?;
    says(&format!("celsius.{SERVICE}"), Question::A, 0, &own)?;
    says(SERVICE, Question::Srv, 0, &[Record::Srv(8301, format!("{}.node.dc1.consul", trio.name))])?;
    let IpAddr::V4(server) = trio.server.gossip().ip() else { unreachable!("loopback networks are 127.0.0.0/8") };
    says(&format!("{}.node.consul", trio.server.name), Question::A, 0, &[Record::A(server)])?;
    says("nobody.service.consul", Question::A, 3, &[])
}

/// The button makes it leave: `left`, and gone from the catalog.
fn leaves_on_the_button(trio: &Trio) -> Result<()> {
    trio.board.press(Button::Select);
    trio.is(Status::Left)?;
    wait::until("the node's end in the catalog", RECONCILE + SETTLE, || {
        let nodes = trio.server.http.get("/v1/catalog/nodes")?;
        wait::check(list(&nodes).iter().all(|node| text(node, "Node") != trio.name), || nodes.to_string())
    })?;
    // Nobody may have taken it for dead on the way.
    let log = trio.server.log();
    let failed = log.lines().find(|line| line.contains("EventMemberFailed: "));
    wait::check(failed.is_none(), || format!("the server logged {failed:?}"))
}

/// Without power it is `failed`; with power again it is alive, though its incarnation begins anew.
fn fails_and_returns(trio: &mut Trio) -> Result<()> {
    trio.board.power_off();
    trio.is(Status::Failed)?;
    trio.check_is("serfHealth", "critical")?;
    trio.power_on();
    trio.is(Status::Alive)?;
    trio.check_is("serfHealth", "passing")
}

/// Hanging it is `failed`; going on with what it knew it refutes its own death.
fn refutes(trio: &Trio) -> Result<()> {
    trio.board.pause();
    trio.is(Status::Failed)?;
    trio.board.resume();
    trio.is(Status::Alive)?;
    trio.check_is("serfHealth", "passing")
}

/// One after the other in one test, so that they share the cluster.
fn plain() -> Result<()> {
    let mut trio = Trio::start("board-plain", false)?;
    trio.stays_in_good_standing()?;
    follows_the_sensor(&mut trio)?;
    trio.board.note_stack()?;
    fails_and_returns(&mut trio)?;
    refutes(&trio)?;
    trio.board.note_stack()
}

fn encrypted() -> Result<()> {
    let trio = Trio::start("board-encrypted", true)?;
    trio.stays_in_good_standing()?;
    answers_questions(&trio)?;
    trio.board.note_stack()?;
    leaves_on_the_button(&trio)?;
    trio.board.note_stack()
}

#[test]
fn is_a_member_of_a_plain_cluster() {
    plain().unwrap();
}

#[test]
fn is_a_member_of_an_encrypted_cluster() {
    encrypted().unwrap();
}

#[test]
fn joins_a_serf_pool_and_leaves() {
    pool::joins(Subject::Board, true, true).unwrap();
}

#[test]
fn joins_a_plain_serf_pool_fails_and_returns() {
    pool::joins(Subject::Board, false, false).unwrap();
}
