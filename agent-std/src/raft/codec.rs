//! Encoding of what is stored and sent: log records, raft messages, entry bodies.
//!
//! Mirror types stand between the consensus library's protobuf types and our bytes, so that no byte of a peer or a disk
//! reaches the protobuf parser. Everything begins with a format version and a kind; kinds are append only.
//!
//! | entry body | size | meaning |
//! |---|---|---|
//! | version | 1 | [`BODY_VERSION`] |
//! | kind | 1 | 1 command, 2 change of the configuration |
//! | time | 8 | the leader's clock when it proposed, Unix milliseconds, little-endian |
//! | payload | rest | command octets, or a postcard [`Change`] |
//!
//! A configuration change is an entry of the library's type `EntryConfChange` with an *empty* `data` and the body in
//! `context`: empty is a valid protobuf message, and the real change is read from the body.

use bytes::Bytes;
use raft::eraftpb::{Entry, EntryType, HardState, Message, MessageType};
use serde::{Deserialize, Serialize};

use super::servers::{Change, Server};

/// Version of entry bodies and of messages between servers.
pub(super) const BODY_VERSION: u8 = 1;
const BODY_HEAD: usize = 10;
const KIND_COMMAND: u8 = 1;
const KIND_CHANGE: u8 = 2;

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CodecError(pub(super) &'static str);

/// What an entry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Body {
    Command(Bytes),
    Change(Change),
}

/// The body of a command entry.
pub(super) fn emit_command(unix_millis: u64, command: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(BODY_HEAD + command.len());
    emit_body_head(&mut out, KIND_COMMAND, unix_millis);
    out.extend_from_slice(command);
    out
}

/// The body of a configuration change.
pub(super) fn emit_change(unix_millis: u64, change: &Change) -> Vec<u8> {
    let mut out = Vec::new();
    emit_body_head(&mut out, KIND_CHANGE, unix_millis);
    emit(out, change)
}

fn emit_body_head(out: &mut Vec<u8>, kind: u8, unix_millis: u64) {
    out.extend_from_slice(&[BODY_VERSION, kind]);
    out.extend_from_slice(&unix_millis.to_le_bytes());
}

/// Time and content of an entry body.
pub(super) fn parse_body(bytes: &Bytes) -> Result<(u64, Body), CodecError> {
    let head: &[u8; BODY_HEAD] = bytes.first_chunk().ok_or(CodecError("entry body ends early"))?;
    let [version, kind, time @ ..] = *head;
    if version != BODY_VERSION {
        return Err(CodecError("unknown version of the entry body"));
    }
    let payload = bytes.slice(BODY_HEAD..);
    let body = match kind {
        KIND_COMMAND => Body::Command(payload),
        KIND_CHANGE => Body::Change(parse_exact(&payload)?),
        _ => return Err(CodecError("unknown kind of entry body")),
    };
    Ok((u64::from_le_bytes(time), body))
}

/// An entry as it is stored and sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EntryRecord {
    /// 0: normal, 1: configuration change.
    kind: u8,
    term: u64,
    index: u64,
    body: Bytes,
}

impl EntryRecord {
    pub(super) fn from_library(entry: &Entry) -> Self {
        let change = entry.get_entry_type() != EntryType::EntryNormal;
        let body = if change { &entry.context } else { &entry.data };
        Self { kind: u8::from(change), term: entry.term, index: entry.index, body: body.clone() }
    }

    pub(super) fn into_library(self) -> Result<Entry, CodecError> {
        let mut entry = Entry { term: self.term, index: self.index, ..Entry::default() };
        match self.kind {
            0 => entry.data = self.body,
            1 => {
                entry.set_entry_type(EntryType::EntryConfChange);
                entry.context = self.body;
            }
            _ => return Err(CodecError("unknown kind of entry")),
        }
        Ok(entry)
    }
}

/// Term, vote and commit index as they are stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HardRecord {
    pub(super) term: u64,
    pub(super) vote: u64,
    pub(super) commit: u64,
}

impl HardRecord {
    pub(super) fn from_library(hard: &HardState) -> Self {
        Self { term: hard.term, vote: hard.vote, commit: hard.commit }
    }

    pub(super) fn to_library(self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.commit, ..HardState::default() }
    }
}

/// First frame of a connection between servers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    /// Who connects, and where it accepts connections itself.
    pub(super) from: Server,
    /// Raft id of the server it means to reach.
    pub(super) to: u64,
}

/// A raft message without a snapshot.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MessageRecord {
    kind: u8,
    to: u64,
    from: u64,
    term: u64,
    log_term: u64,
    index: u64,
    entries: Vec<EntryRecord>,
    commit: u64,
    commit_term: u64,
    reject: bool,
    reject_hint: u64,
    request_snapshot: u64,
    context: Bytes,
    priority: i64,
}

