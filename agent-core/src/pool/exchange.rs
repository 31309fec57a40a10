//! Push/pull (gossip spec §6): the remote state in, our own out.
//!
//! In: octets run through decryption, decompression and the parser as they come; what is wanted is staged, and only when
//! the end has proven the beginning (tag, versions, admission) is the stage committed to the table. Out: one image of our
//! state is shared by all exchanges of the same second, so that its counts and lengths stay true while it is sent.

use super::{MemberStatus, Pool, lifecycle::JoinEnd, stats::count, stream::FRAME_HEAD};
use crate::{
    config::PoolConfig,
    membership::members::{MemberId, Members, State},
    serf::recent::Recent,
    time::Instant,
    wire::{
        Error,
        crypt::{self, Key, StreamOpener},
        envelope,
        gossip::{self, Alive, Claim},
        lzw::{self, Inflater},
        msgpack::{Reader, Writer},
        push_pull::{Clocks, Header, Node, NodeState, Parser, Part},
        serf::{self, Intent, UserState},
    },
};

/// Decompressed octets of one state; newer peers stop here too.
const MAX_INFLATED: usize = 40 << 20;
/// Octets in front of a frame's text that decide about its key: head, version, nonce, and the first text.
const FRAME_FRONT: usize = FRAME_HEAD + 1 + crypt::NONCE + 8;

/// What reading some octets led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Go on.
    More,
    /// The state is whole and true.
    Done,
    /// It is not.
    Broken,
}

/// What the octets at hand belong to, from the inside of the encryption.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Container {
    Start,
    CompressHead,
    Compressed { left: usize },
    PushPull,
}

/// The one push/pull being read.
pub(super) struct Reading {
    /// The stream it comes on.
    stream: Option<u16>,
    front: [u8; FRAME_FRONT],
    front_len: usize,
    opener: Option<StreamOpener>,
    text_left: usize,
    tag: [u8; crypt::TAG],
    tag_len: usize,
    encrypted: bool,
    container: Container,
    compress_head: [u8; 24],
    compress_head_len: usize,
    inflater: Inflater,
    inflated: usize,
    parser: Parser,
    wanted: Wanted,
}

/// What is staged, and what the whole state said.
struct Wanted {
    staged: usize,
    skipped: u32,
    header: Header,
    versions: Versions,
    /// A record that must not join us.
    inadmissible: bool,
    /// A member that is not us.
    others: bool,
    /// Drawn for this state: with a full table, the first unknown member from this record on is taken in for another; as
    /// a fraction of all records until their number is known.
    lot: u32,
}

impl Reading {
    pub const IDLE: Reading = Reading {
        stream: None,
        front: [0; FRAME_FRONT],
        front_len: 0,
        opener: None,
        text_left: 0,
        tag: [0; crypt::TAG],
        tag_len: 0,
        encrypted: false,
        container: Container::Start,
        compress_head: [0; 24],
        compress_head_len: 0,
        inflater: Inflater::new(),
        inflated: 0,
        parser: Parser::new(),
        wanted: Wanted {
            staged: 0,
            skipped: 0,
            header: Header { join: false, nodes: 0, user_state_len: 0 },
            versions: Versions::NONE,
            inadmissible: false,
            others: false,
            lot: 0,
        },
    };
}

/// Ranges of the version vectors of both sides (spec §7.2): every current version must lie in what all alive members
/// understand.
#[derive(Clone, Copy, Debug)]
struct Versions {
    /// Highest minimum and lowest maximum of the alive: memberlist, delegate.
    min: [u8; 2],
    max: [u8; 2],
    /// Lowest and highest current version of all.
    lowest: [u8; 2],
    highest: [u8; 2],
}

impl Versions {
    const NONE: Versions = Versions { min: [0; 2], max: [u8::MAX; 2], lowest: [u8::MAX; 2], highest: [0; 2] };

    fn add(&mut self, vsn: Option<[u8; 6]>, alive: bool) {
        // A record without versions counts as all zero, which nothing is compatible with.
        let vsn = vsn.unwrap_or([0; 6]);
        for i in 0..2 {
            let [min, max, current] = [vsn[3 * i], vsn[3 * i + 1], vsn[3 * i + 2]];
            if alive {
                self.min[i] = self.min[i].max(min);
                self.max[i] = self.max[i].min(max);
            }
            self.lowest[i] = self.lowest[i].min(current);
            self.highest[i] = self.highest[i].max(current);
        }
    }

