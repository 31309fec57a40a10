use proptest::prelude::*;

use super::*;
use crate::model::*;

/// Applies commands one by one, at 1, 2, 3… and at a clock of one second each.
#[derive(Default)]
struct Bench {
    store: Store,
    index: u64,
}

impl Bench {
    fn run(&mut self, command: Command) -> Outcome {
        self.index += 1;
        Outcome::decode(&self.store.apply(self.index, self.index * 1000, &command.encode().unwrap())).unwrap()
    }

    fn ok(&mut self, command: Command) -> Outcome {
        let outcome = self.run(command);
        assert_eq!(outcome.error, "");
        outcome
    }

    fn kv(&mut self, op: &str, entry: DirEntry) -> Outcome {
        self.run(Command::Kvs(KvsRequest { op: op.into(), dir_ent: entry, ..<_>::default() }))
    }

    fn session(&mut self, id: &str, node: &str) {
        let session = Session {
            id: id.into(),
            node: node.into(),
            lock_delay: Nanos(10_000_000_000),
            node_checks: Some(vec![SERF_HEALTH.into()]),
            ..<_>::default()
        };
        self.ok(Command::Session(SessionRequest { op: "create".into(), session, ..<_>::default() }));
    }
}

fn node(name: &str, id: &str) -> RegisterRequest {
    let serf = HealthCheck { check_id: SERF_HEALTH.into(), status: PASSING.into(), ..<_>::default() };
    RegisterRequest {
        node: name.into(),
        id: id.into(),
        address: "10.0.0.1".into(),
        check: Some(serf),
        ..<_>::default()
    }
}

fn service(node_name: &str, name: &str) -> RegisterRequest {
    let service = NodeService { id: name.into(), service: name.into(), port: 80, ..<_>::default() };
    let checks = vec![HealthCheck {
        check_id: format!("service:{name}"),
        service_id: name.into(),
        status: PASSING.into(),
        ..<_>::default()
    }];
    RegisterRequest { service: Some(service), checks: Some(checks), skip_node_update: true, ..node(node_name, "") }
}

fn register(request: RegisterRequest) -> Command {
    Command::Register(Box::new(request))
}

fn entry(key: &str, value: &str) -> DirEntry {
    DirEntry { key: key.into(), value: Some(value.into()), ..<_>::default() }
}

const S1: &str = "aaaaaaaa-0000-4000-8000-000000000001";
const S2: &str = "aaaaaaaa-0000-4000-8000-000000000002";

#[test]
fn registering_again_moves_nothing() {
    let mut bench = Bench::default();
    bench.ok(register(node("a", "id-a")));
    bench.ok(register(service("A", "web")));
    let before = bench.store.state();
    bench.ok(register(node("a", "id-a")));
    bench.ok(register(service("a", "web")));
    let after = bench.store.state();
    assert_eq!(before.indexes, after.indexes);
    assert_eq!(before.instances("WEB").0, after.instances("web").0);
    assert_eq!(after.node("A").unwrap().checks.len(), 2);
    let check = &after.node("a").unwrap().checks["service:web"];
    assert_eq!((check.service_name.as_str(), check.node.as_str()), ("web", "a"));
}

#[test]
fn a_service_has_its_own_index() {
    let mut bench = Bench::default();
    bench.ok(register(node("a", "")));
    bench.ok(register(service("a", "web")));
    let web = bench.store.state().instances("web").0;
    bench.ok(register(node("b", "")));
    bench.ok(register(service("b", "db")));
    assert_eq!(bench.store.state().instances("web").0, web, "another service does not move it");
    let mut failing = node("a", "");
    failing.check.as_mut().unwrap().status = CRITICAL.into();
    bench.ok(register(failing));
    assert!(bench.store.state().instances("web").0 > web, "a check of its node does");
    let gone = DeregisterRequest { node: "a".into(), service_id: "web".into(), ..<_>::default() };
    bench.ok(Command::Deregister(gone));
    let state = bench.store.state();
    assert_eq!((state.instances("web").0, state.instances("web").1.count()), (bench.index, 0));
    assert_eq!(state.node("a").unwrap().checks.len(), 1, "its check went with it");
}

