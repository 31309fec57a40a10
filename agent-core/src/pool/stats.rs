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
    /// Remote records passed over because the stage was full.
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

/// Counts one more, without running over.
pub(super) fn count(counter: &mut u32) {
    *counter = counter.saturating_add(1);
}
