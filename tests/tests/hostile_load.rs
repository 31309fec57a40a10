//! A load of hostile bytes on a server, a client, a member of an encrypted pool and a board, all at once.

use std::{thread, time::Duration};

use agent_core::wire::crypt::Key;
use agent_embedded::provision::Settings;
use agent_tests::{
    Result,
    bench::proc::Usage,
    cluster::{Agent, Role, SETTLE, Status},
    hostile::{Attacker, Report, Victim},
    ports,
    qemu::{Board, Forward, Network},
    repetitions,
    scenario::{KEY, KEY_OCTETS},
    subject::Kind,
    wait,
};
use serde_json::json;

/// Captured messages are of another one, so that their members are not let in.
const DATACENTER: &str = "dc9";
const BOARD: &str = "board-load";
/// What an agent may keep of the attack, in MiB.
const KEPT: f64 = 4.0;

#[test]
fn a_million_hostile_messages_harm_nobody() {
    run().unwrap();
}

fn run() -> Result<()> {
    let network = ports::Network::free(4)?;
    let plain = json!({ "datacenter": DATACENTER });
    let mut server = Agent::start(network, 1, Kind::Lictor, Role::Server(1), &plain)?;
    let mut client = Agent::start(network, 2, Kind::Lictor, Role::Client(1), &plain)?;
    let alone = json!({ "lictor": { "serf_only": true }, "encrypt": KEY, "retry_join": [] });
    let keyed = Agent::start(network, 4, Kind::Lictor, Role::Client(1), &alone)?;
    let forward = Forward::new(&network, 3);
    let seed = server.gossip().to_string();
    let mut settings =
        Settings { node_name: BOARD, datacenter: DATACENTER, advertise: forward.advertise(), ..Settings::default() };
    settings.seeds.push(&seed).map_err(|_| "more than four seeds")?;
    let board = Board::start(8, Network::Forward(forward), &settings);
    server.ready()?;
    client.ready()?;
    let well = || {
        for name in [&client.name, BOARD] {
            server.sees(name, Status::Alive)?;
            server.shows_check(name, "serfHealth", "passing")?;
        }
        client.sees(BOARD, Status::Alive)?;
        keyed.sees(&keyed.name, Status::Alive)
    };
    wait::until("the cluster", SETTLE, well)?;

    let agents = [&server, &client, &keyed];
    let resident = || agents.map(|agent| Usage::of(agent.id()).map(|usage| usage.resident));
    let before = resident();
    let victim = |agent: &Agent, key| Victim {
        name: agent.name.clone(),
        door: agent.gossip(),
        key,
        burst: 64,
        datacenter: DATACENTER,
    };
    let mut victims = vec![victim(&server, None), victim(&client, None), victim(&keyed, Key::new(&KEY_OCTETS))];
    let door = (forward.address, forward.gossip).into();
    victims.push(Victim { name: BOARD.into(), door, key: None, burst: 8, datacenter: DATACENTER });
    let (for_agents, for_board) = (repetitions(20_000, 300_000) as usize, repetitions(6_000, 100_000) as usize);
    let reports = thread::scope(|scope| {
        let attack = |(seed, victim): (u8, &Victim)| -> Result<Report> {
            let count = if victim.name == BOARD { for_board } else { for_agents };
            Attacker::new(seed, network.address(1))?.attack(victim, count)
        };
        let attacks: Vec<_> = (1..).zip(&victims).map(|pair| scope.spawn(move || attack(pair))).collect();
        attacks.into_iter().map(|attack| attack.join().map_err(|_| "an attack panicked")?).collect::<Result<Vec<_>>>()
    })?;

    for (victim, report) in victims.iter().zip(&reports) {
        println!("{}: {report:?}", victim.name);
        // The machine may also be busy with compiling: one ping in a hundred may be late.
        let (late, pings) = (report.late, report.pings);
        wait::check(late * 100 <= pings, || format!("{}: {late} of {pings} answers were late", victim.name))?;
    }
    for (at, agent) in agents.into_iter().enumerate() {
        let was = before[at].as_ref().map_err(ToString::to_string)?;
        wait::until("the memory to be given back", Duration::from_secs(90), || {
            let now = Usage::of(agent.id())?.resident;
            println!("{}: {was:.1} MiB before, {now:.1} MiB now", agent.name);
            wait::check(now <= was + KEPT, || format!("{} has {now:.1} MiB, before {was:.1} MiB", agent.name))
        })?;
    }
    wait::until("the cluster after the attack", SETTLE, well)?;
    wait::check(board.count_logged("settings:") <= 1 && !board.has_logged("panic at"), || "the board fell".into())?;
    board.note_stack()
}
