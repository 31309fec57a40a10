//! Damage to files at rest, and messages that no honest server sends.

use std::sync::Arc;
use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use raft::eraftpb::{Entry, Message, MessageType};
use tokio::sync::oneshot;

use super::config::Config;
use super::faulty::{Fault, MemoryDisk};
use super::node::{Node, Outbox, StateMachine};
use super::servers::{Server, Servers, Suffrage};
use super::storage::StorageError;
use super::tests::Map;

fn server(number: u64) -> Server {
    Server {
        id: format!("00000000-0000-4000-8000-{number:012}"),
        name: format!("s{number}"),
        address: format!("127.0.0.1:{}", 1000 + number).parse().expect("an address"),
        suffrage: Suffrage::Voter,
    }
}

fn open(disk: &MemoryDisk) -> Result<Node<Map>, StorageError> {
    let mut config = Config::new(server(1), 1, 1);
    config.snapshot_threshold = 8;
    config.trailing_logs = 4;
    Node::open(config, Arc::new(disk.clone()), Map::default())
}

fn process<S: StateMachine>(node: &mut Node<S>) -> Result<(), StorageError> {
    let mut out = Outbox::default();
    node.process(&mut out)?;
    if let Some(job) = out.job.take() {
        node.on_snapshot_written(job.run())?;
    }
    Ok(())
}

/// A server alone that has written `count` values, among them two snapshots.
fn written(count: u64) -> MemoryDisk {
    let disk = MemoryDisk::new(5);
    let mut node = open(&disk).expect("empty");
    node.log_mut().set_segment_octets(300);
    node.bootstrap(Servers::new([server(1)])).expect("healthy");
    process(&mut node).expect("healthy");
    for number in 0..count {
        let (reply, mut answer) = oneshot::channel();
        node.set_time(Duration::from_millis(number), 1_600_000_000_000 + number);
        node.propose(format!("k{number}=v{number}").as_bytes(), reply);
        let mut out = Outbox::default();
        node.process(&mut out).expect("healthy");
        out.answers.drain(..).for_each(super::node::Done::send);
        assert!(answer.try_recv().expect("answered").is_ok());
        if let Some(job) = out.job.take() {
            node.on_snapshot_written(job.run()).expect("healthy");
        }
    }
    drop(node);
    disk.kill();
    disk
}

fn values(disk: &MemoryDisk) -> Result<usize, StorageError> {
    let mut node = open(disk)?;
    process(&mut node)?;
    Ok(node.machine().values.len())
}

#[test]
fn every_flipped_bit_is_found_or_survived_and_never_loses_a_value() {
    let disk = written(21);
    assert_eq!(values(&disk.copy()).expect("undamaged"), 21);
    let names = disk.names();
    assert!(names.iter().filter(|name| name.starts_with("snapshot-")).count() == 2, "{names:?}");
    assert!(names.iter().filter(|name| name.starts_with("log-")).count() >= 2, "{names:?}");
    let newest = names.iter().filter(|name| name.starts_with("snapshot-")).max().expect("two");
    for name in &names {
        for bit in 0..disk.octets(name) * 8 {
            let damaged = disk.copy();
            damaged.flip(name, bit);
            match values(&damaged) {
                Ok(count) => {
                    assert!(name.starts_with("snapshot-"), "{name} bit {bit}: damage went unnoticed");
                    assert_eq!(count, 21, "{name} bit {bit}: values lost");
                }
                Err(StorageError::Corrupt { file, .. }) => {
                    assert!(&file == name || name == newest, "{name} bit {bit}: blames {file}")
                }
                Err(error @ (StorageError::Newer { .. } | StorageError::Foreign { .. })) => {
                    panic!("{name} bit {bit}: {error}")
                }
                Err(error) => panic!("{name} bit {bit}: {error}"),
            }
        }
    }
}

#[test]
fn after_a_power_cut_and_a_start_the_last_frame_is_known_to_be_whole() {
    let (mut cuts, mut noticed) = (0, 0);
    for seed in 1..40 {
        let disk = written(3);
        disk.set_random(seed);
        disk.crash();
        // The mark was not synced: it may be the one of before.
        drop(open(&disk).expect("a power cut is no damage"));
        disk.kill();
        let name = disk.names().into_iter().filter(|name| name.starts_with("log-")).max().expect("a log");
        disk.flip(&name, disk.octets(&name) * 8 - 1);
        cuts += 1;
        noticed += u32::from(matches!(values(&disk), Err(StorageError::Corrupt { .. })));
    }
    assert_eq!(noticed, cuts);
}