    fn fit(&self) -> bool {
        (0..2).all(|i| self.min[i] <= self.lowest[i] && self.highest[i] <= self.max[i])
    }
}

/// Kinds of staged records. Each is `kind (1) | length (2) | octets`.
const NODE: u8 = 1;
const CLOCKS: u8 = 2;
const LEFT: u8 = 3;
const STATUS: u8 = 4;
const EVENTS: u8 = 5;
const SAMPLE: u8 = 6;
const STAGE_HEAD: usize = 3;

impl Pool<'_> {
    /// Begins to read a push/pull on stream `at`; false when another one is being read.
    pub(super) fn start_reading(&mut self, at: usize) -> bool {
        if self.reading.stream.is_some() {
            return false;
        }
        self.reading = Reading { stream: Some(at as u16), ..Reading::IDLE };
        self.reading.wanted.lot = self.rng.next_u32();
        true
    }

    pub(super) fn is_reading(&self, at: usize) -> bool {
        self.reading.stream == Some(at as u16)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.reading.stream.is_none()
    }

    pub(super) fn end_exchange(&mut self) {
        self.reading.stream = None;
        self.reading.opener = None;
    }

    /// The remote state says that its sender joins.
    pub(super) fn exchange_is_join(&self) -> bool {
        self.reading.wanted.header.join
    }

    /// Takes the next octets of the push/pull.
    pub(super) fn read_exchange(&mut self, mut data: &[u8]) -> Progress {
        let Pool { reading, keyring, config, members, inflate, stage, .. } = self;
        let label = config.label.as_bytes();
        let mut sink = Sink { config, members, inflate, stage };
        if reading.front_len == 0 {
            reading.encrypted = data.first() == Some(&envelope::ENCRYPT);
        }
        if !reading.encrypted {
            reading.front_len = 1;
            return match reading.plain(data, &mut sink) {
                Err(_) => Progress::Broken,
                Ok(()) if reading.parser.is_done() => Progress::Done,
                Ok(()) => Progress::More,
            };
        }
        if reading.opener.is_none() {
            match reading.open(keyring.keys(), label, data) {
                Ok(taken) => data = &data[taken..],
                Err(()) => return Progress::Broken,
            }
            if reading.opener.is_some() {
                let mut first = [0; 8];
                first.copy_from_slice(&reading.front[FRAME_FRONT - 8..]);
                if reading.text(&mut first, &mut sink).is_err() {
                    return Progress::Broken;
                }
            }
        }
        while !data.is_empty() && reading.text_left > 0 {
            let mut piece = [0; 128];
            let len = data.len().min(piece.len()).min(reading.text_left);
            piece[..len].copy_from_slice(&data[..len]);
            data = &data[len..];
            if reading.text(&mut piece[..len], &mut sink).is_err() {
                return Progress::Broken;
            }
        }
        if reading.opener.is_none() || reading.text_left > 0 {
            return Progress::More;
        }
        let len = data.len().min(crypt::TAG - reading.tag_len);
        reading.tag[reading.tag_len..reading.tag_len + len].copy_from_slice(&data[..len]);
        reading.tag_len += len;
        if reading.tag_len < crypt::TAG {
            return Progress::More;
        }
        let genuine = reading.opener.take().is_some_and(|opener| opener.finish(&reading.tag));
        if genuine && reading.parser.is_done() { Progress::Done } else { Progress::Broken }
    }

    /// Merges what was staged, if the whole state may be merged.
    pub(super) fn commit_exchange(&mut self, now: Instant, accepted: bool) -> JoinEnd {
        let Wanted { staged, skipped, header, mut versions, inadmissible, others, .. } = self.reading.wanted;
        self.stats.records_skipped = self.stats.records_skipped.saturating_add(skipped);
        for id in self.members.ids() {
            let slot = self.members.get(id);
            if !slot.is_forgotten() {
                versions.add(Some(slot.vsn), slot.state == State::Alive);
            }
        }
        if !versions.fit() || (header.join && inadmissible) {
            count(&mut self.stats.merges_refused);
            warn!(
                "a push/pull was refused: protocol versions do not fit, or a member is not of our datacenter or segment"
            );
            return JoinEnd::Refused;
        }
        // So many records have come. Partial tables tell of few, so that a smaller number counts only by and by.
        let (told, said) = (self.told_size, header.nodes as usize);
        self.told_size = if said >= told { said } else { told - (told - said).div_ceil(8) };
        self.introduces = header.join && accepted;
        // The stage is taken out, so that its records can be read while the table changes.
        let stage = core::mem::take(&mut self.stage);
        let mut rest = &stage[..staged];
        while let [kind, low, high, more @ ..] = rest {
            let len = usize::from(u16::from_le_bytes([*low, *high])).min(more.len());
            let (record, more) = more.split_at(len);
            rest = more;
            // Staged records were written by ourselves from parsed ones: they parse again.
            let _ = self.commit(now, *kind, record, accepted, &stage[..staged]);
        }
        self.introduces = false;
        self.stage = stage;
        count(&mut self.stats.merged);
        if others { JoinEnd::Merged } else { JoinEnd::OnlyUs }
    }

    fn commit(&mut self, now: Instant, kind: u8, record: &[u8], accepted: bool, stage: &[u8]) -> Result<(), Error> {
        let mut r = Reader::new(record);
        match kind {
            NODE => self.commit_node(now, &Node::parse(&mut r)?),
            SAMPLE => self.sample(now, &Node::parse(&mut r)?),
            CLOCKS => {
                let (member, event, query) = (r.uint()?, r.uint()?, r.uint()?);
                // A state's clock shows the next time, so the last one used is one less.
                self.clock.witness(member.saturating_sub(1));
                self.event_clock.witness(event.saturating_sub(1));
                self.query_clock.witness(query.saturating_sub(1));
                if event > 0 && !accepted && self.ignores_old() {
                    self.events_seen.ignore_before(event);
                }
            }
            LEFT => {}
            STATUS => {
                let (node, ltime) = (r.text()?, r.uint()?);
                if is_staged_left(stage, node) {
                    self.on_left_there(now, node, ltime);
                } else {
                    self.on_join_intent(now, &Intent { ltime, node, prune: false }, false);
                }
            }
            _ => {
                for event in serf::Events::parse(record)?.iter() {
                    self.on_user_event(&event, None);
                }
            }
        }
        Ok(())
    }

    /// The other side has `node` as left since `ltime`.
    ///
    /// Each table adds one to that time when it hears of it (spec §9.4), without end: whoever has returned meanwhile could
    /// not say so with a later one, and would be leaving for ever. So this says something only of members that are failed
    /// or not known here. Who is alive here when the records of
    /// the same exchange have been merged has returned.
    fn on_left_there(&mut self, now: Instant, node: &str, ltime: u64) {
        let more = match self.members.find(node) {
            Some(MemberId::SELF) => 1,
            Some(id) if self.members.get(id).status() == MemberStatus::Failed => 1,
            Some(_) => return self.clock.witness(ltime),
            None => 0,
        };
        self.on_leave_intent(now, &Intent { ltime: ltime.saturating_add(more), node, prune: false }, false);
    }

    /// One member of a remote state (spec §7.3, "Push/pull merge"): never straight to dead.
    fn commit_node(&mut self, now: Instant, node: &Node<'_>) {
        let Node { name, address, meta, incarnation, vsn, .. } = *node;
        match node.state {
            NodeState::Alive => self.on_alive(now, &Alive { node: name, address, meta, incarnation, vsn }),
            NodeState::Left => self.on_dead(now, &Claim { node: name, incarnation, from: name }),
            NodeState::Suspect | NodeState::Dead => {
                self.on_suspect(now, &Claim { node: name, incarnation, from: self.config.name });
            }
        }
    }

    /// Makes sure that there is an image of our state and keeps it until [`Pool::drop_image`].
    ///
    /// One that is being sent cannot change; who asks meanwhile gets the same, and the rest by gossip.
    pub(super) fn hold_image(&mut self, join: bool) {
        let image = self.images[usize::from(join)];
        if image.users == 0 && image.revision != self.members.revision() {
            self.build_image(join);
        }
        self.images[usize::from(join)].users += 1;
    }

    pub(super) fn drop_image(&mut self, at: usize) {
        let slot = &mut self.streams[at];
        if core::mem::take(&mut slot.holds_image) {
            self.images[usize::from(slot.join)].users -= 1;
        }
    }

    pub(super) fn image_len(&self, join: bool) -> usize {
        self.images[usize::from(join)].len
    }

    /// Builds the image anew. It stays empty when not even we fit.
    pub(super) fn build_image(&mut self, join: bool) {
        let half = self.image.len() / 2;
        let base = if join { half } else { 0 };
        let room = &mut self.image[base..base + half];
        let leaving = !matches!(self.leave, super::lifecycle::Leave::No);
        let clocks =
            Clocks { member: self.clock.time(), event: self.event_clock.time(), query: self.query_clock.time() };
        let (start, len) = write_image(&self.members, &self.recent, leaving, clocks, join, room);
        let (start, len) = self.compress_image(base, half, start, len);
        self.images[usize::from(join)] =
            Image { start: base + start, len, users: 0, revision: self.members.revision() };
    }

    /// Compresses the image in place when there is scratch and room; real agents always do.
    #[cfg(feature = "compress")]
    fn compress_image(&mut self, base: usize, half: usize, start: usize, len: usize) -> (usize, usize) {
        /// Octets of the head in front of compressed data at most.
        const HEAD: usize = 17;
        let end = start + len;
        let worth = len > 0 && self.deflate.len() >= lzw::DEFLATE_MEMORY;
        let Some(room) = half.checked_sub(end + HEAD).filter(|_| worth) else {
            return (start, len);
        };
        let (plain, free) = self.image[base..base + half].split_at_mut(end);
        let Some(packed) = lzw::deflate(&plain[start..], true, self.deflate, &mut free[HEAD..HEAD + room]) else {
            return (start, len);
        };
        let head_len =
            Writer::measure(|w| super::transmit::emit_compressed(w, &[])) + Writer::measure(|w| w.raw_head(packed)) - 1;
        let mut writer = Writer::new(&mut free[HEAD - head_len..HEAD]);
        writer.byte(envelope::COMPRESS);
        writer.map(2);
        writer.text("Algo");
        writer.uint(0);
        writer.text("Buf");
        writer.raw_head(packed);
        (end + HEAD - head_len, head_len + packed)
    }

    #[cfg(not(feature = "compress"))]
    fn compress_image(&mut self, _: usize, _: usize, start: usize, len: usize) -> (usize, usize) {
        (start, len)
    }
}