#[test]
fn a_refused_registration_leaves_no_trace() {
    let mut bench = Bench::default();
    let mut request = node("q9", "");
    request.check = Some(HealthCheck { check_id: "c".into(), service_id: "nosuch".into(), ..<_>::default() });
    let outcome = bench.run(register(request));
    assert_eq!(outcome.error, "failed inserting check: Missing service registration on node \"q9\"");
    assert!(bench.store.state().node("q9").is_none());
    let damaged = Outcome::decode(&bench.store.apply(9, 9, &[1, 1, 0x91])).unwrap();
    assert!(damaged.error.contains("damaged"), "{}", damaged.error);
    let later = Outcome::decode(&bench.store.apply(9, 9, &[7, 1])).unwrap();
    assert!(later.error.contains("upgrade this server"), "{}", later.error);
}

#[test]
fn a_live_node_keeps_its_name_and_an_id_renames() {
    let mut bench = Bench::default();
    bench.ok(register(node("a", "id-a")));
    bench.ok(register(service("a", "web")));
    let outcome = bench.run(register(node("A", "id-x")));
    assert_eq!(
        outcome.error,
        "failed inserting node: Error while renaming Node ID: \"id-x\" (10.0.0.1): \
         Node name A is reserved by node id-a with name a (10.0.0.1)"
    );
    bench.ok(register(node("b", "ID-A")));
    let state = bench.store.state();
    assert!(state.node("a").is_none() && state.instances("web").1.count() == 0);
    assert_eq!(state.node("b").unwrap().node.create_index, 1, "the same node under a new name");
    let mut dead = node("b", "ID-A");
    dead.check.as_mut().unwrap().status = CRITICAL.into();
    bench.ok(register(dead));
    bench.ok(register(node("b", "id-y")));
    assert!(bench.store.state().node_by_name_or_id("id-y").is_some());
    assert!(bench.store.state().node_by_name_or_id("id-a").is_none());
}

#[test]
fn keys_follow_consul() {
    let mut bench = Bench::default();
    assert!(!bench.kv("set", entry("a/b", "1")).done);
    let first = bench.store.state().kv("a/b").0;
    bench.kv("set", entry("a/b", "1"));
    assert_eq!(bench.store.state().kv("a/b").0, first, "equal value moves nothing");
    assert!(!bench.kv("cas", entry("a/b", "2")).done, "0 means: must not exist");
    assert!(bench.kv("cas", DirEntry { modify_index: first, ..entry("a/b", "2") }).done);
    assert!(bench.kv("cas", entry("a/c", "1")).done);
    bench.kv("set", entry("b", "1"));
    let (index, tree) = bench.store.state().kv_tree("a/").map_tree();
    assert_eq!((index, tree), (5, vec!["a/b".to_owned(), "a/c".to_owned()]), "b does not move a/");
    assert!(!bench.kv("delete-cas", DirEntry { modify_index: 1, ..entry("a/c", "") }).done);
    assert!(bench.kv("delete-cas", entry("nope", "")).done);
    bench.kv("delete-tree", entry("a/", ""));
    assert_eq!(bench.store.state().kv_tree("a/").map_tree(), (bench.index, vec![]));
    let outcome = bench.kv("bogus", entry("a", ""));
    assert_eq!(outcome.error, "Invalid KVS operation 'bogus'");
}

trait MapTree {
    fn map_tree(self) -> (u64, Vec<String>);
}

impl MapTree for (u64, Vec<&DirEntry>) {
    fn map_tree(self) -> (u64, Vec<String>) {
        (self.0, self.1.into_iter().map(|entry| entry.key.clone()).collect())
    }
}

