//! An emulated 64 KB board as a member of a real Consul cluster.

use std::{net::IpAddr, time::Duration};

use agent_embedded::provision::Settings;
use agent_tests::{
    Result,
    cluster::{Agent, Role, SETTLE, Status},
    dns::{self, Kind as Question, Record},
    http::{list, text},
    ports,
    qemu::{Board, Forward, Network, firmware},
    subject::Kind,
    wait,
};
use serde_json::json;

/// Key of the encrypted clusters, as the configuration file and as octets.
const KEY: (&str, [u8; 16]) = ("BwcHBwcHBwcHBwcHBwcHBw==", [7; 16]);

/// A server's leader compares catalog and members once a minute; what a late registration brought back goes then.
const RECONCILE: Duration = Duration::from_secs(70);

/// A real server and a board.
struct Pair {
    server: Agent,
    board: Board,
    name: String,
    seed: String,
    forward: Forward,
    encrypted: bool,
}

impl Pair {
    fn start(name: &str, encrypted: bool) -> Result<Self> {
        let network = ports::Network::free(2)?;
        let settings = if encrypted { json!({ "encrypt": KEY.0 }) } else { json!({}) };
        let mut server = Agent::start(network, 1, Kind::Consul, Role::Server(1), &settings)?;
        server.ready()?;
        let (seed, forward) = (server.gossip().to_string(), Forward::new(&network, 2));
        let board = board(name, &seed, forward, encrypted);
        let pair = Pair { server, board, name: name.into(), seed, forward, encrypted };
        pair.is(Status::Alive)?;
        pair.check_is("serfHealth", "passing")?;
        Ok(pair)
    }

    /// Switches the board, which is off, on again.
    fn power_on(&mut self) {
        self.board = board(&self.name, &self.seed, self.forward, self.encrypted);
    }

    fn is(&self, status: Status) -> Result<()> {
        wait::until("the board's status", SETTLE, || self.server.sees(&self.name, status))
    }

    fn check_is(&self, check: &str, status: &str) -> Result<()> {
        wait::until("the board's check", SETTLE, || self.server.shows_check(&self.name, check, status))
    }
}

fn board(name: &str, seed: &str, forward: Forward, encrypted: bool) -> Board {
    let mut settings = Settings { node_name: name, advertise: forward.advertise(), ..Settings::default() };
    settings.seeds.push(seed).expect("one of four");
    if encrypted {
        settings.keys.push(&KEY.1).expect("one of four");
    }
    Board::start(7, Network::Forward(forward), &settings)
}

fn stays_alive(encrypted: bool) -> Result<()> {
    let pair = Pair::start("board-join", encrypted)?;
    pair.board.wait_for(&format!("member {} alive", pair.server.name), SETTLE);
    let long = agent_tests::watch_time(Duration::from_secs(35), Duration::from_secs(180));
    wait::holds("the board's good standing", long, || {
        pair.server.sees(&pair.name, Status::Alive)?;
        pair.server.shows_check(&pair.name, "serfHealth", "passing")
    })?;
    let log = pair.server.log();
    let doubt = log.lines().find(|line| line.contains("memberlist: Suspect ") || line.contains("EventMemberFailed: "));
    wait::check(doubt.is_none(), || format!("the server logged {doubt:?}"))?;
    note_stack(&pair.board)
}

/// Keeps the deepest stack of this firmware for `cargo xtask size`.
fn note_stack(board: &Board) -> Result<()> {
    let note = firmware().with_extension("stack");
    let built = std::fs::metadata(firmware())?.modified()?;
    let old = std::fs::metadata(&note).and_then(|meta| meta.modified()).is_ok_and(|noted| noted >= built);
    let before = if old { std::fs::read_to_string(&note)?.trim().parse().unwrap_or(0) } else { 0 };
    let stack = board.stack_high_water().max(before);
    wait::check(stack < board.stack_room(), || format!("the stack used all of its {} octets", board.stack_room()))?;
    Ok(std::fs::write(note, format!("{stack}\n"))?)
}