/// Numbers of the message kinds that cross the network. Append only. The others (proposals, reads, local signals) do not.
const MESSAGE_KINDS: [(u8, MessageType); 10] = [
    (1, MessageType::MsgAppend),
    (2, MessageType::MsgAppendResponse),
    (3, MessageType::MsgRequestVote),
    (4, MessageType::MsgRequestVoteResponse),
    (5, MessageType::MsgHeartbeat),
    (6, MessageType::MsgHeartbeatResponse),
    (7, MessageType::MsgRequestPreVote),
    (8, MessageType::MsgRequestPreVoteResponse),
    (9, MessageType::MsgTimeoutNow),
    (10, MessageType::MsgSnapshot),
];

/// Frames of a connection. Append only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wire {
    Hello(Hello),
    Message(MessageRecord),
    /// A snapshot follows: the message that carries it, and the octets of the file.
    Snapshot(MessageRecord, u64),
    /// A piece of the snapshot's file.
    Piece(Bytes),
    /// The receiver's word on a snapshot: whole and stored.
    Stored,
}

impl Wire {
    const HELLO: u8 = 1;
    const MESSAGE: u8 = 2;
    const SNAPSHOT: u8 = 3;
    const PIECE: u8 = 4;
    const STORED: u8 = 5;

    pub(super) fn emit(&self) -> Vec<u8> {
        let head = |kind| vec![BODY_VERSION, kind];
        match self {
            Wire::Hello(hello) => emit(head(Self::HELLO), hello),
            Wire::Message(message) => emit(head(Self::MESSAGE), message),
            Wire::Snapshot(message, octets) => emit(head(Self::SNAPSHOT), &(message, octets)),
            Wire::Piece(bytes) => [&head(Self::PIECE)[..], bytes].concat(),
            Wire::Stored => head(Self::STORED),
        }
    }

    pub(super) fn parse(bytes: &Bytes) -> Result<Self, CodecError> {
        let &[version, kind] = bytes.first_chunk().ok_or(CodecError("frame ends early"))?;
        if version != BODY_VERSION {
            return Err(CodecError("unknown version of the raft transport"));
        }
        let payload = bytes.slice(2..);
        Ok(match kind {
            Self::HELLO => Wire::Hello(parse_exact(&payload)?),
            Self::MESSAGE => Wire::Message(parse_exact(&payload)?),
            Self::SNAPSHOT => {
                let (message, octets) = parse_exact(&payload)?;
                Wire::Snapshot(message, octets)
            }
            Self::PIECE => Wire::Piece(payload),
            Self::STORED if payload.is_empty() => Wire::Stored,
            _ => return Err(CodecError("unknown kind of frame")),
        })
    }
}

impl MessageRecord {
    /// `None` for messages that must not leave this server.
    pub(super) fn from_library(message: &Message) -> Option<Self> {
        let kind = message.get_msg_type();
        let (number, _) = MESSAGE_KINDS.iter().find(|(_, known)| *known == kind)?;
        Some(Self {
            kind: *number,
            to: message.to,
            from: message.from,
            term: message.term,
            log_term: message.log_term,
            index: message.index,
            entries: message.entries.iter().map(EntryRecord::from_library).collect(),
            commit: message.commit,
            commit_term: message.commit_term,
            reject: message.reject,
            reject_hint: message.reject_hint,
            request_snapshot: message.request_snapshot,
            context: message.context.clone(),
            priority: message.priority,
        })
    }

    pub(super) fn into_library(self) -> Result<Message, CodecError> {
        let kind = MESSAGE_KINDS.iter().find(|(number, _)| *number == self.kind);
        let (_, kind) = kind.ok_or(CodecError("unknown kind of raft message"))?;
        let mut message = Message {
            to: self.to,
            from: self.from,
            term: self.term,
            log_term: self.log_term,
            index: self.index,
            commit: self.commit,
            commit_term: self.commit_term,
            reject: self.reject,
            reject_hint: self.reject_hint,
            request_snapshot: self.request_snapshot,
            context: self.context,
            priority: self.priority,
            ..Message::default()
        };
        message.set_msg_type(*kind);
        let entries: Result<Vec<Entry>, CodecError> = self.entries.into_iter().map(EntryRecord::into_library).collect();
        message.set_entries(entries?.into());
        Ok(message)
    }

    pub(super) fn is_snapshot(&self) -> bool {
        self.kind == 10
    }
}

/// Appends the postcard form of `value` to `out`.
pub(super) fn emit<T: Serialize + ?Sized>(out: Vec<u8>, value: &T) -> Vec<u8> {
    postcard::to_extend(value, out).expect("memory takes any length, and the mirror types have no unsized sequences")
}

/// The value that is all of `bytes`.
pub(super) fn parse_exact<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, CodecError> {
    let (value, rest) = parse_some(bytes)?;
    if rest.is_empty() { Ok(value) } else { Err(CodecError("octets are left over")) }
}

