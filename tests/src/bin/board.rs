//! One emulated board for a person to watch: `cargo xtask firmware run`.

use std::{net::Ipv4Addr, process::ExitCode};

use agent_embedded::provision::Settings;
use agent_tests::{
    Result,
    qemu::{Board, Button, Forward, Network},
};

const USAGE: &str = "\
Usage: cargo xtask firmware run [OPTIONS]

  --name NAME      node name (default: made from the MAC address)
  --seed ADDRESS   a member to join, `ip:port`; may be given four times
  --address IP     loopback address that leads to the board (default 127.0.0.1)
  --gossip PORT    its gossip port there (default 8311)
  --dns PORT       its DNS port there (default 8611): dig @127.0.0.1 -p 8611 thermo.service.consul
  --number N       last octet of its MAC address (default 1)

The board's log goes to standard error. Each line typed is a temperature for its thermometer, in tenths of a degree;
`leave` presses its button. The end of input, or Ctrl-C, switches it off.
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}\n\n{USAGE}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let (mut name, mut seeds, mut number) = (String::new(), Vec::new(), 1);
    let mut forward = Forward { address: Ipv4Addr::LOCALHOST, gossip: 8311, dns: 8611 };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        if arg == "--help" {
            print!("{USAGE}");
            return Ok(());
        }
        let value = args.next().ok_or_else(|| format!("{arg}: a value is missing"))?;
        let wrong = |error: &dyn std::fmt::Display| format!("{arg} {value}: {error}");
        match arg.as_str() {
            "--name" => name = value,
            "--seed" => seeds.push(value),
            "--address" => forward.address = value.parse().map_err(|error| wrong(&error))?,
            "--gossip" => forward.gossip = value.parse().map_err(|error| wrong(&error))?,
            "--dns" => forward.dns = value.parse().map_err(|error| wrong(&error))?,
            "--number" => number = value.parse().map_err(|error| wrong(&error))?,
            _ => return Err(format!("no option {arg}").into()),
        }
    }
    let mut settings = Settings { node_name: &name, advertise: forward.advertise(), ..Settings::default() };
    for seed in &seeds {
        settings.seeds.push(seed).map_err(|_| "more than four seeds")?;
    }
    let mut board = Board::start(number, Network::Forward(forward), &settings);
    for line in std::io::stdin().lines() {
        match line?.trim() {
            "leave" => board.press(Button::Select),
            value => match value.parse() {
                Ok(tenths) => board.set_sensor(tenths),
                Err(_) => eprintln!("neither `leave` nor a number: {value:?}"),
            },
        }
    }
    Ok(())
}
