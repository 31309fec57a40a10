//! `operator`: the servers themselves (cli spec §3).

pub(super) mod autopilot;
pub(super) mod raft;
pub(super) mod recover;

use super::{Kind, Spec};

pub(super) const GROUP: Spec = Spec {
    path: "operator",
    synopsis: "Provides cluster-level tools for Consul operators",
    usage: "<subcommand> [options] [args]",
    about: "Looks after the servers: who they are, how they fare, and who must go.\n\n$ {cmd} operator raft list-peers",
    kind: Kind::Group,
    ours: false,
};
