use std::collections::BTreeSet;

use proptest::prelude::*;
use serde_json::json;

use super::{
    sync::{Call, Identity, Sync, scale},
    *,
};
use crate::{
    agent::CommandError,
    checks::Health,
    rand::Rng,
    rpc::fake::Server,
    wire::{
        msgpack::Writer,
        rpc::{Reply, request},
    },
};

struct House {
    services: Vec<ServiceSlot>,
    checks: Vec<CheckSlot>,
    text: Vec<u8>,
}

impl House {
    fn new(services: usize, checks: usize, text: usize) -> Self {
        House {
            services: vec![ServiceSlot::EMPTY; services],
            checks: vec![CheckSlot::EMPTY; checks],
            text: vec![0; text],
        }
    }

    fn local(&mut self) -> Local<'_> {
        let House { services, checks, text } = self;
        Local::new(LocalRegions { services, checks, text }, 1000, Duration::from_secs(300))
    }
}

const META: &[(&str, &str)] = &[("rack", "7"), ("empty", "")];

fn us() -> Identity<'static> {
    Identity {
        node: request::Node {
            id: "6f1e2d3c-0000-4000-8000-000000000001",
            name: "n1",
            address: "127.0.0.7".parse().unwrap(),
            tagged_addresses: &[("lan", "127.0.0.7")],
            meta: META,
        },
        datacenter: "dc1",
        token: "",
    }
}

fn web() -> ServiceDef<'static> {
    ServiceDef {
        id: "web-1",
        name: "web",
        tags: &["v1", "edge"],
        address: "10.0.0.1",
        port: 8080,
        meta: &[("k", "v")],
        tagged_addresses: &[("wan", "203.0.113.1", 80)],
        checks: &[TTL],
        ..ServiceDef::default()
    }
}

const TTL: CheckDef<'static> = CheckDef {
    id: "",
    name: "",
    notes: "",
    service_id: "",
    token: "",
    status: Health::Critical,
    kind: CheckKind::Ttl { ttl: Duration::from_secs(30) },
    deregister_critical_after: Duration::ZERO,
    success_before_passing: 0,
    failures_before_critical: 0,
};

fn at(secs: u64) -> Instant {
    Instant::ZERO + Duration::from_secs(secs)
}

/// Makes calls until the sync rests.
fn run(now: Instant, sync: &mut Sync, local: &mut Local<'_>, rng: &mut Rng, server: &mut Server) {
    for _ in 0..100 {
        let Some(call) = sync.next(now, rng, 3, local) else { return };
        let mut out = [0; 2048];
        let mut w = Writer::new(&mut out);
        request::header(&mut w, 1, sync.method(call));
        sync.emit(&mut w, call, us(), local);
        let len = w.finish().unwrap();
        let (taken, octets) = server.answer(&out[..len]).unwrap();
        assert_eq!(taken, len);
        let mut reply = Reply::new(sync.method(call));
        reply.feed(&octets, &mut |item| sync.on_item(&item, us(), local)).unwrap();
        assert!(reply.is_done());
        sync.on_reply(now, rng, 3, call, reply.error(), local);
    }
    panic!("the sync does not come to rest");
}

#[test]
fn a_registration_reads_as_it_was_given() {
    let mut house = House::new(4, 4, 4096);
    let mut local = house.local();
    let mut rng = Rng::from_seed(&[1; 32]);
    local.register(at(0), &mut rng, &web()).unwrap();
    let service = local.service("web-1").unwrap();
    assert_eq!((service.id(), service.name(), service.address(), service.port()), ("web-1", "web", "10.0.0.1", 8080));
    assert!(service.tags().eq(["v1", "edge"]));
    assert!(service.meta().eq([("k", "v")]));
    assert!(service.tagged_addresses().eq([("wan", "203.0.113.1", 80)]));
    assert_eq!((service.weights(), service.enable_tag_override()), ((1, 1), false));
    let check = local.check("service:web-1").unwrap();
    assert_eq!((check.name(), check.kind(), check.service_id()), ("Service 'web' check", "ttl", "web-1"));
    assert_eq!((check.service_name(), check.health(), check.output()), ("web", Health::Critical, ""));
    let two = ServiceDef { id: "", checks: &[TTL, TTL], ..web() };
    local.register(at(0), &mut rng, &two).unwrap();
    assert!(local.check("service:web:1").is_some() && local.check("service:web:2").is_some());
    local.deregister("web").unwrap();
    assert!(local.service("web").is_none() && local.check("service:web:1").is_none());
    assert_eq!(local.deregister("web"), Err(CommandError::Unknown));
}

