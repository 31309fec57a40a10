//! Queries of our own (gossip spec §9.5): asked by gossip, answered by each member straight to us, over after a time.

use super::{Event, Pool};
use crate::{
    agent::{CommandError, Outcome, Ticket},
    membership::{broadcast::Queue, members, suspicion::log10_milli},
    time::{Duration, Instant, earliest},
    wire::{
        msgpack::Writer,
        serf::{FLAG_ACK, Filters, MAX_QUERY, Query, QueryResponse},
    },
};

/// Queries of our own under way at once. Another one ends the oldest, which may well have all its answers by then.
pub(super) const QUESTIONS: usize = 8;

/// Members by way of which one answer is sent at most, as Consul's commands take it.
pub(super) const RELAYS: usize = 5;

/// A query of our own.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    ticket: Ticket,
    id: u32,
    ltime: u64,
    until: Instant,
}

impl Pool<'_> {
    /// Asks everybody, ourselves included. Each answer is told as it comes; members are heard until the time that serf
    /// gives a cluster of this size, then the ticket is finished. With `ack`, members without an answer confirm.
    ///
    /// # Errors
    /// `Invalid` when it is too long or wants more than 5 relays, `Leaving`.
    pub fn query(
        &mut self,
        now: Instant,
        name: &str,
        payload: &[u8],
        ack: bool,
        relay_factor: u8,
    ) -> Result<Ticket, CommandError> {
        if usize::from(relay_factor) > RELAYS {
            return Err(CommandError::Invalid("relay factor must be in range: [0, 5]"));
        }
        if self.is_leaving() {
            return Err(CommandError::Leaving);
        }
        let query = Query {
            address: self.config.advertise,
            filters: Filters::NONE,
            flags: if ack { FLAG_ACK } else { 0 },
            id: self.rng.next_u32(),
            ltime: self.query_clock.time(),
            name,
            payload,
            relay_factor,
            source_node: self.config.name,
            timeout_ns: self.query_time().as_micros() * 1000,
        };
        if Writer::measure(|w| query.emit(w)) > MAX_QUERY {
            return Err(CommandError::Invalid("query exceeds the limit of 1024 bytes"));
        }
        let ticket = self.next_ticket();
        let question = Question { ticket, id: query.id, ltime: query.ltime, until: now + self.query_time() };
        if self.queues.questions.is_full() {
            let oldest = self.queues.questions.remove(0);
            let outcome = Outcome::Failed("later queries took its place");
            self.tell(Event::Finished { ticket: oldest.ticket, outcome });
        }
        // There is room now.
        let _ = self.queues.questions.push(question);
        self.query_clock.tick();
        let hash = members::hash(query.id, name.as_bytes());
        self.queries_seen.is_new(self.query_clock.time(), query.ltime, hash);
        self.pass_on(Queue::Query, &|w| query.emit(w));
        self.answer_query(&query);
        Ok(ticket)
    }

    /// Answers are heard for so long: 16 gossip rounds × ⌈log₁₀(n + 1)⌉.
    fn query_time(&self) -> Duration {
        let tens = log10_milli(self.size() + 1).div_ceil(1000).max(1);
        self.config.timing.gossip_interval.saturating_mul(16 * tens)
    }

    /// True when we asked it ourselves.
    pub(super) fn is_ours(&self, query: &Query<'_>) -> bool {
        self.queues.questions.iter().any(|ours| (ours.id, ours.ltime) == (query.id, query.ltime))
    }

    /// Somebody answers, maybe us. Answers to nothing that we asked are of the past, or made up.
    pub(super) fn on_answer(&mut self, answer: &QueryResponse<'_>) {
        let asked = self.queues.questions.iter().find(|ours| (ours.id, ours.ltime) == (answer.id, answer.ltime));
        let Some(&Question { ticket, .. }) = asked else { return };
        let ack = answer.flags & FLAG_ACK != 0;
        let Some(mail) = self.mail.put(answer.from.len() + answer.payload.len()) else {
            self.lagged = true;
            return;
        };
        let mut writer = Writer::new(self.mail.get_mut(mail));
        writer.octets(answer.from.as_bytes());
        writer.octets(answer.payload);
        // A name has 128 octets at most.
        self.tell(Event::Answer { ticket, from_len: answer.from.len() as u8, ack, mail });
    }

    pub(super) fn query_deadline(&self) -> Option<Instant> {
        earliest(&mut self.queues.questions.iter().map(|question| question.until))
    }

    pub(super) fn on_query_time(&mut self, now: Instant) {
        while let Some(at) = self.queues.questions.iter().position(|question| question.until <= now) {
            let question = self.queues.questions.remove(at);
            self.tell(Event::Finished { ticket: question.ticket, outcome: Outcome::Ok });
        }
    }
}