/// The board's check follows its sensor, through gossip's membership and the board's own calls to the server.
fn follows_the_sensor() -> Result<()> {
    let mut pair = Pair::start("board-sensor", false)?;
    let row = wait::until("the service", SETTLE, || pair.server.shows_service(&pair.name, "thermo"))?;
    wait::check(row["ServicePort"] == 8301 && row["ServiceTags"] == json!(["celsius"]), || format!("catalog: {row}"))?;
    pair.check_is("temperature", "passing")?;
    pair.board.set_sensor(345);
    pair.check_is("temperature", "warning")?;
    pair.board.set_sensor(-412);
    pair.check_is("temperature", "passing")?;
    pair.board.set_sensor(999);
    pair.check_is("temperature", "critical")?;
    let checks = pair.server.http.get(&format!("/v1/health/node/{}", pair.name))?;
    let output = list(&checks).iter().find(|row| text(row, "CheckID") == "temperature").map(|row| text(row, "Output"));
    wait::check(output == Some("99.9 °C"), || format!("output {output:?}"))?;
    note_stack(&pair.board)
}

/// It answers the cluster's names; what it does not know it asks the server.
fn answers_questions() -> Result<()> {
    let pair = Pair::start("board-dns", true)?;
    pair.check_is("temperature", "passing")?;
    let door = (pair.forward.address, pair.forward.dns).into();
    let says = |name: &str, kind, code: u8, records: &[Record]| {
        wait::until("the board's answer", SETTLE, || {
            let answer = dns::ask(door, name, kind)?;
            wait::check((answer.code, &answer.records[..]) == (code, records), || format!("{name}: {answer:?}"))
        })
    };
    let own = [Record::A(pair.forward.address)];
    says("thermo.service.consul", Question::A, 0, &own)?;
    says("celsius.thermo.service.consul", Question::A, 0, &own)?;
    says("thermo.service.consul", Question::Srv, 0, &[Record::Srv(8301, "board-dns.node.dc1.consul".into())])?;
    let IpAddr::V4(server) = pair.server.gossip().ip() else { unreachable!("loopback networks are 127.0.0.0/8") };
    says(&format!("{}.node.consul", pair.server.name), Question::A, 0, &[Record::A(server)])?;
    says("nobody.service.consul", Question::A, 3, &[])?;
    note_stack(&pair.board)
}

/// The button makes it leave: `left`, and gone from the catalog.
fn leaves_on_the_button() -> Result<()> {
    let pair = Pair::start("board-leave", true)?;
    pair.board.press_button();
    pair.is(Status::Left)?;
    wait::until("the node's end in the catalog", RECONCILE + SETTLE, || {
        let nodes = pair.server.http.get("/v1/catalog/nodes")?;
        wait::check(list(&nodes).iter().all(|node| text(node, "Node") != pair.name), || nodes.to_string())
    })
}

/// Without power it is `failed`; with power again it is alive, though its incarnation begins anew.
fn fails_and_returns() -> Result<()> {
    let mut pair = Pair::start("board-power", false)?;
    pair.board.power_off();
    pair.is(Status::Failed)?;
    pair.check_is("serfHealth", "critical")?;
    pair.power_on();
    pair.is(Status::Alive)?;
    pair.check_is("serfHealth", "passing")
}

#[test]
fn sensor() {
    follows_the_sensor().unwrap();
}

#[test]
fn dns() {
    answers_questions().unwrap();
}

#[test]
fn leave() {
    leaves_on_the_button().unwrap();
}

#[test]
fn power() {
    fails_and_returns().unwrap();
}

#[test]
fn joins_and_stays_alive() {
    stays_alive(false).unwrap();
}

#[test]
fn joins_an_encrypted_cluster() {
    stays_alive(true).unwrap();
}