#[test]
fn what_cannot_work_is_refused_and_changes_nothing() {
    let mut house = House::new(2, 2, 900);
    let mut local = house.local();
    let mut rng = Rng::from_seed(&[1; 32]);
    let long = "x".repeat(MAX_ID + 1);
    let invalid = [
        ServiceDef { name: "", ..web() },
        ServiceDef { id: "consul", ..web() },
        ServiceDef { address: "0.0.0.0", ..web() },
        ServiceDef { id: &long, ..web() },
        ServiceDef { checks: &[CheckDef { id: "serfHealth", ..TTL }], ..web() },
        ServiceDef { checks: &[CheckDef { kind: CheckKind::Ttl { ttl: Duration::ZERO }, ..TTL }], ..web() },
    ];
    for def in invalid {
        assert!(matches!(local.register(at(0), &mut rng, &def), Err(CommandError::Invalid(_))), "{def:?}");
    }
    let body = "x".repeat(800);
    let full = [
        (ServiceDef { checks: &[TTL, TTL, TTL], ..web() }, "checks"),
        (ServiceDef { meta: &[("a", &body), ("b", &body)], ..web() }, "a call's buffer"),
        (ServiceDef { meta: &[("a", &body)], checks: &[], ..web() }, "text"),
    ];
    for (def, region) in full {
        assert_eq!(local.register(at(0), &mut rng, &def), Err(CommandError::Full(region)));
    }
    let check = CheckDef { id: "c", service_id: "nosuch", ..TTL };
    assert_eq!(local.register_check(at(0), &mut rng, &check), Err(CommandError::Unknown));
    assert_eq!(local.services().count() + local.checks().count(), 0);
    let url = CheckKind::Http {
        url: "ftp://x/",
        method: "",
        headers: &[],
        body: "",
        tls_skip_verify: false,
        interval: Duration::from_secs(1),
        timeout: Duration::ZERO,
    };
    assert!(local.register_check(at(0), &mut rng, &CheckDef { id: "c", kind: url, ..TTL }).is_err());
}

#[test]
fn a_full_sync_brings_the_catalog_to_our_state_and_then_rests() {
    let mut house = House::new(8, 8, 8192);
    let mut local = house.local();
    let (mut rng, mut server, mut sync) = (Rng::from_seed(&[1; 32]), Server::default(), Sync::new(at(0)));
    server.services.insert("consul".into(), json!({"ID": "consul", "Service": "consul"}));
    server.checks.insert("serfHealth".into(), json!({"CheckID": "serfHealth", "Status": "passing"}));
    server.services.insert("old".into(), json!({"ID": "old", "Service": "old"}));
    server.checks.insert("stale".into(), json!({"CheckID": "stale", "Name": "stale"}));
    local.register(at(0), &mut rng, &web()).unwrap();
    local.register_check(at(0), &mut rng, &CheckDef { id: "disk", ..TTL }).unwrap();
    run(at(0), &mut sync, &mut local, &mut rng, &mut server);
    assert_eq!(server.services.keys().map(String::as_str).collect::<Vec<_>>(), ["consul", "web-1"]);
    assert_eq!(server.checks.keys().map(String::as_str).collect::<Vec<_>>(), ["disk", "serfHealth", "service:web-1"]);
    assert_eq!(server.node["Meta"], json!({"rack": "7", "empty": ""}));
    assert!(local.service("web-1").unwrap().in_sync() && local.check("disk").unwrap().in_sync());
    let methods = server.take_methods();
    assert_eq!(methods[..3], ["NodeServiceList", "NodeChecks", "Register"]);
    // Service and its check in one, the node's check, two removals.
    assert_eq!(methods.len(), 7);

    // The next full sync comes after 1 to 2 minutes and finds nothing to write.
    let due = sync.due(&local, at(1));
    assert!(due >= at(60) && due <= at(120), "{due:?}");
    run(due, &mut sync, &mut local, &mut rng, &mut server);
    assert_eq!(server.take_methods(), ["NodeServiceList", "NodeChecks"]);

    // Somebody changes our records: they are put right.
    server.services.get_mut("web-1").unwrap()["Port"] = 1.into();
    server.checks.get_mut("disk").unwrap()["Status"] = "passing".into();
    let due = sync.due(&local, due);
    run(due, &mut sync, &mut local, &mut rng, &mut server);
    assert_eq!(server.take_methods(), ["NodeServiceList", "NodeChecks", "Register", "Register"]);
    assert_eq!(server.services["web-1"]["Port"], 8080);
    assert_eq!(server.checks["disk"]["Status"], "critical");
}

