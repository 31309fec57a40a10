//! Against archives of the real Consul, see `vectors/snapshot/README.md`.

use std::{fs, path::Path};

use proptest::prelude::*;

use super::*;
use crate::{
    archive,
    model::{KvsRequest, RegisterRequest},
    state::{
        Store,
        command::{Command, Outcome},
        restore::RestorePiece,
    },
};

fn vector(name: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors/snapshot").join(name)).unwrap()
}

fn state_of(archive: &[u8]) -> (State, NotHeld) {
    let load = |from: &mut dyn Read| State::read_consul(from, 1).map_err(|error| error.to_string());
    archive::read(archive, load).unwrap().1
}

fn octets(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    state.write_consul(20, &mut out).unwrap();
    out
}

#[test]
fn an_archive_of_consuls_is_read() {
    let (state, not_held) = state_of(&vector("catalog.tgz"));
    assert_eq!(not_held, NotHeld::from([("configuration entry", 1), ("federation state", 1)]));
    let ext = state.node("ext").unwrap();
    assert_eq!((ext.node.address.as_str(), ext.node.create_index), ("10.0.0.9", 15));
    let web = &ext.services["web1"];
    assert_eq!((web.port, web.modify_index, web.weights.unwrap().passing), (80, 15, 3));
    assert_eq!(ext.checks["web-check"].output, "fine");
    assert_eq!(ext.coordinates().next().unwrap().coord.unwrap().error, 1.5);
    assert_eq!(state.kv("a/b").1.unwrap().flags, 7);
    let locked = state.kv("locked").1.unwrap();
    assert_eq!(state.session(&locked.session).unwrap().ttl, "600s");
    assert_eq!(state.kv_tree("gone").0, 11);
    assert_eq!(state.query_for("q1").unwrap().service.failover.nearest_n, 2);
    assert_eq!(state.query_for("anything").unwrap().template.kind, "name_prefix_match");
    assert_eq!(state.autopilot().modify_index, 19);
    assert_eq!((state.nodes_index(), state.sessions_index(), state.instances("web").0), (15, 14, 15));
    // The name in the catalog belongs to a session that ends with its node.
    assert_eq!(state.node("node-1").unwrap().sessions.len(), 2);
}

#[test]
fn what_is_not_held_is_named() {
    let (state, not_held) = state_of(&vector("acl-and-mesh.tgz"));
    assert_eq!(state.kv("k").1.unwrap().value, Some("v".into()));
    for name in ["ACL token", "ACL policy", "ACL role", "intention", "Connect CA root", "Connect CA configuration"] {
        assert!(not_held.contains_key(name), "{name}: {not_held:?}");
    }
}

#[test]
fn what_we_write_is_what_we_read() {
    let (state, _) = state_of(&vector("catalog.tgz"));
    let ours = octets(&state);
    let (again, not_held) = State::read_consul(&mut &ours[..], 1).unwrap();
    assert_eq!((octets(&again), not_held.len()), (ours, 0));
}

#[test]
fn every_cut_between_records_or_within_is_survived() {
    let ours = octets(&state_of(&vector("catalog.tgz")).0);
    let mut whole = 0;
    for end in 0..ours.len() {
        whole += usize::from(State::read_consul(&mut &ours[..end], 1).is_ok());
    }
    assert!(whole < 60, "only cuts between records look whole, and the archive's sums notice those: {whole}");
}

fn restore(store: &Store, index: u64, piece: RestorePiece) -> Outcome {
    Outcome::decode(&store.apply(index, 1, &Command::Restore(piece).encode().unwrap())).unwrap()
}

fn pieces(state: &State, count: usize) -> Vec<RestorePiece> {
    let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    state.write_snapshot(&mut out).unwrap();
    let octets = out.finish().unwrap();
    let chunks: Vec<_> = octets.chunks(octets.len().div_ceil(count)).collect();
    let last = chunks.len() - 1;
    let piece = |(number, octets): (usize, &&[u8])| RestorePiece {
        id: "r".into(),
        number: number as u64,
        last: number == last,
        octets: octets.to_vec().into(),
    };
    chunks.iter().enumerate().map(piece).collect()
}

fn set(store: &Store, index: u64, key: &str) {
    let dir_ent = DirEntry { key: key.into(), ..DirEntry::default() };
    let request = KvsRequest { op: "set".into(), dir_ent, ..KvsRequest::default() };
    store.apply(index, 1, &Command::Kvs(request).encode().unwrap());
}

#[test]
fn a_restore_happens_with_its_last_piece_and_indexes_go_on_from_there() {
    let store = Store::default();
    set(&store, 3, "mine");
    let pieces = pieces(&state_of(&vector("catalog.tgz")).0, 3);
    let (last, first) = pieces.split_last().unwrap();
    for (n, piece) in first.iter().enumerate() {
        assert_eq!(restore(&store, 4 + n as u64, piece.clone()).error, "");
    }
    assert!(store.state().kv("mine").1.is_some() && store.state().node("ext").is_none());
    // A snapshot of raft's in between keeps what has come so far.
    let mut image = Vec::new();
    store.state().write_snapshot(&mut image).unwrap();
    store.restore(&mut &image[..]).unwrap();
    assert!(restore(&store, 6, last.clone()).done);
    let state = store.state();
    assert!(state.kv("mine").1.is_none() && state.node("ext").is_some() && state.staged.is_none());
    // 20 is the archive's greatest index, and raft is only at 6.
    assert_eq!(state.restored_index(), 21);
    set(&store, 7, "new");
    assert_eq!(store.state().kv("new").1.unwrap().modify_index, 22);
    let mut image = Vec::new();
    store.state().write_snapshot(&mut image).unwrap();
    store.restore(&mut &image[..]).unwrap();
    set(&store, 8, "newer");
    assert_eq!(store.state().kv("newer").1.unwrap().modify_index, 23);
}

#[test]
fn a_restore_that_was_interrupted_or_is_damaged_changes_nothing() {
    let store = Store::default();
    set(&store, 1, "mine");
    let mut pieces = pieces(&state_of(&vector("catalog.tgz")).0, 3);
    restore(&store, 2, pieces[0].clone());
    let other = RestorePiece { id: "other".into(), ..pieces[0].clone() };
    restore(&store, 3, other);
    assert!(restore(&store, 4, pieces[1].clone()).error.contains("interrupted"));
    pieces[1].octets.0[20] ^= 0xff;
    for (n, piece) in pieces.iter().enumerate() {
        let outcome = restore(&store, 5 + n as u64, piece.clone());
        assert_eq!(outcome.error.is_empty(), !piece.last, "{}", outcome.error);
    }
    assert!(store.state().kv("mine").1.is_some() && store.state().node("ext").is_none());
    // And the next one begins anew.
    let request = RegisterRequest { node: "n".into(), address: "1.2.3.4".into(), ..RegisterRequest::default() };
    store.apply(9, 1, &Command::Register(request.into()).encode().unwrap());
    assert!(store.state().node("n").is_some());
}

proptest! {
    #[test]
    fn any_octets_are_survived(octets in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = State::read_consul(&mut &octets[..], 1);
        let with_header = [b"\x81\xa9LastIndex\x05", &octets[..]].concat();
        let _ = State::read_consul(&mut &with_header[..], 1);
    }
}
