//! Serf's messages: intents, user events, queries and keys (gossip spec §9).

use core::net::SocketAddr;

use super::{Event, MemberChange, MemberStatus, Pool, ask::RELAYS, stats::count};
use crate::{
    membership::{
        broadcast::Queue,
        keyring::{BASE64, MAX_KEYS, base64},
        members::{self, MemberId, State},
    },
    time::Instant,
    wire::{
        Error, envelope,
        msgpack::Writer,
        serf::{
            self, FLAG_ACK, FLAG_NO_BROADCAST, Filter, Intent, MAX_RESPONSE, Query, QueryResponse, Relay, SerfMessage,
            UserEvent,
        },
    },
};

impl Pool<'_> {
    /// A serf message, its type octet first.
    #[inline(never)] // its stack frame is not for those who never get here
    pub(super) fn on_serf_message(&mut self, now: Instant, message: &[u8]) -> Result<(), Error> {
        match serf::parse(message)? {
            SerfMessage::Join(intent) => self.on_join_intent(now, &intent, true),
            SerfMessage::Leave(intent) => self.on_leave_intent(now, &intent, true),
            SerfMessage::UserEvent(event) => self.on_user_event(&event, Some(message)),
            SerfMessage::Query(query) => self.on_query(&query, message),
            SerfMessage::QueryResponse(answer) => self.on_answer(&answer),
            SerfMessage::Relay(relay) => self.on_relay(&relay),
        }
        Ok(())
    }

    pub(super) fn on_join_intent(&mut self, now: Instant, intent: &Intent<'_>, pass_on: bool) {
        self.clock.witness(intent.ltime);
        let news = match self.members.find(intent.node) {
            None => {
                let node = self.members.hash(intent.node);
                self.intents.remember(now, node, false, intent.ltime)
            }
            Some(id) => {
                let slot = self.members.get_mut(id);
                let newer = intent.ltime > slot.status_ltime;
                if newer {
                    slot.status_ltime = intent.ltime;
                    if slot.status() == MemberStatus::Leaving {
                        slot.set_status(MemberStatus::Alive);
                    }
                    self.members.touch();
                }
                newer
            }
        };
        if news && pass_on {
            self.pass_on(Queue::Intent, &|w| intent.emit_join(w));
        }
    }

    pub(super) fn on_leave_intent(&mut self, now: Instant, intent: &Intent<'_>, pass_on: bool) {
        self.clock.witness(intent.ltime);
        let news = match self.members.find(intent.node) {
            None => {
                let node = self.members.hash(intent.node);
                self.intents.remember(now, node, true, intent.ltime)
            }
            Some(id) if intent.ltime <= self.members.get(id).status_ltime => false,
            Some(MemberId::SELF) if !self.is_leaving() => {
                // Somebody wants us gone, but we are here.
                self.announce_join();
                false
            }
            Some(id) => {
                self.apply_leave(id, intent);
                true
            }
        };
        if news && pass_on {
            self.pass_on(Queue::Intent, &|w| intent.emit_leave(w));
        }
    }

    /// A leave intent that is newer than what we know of the member.
    fn apply_leave(&mut self, id: MemberId, intent: &Intent<'_>) {
        self.members.touch();
        let slot = self.members.get_mut(id);
        slot.status_ltime = intent.ltime;
        match slot.status() {
            MemberStatus::Alive => slot.set_status(MemberStatus::Leaving),
            MemberStatus::Failed => {
                slot.set_status(MemberStatus::Left);
                self.tell(Event::Member(MemberChange::Left, id));
            }
            MemberStatus::Leaving | MemberStatus::Left => {}
        }
        if intent.prune && id != MemberId::SELF && self.members.get(id).state.is_gone() {
            self.tell(Event::Member(MemberChange::Reaped, id));
        }
    }

    /// Says that we are here, later than anything that may have been said of us. Whoever has us as left tells newcomers so
    /// with one tick more than the leave had (spec §9.4): that may be all that the clock of our first contact has seen.
    pub(super) fn announce_join(&mut self) {
        self.clock.tick();
        let intent = Intent { ltime: self.clock.time(), node: self.config.name, prune: false };
        self.members.get_mut(MemberId::SELF).status_ltime = intent.ltime;
        self.clock.tick();
        self.pass_on(Queue::Intent, &|w| intent.emit_join(w));
    }

    /// `message` is what came, to be passed on; events out of a push/pull are not.
    pub(super) fn on_user_event(&mut self, event: &UserEvent<'_>, message: Option<&[u8]>) {
        self.event_clock.witness(event.ltime);
        let seed = members::hash(0x65_76, event.name.as_bytes());
        let hash = members::hash(seed, event.payload);
        if !self.events_seen.is_new(self.event_clock.time(), event.ltime, hash) {
            return;
        }
        self.keep_event(event);
        if let Some(message) = message {
            self.pass_on(Queue::Event, &|w| w.octets(message));
        }
    }

    /// Remembers an event for its delivery, and for those who missed it.
    pub(super) fn keep_event(&mut self, event: &UserEvent<'_>) {
        let clock = self.event_clock.time();
        self.lagged |= !self.recent.keep(clock, event);
        self.members.touch();
    }

    fn on_query(&mut self, query: &Query<'_>, message: &[u8]) {
        self.query_clock.witness(query.ltime);
        let hash = members::hash(query.id, query.name.as_bytes());
        if !self.queries_seen.is_new(self.query_clock.time(), query.ltime, hash) {
            return;
        }
        if query.flags & FLAG_NO_BROADCAST == 0 {
            self.pass_on(Queue::Query, &|w| w.octets(message));
        }
        self.answer_query(query);
    }

    /// Acts on a query that was not seen before.
    pub(super) fn answer_query(&mut self, query: &Query<'_>) {
        if !self.matches(query) {
            return;
        }
        if query.flags & FLAG_ACK != 0 {
            self.respond(query, FLAG_ACK, &[]);
        }
        if let Some(name) = query.name.strip_prefix("_serf_") {
            self.on_internal_query(name, query);
        }
    }

    /// All filters must match (spec §9.5).
    fn matches(&mut self, query: &Query<'_>) -> bool {
        for filter in query.filters.iter() {
            let matched = match filter {
                Filter::Nodes(list) => serf::filter_names(list).any(|name| name == self.config.name),
                Filter::Tag { tag, expr } => {
                    let value = self.local().tag(tag).unwrap_or("");
                    match (self.config.match_tag)(expr, value) {
                        Some(matched) => matched,
                        None => {
                            count(&mut self.stats.filters_unknown);
                            false
                        }
                    }
                }
                Filter::Unknown => false,
            };
            if !matched {
                return false;
            }
        }
        true
    }

    fn on_internal_query(&mut self, name: &str, query: &Query<'_>) {
        match name {
            // Its ack is the answer.
            "ping" => {}
            "conflict" => self.on_conflict_query(query),
            "install-key" | "use-key" | "remove-key" | "list-keys" => self.on_key_query(name, query),
            _ => {}
        }
    }

    /// Somebody asks who holds a name.
    fn on_conflict_query(&mut self, query: &Query<'_>) {
        let Ok(name) = core::str::from_utf8(query.payload) else { return };
        if name == self.config.name {
            return;
        }
        let mut payload = [0; MAX_RESPONSE];
        let mut w = Writer::new(&mut payload);
        w.byte(serf::CONFLICT_RESPONSE);
        match self.members.find(name) {
            None => w.nil(),
            Some(id) => {
                let member = self.members.view(id);
                let [pmin, pmax, pcur, dmin, dmax, dcur] = member.vsn;
                w.map(10);
                w.text("Addr");
                crate::wire::gossip::emit_ip(&mut w, member.address.ip());
                for (key, value) in [("DelegateCur", dcur), ("DelegateMax", dmax), ("DelegateMin", dmin)] {
                    w.text(key);
                    w.uint(value.into());
                }
                w.text("Name");
                w.text(member.name);
                w.text("Port");
                w.uint(member.address.port().into());
                for (key, value) in [("ProtocolCur", pcur), ("ProtocolMax", pmax), ("ProtocolMin", pmin)] {
                    w.text(key);
                    w.uint(value.into());
                }
                w.text("Status");
                w.uint(member.status as u64);
                w.text("Tags");
                w.map(member.tags().count());
                for (key, value) in member.tags() {
                    w.text(key);
                    w.text(value);
                }
            }
        }
        if let Some(len) = w.finish() {
            self.respond(query, 0, &payload[..len]);
        }
    }

    fn on_key_query(&mut self, name: &str, query: &Query<'_>) {
        let mut payload = [0; MAX_RESPONSE];
        let mut w = Writer::new(&mut payload);
        let outcome = match (self.is_encrypted(), serf::parse_key_request(query.payload)) {
            (false, _) if name == "list-keys" => Err("Keyring is empty (encryption not enabled)"),
            (false, _) => Err("No keyring to modify (encryption not enabled)"),
            (true, Err(_)) => Err("key request is malformed"),
            (true, Ok(octets)) => match name {
                "install-key" => self.keyring.install(octets),
                "use-key" => self.keyring.use_key(octets),
                "remove-key" => self.keyring.remove(octets),
                _ => Ok(()),
            }
            .map_err(|error| error.as_str()),
        };
        if outcome.is_ok() && name != "list-keys" {
            self.keys_changed = true;
        }
        let message = outcome.err().unwrap_or("");
        info!("key request {}: {}", name, if outcome.is_ok() { "done" } else { message });
        if name == "list-keys" && outcome.is_ok() {
            let mut texts = [[0; BASE64]; MAX_KEYS];
            let keys = self.keyring.keys();
            let mut list: heapless::Vec<&str, MAX_KEYS> = heapless::Vec::new();
            for (key, text) in keys.iter().zip(&mut texts) {
                // The ring holds no more keys than the list.
                let _ = list.push(base64(key, text));
            }
            serf::emit_key_response(&mut w, Some(&list), message, list.first().unwrap_or(&""), true);
        } else {
            serf::emit_key_response(&mut w, None, message, "", outcome.is_ok());
        }
        if let Some(len) = w.finish() {
            self.respond(query, 0, &payload[..len]);
        }
    }

    /// Answers a query, directly and through as many others as it asks for.
    fn respond(&mut self, query: &Query<'_>, flags: u32, payload: &[u8]) {
        let response = QueryResponse { flags, from: self.config.name, id: query.id, ltime: query.ltime, payload };
        if self.is_ours(query) {
            return self.on_answer(&response);
        }
        let to = self.with_port(query.address);
        self.send_written(to, false, &|w| {
            w.byte(envelope::USER);
            response.emit(w);
        });
        let factor = usize::from(query.relay_factor);
        if factor == 0 || self.members.len() - self.members.gone() <= factor {
            return;
        }
        let mut chosen = [MemberId::SELF; RELAYS];
        for place in 0..factor.min(chosen.len()) {
            let helper = self.members.random(&mut self.rng, &mut |id, slot| {
                slot.state == State::Alive && slot.vsn[4] >= 5 && !chosen.contains(&id)
            });
            let Some(helper) = helper else { break };
            chosen[place] = helper;
            let via = self.members.get(helper).address();
            self.send_relay(via, to, query.source_node, &response);
        }
    }

    fn send_relay(&mut self, via: SocketAddr, to: SocketAddr, name: &str, response: &QueryResponse<'_>) {
        self.send_written(via, false, &|w| {
            w.byte(envelope::USER);
            Relay { to, name, message: &[] }.emit(w);
            response.emit(w);
        });
    }

    /// Passes an answer on. Only answers are, and none longer than they may be: nothing grows on its way through us.
    fn on_relay(&mut self, relay: &Relay<'_>) {
        let answer = relay.message.first() == Some(&serf::QUERY_RESPONSE) && relay.message.len() <= MAX_RESPONSE;
        if !answer {
            return count(&mut self.stats.malformed);
        }
        let to = self.with_port(relay.to);
        let message = relay.message;
        self.send_written(to, false, &|w| {
            w.byte(envelope::USER);
            w.octets(message);
        });
    }

    /// Queues a serf message for everybody.
    pub(super) fn pass_on(&mut self, queue: Queue, emit: &dyn Fn(&mut Writer<'_>)) {
        self.broadcast(queue, MemberId::SELF, &|w| {
            w.byte(envelope::USER);
            emit(w);
        });
    }
}
