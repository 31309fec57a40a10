//! Counters of a pool. They only grow, and stop at their end.

/// What a pool counted since its start. Everything that is dropped or refused is counted here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStats {
    /// Datagrams taken in.
    pub datagrams_in: u32,
    /// Datagrams handed out.
    pub datagrams_out: u32,
    /// Datagrams or streams dropped because no key opened them, or because they were not encrypted.
    pub undecryptable: u32,
    /// Datagrams or streams dropped for another label.
    pub foreign_label: u32,
    /// Messages or layers that made no sense.
    pub malformed: u32,
    /// Records refused by Consul's admission rules (other datacenter or segment, our node id).
    pub not_admitted: u32,
    /// Alive messages for a name that another address holds.
    pub conflicts: u32,
    /// Members that came with the node id of another one.
    pub id_conflicts: u32,
    /// Members found to be reached by others and not by us.
    pub one_way: u32,
    /// Times that our timers came late by more than a probe's timeout.
    pub late: u32,
    /// Times we refuted an accusation.
    pub refuted: u32,
    /// Members that we accused after a failed probe.
    pub suspected: u32,
    /// Probes answered over TCP only: UDP to that member is broken.
    pub udp_broken: u32,
    /// Packets that found no place in the queue.
    pub packets_dropped: u32,
    /// Pings for others that found no slot.
    pub relays_refused: u32,
    /// Streams that found no slot.
    pub streams_refused: u32,
    /// Push/pulls merged.
    pub merged: u32,
    /// Push/pulls refused: versions that do not fit together, or a joiner from elsewhere.
    pub merges_refused: u32,
    /// Push/pulls and other streams that broke off or ran out of time.
    pub streams_failed: u32,
    /// Remote records passed over because the table or the stage was full.
    pub records_skipped: u32,
    /// Queries whose tag filter is no regular expression, or one that we cannot evaluate; left unanswered.
    pub filters_unknown: u32,
    /// Members forgotten to make room for others.
    pub members_evicted: u32,
    /// Members that found no room.
    pub members_refused: u32,
    /// Queued gossip displaced before it was sent often enough.
    pub broadcasts_dropped: u32,
    /// User events given up before 512 later ones: those who missed them do not get them from us.
    pub events_dropped: u32,
    /// Rounds over the seeds in which nobody answered.
    pub seed_rounds: u32,
    /// Coordinates of peers that could not be used.
    pub coordinates_refused: u32,
}

impl PoolStats {
    /// All counters with their names, for whoever shows them.
    pub fn each(&self) -> impl Iterator<Item = (&'static str, u32)> + use<> {
        [
            ("datagrams_in", self.datagrams_in),
            ("datagrams_out", self.datagrams_out),
            ("undecryptable", self.undecryptable),
            ("foreign_label", self.foreign_label),
            ("malformed", self.malformed),
            ("not_admitted", self.not_admitted),
            ("conflicts", self.conflicts),
            ("id_conflicts", self.id_conflicts),
            ("one_way", self.one_way),
            ("late", self.late),
            ("refuted", self.refuted),
            ("suspected", self.suspected),
            ("udp_broken", self.udp_broken),
            ("packets_dropped", self.packets_dropped),
            ("relays_refused", self.relays_refused),
            ("streams_refused", self.streams_refused),
            ("merged", self.merged),
            ("merges_refused", self.merges_refused),
            ("streams_failed", self.streams_failed),
            ("records_skipped", self.records_skipped),
            ("filters_unknown", self.filters_unknown),
            ("members_evicted", self.members_evicted),
            ("members_refused", self.members_refused),
            ("broadcasts_dropped", self.broadcasts_dropped),
            ("events_dropped", self.events_dropped),
            ("seed_rounds", self.seed_rounds),
            ("coordinates_refused", self.coordinates_refused),
        ]
        .into_iter()
    }
}

/// Counts one more, without running over.
pub(super) fn count(counter: &mut u32) {
    *counter = counter.saturating_add(1);
}
