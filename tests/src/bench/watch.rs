//! Many clients that wait for one key, and one write that wakes them all.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use serde_json::json;

use super::{SIDES, proc::Usage, table::Table};
use crate::{
    Result,
    cluster::{Agent, Role},
    ports::Network,
};

/// Longest wait for an answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Connections made at once before the agent gets a moment to accept them.
const AT_ONCE: usize = 100;
/// Time in which an agent that is left alone has settled.
const SETTLE: Duration = Duration::from_secs(2);

/// Measures what `watchers` waiting reads cost, on a fresh server of each side.
///
/// # Errors
///
/// When a server does not come up, or a watcher is woken early or not at all.
pub fn run(table: &mut Table, watchers: usize) -> Result<()> {
    for side in SIDES {
        let settings = json!({ "log_level": "warn", "limits": { "http_max_conns_per_client": watchers + 100 } });
        let mut server = Agent::start(Network::free(1)?, 1, side, Role::Server(1), &settings)?;
        server.ready()?;
        server.http.put("/v1/kv/watched", "before")?;
        let index = server.http.ask("/v1/kv/watched")?.index.ok_or("no index in the answer")?;
        thread::sleep(SETTLE);
        let before = Usage::of(server.id())?;
        let mut waiting = Vec::with_capacity(watchers);
        for number in 0..watchers {
            let mut stream = TcpStream::connect(server.http.address())?;
            stream.set_read_timeout(Some(LIMIT))?;
            write!(stream, "GET /v1/kv/watched?index={index}&wait=120s HTTP/1.1\r\nHost: bench\r\n\r\n")?;
            waiting.push(stream);
            if number % AT_ONCE == AT_ONCE - 1 {
                thread::sleep(Duration::from_millis(20));
            }
        }
        thread::sleep(SETTLE);
        let blocked = Usage::of(server.id())?;
        table.put(
            "memory per waiting read",
            "KiB",
            side,
            (blocked.resident - before.resident) * 1024.0 / watchers as f64,
        );

        let written = Instant::now();
        server.http.put("/v1/kv/watched", "after")?;
        let mut answer = [0; 4096];
        for stream in &mut waiting {
            let count = stream.read(&mut answer)?;
            if !answer[..count].starts_with(b"HTTP/1.1 200") {
                return Err(format!("a watcher got {:?}", String::from_utf8_lossy(&answer[..count])).into());
            }
        }
        table.put("write until all are answered", "ms", side, written.elapsed().as_secs_f64() * 1e3);
        table.put("processor time to wake one", "µs", side, {
            (Usage::of(server.id())?.cpu - blocked.cpu) * 1e6 / watchers as f64
        });
    }
    Ok(())
}