#[test]
fn a_missing_file_is_noticed() {
    let disk = written(21);
    for name in disk.names() {
        let damaged = disk.copy();
        super::storage::Disk::remove(&damaged, &name).expect("exists");
        match values(&damaged) {
            // The older snapshot and the mark are second safeguards.
            Ok(count) => assert_eq!(count, 21, "without {name}"),
            Err(error) => assert!(matches!(error, StorageError::Corrupt { .. }), "without {name}: {error}"),
        }
    }
}

#[test]
fn another_servers_directory_is_refused() {
    let disk = written(3);
    let config = Config::new(server(2), 1, 1);
    let error = Node::open(config, Arc::new(disk), Map::default()).err().expect("refused");
    assert!(matches!(error, StorageError::Foreign { .. }), "{error}");
}

#[test]
fn after_a_failed_sync_or_a_full_disk_nothing_is_acknowledged() {
    for fault in [Fault::SyncFails(0), Fault::Full(10)] {
        let disk = written(3);
        let mut node = open(&disk).expect("healthy");
        process(&mut node).expect("healthy");
        disk.set_fault(Some(fault));
        let (reply, mut answer) = oneshot::channel();
        node.propose(b"lost=1", reply);
        let error = process(&mut node).expect_err("the disk fails");
        assert!(matches!(error, StorageError::Io { .. }), "{fault:?}: {error}");
        disk.set_fault(None);
        assert!(process(&mut node).is_err() || answer.try_recv().is_err(), "{fault:?}: acknowledged after a failure");
        assert!(node.log_mut().write(&super::log::Batch::default()).is_err(), "{fault:?}: the log takes writes again");
    }
}

fn message() -> impl Strategy<Value = Message> {
    let kinds = prop_oneof![
        Just(MessageType::MsgAppend),
        Just(MessageType::MsgAppendResponse),
        Just(MessageType::MsgRequestVote),
        Just(MessageType::MsgRequestVoteResponse),
        Just(MessageType::MsgHeartbeat),
        Just(MessageType::MsgHeartbeatResponse),
        Just(MessageType::MsgRequestPreVote),
        Just(MessageType::MsgRequestPreVoteResponse),
        Just(MessageType::MsgTimeoutNow),
        Just(MessageType::MsgSnapshot),
    ];
    let number = || prop_oneof![0..12u64, Just(u64::MAX), any::<u64>()];
    let entries = vec((0..5u64, 0..12u64, 0..3u8), 0..4);
    let context = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 8..9), Just(b"CampaignTransfer".to_vec())];
    (kinds, 2..5u64, vec(number(), 7), entries, any::<bool>(), context, 0..6u64).prop_map(
        |(kind, from, numbers, entries, reject, context, term)| {
            let mut message = Message {
                from: server(from).raft_id(),
                to: server(1).raft_id(),
                term: if term == 5 { numbers[0] } else { term },
                log_term: numbers[1] % 6,
                index: numbers[2],
                commit: numbers[3],
                commit_term: numbers[4] % 6,
                reject_hint: numbers[5],
                request_snapshot: if numbers[6] > 20 { 0 } else { numbers[6] },
                reject,
                context: context.into(),
                ..Message::default()
            };
            message.set_msg_type(kind);
            let entries: Vec<Entry> = entries
                .into_iter()
                .map(|(term, index, _)| Entry {
                    term,
                    index,
                    data: super::codec::emit_command(1, b"a=1").into(),
                    ..Entry::default()
                })
                .collect();
            message.set_entries(entries.into());
            message
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    /// A confused server of the configuration must not bring another one down. (A hostile one could do worse than that.)
    #[test]
    fn no_sequence_of_messages_panics(messages in vec((message(), 0..3u8, any::<bool>()), 1..40)) {
        let disk = MemoryDisk::new(9);
        let mut node = open(&disk).expect("empty");
        node.bootstrap(Servers::new((1..=3).map(server))).expect("healthy");
        for _ in 0..12 {
            node.tick();
        }
        process(&mut node).expect("healthy");
        for (message, ticks, propose) in messages {
            node.step(message);
            process(&mut node).expect("healthy");
            for _ in 0..ticks * 8 {
                node.tick();
            }
            if propose {
                let (reply, _) = oneshot::channel();
                node.propose(b"b=2", reply);
            }
            process(&mut node).expect("healthy");
        }
    }
}