impl Reading {
    /// Gathers the front of an encrypted frame and chooses the key. Returns the octets taken.
    fn open(&mut self, keys: &[Key], label: &[u8], data: &[u8]) -> Result<usize, ()> {
        let taken = data.len().min(FRAME_FRONT - self.front_len);
        self.front[self.front_len..self.front_len + taken].copy_from_slice(&data[..taken]);
        self.front_len += taken;
        if self.front_len < FRAME_FRONT {
            return Ok(taken);
        }
        let (head, rest) = self.front.split_at(FRAME_HEAD);
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        self.text_left = len.checked_sub(crypt::OVERHEAD).filter(|&text| text >= 8).ok_or(())?;
        let mut nonce = [0; crypt::NONCE];
        nonce.copy_from_slice(&rest[1..1 + crypt::NONCE]);
        if rest[0] > 1 {
            return Err(());
        }
        let (_, opener) = StreamOpener::new(keys, nonce, &[head, label], &rest[1 + crypt::NONCE..]).ok_or(())?;
        self.opener = Some(opener);
        Ok(taken)
    }

    /// Takes ciphertext, which is decrypted in place.
    fn text(&mut self, piece: &mut [u8], sink: &mut Sink<'_, '_>) -> Result<(), Error> {
        if let Some(opener) = &mut self.opener {
            opener.update(piece);
        }
        self.text_left -= piece.len();
        self.plain(piece, sink)
    }