#[test]
fn locks_belong_to_sessions_and_end_with_their_node() {
    let mut bench = Bench::default();
    bench.ok(register(node("a", "")));
    bench.session(S1, "a");
    bench.session(S2, "a");
    let with = |session: &str| DirEntry { session: session.into(), ..entry("lock", "x") };
    assert!(bench.kv("lock", with(S1)).done && bench.kv("lock", with(S1)).done);
    assert!(!bench.kv("lock", with(S2)).done && !bench.kv("unlock", with(S2)).done);
    let state = bench.store.state();
    let held = state.kv("lock").1.unwrap();
    assert_eq!((held.lock_index, held.session.as_str()), (1, S1));
    assert_eq!(bench.kv("lock", with("x")).error, "failed session lookup: index error: UUID must be 36 characters");
    let unknown = "aaaaaaaa-0000-4000-8000-00000000000f";
    assert_eq!(bench.kv("lock", with(unknown)).error, format!("invalid session {unknown:?}"));
    let mut failing = node("a", "");
    failing.check.as_mut().unwrap().status = CRITICAL.into();
    bench.ok(register(failing));
    let state = bench.store.state();
    assert_eq!(state.sessions().count(), 0, "both sessions depend on serfHealth");
    assert_eq!(state.kv("lock").1.unwrap().session, "");
    bench.ok(register(node("a", "")));
    bench.session(S2, "a");
    assert!(!bench.kv("lock", with(S2)).done, "within the lock delay of 10 s");
    bench.index += 10;
    assert!(bench.kv("lock", with(S2)).done);
}

#[test]
fn transactions_are_all_or_nothing() {
    let mut bench = Bench::default();
    let op = |verb: &str, entry: DirEntry| TxnOp {
        kv: Some(TxnKvOp { verb: verb.into(), dir_ent: entry }),
        ..<_>::default()
    };
    let good = bench.ok(Command::Txn(vec![op("set", entry("t", "hi")), op("get", entry("t", ""))])).txn.unwrap();
    let results = good.results.unwrap();
    assert_eq!(results[0].kv.as_ref().unwrap().value, None);
    assert_eq!(results[1].kv.as_ref().unwrap().value, Some("hi".into()));
    let check = DirEntry { modify_index: 5, ..entry("nokey", "") };
    let bad = bench.ok(Command::Txn(vec![op("check-index", check), op("set", entry("never", "1"))])).txn.unwrap();
    let errors = bad.errors.unwrap();
    assert_eq!(
        (errors[0].op_index, errors[0].what.as_str()),
        (0, "failed to check index, key \"nokey\" doesn't exist")
    );
    assert!(bench.store.state().kv("never").1.is_none());
}

#[test]
fn the_last_changes_of_a_check_are_kept() {
    let mut bench = Bench::default();
    bench.ok(register(node("a", "")));
    bench.ok(register(service("a", "web")));
    let set = |bench: &mut Bench, status: &str, output: &str| {
        let mut request = service("a", "web");
        for check in request.checks.iter_mut().flatten() {
            (check.status, check.output) = (status.into(), output.into());
        }
        bench.ok(register(request));
    };
    let kept = |bench: &Bench| bench.store.state().node("a").unwrap().transitions("service:web").to_vec();
    assert_eq!(kept(&bench), [], "its first registration is no change");
    set(&mut bench, PASSING, "another output is none either");
    assert_eq!(kept(&bench), []);
    let long = "ü".repeat(1000);
    set(&mut bench, CRITICAL, &long);
    let first = Transition {
        unix_millis: bench.index * 1000,
        from: PASSING.into(),
        to: CRITICAL.into(),
        output: "ü".repeat(256),
    };
    assert_eq!(kept(&bench), [first]);
    for round in 0..20 {
        set(&mut bench, if round % 2 == 0 { PASSING } else { CRITICAL }, &round.to_string());
    }
    let outputs: Vec<String> = kept(&bench).into_iter().map(|change| change.output).collect();
    assert_eq!(outputs, (4..20).map(|round| round.to_string()).collect::<Vec<_>>(), "the last 16");
    bench.ok(Command::Deregister(DeregisterRequest {
        node: "a".into(),
        check_id: "service:web".into(),
        ..<_>::default()
    }));
    assert_eq!(kept(&bench), []);
}

