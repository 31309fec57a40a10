//! An archive of one kind of server is restored by the other.

use serde_json::{Value, json};

use crate::{
    Result,
    cluster::{Agent, Role, SETTLE},
    http::{list, text},
    ports::Network,
    subject::Kind,
    wait,
};

/// More keys than one command of the log can carry, so that a restore takes several.
const KEYS: usize = 40;
/// Octets of each value; they do not compress.
const VALUE: usize = 60_000;

fn servers(kind: Kind, count: u8) -> Result<Vec<Agent>> {
    let network = Network::free(count)?;
    let mut servers = Vec::new();
    for host in 1..=count {
        servers.push(Agent::start(network, host, kind, Role::Server(count), &json!({"connect": {"enabled": false}}))?);
    }
    for server in &mut servers {
        server.ready()?;
    }
    Ok(servers)
}

/// Text that no compression makes shorter than three quarters.
fn noise(n: usize) -> String {
    let mut state = n as u64 + 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + (state >> 58) as u8)
    };
    (0..VALUE).map(|_| next()).collect()
}

/// Keys, one of them locked, a node with a service and a check, prepared queries.
fn fill(server: &Agent) -> Result<()> {
    for n in 0..KEYS {
        server.http.put(&format!("/v1/kv/many/{n:03}?flags={n}"), &noise(n))?;
    }
    server.http.put("/v1/kv/gone", "x")?;
    server.http.delete("/v1/kv/gone")?;
    let node = json!({
        "Node": "outside", "Address": "10.1.2.3", "NodeMeta": {"rack": "r1"},
        "Service": {"ID": "web-1", "Service": "web", "Port": 80, "Tags": ["v1"], "Meta": {"a": "b"}},
        "Check": {"CheckID": "up", "Name": "up", "Status": "passing", "ServiceID": "web-1"},
    });
    server.http.put("/v1/catalog/register", &node.to_string())?;
    let session = json!({"Node": "outside", "NodeChecks": [], "Checks": [], "Name": "holder"}).to_string();
    let session: Value = serde_json::from_str(&server.http.put("/v1/session/create", &session)?.body)?;
    let locked = server.http.put(&format!("/v1/kv/locked?acquire={}", text(&session, "ID")), "me")?;
    wait::check(locked.body.trim() == "true", || format!("the lock: {locked:?}"))
}

/// What [`fill`] made is there.
fn is_filled(server: &Agent) -> Result<()> {
    let keys = server.http.get("/v1/kv/many/?recurse&consistent")?;
    let flags: Vec<u64> = list(&keys).iter().filter_map(|row| row["Flags"].as_u64()).collect();
    wait::check(flags == (0..KEYS as u64).collect::<Vec<_>>(), || format!("{}: keys {flags:?}", server.name))?;
    let value = server.http.ask("/v1/kv/many/007?raw&consistent")?.body;
    wait::check(value == noise(7), || format!("{}: another value", server.name))?;
    let rows = server.http.get("/v1/health/service/web?passing&consistent")?;
    let row = &list(&rows).first().ok_or("no service")?;
    let same = text(&row["Node"], "Node") == "outside"
        && row["Node"]["Meta"]["rack"] == "r1"
        && row["Service"]["Port"] == 80
        && text(&list(&row["Checks"])[0], "CheckID") == "up";
    wait::check(same, || format!("{}: {rows}", server.name))?;
    let locked = server.http.get("/v1/kv/locked?consistent")?;
    let session = text(&list(&locked)[0], "Session").to_owned();
    let sessions = server.http.get(&format!("/v1/session/info/{session}?consistent"))?;
    let held = list(&sessions).first().is_some_and(|session| text(session, "Name") == "holder");
    wait::check(held, || format!("{}: {locked} {sessions}", server.name))
}

/// `from`'s archive is restored by three servers of kind `to`, and their indexes and their work go on.
///
/// # Errors
///
/// What was not as it must be.
pub fn restores(from: Kind, to: Kind) -> Result<()> {
    let source = servers(from, 1)?.remove(0);
    fill(&source)?;
    let archive = source.http.octets("/v1/snapshot")?;
    let greatest = source.http.ask("/v1/kv/locked")?.index.ok_or("no index")?;

    let targets = servers(to, 3)?;
    targets[0].http.put("/v1/kv/own", "x")?;
    // Whichever leads: two of three pass it on.
    for target in &targets {
        target.http.put_octets("/v1/snapshot", &archive)?;
        for server in &targets {
            wait::until("the archive's content", SETTLE, || is_filled(server))?;
            let own = server.http.ask("/v1/kv/own?consistent")?;
            wait::check(own.status == 404, || format!("{} still has its own key", server.name))?;
        }
    }
    targets[1].http.put("/v1/kv/after", "x")?;
    let after = targets[1].http.ask("/v1/kv/after?consistent")?.index;
    wait::check(after > Some(greatest), || format!("index {after:?}, not above {greatest}"))?;
    // The members of this cluster come back to the catalog.
    wait::until("the servers' own nodes", SETTLE, || {
        targets.iter().try_for_each(|server| targets[0].shows_check(&server.name, "serfHealth", "passing"))
    })
}

/// Bad archives are refused by name and change nothing.
///
/// # Errors
///
/// What was not as it must be.
pub fn refuses(kind: Kind) -> Result<()> {
    let server = servers(kind, 1)?.remove(0);
    fill(&server)?;
    let archive = server.http.octets("/v1/snapshot")?;
    let mut flipped = archive.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    for (bad, what) in [
        // Where the damage shows first depends on the reader.
        (&archive[..archive.len() / 2], "unexpected EOF"),
        (&b"no archive at all"[..], "failed to decompress snapshot: gzip: invalid header"),
        (&flipped[..], "failed"),
    ] {
        let error = server.http.put_octets("/v1/snapshot", bad).err().ok_or("a bad archive was taken")?.to_string();
        wait::check(error.contains("status 500") && error.contains(what), || error.clone())?;
        is_filled(&server)?;
    }
    Ok(())
}
