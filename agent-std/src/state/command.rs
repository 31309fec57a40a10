//! What the raft log stores: format version, kind, and the request in msgpack.
//!
//! msgpack rather than a format without names, because log entries outlive the program: a field that a later version
//! adds is zero in an old entry and unknown to an old program. Versions and kinds are append-only.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{Refusal, RestorePiece};
use crate::{
    model::{
        AutopilotRequest, CoordinateRequest, DeregisterRequest, KvsRequest, QueryRequest, RegisterRequest,
        SessionRequest, TxnOp, TxnReply,
    },
    rpc::codec,
};

/// Version of the format of all kinds below.
const VERSION: u8 = 1;

// Append only: an old log is read with these for ever.
const REGISTER: u8 = 1;
const DEREGISTER: u8 = 2;
const KVS: u8 = 3;
const SESSION: u8 = 4;
const COORDINATES: u8 = 5;
const TXN: u8 = 6;
const QUERY: u8 = 7;
const AUTOPILOT: u8 = 8;
const RESTORE: u8 = 9;

/// A change of the store.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// A node, a service, checks.
    Register(Box<RegisterRequest>),
    /// The opposite.
    Deregister(DeregisterRequest),
    /// A key.
    Kvs(KvsRequest),
    /// A session; its id is chosen before the log.
    Session(SessionRequest),
    /// Coordinates of many nodes.
    Coordinates(Vec<CoordinateRequest>),
    /// Several operations, all or none.
    Txn(Vec<TxnOp>),
    /// A prepared query; its id is chosen before the log.
    Query(QueryRequest),
    /// Autopilot's configuration.
    Autopilot(AutopilotRequest),
    /// A piece of an archive.
    Restore(RestorePiece),
}

/// A log entry is not a command that this program knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// Written by a later version.
    #[error(
        "command of format {version}, kind {kind}: written by a later version of this program, upgrade this server"
    )]
    Unknown {
        /// Its format version.
        version: u8,
        /// Its kind.
        kind: u8,
    },
    /// Damaged.
    #[error("damaged command: {0}")]
    Damaged(#[from] codec::Error),
    /// Shorter than its head.
    #[error("damaged command: empty")]
    Empty,
}

impl Command {
    /// As the log stores it. Tokens are dropped: the log is no place for secrets.
    ///
    /// # Errors
    /// Never for requests that were decoded; see [`codec::to_vec`].
    pub fn encode(mut self) -> Result<Vec<u8>, codec::Error> {
        fn with<T: Serialize>(kind: u8, body: &T) -> Result<Vec<u8>, codec::Error> {
            let mut out = vec![VERSION, kind];
            codec::append(&mut out, body)?;
            Ok(out)
        }
        match &mut self {
            Command::Register(request) => request.token.clear(),
            Command::Deregister(request) => request.token.clear(),
            Command::Kvs(request) => request.token.clear(),
            Command::Session(request) => request.token.clear(),
            Command::Coordinates(updates) => updates.iter_mut().for_each(|update| update.token.clear()),
            Command::Query(request) => request.token.clear(),
            Command::Autopilot(request) => request.token.clear(),
            Command::Txn(_) | Command::Restore(_) => {}
        }
        match &self {
            Command::Register(request) => with(REGISTER, request),
            Command::Deregister(request) => with(DEREGISTER, request),
            Command::Kvs(request) => with(KVS, request),
            Command::Session(request) => with(SESSION, request),
            Command::Coordinates(updates) => with(COORDINATES, updates),
            Command::Txn(ops) => with(TXN, ops),
            Command::Query(request) => with(QUERY, request),
            Command::Autopilot(request) => with(AUTOPILOT, request),
            Command::Restore(piece) => with(RESTORE, piece),
        }
    }

    /// Reads what [`Command::encode`] wrote.
    ///
    /// # Errors
    /// When it is damaged or of a later version.
    pub fn decode(octets: &[u8]) -> Result<Self, CommandError> {
        let [version, kind, body @ ..] = octets else { return Err(CommandError::Empty) };
        fn body_of<T: DeserializeOwned>(body: &[u8]) -> Result<T, CommandError> {
            Ok(codec::from_slice(body)?)
        }
        Ok(match (*version, *kind) {
            (VERSION, REGISTER) => Command::Register(body_of(body)?),
            (VERSION, DEREGISTER) => Command::Deregister(body_of(body)?),
            (VERSION, KVS) => Command::Kvs(body_of(body)?),
            (VERSION, SESSION) => Command::Session(body_of(body)?),
            (VERSION, COORDINATES) => Command::Coordinates(body_of(body)?),
            (VERSION, TXN) => Command::Txn(body_of(body)?),
            (VERSION, QUERY) => Command::Query(body_of(body)?),
            (VERSION, AUTOPILOT) => Command::Autopilot(body_of(body)?),
            (VERSION, RESTORE) => Command::Restore(body_of(body)?),
            (version, kind) => return Err(CommandError::Unknown { version, kind }),
        })
    }
}

/// What became of a command. Travels from the leader's store to whoever proposed it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// Why it was refused; empty: done.
    pub error: String,
    /// Result of cas, delete-cas, lock and unlock.
    pub done: bool,
    /// Id of a session.
    pub text: String,
    /// Result of a transaction.
    pub txn: Option<TxnReply>,
}

impl Outcome {
    pub(super) fn refused(error: impl Into<String>) -> Self {
        Outcome { error: error.into(), ..Self::default() }
    }

    pub(super) fn of(result: Result<(), Refusal>) -> Self {
        result.map_or_else(|Refusal(error)| Self::refused(error), |()| Self::default())
    }

    pub(super) fn of_bool(result: Result<bool, Refusal>) -> Self {
        result.map_or_else(|Refusal(error)| Self::refused(error), |done| Outcome { done, ..Self::default() })
    }

    pub(super) fn of_text(result: Result<String, Refusal>) -> Self {
        result.map_or_else(|Refusal(error)| Self::refused(error), |text| Outcome { text, ..Self::default() })
    }

    /// As it travels.
    pub(super) fn encode(&self) -> Vec<u8> {
        codec::to_vec(self).expect("text, numbers and the model's types can always be written")
    }

    /// Reads an outcome.
    ///
    /// # Errors
    /// When a server of another version sent something else.
    pub fn decode(octets: &[u8]) -> Result<Self, codec::Error> {
        codec::from_slice(octets)
    }
}
