//! A thermometer in the catalog: the LM3S6965 evaluation board as an agent of its own.
//!
//! This file only wires. The chip is in the other files, the agent in `agent-embedded`.
#![no_std]
#![no_main]

use core::net::Ipv4Addr;

use agent_core::{
    agent::{Agent, Command, Event, HostCheck, REQUEST_MIN},
    checks::Health,
    local::{CheckDef, CheckKind, ServiceDef},
    time::Duration,
    wire::rpc::Text,
};
use agent_embedded::{
    Buffers, Host, Link, OUTPUT, SOCKETS,
    identity::{Identity, Tags},
    now,
    provision::Settings,
};
use embassy_executor::Spawner;
use embassy_net::{Runner, Stack, StackResources};
use embassy_time::Timer;
use static_cell::{ConstStaticCell, StaticCell};

mod button;
mod clock;
mod entropy;
mod eth;
mod idle;
mod irq;
mod log;
mod reg;
mod sensor;
mod settings;
mod time;

use button::{Button, Buttons};
use eth::Ethernet;
use log::log;
use sensor::Sensor;

agent_core::lictor_memory! {
    struct Memory {
        members: 16, services: 2, checks: 4, connections: 2, queries: 1, outbox: 1024, stage: 1024, request: REQUEST_MIN,
    }
}

/// The network stack's own sockets are two: DHCP and name look-ups.
type Resources = StackResources<{ SOCKETS + 2 }>;

#[cortex_m_rt::entry]
fn main() -> ! {
    clock::start();
    let core = cortex_m::Peripherals::take().expect("main runs once");
    time::start(core.SYST);
    idle::run(start)
}

/// Starts the tasks. Not inlined: what it builds on the stack would stay there for ever.
#[inline(never)]
fn start(spawner: Spawner) {
    static RESOURCES: StaticCell<Resources> = StaticCell::new();
    let settings = settings::load();
    let ethernet = Ethernet::start();
    let mac = ethernet.mac();
    let seed = entropy::seed().unwrap_or_default();
    let ports = u64::from_le_bytes([seed[0], seed[1], mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]]);
    let resources = RESOURCES.init_with(StackResources::new);
    let (stack, runner) = embassy_net::new(ethernet, settings::network(settings), resources, ports);
    spawner.spawn(network(runner).expect("started once"));
    spawner.spawn(begin(spawner, stack, settings, mac).expect("started once"));
}

#[embassy_executor::task]
async fn network(mut runner: Runner<'static, Ethernet>) -> ! {
    runner.run().await
}

/// Waits for the address and makes the agent. A task of its own: what [`link`] needs of the stack for a moment does not
/// come on top of what [`agent`] needs for ever.
#[embassy_executor::task]
async fn begin(spawner: Spawner, stack: Stack<'static>, settings: &'static Settings<'static>, mac: [u8; 6]) {
    stack.wait_config_up().await;
    let Some(link) = stack.config_v4().and_then(|own| link(settings, mac, own.address.address())) else { return };
    if link.command(Command::Register(&THERMOMETER)).is_err() {
        log!(error, "the service was refused");
    }
    spawner.spawn(heed_buttons(link).expect("started once"));
    spawner.spawn(work(link).expect("started once"));
    spawner.spawn(agent(stack, link).expect("started once"));
}

#[embassy_executor::task]
async fn agent(stack: Stack<'static>, link: &'static Link<'static>) {
    static BUFFERS: ConstStaticCell<Buffers> = ConstStaticCell::new(Buffers::EMPTY);
    agent_embedded::run(stack, link, BUFFERS.take(), &mut Thermometer(Sensor::start(ROOM))).await
}

/// Makes the agent. Not inlined: what it builds on the stack would stay there for ever.
#[inline(never)]
fn link(settings: &'static Settings<'static>, mac: [u8; 6], address: Ipv4Addr) -> Option<&'static Link<'static>> {
    static IDENTITY: StaticCell<Identity<'static>> = StaticCell::new();
    static TAGS: StaticCell<Tags<'static>> = StaticCell::new();
    static CONFIG: StaticCell<agent_core::config::Config<'static>> = StaticCell::new();
    static MEMORY: ConstStaticCell<Memory> = ConstStaticCell::new(Memory::new());
    static AGENT: StaticCell<Agent<'static>> = StaticCell::new();
    static LINK: StaticCell<Link<'static>> = StaticCell::new();

    log!(info, "address {=[u8; 4]}", address.octets());
    let identity = match Identity::new(settings, mac, address) {
        Ok(identity) => IDENTITY.init(identity),
        Err(why) => {
            log!(error, "no agent: {=str}", why.as_str());
            return None;
        }
    };
    let config = CONFIG.init(identity.config(TAGS.init(identity.tags())));
    let Some(seed) = entropy::seed().or(config.pool.keys.is_empty().then_some([0; 32])) else {
        log!(error, "no agent: encryption needs a source of entropy");
        return None;
    };
    let link = match Agent::new_in(AGENT.uninit(), config, MEMORY.take().regions(), seed, now()) {
        Ok(agent) => LINK.init(Link::new(agent)),
        Err(_why) => {
            #[cfg(feature = "log")]
            log!(error, "no agent: {}", defmt::Display2Format(&_why));
            return None;
        }
    };
    log!(info, "agent {=str} up", identity.name());
    Some(link)
}

