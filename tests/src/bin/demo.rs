//! The main job, for a person to watch: three servers, an emulated board that joins them, its service found by name.
//! Run it as `cargo xtask demo`.

use std::{
    io::{IsTerminal, Read},
    process::{Command, ExitCode},
    time::Duration,
};

use agent_embedded::provision::Settings;
use agent_tests::{
    Result,
    cluster::{Agent, Role, Status},
    ports,
    qemu::{Board, Forward, Network},
    subject::Kind,
    wait,
};
use serde_json::json;

/// Key of the cluster's gossip, as the configuration file and as octets.
const KEY: (&str, [u8; 16]) = ("AAECAwQFBgcICQoLDA0ODw==", [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]);
/// The board's name in the cluster.
const BOARD: &str = "board-1";
/// Its service.
const SERVICE: &str = "thermo";
/// Longest wait for anything to show.
const PATIENCE: Duration = Duration::from_secs(60);
/// Temperatures of a room and of an oven, in tenths of a degree.
const ROOM: i32 = 215;
const OVEN: i32 = 999;

fn main() -> ExitCode {
    agent_tests::process::keep_quiet();
    let once = std::env::args().skip(1).any(|arg| arg == "--once");
    match run(once) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(once: bool) -> Result<()> {
    let network = ports::Network::free(4)?;
    say("three servers, gossip encrypted");
    let settings = json!({ "encrypt": KEY.0, "log_level": "info" });
    let mut servers = Vec::new();
    for host in 1..=3 {
        servers.push(Agent::start(network, host, Kind::Lictor, Role::Server(3), &settings)?);
    }
    for server in &mut servers {
        server.ready()?;
    }

    say("a board with 64 KB of RAM, emulated, joins them");
    let forward = Forward::new(&network, 4);
    let mut config = Settings { node_name: BOARD, advertise: forward.advertise(), ..Settings::default() };
    for server in &servers {
        let seed: &'static str = Box::leak(server.gossip().to_string().into_boxed_str());
        config.seeds.push(seed).map_err(|_| "more than four seeds")?;
    }
    config.keys.push(&KEY.1).map_err(|_| "more than four keys")?;
    let mut board = Board::start(1, Network::Forward(forward), &config);
    let server = &servers[0];
    wait::until("the board in the member list", PATIENCE, || server.sees(BOARD, Status::Alive))?;
    wait::until("its service in the catalog", PATIENCE, || server.shows_service(BOARD, SERVICE))?;
    wait::until("its check to pass", PATIENCE, || server.shows_check(BOARD, "temperature", "passing"))?;
    let http = format!("-http-addr={}", http(server));
    members(&http)?;
    let name = format!("{SERVICE}.service.consul");
    dig(server.dns().ip().to_string(), server.dns().port(), &name, "SRV")?;
    dig(forward.address.to_string(), forward.dns, &name, "A")?;
    health(server)?;

    say("the sensor gets too hot: the check fails, and nobody is sent there any more");
    board.set_sensor(OVEN);
    wait::until("the check to fail", PATIENCE, || server.shows_check(BOARD, "temperature", "critical"))?;
    dig(server.dns().ip().to_string(), server.dns().port(), &name, "SRV")?;
    board.set_sensor(ROOM);
    wait::until("the check to recover", PATIENCE, || server.shows_check(BOARD, "temperature", "passing"))?;
    say("it cools down: found again");
    dig(server.dns().ip().to_string(), server.dns().port(), &name, "SRV")?;

    say("the board is cut off");
    board.pause();
    wait::until("the board to count as failed", PATIENCE, || server.sees(BOARD, Status::Failed))?;
    members(&http)?;
    say("and comes back");
    board.resume();
    wait::until("the board to be alive again", PATIENCE, || server.sees(BOARD, Status::Alive))?;
    members(&http)?;

    if !once {
        println!("\nAll stays up until Ctrl-C. Try:");
        println!("  dig @{} -p {} {name} SRV", server.dns().ip(), server.dns().port());
        println!("  curl http://{}/v1/health/service/{SERVICE}?pretty", self::http(server));
        let mut rest = Vec::new();
        if std::io::stdin().is_terminal() {
            // Ctrl-C ends the process, and with it everything that it started.
            std::io::stdin().read_to_end(&mut rest)?;
        } else {
            loop {
                std::thread::park();
            }
        }
    }
    Ok(())
}

fn say(what: &str) {
    println!("\n==> {what}");
}

/// The address of a server's HTTP API.
fn http(server: &Agent) -> String {
    format!("{}:{}", server.dns().ip(), server.network.ports.http)
}

/// Shows a command and what it prints.
fn show(command: &mut Command) -> Result<()> {
    let words: Vec<_> = command.get_args().map(|arg| arg.to_string_lossy().into_owned()).collect();
    let program =
        std::path::Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    println!("\n$ {program} {}", words.join(" "));
    let output = command.output()?;
    print!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    if output.status.success() { Ok(()) } else { Err(format!("{program} ended with {}", output.status).into()) }
}

fn members(http: &str) -> Result<()> {
    show(Command::new(Kind::Lictor.program()?).args(["members", http]))
}

fn dig(ip: String, port: u16, name: &str, kind: &str) -> Result<()> {
    show(Command::new("dig").args([&format!("@{ip}"), "-p", &port.to_string(), name, kind, "+noall", "+answer"]))
}

fn health(server: &Agent) -> Result<()> {
    println!("\n$ curl http://{}/v1/health/service/{SERVICE}", http(server));
    println!("{}", server.http.get(&format!("/v1/health/service/{SERVICE}"))?);
    Ok(())
}