    /// Takes plaintext. What follows the end, such as padding, is ignored.
    fn plain(&mut self, mut data: &[u8], sink: &mut Sink<'_, '_>) -> Result<(), Error> {
        while !data.is_empty() && !self.parser.is_done() {
            match self.container {
                Container::Start => {
                    self.container = match data[0] {
                        envelope::COMPRESS => Container::CompressHead,
                        gossip::PUSH_PULL => Container::PushPull,
                        _ => return Err(Error { what: "a stream that is no push/pull", at: 0 }),
                    };
                    data = &data[1..];
                }
                Container::CompressHead => {
                    *self
                        .compress_head
                        .get_mut(self.compress_head_len)
                        .ok_or(Error { what: "compression head too long", at: 0 })? = data[0];
                    self.compress_head_len += 1;
                    data = &data[1..];
                    if let Some(left) = compressed_len(&self.compress_head[..self.compress_head_len])? {
                        self.container = Container::Compressed { left };
                        if left == 0 {
                            return Err(Error { what: "nothing compressed", at: 0 });
                        }
                    }
                }
                Container::Compressed { left } => {
                    self.container = Container::Compressed { left: left - 1 };
                    self.inflate(data[0], sink)?;
                    data = &data[1..];
                    if left == 1 && !self.parser.is_done() {
                        return Err(Error { what: "compressed data cut short", at: 0 });
                    }
                }
                Container::PushPull => {
                    let Reading { parser, wanted, .. } = self;
                    let (record, Sink { config, members, stage, .. }) = sink.split();
                    parser.push(record, data, &mut |part| wanted.want(config, members, stage, part))?;
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn inflate(&mut self, byte: u8, sink: &mut Sink<'_, '_>) -> Result<(), Error> {
        let Reading { inflater, inflated, parser, wanted, .. } = self;
        let Sink { config, members, inflate, stage } = sink;
        let (table, record) = inflate.split_at_mut(lzw::INFLATER_MEMORY);
        let mut result = Ok(());
        let mut started = *inflated > 0;
        let pushed = inflater.push(table, byte, &mut |mut piece| {
            *inflated += piece.len();
            if !started {
                started = true;
                match piece.split_first() {
                    Some((&gossip::PUSH_PULL, rest)) => piece = rest,
                    _ => result = Err(Error { what: "a stream that is no push/pull", at: 0 }),
                }
            }
            if result.is_ok() {
                result = parser.push(record, piece, &mut |part| wanted.want(config, members, stage, part));
            }
        });
        pushed.map_err(|_| Error { what: "compressed data broken", at: 0 })?;
        if self.inflated > MAX_INFLATED {
            return Err(Error { what: "compressed data too long", at: 0 });
        }
        result
    }
}

/// What parsing needs of the pool.
struct Sink<'p, 'm> {
    config: &'p PoolConfig<'m>,
    members: &'p Members<'m>,
    inflate: &'p mut [u8],
    stage: &'p mut [u8],
}

impl<'p, 'm> Sink<'p, 'm> {
    /// The record buffer behind the inflater's memory, and the rest.
    fn split(&mut self) -> (&mut [u8], Sink<'_, 'm>) {
        let (_, record) = self.inflate.split_at_mut(lzw::INFLATER_MEMORY);
        (record, Sink { config: self.config, members: self.members, inflate: &mut [], stage: self.stage })
    }
}

impl Wanted {
    /// Stages a part if it is wanted. A stage that is half full takes only servers, and who is known already.
    fn want(&mut self, config: &PoolConfig<'_>, members: &Members<'_>, stage: &mut [u8], part: Part<'_>) {
        match part {
            Part::Header(header) => {
                self.header = header;
                self.lot = ((u64::from(self.lot) * u64::from(header.nodes)) >> 32) as u32;
            }
            Part::Node(Err(_)) => self.skipped = self.skipped.saturating_add(1),
            // No news: the room is for what is, and for what comes behind all the members.
            Part::Node(Ok(node)) if is_known_so(members, &node) => {
                self.versions.add(node.vsn, node.state == NodeState::Alive);
                self.others = true;
                self.inadmissible |= !config.admits(node.name, node.meta);
            }
            Part::Node(Ok(node)) => {
                self.versions.add(node.vsn, node.state == NodeState::Alive);
                self.others |= node.name != config.name;
                self.inadmissible |= node.state != NodeState::Left && !config.admits(node.name, node.meta);
                let known = members.find(node.name);
                // Most of a state is known already; it would fill the stage, and the commit would ignore it.
                if known.is_some_and(|id| !members.is_news(id, &node)) {
                    self.lot = self.lot.saturating_sub(1);
                    return;
                }
                let known = known.is_some();
                let server = node_is_server(&node);
                let has_room = !members.is_full() || self.header.join;
                let drawn = self.lot == 0 && node.state == NodeState::Alive;
                if known || server || (has_room && self.staged < stage.len() / 2) {
                    self.stage(stage, NODE, &|w| node.emit(w));
                } else if members.is_full() && drawn {
                    self.lot = u32::MAX;
                    self.stage(stage, SAMPLE, &|w| node.emit(w));
                } else {
                    self.skipped = self.skipped.saturating_add(1);
                }
                self.lot = self.lot.saturating_sub(1);
            }
            Part::Clock(Clocks { member, event, query }) => self.stage(stage, CLOCKS, &|w| {
                w.uint(member);
                w.uint(event);
                w.uint(query);
            }),
            // Intents about members that are neither here nor staged would only fill the stage.
            Part::Left(node) => {
                if members.find(node).is_some() || is_staged(&stage[..self.staged], node) {
                    self.stage(stage, LEFT, &|w| w.octets(node.as_bytes()));
                }
            }
            Part::Status { node, ltime } => {
                // Intents that are old, or about members that are neither here nor staged, would only fill the stage.
                let wanted = match members.find(node) {
                    Some(id) => {
                        let known = members.get(id).status_ltime;
                        ltime > known || (ltime == known && is_staged_left(&stage[..self.staged], node))
                    }
                    None => is_staged(&stage[..self.staged], node),
                };
                if wanted {
                    self.stage(stage, STATUS, &|w| {
                        w.text(node);
                        w.uint(ltime);
                    });
                }
            }
            Part::Events(slot) => self.stage(stage, EVENTS, &|w| w.octets(slot)),
        }
    }

    fn stage(&mut self, stage: &mut [u8], kind: u8, emit: &dyn Fn(&mut Writer<'_>)) {
        let room = stage.get_mut(self.staged + STAGE_HEAD..).unwrap_or(&mut []);
        let mut writer = Writer::new(room);
        emit(&mut writer);
        let Some(len) = writer.finish().and_then(|len| u16::try_from(len).ok()) else {
            self.skipped = self.skipped.saturating_add(1);
            return;
        };
        let [low, high] = len.to_le_bytes();
        stage[self.staged..self.staged + STAGE_HEAD].copy_from_slice(&[kind, low, high]);
        self.staged += STAGE_HEAD + usize::from(len);
    }
}

/// Records of one kind in a stage.
fn staged(stage: &[u8], wanted: u8) -> impl Iterator<Item = &[u8]> {
    let mut rest = stage;
    core::iter::from_fn(move || {
        while let [kind, low, high, more @ ..] = rest {
            let len = usize::from(u16::from_le_bytes([*low, *high])).min(more.len());
            let (record, more) = more.split_at(len);
            rest = more;
            if *kind == wanted {
                return Some(record);
            }
        }
        None
    })
}

fn is_staged_left(stage: &[u8], node: &str) -> bool {
    staged(stage, LEFT).any(|name| name == node.as_bytes())
}

fn is_staged(stage: &[u8], node: &str) -> bool {
    // A large stage belongs to a large table, where everybody staged will be found: no need to search it for each.
    const SEARCHED: usize = 16 * 1024;
    stage.len() > SEARCHED
        || staged(stage, NODE)
            .any(|record| Node::parse(&mut Reader::new(record)).is_ok_and(|staged| staged.name == node))
}

/// Somebody else's record that would change nothing here (gossip spec §7.3).
fn is_known_so(members: &Members<'_>, node: &Node<'_>) -> bool {
    let Some(id) = members.find(node.name).filter(|&id| id != MemberId::SELF) else { return false };
    let slot = members.get(id);
    node.state == NodeState::Alive
        && node.incarnation <= slot.incarnation
        && node.address == slot.address()
        && !slot.is_forgotten()
}

fn node_is_server(node: &Node<'_>) -> bool {
    crate::wire::tags::parse(node.meta).any(|tag| tag == ("role", "consul"))
}

/// The length of `Buf` once the head in front of it is whole.
fn compressed_len(head: &[u8]) -> Result<Option<usize>, Error> {
    let mut r = Reader::new(head);
    let cut = |error: Error| if r_is_cut(&error) { Ok(None) } else { Err(error) };
    // Two entries, in either order; a map head of our reader wants the entries' octets to be there, so it is read by hand.
    match r.byte() {
        Ok(0x81..=0x8f) => {}
        Ok(_) => return Err(r.error("map expected")),
        Err(error) => return cut(error),
    }
    loop {
        let key = match r.raw() {
            Ok(key) => key,
            Err(error) => return cut(error),
        };
        if key == b"Buf" {
            return r.raw_head().map_or_else(cut, |len| Ok(Some(len)));
        }
        match r.uint() {
            Ok(0) if key == b"Algo" => {}
            Ok(_) => return Err(r.error("unknown compression")),
            Err(error) => return cut(error),
        }
    }
}

fn r_is_cut(error: &Error) -> bool {
    matches!(error.what, "cut short" | "octet missing" | "value missing")
}

/// An image of our state.
#[derive(Clone, Copy, Debug)]
pub(super) struct Image {
    start: usize,
    pub len: usize,
    users: u16,
    /// The table's when it was built; 0: never.
    revision: u32,
}

impl Image {
    pub const NONE: Image = Image { start: 0, len: 0, users: 0, revision: 0 };
}

/// The octets of an image.
pub(super) fn image_octets<'i>(memory: &'i [u8], images: &[Image; 2], join: bool) -> &'i [u8] {
    let image = &images[usize::from(join)];
    memory.get(image.start..image.start + image.len).unwrap_or(&[])
}

/// Writes our state into `room`: ourselves, recent events, servers, then the others, as many as fit. Returns where it
/// begins and its length.
fn write_image(
    members: &Members<'_>,
    recent: &Recent<'_>,
    leaving: bool,
    clocks: Clocks,
    join: bool,
    room: &mut [u8],
) -> (usize, usize) {
    /// Octets kept free for the header, which is written last.
    const HEADER: usize = 48;
    let order = || {
        let servers = members.ids().skip(1).filter(|&id| members.get(id).is_server());
        let others = members.ids().skip(1).filter(|&id| !members.get(id).is_server());
        core::iter::once(MemberId::SELF).chain(servers.chain(others))
    };
    // Serf remembers whom memberlist has forgotten: such a member has a status and may have left, but is no node.
    let is_node = |&id: &MemberId| id == MemberId::SELF || !members.get(id).is_forgotten();
    let node = |id: MemberId| {
        let slot = members.get(id);
        let state = match slot.state {
            _ if id == MemberId::SELF && leaving => NodeState::Left,
            State::Alive | State::Free => NodeState::Alive,
            State::Suspect => NodeState::Suspect,
            State::Dead => NodeState::Dead,
            State::Left => NodeState::Left,
        };
        Node {
            name: members.name(id),
            address: slot.address(),
            meta: members.meta(id),
            incarnation: slot.incarnation,
            state,
            vsn: Some(slot.vsn),
        }
    };
    let has_left = |id: MemberId| members.get(id).status() == MemberStatus::Left || (id == MemberId::SELF && leaving);
    let status = |w: &mut Writer<'_>, id: MemberId| {
        w.text(members.name(id));
        w.uint(members.get(id).status_ltime);
    };
    let user = UserState { clocks };
    // How many fit is found by adding up, before anything is written.
    let mut total = HEADER
        + Writer::measure(|w| {
            user.emit_front(w, usize::from(u16::MAX));
            user.emit_left(w, usize::from(u16::MAX));
            user.emit_statuses(w, usize::from(u16::MAX));
        });
    let (mut told, mut nodes, mut left, mut events) = (0, 0u32, 0, 0);
    for id in order() {
        total += Writer::measure(|w| {
            if is_node(&id) {
                node(id).emit(w);
            }
            status(w, id);
            if has_left(id) {
                w.text(members.name(id));
            }
        });
        if total > room.len() {
            break;
        }
        if id == MemberId::SELF {
            let (octets, times) = recent.measure(room.len() - total);
            (total, events) = (total + octets, times);
        }
        told += 1;
        nodes += u32::from(is_node(&id));
        left += usize::from(has_left(id));
    }
    if told == 0 {
        return (0, 0);
    }
    let mut writer = Writer::new(&mut room[HEADER..]);
    order().take(told).filter(is_node).for_each(|id| node(id).emit(&mut writer));
    let nodes_end = writer.len();
    user.emit_front(&mut writer, events);
    recent.emit(&mut writer, events);
    user.emit_left(&mut writer, left);
    order().take(told).filter(|&id| has_left(id)).for_each(|id| writer.text(members.name(id)));
    user.emit_statuses(&mut writer, told);
    order().take(told).for_each(|id| status(&mut writer, id));
    let body = writer.len();
    let header = Header { join, nodes, user_state_len: (body - nodes_end) as u32 };
    let start = HEADER - Writer::measure(|w| header.emit(w));
    header.emit(&mut Writer::new(&mut room[start..HEADER]));
    (start, HEADER - start + body)
}