#[test]
fn a_change_is_synced_at_once_but_output_alone_waits() {
    let mut house = House::new(8, 8, 8192);
    let mut local = house.local();
    let (mut rng, mut server, mut sync) = (Rng::from_seed(&[1; 32]), Server::default(), Sync::new(at(0)));
    local.register(at(0), &mut rng, &web()).unwrap();
    run(at(0), &mut sync, &mut local, &mut rng, &mut server);
    server.take_methods();
    let index = local.check_index("service:web-1").unwrap();
    let report = |local: &mut Local<'_>, rng: &mut Rng, now, health, output: &str| {
        let changed = local.write_output(index, &[output]);
        local.set_health(now, rng, index, health, changed);
    };
    report(&mut local, &mut rng, at(1), Health::Passing, "fine");
    run(at(1), &mut sync, &mut local, &mut rng, &mut server);
    assert_eq!(server.take_methods(), ["Register"]);
    assert_eq!(server.checks["service:web-1"]["Output"], "fine");
    report(&mut local, &mut rng, at(2), Health::Passing, "fine");
    report(&mut local, &mut rng, at(2), Health::Passing, "finer");
    run(at(2), &mut sync, &mut local, &mut rng, &mut server);
    assert!(server.calls.is_empty());
    // A full sync meanwhile does not see a difference.
    let full = sync.due(&local, at(2));
    run(full, &mut sync, &mut local, &mut rng, &mut server);
    assert_eq!(server.take_methods(), ["NodeServiceList", "NodeChecks"]);
    // 2.5 to 7.5 minutes later it is time.
    for slot in 0..8 {
        local.unschedule(slot);
    }
    let due = local.next_due().unwrap();
    assert!(due >= at(152) && due <= at(452), "{due:?}");
    assert_eq!(local.due_check(due), Some(index));
    assert_eq!(local.due_work(index, due), Some(super::state::Due::Synced));
    run(due, &mut sync, &mut local, &mut rng, &mut server);
    assert_eq!(server.checks["service:web-1"]["Output"], "finer");
}

#[test]
fn errors_are_obeyed() {
    let mut house = House::new(8, 8, 8192);
    let mut local = house.local();
    let (mut rng, mut server, mut sync) = (Rng::from_seed(&[1; 32]), Server::default(), Sync::new(at(0)));
    local.register(at(0), &mut rng, &web()).unwrap();
    // An old server: the other method is tried at once.
    server.errors.insert("NodeServiceList", "rpc: can't find method Catalog.NodeServiceList".into());
    // Denied: no more tries before the next full sync.
    server.errors.insert("Register", "rpc error making call: Permission denied".into());
    run(at(0), &mut sync, &mut local, &mut rng, &mut server);
    assert_eq!(server.take_methods(), ["NodeServiceList", "NodeServices", "NodeChecks", "Register", "Register"]);
    assert!(sync.due(&local, at(0)) >= at(60));
    // Any other refusal holds up nobody else, and is tried again after 15 to 30 s.
    server.errors.insert("Register", "failed inserting check".into());
    local.register_check(at(1), &mut rng, &CheckDef { id: "disk", ..TTL }).unwrap();
    local.deregister("web-1").unwrap();
    run(at(1), &mut sync, &mut local, &mut rng, &mut server);
    assert_eq!(server.take_methods(), ["Deregister", "Register"]);
    let due = sync.due(&local, at(1));
    assert!(due >= at(16) && due <= at(31), "{due:?}");
    server.errors.clear();
    run(due, &mut sync, &mut local, &mut rng, &mut server);
    assert_eq!(server.take_methods(), ["Register"]);
    assert!(server.checks.contains_key("disk"));
    // No leader: everything waits.
    server.errors.insert("Register", "rpc error making call: No cluster leader".into());
    local.register(due, &mut rng, &web()).unwrap();
    run(due, &mut sync, &mut local, &mut rng, &mut server);
    assert!(sync.due(&local, due) >= due + Duration::from_secs(15));
}

