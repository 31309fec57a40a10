//! A large catalog: what it takes to fill, to hold, to save and to come back with.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use serde_json::{Value, json};

use super::{SIDES, measured, proc::Usage, table::Table};
use crate::{
    Result,
    cluster::{Agent, Role, START},
    ports::Network,
};

/// Connections that register.
const CONNECTIONS: usize = 16;
/// Checks of a node.
const CHECKS: usize = 5;

/// Registers `nodes` nodes of one service and five checks on a fresh server of each side.
///
/// # Errors
///
/// When a server does not come up, refuses a registration, or does not come back.
pub fn run(table: &mut Table, nodes: usize) -> Result<()> {
    for side in SIDES {
        let mut server = Agent::start(Network::free(1)?, 1, side, Role::Server(1), &json!({ "log_level": "warn" }))?;
        server.ready()?;
        let begun = Instant::now();
        fill(&server, nodes)?;
        table.put("registrations", "1/s", side, nodes as f64 / begun.elapsed().as_secs_f64());
        table.put("server with the catalog: RSS", "MiB", side, Usage::of(server.id())?.resident);
        let ms = |since: Instant| since.elapsed().as_secs_f64() * 1e3;
        let asked = Instant::now();
        server.http.get("/v1/health/service/web")?;
        table.put("health of a tenth of the nodes", "ms", side, ms(asked));
        let asked = Instant::now();
        server.http.octets("/v1/snapshot")?;
        table.put("snapshot", "ms", side, ms(asked));

        server.kill()?;
        let restarted = Instant::now();
        server.restart()?;
        let back = measured(restarted, START, || server.http.get("/v1/catalog/services?consistent").map(|_| ()))?;
        table.put("kill -9 to consistent read", "ms", side, back.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// Registers all nodes, several at once.
fn fill(server: &Agent, nodes: usize) -> Result<()> {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let threads: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let (http, next) = (server.http.clone(), &next);
                scope.spawn(move || -> std::result::Result<(), String> {
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= nodes {
                            return Ok(());
                        }
                        let body = node(number).to_string();
                        http.put("/v1/catalog/register", &body).map_err(|error| error.to_string())?;
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().map_err(|_| "a thread of the load panicked")??;
        }
        Ok(())
    })
}

/// A registration: every tenth node has the service `web`.
fn node(number: usize) -> Value {
    let id = format!("service-{number}");
    let service = if number.is_multiple_of(10) { "web".to_owned() } else { format!("other-{}", number % 100) };
    let check = |check: usize| {
        json!({
            "CheckID": format!("check-{number}-{check}"), "Name": format!("check {check}"), "Status": "passing",
            "Output": "as it should be", "ServiceID": if check > 0 { id.as_str() } else { "" },
        })
    };
    json!({
        "Node": format!("node-{number}"),
        "Address": format!("10.{}.{}.{}", number >> 16 & 255, number >> 8 & 255, number & 255),
        "Service": { "Service": service, "ID": id, "Port": 8000, "Tags": ["edge"] },
        "Checks": (0..CHECKS).map(check).collect::<Vec<_>>(),
    })
}