/// What the board offers to the cluster.
const THERMOMETER: ServiceDef<'static> = ServiceDef {
    id: "",
    name: "thermo",
    tags: &["celsius"],
    address: "",
    port: 8301,
    meta: &[],
    tagged_addresses: &[],
    weights: (1, 1),
    enable_tag_override: false,
    token: "",
    checks: &[TEMPERATURE, LOOP],
};

/// The sensor's value, judged.
const TEMPERATURE: CheckDef<'static> = CheckDef {
    id: "temperature",
    name: "Temperature",
    notes: "below 30 °C is well, from 40 °C it is not",
    service_id: "",
    token: "",
    status: Health::Critical,
    kind: CheckKind::Host {
        key: 0,
        label: "sensor",
        interval: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
    },
    deregister_critical_after: Duration::ZERO,
    success_before_passing: 0,
    failures_before_critical: 0,
};

/// The firmware's own loop: critical when it has not reported for a while.
const LOOP: CheckDef<'static> = CheckDef {
    id: "loop",
    name: "Main loop",
    notes: "reports every 10 s",
    kind: CheckKind::Ttl { ttl: Duration::from_secs(30) },
    ..TEMPERATURE
};

/// The sensor's value until its first line, in tenths of a degree.
const ROOM: i32 = 215;

struct Thermometer(Sensor);

impl Host for Thermometer {
    fn check(&mut self, _check: HostCheck<'_>, output: &mut heapless::String<OUTPUT>) -> Health {
        let tenths = self.0.read();
        let mut text = Text::<OUTPUT>::new(if tenths < 0 { "-" } else { "" });
        text.push_number((tenths.unsigned_abs() / 10).into());
        text.push(b".");
        text.push_number((tenths.unsigned_abs() % 10).into());
        text.push(" °C".as_bytes());
        // It has no more octets than the buffer.
        let _ = output.push_str(text.as_str());
        match tenths {
            ..300 => Health::Passing,
            300..400 => Health::Warning,
            _ => Health::Critical,
        }
    }

    fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Member(event) => log!(info, "member {=str} {=str}", event.member.name, event.member.status.as_str()),
            Event::Finished { .. } => log!(info, "command finished"),
            Event::Lagged => log!(warn, "events were lost"),
            Event::User { name, .. } => log!(info, "event {=str}", *name),
            Event::Answer { from, .. } => log!(info, "answer from {=str}", *from),
            Event::Keys => log!(info, "gossip keys changed"),
            // The core has logged it.
            Event::Trouble(_) => {}
            Event::Local => {}
        }
    }
}

/// The firmware's own work would be here; it reports that it goes on.
#[embassy_executor::task]
async fn work(link: &'static Link<'static>) {
    loop {
        let report = Command::UpdateTtl { id: LOOP.id, health: Health::Passing, output: "running" };
        if link.command(report).is_err() {
            log!(warn, "the loop's check is not registered");
        }
        Timer::after_secs(10).await;
    }
}

/// Up tells everybody, down asks everybody, left shows whom the board knows, select leaves.
#[embassy_executor::task]
async fn heed_buttons(link: &'static Link<'static>) {
    let mut buttons = Buttons::start();
    loop {
        let command = match buttons.next().await {
            Button::Up => Command::UserEvent { name: "button", payload: b"up", coalesce: false },
            Button::Down => Command::Query { name: "button", payload: b"down", relay_factor: 0, ack: true },
            Button::Left => {
                link.look(|agent| {
                    for member in agent.members() {
                        log!(info, "knows {=str} {=str}", member.name, member.status.as_str());
                    }
                });
                log!(info, "knows nobody else");
                continue;
            }
            Button::Select => {
                log!(info, "leaving");
                Command::Leave
            }
        };
        if link.command(command).is_err() {
            log!(error, "the button's command was refused");
        }
    }
}