#[test]
fn entries_registered_again_while_being_removed_stay() {
    let mut house = House::new(1, 2, 2048);
    let mut local = house.local();
    let (mut rng, mut server, mut sync) = (Rng::from_seed(&[1; 32]), Server::default(), Sync::new(at(0)));
    local.register(at(0), &mut rng, &web()).unwrap();
    run(at(0), &mut sync, &mut local, &mut rng, &mut server);
    local.deregister("web-1").unwrap();
    let call = sync.next(at(1), &mut rng, 3, &mut local).unwrap();
    assert!(matches!(call, Call::DropService(_)));
    local.register(at(1), &mut rng, &web()).unwrap();
    sync.on_reply(at(1), &mut rng, 3, call, "", &mut local);
    assert!(local.service("web-1").is_some_and(|service| !service.in_sync()));
    // A new service may take the only slot from one that waits for its removal; that one is found again.
    local.deregister("web-1").unwrap();
    local.register(at(2), &mut rng, &ServiceDef { id: "api", ..web() }).unwrap();
    run(at(2), &mut sync, &mut local, &mut rng, &mut server);
    assert!(server.services.contains_key("api"));
    sync.on_command(at(3));
    for _ in 0..3 {
        run(at(3), &mut sync, &mut local, &mut rng, &mut server);
    }
    assert!(!server.services.contains_key("web-1"));
    assert!(sync.due(&local, at(3)) > at(3), "a stray without a slot is no reason to spin");
}

#[test]
fn scale_grows_with_the_logarithm() {
    // rpc spec §7.
    for (members, want) in [(1, 1), (128, 1), (256, 2), (512, 3), (1024, 4), (4096, 6), (8192, 7)] {
        assert_eq!(scale(members), want, "{members}");
    }
}

#[derive(Clone, Debug)]
enum Step {
    Register(u8, u8),
    Deregister(u8),
    Check(u8, u8),
    DropCheck(u8),
    Report(u8, u8, u8),
    Sync,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0u8..6, 0u8..4).prop_map(|(id, checks)| Step::Register(id, checks)),
        (0u8..6).prop_map(Step::Deregister),
        (0u8..8, 0u8..7).prop_map(|(id, service)| Step::Check(id, service)),
        (0u8..8).prop_map(Step::DropCheck),
        (0u8..8, 0u8..3, 0u8..90).prop_map(|(id, health, len)| Step::Report(id, health, len)),
        Just(Step::Sync),
    ]
}

proptest! {
    /// Whatever is done in whatever order within little memory: nothing panics, and a full sync makes the catalog equal to
    /// our state.
    #[test]
    fn the_catalog_follows(steps in proptest::collection::vec(step(), 1..60)) {
        let mut house = House::new(4, 6, 2500);
        let mut local = house.local();
        let (mut rng, mut server, mut sync) = (Rng::from_seed(&[1; 32]), Server::default(), Sync::new(at(0)));
        let mut now = at(0);
        for step in steps {
            now += Duration::from_secs(1);
            match step {
                Step::Register(id, checks) => {
                    let (id, checks) = (format!("s{id}"), vec![TTL; checks.into()]);
                    let _ = local.register(now, &mut rng, &ServiceDef { id: &id, checks: &checks, ..web() });
                }
                Step::Deregister(id) => drop(local.deregister(&format!("s{id}"))),
                Step::Check(id, service) => {
                    let service = if service == 6 { String::new() } else { format!("s{service}") };
                    let def = CheckDef { id: &format!("c{id}"), service_id: &service, ..TTL };
                    let _ = local.register_check(now, &mut rng, &def);
                }
                Step::DropCheck(id) => drop(local.deregister_check(&format!("c{id}"))),
                Step::Report(id, health, len) => {
                    if let Some(index) = local.check_index(&format!("c{id}")) {
                        let health = [Health::Passing, Health::Warning, Health::Critical][usize::from(health)];
                        let text = "é".repeat(len.into());
                        let changed = local.write_output(index, &[&text]);
                        let whole = text.starts_with(local.check_at(index).unwrap().output());
                        prop_assert!(whole);
                        local.set_health(now, &mut rng, index, health, changed);
                    }
                }
                Step::Sync => run(now, &mut sync, &mut local, &mut rng, &mut server),
            }
        }
        // Once for every entry that found no slot, at worst.
        for _ in 0..30 {
            sync.on_command(now);
            run(now, &mut sync, &mut local, &mut rng, &mut server);
        }
        let ours: BTreeSet<String> = local.services().map(|service| service.id().to_string()).collect();
        prop_assert_eq!(ours, server.services.keys().cloned().collect::<BTreeSet<_>>());
        let ours: BTreeSet<(String, String)> =
            local.checks().map(|check| (check.id().to_string(), check.health().as_str().to_string())).collect();
        let theirs: BTreeSet<(String, String)> =
            server.checks.iter().map(|(id, check)| (id.clone(), check["Status"].as_str().unwrap().into())).collect();
        prop_assert_eq!(ours, theirs);
    }
}