#[test]
fn a_snapshot_gives_the_same_state() {
    let mut bench = Bench::default();
    bench.ok(register(node("a", "id-a")));
    bench.ok(register(service("a", "web")));
    let mut changed = service("a", "web");
    changed.checks.iter_mut().flatten().for_each(|check| check.status = CRITICAL.into());
    bench.ok(register(changed));
    bench.session(S1, "a");
    bench.kv("lock", DirEntry { session: S1.into(), ..entry("k", "v") });
    bench.kv("set", entry("gone", "v"));
    bench.kv("delete", entry("gone", ""));
    let coord = Coordinate { vec: Some(vec![0.5; 8]), error: 1.5, ..<_>::default() };
    let update = CoordinateRequest { node: "a".into(), coord: Some(coord), ..<_>::default() };
    bench.ok(Command::Coordinates(vec![update]));
    let mut snapshot = Vec::new();
    bench.store.state().write_snapshot(&mut snapshot).unwrap();
    let other = Store::default();
    other.restore(&mut &snapshot[..]).unwrap();
    let mut again = Vec::new();
    other.state().write_snapshot(&mut again).unwrap();
    assert_eq!(snapshot, again);
    // What is derived is there too: the same end of the session has the same effect on both.
    let end =
        SessionRequest { op: "destroy".into(), session: Session { id: S1.into(), ..<_>::default() }, ..<_>::default() };
    let end = Command::Session(end).encode().unwrap();
    for store in [&bench.store, &other] {
        store.apply(50, 50_000, &end);
        assert_eq!(store.state().kv("k").1.unwrap().session, "");
        assert_eq!(store.state().instances("web").1.count(), 1);
    }
    for at in 0..snapshot.len() {
        let mut damaged = snapshot.clone();
        damaged[at] ^= 0x10;
        assert!(Store::default().restore(&mut &damaged[..]).is_err(), "octet {at}");
        assert!(Store::default().restore(&mut &snapshot[..at]).is_err(), "cut at {at}");
    }
}

#[tokio::test]
async fn a_write_wakes_only_whom_it_concerns() {
    let mut bench = Bench::default();
    bench.ok(register(node("a", "")));
    let store = std::mem::take(&mut bench.store);
    let key = |key: &str| Interest::Topic(Topic::Key(key.into()));
    let mut concerned = [
        store.watch(vec![key("a/b")]),
        store.watch(vec![Interest::Prefix("a/".into())]),
        store.watch(vec![Interest::Prefix("".into())]),
    ];
    let mut others =
        [store.watch(vec![key("a/c")]), store.watch(vec![Interest::Prefix("b".into()), Interest::Topic(Topic::Nodes)])];
    let set = Command::Kvs(KvsRequest { op: "set".into(), dir_ent: entry("a/b", "1"), ..<_>::default() });
    store.apply(9, 9, &set.encode().unwrap());
    for watch in &mut concerned {
        watch.changed().await;
    }
    for watch in &mut others {
        let now = std::future::ready(());
        tokio::select! { biased; () = watch.changed() => panic!("woken without need"), () = now => {} }
    }
    drop((concerned, others));
    assert_eq!(store.watches.len(), 0, "nothing is left of watches that are gone");
}

proptest! {
    #[test]
    fn no_log_entry_panics(octets in proptest::collection::vec(any::<u8>(), 0..120), kind in 0u8..8) {
        let store = Store::default();
        let mut command = vec![1, kind];
        command.extend(octets);
        store.apply(1, 1, &command);
        let _ = Store::default().restore(&mut &command[..]);
    }
}