/// The value at the beginning of `bytes`, and what follows it.
pub(super) fn parse_some<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), CodecError> {
    postcard::take_from_bytes(bytes).map_err(|_| CodecError("malformed record"))
}

#[cfg(test)]
mod tests {
    use super::super::servers::Suffrage;
    use super::*;

    use proptest::collection::vec;
    use proptest::prelude::*;

    fn entry() -> impl Strategy<Value = EntryRecord> {
        (0..2u8, any::<u64>(), any::<u64>(), vec(any::<u8>(), 0..64))
            .prop_map(|(kind, term, index, body)| EntryRecord { kind, term, index, body: body.into() })
    }

    fn message() -> impl Strategy<Value = MessageRecord> {
        let numbers = (any::<[u64; 9]>(), any::<bool>(), any::<i64>());
        (1..11u8, numbers, vec(entry(), 0..8), vec(any::<u8>(), 0..32)).prop_map(
            |(kind, (n, reject, priority), entries, context)| MessageRecord {
                kind,
                to: n[0],
                from: n[1],
                term: n[2],
                log_term: n[3],
                index: n[4],
                entries,
                commit: n[5],
                commit_term: n[6],
                reject,
                reject_hint: n[7],
                request_snapshot: n[8],
                context: context.into(),
                priority,
            },
        )
    }

    fn server() -> Server {
        Server {
            id: "5a8b7c1e-0000-4000-8000-000000000001".into(),
            name: "s1".into(),
            address: "127.0.0.1:8300".parse().expect("an address"),
            suffrage: Suffrage::Staging,
        }
    }

    proptest! {
        #[test]
        fn messages_survive_both_ways(record in message()) {
            let bytes = Bytes::from(Wire::Message(record.clone()).emit());
            let Ok(Wire::Message(parsed)) = Wire::parse(&bytes) else { panic!("not a message") };
            prop_assert_eq!(&parsed, &record);
            let library = parsed.into_library().expect("known kinds");
            prop_assert_eq!(MessageRecord::from_library(&library), Some(record));
        }

        #[test]
        fn arbitrary_bytes_do_not_panic(bytes in vec(any::<u8>(), 0..256)) {
            let bytes = Bytes::from(bytes);
            let _ = Wire::parse(&bytes);
            let _ = parse_body(&bytes);
        }

        #[test]
        fn changed_bytes_do_not_panic(record in message(), at in any::<usize>(), with in any::<u8>()) {
            let mut bytes = Wire::Message(record).emit();
            let at = at % bytes.len();
            bytes[at] ^= with;
            if let Ok(Wire::Message(parsed)) = Wire::parse(&bytes.into()) {
                let _ = parsed.into_library();
            }
        }

        #[test]
        fn cut_messages_are_refused(record in message(), cut in 1usize..16) {
            let mut bytes = Wire::Message(record).emit();
            bytes.truncate(bytes.len().saturating_sub(cut));
            prop_assert!(Wire::parse(&bytes.into()).is_err());
        }

        #[test]
        fn commands_survive(time in any::<u64>(), command in vec(any::<u8>(), 0..64)) {
            let parsed = parse_body(&emit_command(time, &command).into());
            prop_assert_eq!(parsed, Ok((time, Body::Command(command.into()))));
        }
    }

    #[test]
    fn the_first_versions_bytes_stay_readable() {
        // These octets are what version 1 wrote; they must parse for ever.
        let command = Bytes::from_static(&[1, 1, 2, 0, 0, 0, 0, 0, 0, 0, b'x']);
        assert_eq!(parse_body(&command), Ok((2, Body::Command(Bytes::from_static(b"x")))));
        assert_eq!(emit_command(2, b"x"), command);

        let change = Change::Put(server());
        let mut expected = vec![1, 2, 3, 0, 0, 0, 0, 0, 0, 0, 0, 36];
        expected.extend_from_slice(b"5a8b7c1e-0000-4000-8000-000000000001");
        expected.extend_from_slice(&[2, b's', b'1', 0, 127, 0, 0, 1, 0xec, 0x40, 2]);
        assert_eq!(emit_change(3, &change), expected);
        assert_eq!(parse_body(&expected.into()), Ok((3, Body::Change(change))));
    }

    #[test]
    fn local_messages_neither_leave_nor_enter() {
        for kind in [
            MessageType::MsgPropose,
            MessageType::MsgTransferLeader,
            MessageType::MsgReadIndex,
            MessageType::MsgHup,
            MessageType::MsgUnreachable,
        ] {
            let mut message = Message::default();
            message.set_msg_type(kind);
            assert_eq!(MessageRecord::from_library(&message), None);
        }
        assert!(MessageRecord { kind: 11, ..MessageRecord::default() }.into_library().is_err());
        assert!(MessageRecord { kind: 0, ..MessageRecord::default() }.into_library().is_err());
    }
}
