//! Captured and constructed bytes of real agents: they decode to the fields noted beside them, what we emit for the same
//! fields is the same bytes, and no damage to them does harm.
//!
//! Reads `vectors/gossip` and every further directory in `LICTOR_VECTORS` (paths separated by `:`).

#![allow(clippy::unwrap_used, reason = "helpers of tests may panic")]

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use agent_core::wire::{
    coordinate::Coordinate,
    crypt::{self, Key, StreamOpener},
    envelope, gossip, lzw,
    msgpack::{Reader, Writer},
    push_pull::{Clocks, Node, NodeState, Parser, Part, RECORD},
    serf, tags,
};
use serde_json::Value;

fn directories() -> Vec<PathBuf> {
    let own = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("vectors/gossip");
    let more = std::env::var("LICTOR_VECTORS").unwrap_or_default();
    std::iter::once(own).chain(more.split(':').filter(|path| !path.is_empty()).map(PathBuf::from)).collect()
}

/// All gossip vectors: (file and name, vector). Files of other kinds (RPC) in a further directory are passed over.
fn vectors() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for directory in directories() {
        let entries = std::fs::read_dir(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "json")) {
            let parsed: Value = serde_json::from_slice(&std::fs::read(file).unwrap())
                .unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            for vector in parsed.as_array().into_iter().flatten().filter(|vector| vector["transport"].is_string()) {
                let name = format!("{}: {}", file.file_name().unwrap().to_string_lossy(), vector["name"]);
                all.push((name, vector.clone()));
            }
        }
    }
    assert!(all.len() >= 100, "the vectors are missing: {}", all.len());
    all
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn base64(text: &str) -> Vec<u8> {
    let (mut bits, mut count, mut out) = (0u32, 0, Vec::new());
    for byte in text.bytes().take_while(|&byte| byte != b'=') {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits = (bits << 6) | u32::from(digit);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

fn keys(vector: &Value) -> Vec<Key> {
    let extra = vector["extra_keys"].as_array().cloned().unwrap_or_default();
    std::iter::once(vector["key"].clone()).chain(extra).filter_map(|key| Key::new(&base64(key.as_str()?))).collect()
}

fn emitted(emit: impl Fn(&mut Writer<'_>)) -> Vec<u8> {
    let mut out = vec![0; Writer::measure(&emit)];
    emit(&mut Writer::new(&mut out));
    out
}

/// What a datagram decodes to: decrypted octets and the messages inside.
fn datagram(bytes: &[u8], keys: &[Key]) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let mut data = bytes.to_vec();
    let (label, rest) = envelope::label(&mut data).ok()?;
    let label = label.to_vec();
    let plain = if keys.is_empty() { rest } else { crypt::open(keys, &[&label], rest)?.1 };
    let mut scratch = vec![0; envelope::scratch_for(envelope::MAX_PLAIN)];
    let mut messages = Vec::new();
    let result = envelope::walk(plain, &mut scratch, &mut |message| messages.push(message.to_vec()));
    result.ok().map(|()| (plain.to_vec(), messages))
}

/// The plaintext of a stream, decrypted and decompressed in pieces of `piece` octets.
fn stream(bytes: &[u8], keys: &[Key], piece: usize) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut data = bytes.to_vec();
    let (label, rest) = envelope::label(&mut data).ok()?;
    let label = label.to_vec();
    let mut plain = Vec::new();
    if keys.is_empty() {
        plain.extend_from_slice(rest);
    } else {
        let (head, frame) = rest.split_first_chunk::<5>()?;
        let len = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        let frame = frame.get(..len).filter(|frame| head[0] == envelope::ENCRYPT && frame.len() >= crypt::OVERHEAD)?;
        let (text, tag) = frame[1 + crypt::NONCE..].split_at(len - crypt::OVERHEAD);
        let nonce = frame[1..1 + crypt::NONCE].try_into().unwrap();
        let (_, mut opener) = StreamOpener::new(keys, nonce, &[head, &label], text)?;
        for part in text.chunks(piece) {
            let mut part = part.to_vec();
            opener.update(&mut part);
            plain.extend(part);
        }
        if !opener.finish(tag) {
            return None;
        }
    }
    if plain.first() != Some(&envelope::COMPRESS) {
        return Some((plain.clone(), plain));
    }
    let packed = envelope::compressed(&plain[1..]).ok()?.to_vec();
    let (mut inflater, mut memory, mut out) = (lzw::Inflater::default(), vec![0; lzw::INFLATER_MEMORY], Vec::new());
    for byte in packed {
        inflater.push(&mut memory, byte, &mut |part| out.extend_from_slice(part)).ok()?;
        // A bomb is the reader's to cut; real vectors stay far below.
        if out.len() > 4 << 20 {
            return None;
        }
    }
    inflater.ended().then_some((plain, out))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn octets(value: &Value) -> Vec<u8> {
    unhex(text(&value["hex"]))
}

fn address(ip: &Value, port: &Value) -> SocketAddr {
    let ip: IpAddr = text(&ip["ip"]).parse().unwrap();
    SocketAddr::new(ip, number(port) as u16)
}

fn source(fields: &Value) -> Option<SocketAddr> {
    (fields["SourceAddr"].is_object() && number(&fields["SourcePort"]) != 0)
        .then(|| address(&fields["SourceAddr"], &fields["SourcePort"]))
}

fn vsn(value: &Value) -> Option<[u8; 6]> {
    let octets: Vec<u8> = value.as_array()?.iter().map(|n| number(n) as u8).collect();
    octets.try_into().ok()
}

fn check_tags(meta: &[u8], expected: &Value) {
    let Some(expected) = expected["tags"].as_object() else { return };
    if meta.first() == Some(&0xff) {
        let found: Vec<_> = tags::parse(meta).collect();
        assert_eq!(found.len(), expected.len());
        assert!(found.iter().all(|(key, value)| expected[*key] == *value));
    }
}

/// Compares a leaf message (type octet first) with its noted fields. Returns what we emit for them.
fn check_gossip(message: &[u8], noted: &Value) -> Option<Vec<u8>> {
    let fields = &noted["fields"];
    let parsed = gossip::parse(message).unwrap();
    Some(match (text(&noted["type"]), parsed) {
        ("ping", gossip::Message::Ping(ping)) => {
            assert_eq!(ping.node, text(&fields["Node"]));
            assert_eq!(u64::from(ping.seq), number(&fields["SeqNo"]));
            assert_eq!(ping.source, source(fields));
            assert_eq!(ping.source_node, text(&fields["SourceNode"]));
            emitted(|w| ping.emit(w))
        }
        ("indirectPing", gossip::Message::IndirectPing(ping)) => {
            assert_eq!(ping.node, text(&fields["Node"]));
            assert_eq!(ping.target, address(&fields["Target"], &fields["Port"]));
            assert_eq!(u64::from(ping.seq), number(&fields["SeqNo"]));
            assert_eq!(ping.nack, fields["Nack"] == true);
            assert_eq!((ping.source, ping.source_node), (source(fields), text(&fields["SourceNode"])));
            emitted(|w| ping.emit(w))
        }
        ("ackResp", gossip::Message::Ack(ack)) => {
            assert_eq!(u64::from(ack.seq), number(&fields["SeqNo"]));
            assert_eq!(ack.payload, octets(&fields["Payload"]));
            if let Some(noted) = noted["payload"]["coordinate"].as_object() {
                let coordinate = Coordinate::parse(ack.payload).unwrap().unwrap();
                assert_eq!(coordinate.error, noted["Error"].as_f64().unwrap());
                assert_eq!(coordinate.height, noted["Height"].as_f64().unwrap());
                assert_eq!(coordinate.adjustment, noted["Adjustment"].as_f64().unwrap());
                let vec: Vec<f64> = noted["Vec"].as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect();
                assert_eq!(coordinate.vec[..], vec);
                assert_eq!(emitted(|w| coordinate.emit(w)), ack.payload);
            }
            emitted(|w| ack.emit(w))
        }
        ("nackResp", gossip::Message::Nack { seq }) => {
            assert_eq!(u64::from(seq), number(&fields["SeqNo"]));
            emitted(|w| gossip::emit_nack(w, seq))
        }
        ("suspect", gossip::Message::Suspect(claim)) | ("dead", gossip::Message::Dead(claim)) => {
            assert_eq!((claim.node, claim.from), (text(&fields["Node"]), text(&fields["From"])));
            assert_eq!(u64::from(claim.incarnation), number(&fields["Incarnation"]));
            emitted(|w| claim.emit(w, message[0]))
        }
        ("alive", gossip::Message::Alive(alive)) => {
            assert_eq!(alive.node, text(&fields["Node"]));
            assert_eq!(alive.address, address(&fields["Addr"], &fields["Port"]));
            assert_eq!(u64::from(alive.incarnation), number(&fields["Incarnation"]));
            assert_eq!(alive.meta, octets(&fields["Meta"]));
            assert_eq!(alive.vsn, vsn(&fields["Vsn"]));
            check_tags(alive.meta, &fields["Meta"]);
            emitted(|w| alive.emit(w))
        }
        ("user", gossip::Message::User(inner)) => {
            let mut out = vec![envelope::USER];
            out.extend(check_serf(inner, &noted["inner"])?);
            out
        }
        (noted, parsed) => panic!("{noted} decoded to {parsed:?}"),
    })
}

/// The same for a serf message.
fn check_serf(message: &[u8], noted: &Value) -> Option<Vec<u8>> {
    let fields = &noted["fields"];
    let parsed = serf::parse(message).unwrap();
    Some(match (text(&noted["type"]), parsed) {
        ("serf.join", serf::SerfMessage::Join(intent)) => {
            assert_eq!((intent.node, intent.ltime), (text(&fields["Node"]), number(&fields["LTime"])));
            emitted(|w| intent.emit_join(w))
        }
        ("serf.leave", serf::SerfMessage::Leave(intent)) => {
            assert_eq!((intent.node, intent.ltime), (text(&fields["Node"]), number(&fields["LTime"])));
            assert_eq!(intent.prune, fields["Prune"] == true);
            emitted(|w| intent.emit_leave(w))
        }
        ("serf.userEvent", serf::SerfMessage::UserEvent(event)) => {
            assert_eq!((event.name, event.ltime), (text(&fields["Name"]), number(&fields["LTime"])));
            assert_eq!((event.payload, event.coalesce), (&octets(&fields["Payload"])[..], fields["CC"] == true));
            emitted(|w| event.emit(w))
        }
        ("serf.query", serf::SerfMessage::Query(query)) => {
            assert_eq!(query.address, address(&fields["Addr"], &fields["Port"]));
            assert_eq!((query.name, query.ltime), (text(&fields["Name"]), number(&fields["LTime"])));
            assert_eq!(u64::from(query.flags), number(&fields["Flags"]));
            assert_eq!(u64::from(query.id), number(&fields["ID"]));
            assert_eq!(u64::from(query.relay_factor), number(&fields["RelayFactor"]));
            assert_eq!(query.timeout_ns, number(&fields["Timeout"]));
            assert_eq!(query.source_node, text(&fields["SourceNode"]));
            assert_eq!(query.payload, octets(&fields["Payload"]));
            let noted_filters = fields["Filters"].as_array().cloned().unwrap_or_default();
            assert_eq!(query.filters.iter().count(), noted_filters.len());
            for (filter, noted) in query.filters.iter().zip(&noted_filters) {
                match filter {
                    serf::Filter::Nodes(list) => {
                        let names: Vec<_> = serf::filter_names(list).collect();
                        assert_eq!(noted["value"], Value::from(names));
                    }
                    serf::Filter::Tag { tag, expr } => {
                        assert_eq!((tag, expr), (text(&noted["value"]["Tag"]), text(&noted["value"]["Expr"])));
                    }
                    serf::Filter::Unknown => panic!("unknown filter {noted}"),
                }
            }
            emitted(|w| query.emit(w))
        }
        ("serf.queryResponse", serf::SerfMessage::QueryResponse(response)) => {
            assert_eq!((response.from, response.ltime), (text(&fields["From"]), number(&fields["LTime"])));
            assert_eq!(u64::from(response.flags), number(&fields["Flags"]));
            assert_eq!(u64::from(response.id), number(&fields["ID"]));
            assert_eq!(response.payload, octets(&fields["Payload"]));
            check_key_response(response.payload, &noted["payload_decoded"]);
            emitted(|w| response.emit(w))
        }
        ("serf.relay", serf::SerfMessage::Relay(relay)) => {
            let header = &noted["header"];
            assert_eq!(relay.to, address(&header["DestAddr"]["IP"], &header["DestAddr"]["Port"]));
            assert_eq!(relay.name, text(&header["DestName"]));
            check_serf(relay.message, &noted["inner"]);
            emitted(|w| relay.emit(w))
        }
        (noted, parsed) => panic!("{noted} decoded to {parsed:?}"),
    })
}

fn check_key_response(payload: &[u8], noted: &Value) {
    if noted["type"] != "serf.keyResponse" {
        return;
    }
    let fields = &noted["fields"];
    let keys: Option<Vec<&str>> = fields["Keys"].as_array().map(|keys| keys.iter().map(text).collect());
    let ours = emitted(|w| {
        serf::emit_key_response(
            w,
            keys.as_deref(),
            text(&fields["Message"]),
            text(&fields["PrimaryKey"]),
            fields["Result"] == true,
        );
    });
    assert_eq!(ours, payload);
}

/// The leaf messages noted for a datagram, in order.
fn leaves<'a>(noted: &'a Value, into: &mut Vec<&'a Value>) {
    match text(&noted["type"]) {
        "hasCrc" | "compress" => leaves(&noted["inner"], into),
        "compound" => noted["parts"].as_array().unwrap().iter().for_each(|part| leaves(part, into)),
        _ => into.push(noted),
    }
}

#[test]
fn vectors_datagrams_decode_and_encode_the_same() {
    let mut count = 0;
    for (name, vector) in vectors() {
        if vector["transport"] != "udp" || !vector["decoded"].is_object() {
            continue;
        }
        println!("{name}");
        let bytes = unhex(text(&vector["hex"]));
        let (_, messages) = datagram(&bytes, &keys(&vector)).expect("decodes");
        let mut noted = Vec::new();
        leaves(&vector["decoded"]["msg"], &mut noted);
        assert_eq!(messages.len(), noted.len());
        // Texts built by hand may hold what no agent sends (unknown keys, signed integers): no need to emit those.
        let captured = !text(&vector["source"]).starts_with("constructed");
        for (message, noted) in messages.iter().zip(noted) {
            let ours = check_gossip(message, noted);
            if let (true, Some(ours)) = (captured, ours) {
                assert_eq!(ours, *message, "{noted}");
            }
        }
        count += 1;
    }
    assert!(count > 80, "{count}");
}

#[test]
fn vectors_streams_decode_and_nodes_encode_the_same() {
    let mut count = 0;
    for (name, vector) in vectors() {
        if vector["transport"] != "tcp" || !vector["decoded"].is_object() {
            continue;
        }
        println!("{name}");
        let bytes = unhex(text(&vector["hex"]));
        let (_, plain) = stream(&bytes, &keys(&vector), 61).expect("decodes");
        let noted = &vector["decoded"]["msg"];
        match text(&noted["type"]) {
            "pushPull" => [1, 13, usize::MAX].iter().for_each(|&piece| check_push_pull(&plain, noted, piece)),
            "err" => {
                let ours = emitted(|w| gossip::emit_err(w, text(&noted["fields"]["Error"])));
                assert_eq!(ours, plain);
            }
            "userStream" => {
                let mut r = Reader::new(&plain[1..]);
                r.fields(|_, r| {
                    r.uint().map(|len| assert_eq!(len, number(&noted["header"]["UserMsgLen"]))).map(|()| true)
                })
                .unwrap();
                check_serf(r.rest(), &noted["inner"]);
            }
            _ => {
                let ours = check_gossip(&plain, noted).unwrap();
                assert_eq!(ours, plain);
            }
        }
        count += 1;
    }
    assert!(count > 15, "{count}");
}

fn check_push_pull(plain: &[u8], noted: &Value, piece: usize) {
    let (mut parser, mut record) = (Parser::new(), vec![0; RECORD]);
    let (mut nodes, mut clocks, mut left, mut statuses, mut events) = (vec![], Clocks::default(), vec![], 0, vec![]);
    let user = &noted["user_state"]["fields"];
    let mut sent = Vec::new();
    for part in plain[1..].chunks(piece.min(plain.len())) {
        parser
            .push(&mut record, part, &mut |part| match part {
                Part::Header(header) => {
                    assert_eq!(header.join, noted["header"]["Join"] == true);
                    assert_eq!(u64::from(header.nodes), number(&noted["header"]["Nodes"]));
                    assert_eq!(u64::from(header.user_state_len), number(&noted["header"]["UserStateLen"]));
                    sent.extend(emitted(|w| header.emit(w)));
                }
                Part::Node(node) => {
                    let node = node.expect("node decodes");
                    check_node(&node, &noted["nodes"][nodes.len()]);
                    nodes.push(node.name.to_owned());
                    sent.extend(emitted(|w| node.emit(w)));
                }
                Part::Clock(clock) => {
                    clocks.member += clock.member;
                    clocks.event += clock.event;
                    clocks.query += clock.query;
                }
                Part::Left(name) => left.push(name.to_owned()),
                Part::Status { node, ltime } => {
                    assert_eq!(ltime, number(&user["StatusLTimes"][node]));
                    statuses += 1;
                }
                Part::Events(slot) => {
                    let octets = slot;
                    let slot = serf::Events::parse(slot).unwrap();
                    let parsed: Vec<_> = slot.iter().collect();
                    assert_eq!(octets, emitted(|w| serf::Events::emit(w, slot.ltime, parsed.iter().copied())));
                    let inner: Vec<_> = slot.iter().map(|e| (e.name.to_owned(), e.payload.to_vec())).collect();
                    events.push((slot.ltime, inner));
                }
            })
            .unwrap();
    }
    assert!(parser.is_done());
    assert_eq!(nodes.len(), noted["nodes"].as_array().unwrap().len());
    // A signed length of newer peers is read but never written.
    if !plain.windows(2).any(|pair| pair[0] == 0xd1) {
        assert_eq!(sent, plain[..sent.len()]);
    }
    if user.is_object() {
        let (member, event) = (number(&user["LTime"]), number(&user["EventLTime"]));
        assert_eq!(clocks, Clocks { member, event, query: number(&user["QueryLTime"]) });
        let noted_left: Vec<_> = user["LeftMembers"].as_array().unwrap().iter().map(text).collect();
        assert_eq!(left, noted_left);
        assert_eq!(statuses, user["StatusLTimes"].as_object().unwrap().len());
        let used = user["Events"]["used"].as_array().unwrap();
        assert_eq!(events.len(), used.len());
        for ((ltime, inner), noted) in events.iter().zip(used) {
            assert_eq!(*ltime, number(&noted["LTime"]));
            for ((name, payload), noted) in inner.iter().zip(noted["Events"].as_array().unwrap()) {
                assert_eq!((name.as_str(), payload), (text(&noted["Name"]), &octets(&noted["Payload"])));
            }
        }
    }
}

fn check_node(node: &Node<'_>, noted: &Value) {
    assert_eq!(node.name, text(&noted["Name"]));
    assert_eq!(node.address, address(&noted["Addr"], &noted["Port"]));
    assert_eq!(u64::from(node.incarnation), number(&noted["Incarnation"]));
    assert_eq!(node.meta, octets(&noted["Meta"]));
    assert_eq!(node.vsn, vsn(&noted["Vsn"]));
    let states = [NodeState::Alive, NodeState::Suspect, NodeState::Dead, NodeState::Left];
    assert_eq!(node.state, states[number(&noted["State"]) as usize]);
    check_tags(node.meta, &noted["Meta"]);
}

/// Runs everything that a receiver would run over `bytes`. The result does not matter, coming back does.
fn survive(bytes: &[u8], keys: &[Key], udp: bool) {
    let look = |message: &[u8]| {
        if let Ok(gossip::Message::User(inner)) = gossip::parse(message) {
            match serf::parse(inner) {
                Ok(serf::SerfMessage::Query(query)) => query.filters.iter().for_each(|filter| {
                    if let serf::Filter::Nodes(list) = filter {
                        serf::filter_names(list).for_each(drop);
                    }
                }),
                Ok(serf::SerfMessage::QueryResponse(response)) => drop(serf::parse_key_request(response.payload)),
                Ok(serf::SerfMessage::Relay(relay)) => drop(serf::parse(relay.message)),
                _ => {}
            }
        }
        if let Ok(gossip::Message::Ack(ack)) = gossip::parse(message) {
            let _ = Coordinate::parse(ack.payload);
        }
        if let Ok(gossip::Message::Alive(alive)) = gossip::parse(message) {
            tags::parse(alive.meta).for_each(drop);
        }
    };
    if udp {
        if let Some((_, messages)) = datagram(bytes, keys) {
            messages.iter().for_each(|message| look(message));
        }
    } else if let Some((_, plain)) = stream(bytes, keys, 64) {
        look(&plain);
        if plain.first() == Some(&gossip::PUSH_PULL) {
            let (mut parser, mut record) = (Parser::new(), vec![0; RECORD]);
            for part in plain[1..].chunks(64) {
                let result = parser.push(&mut record, part, &mut |part| {
                    if let Part::Events(slot) = part
                        && let Ok(events) = serf::Events::parse(slot)
                    {
                        events.iter().for_each(drop);
                    }
                });
                if result.is_err() {
                    break;
                }
            }
        }
    }
}

#[test]
fn vectors_survive_every_truncation_and_every_flipped_octet() {
    let work = vectors();
    std::thread::scope(|scope| {
        for shard in 0..2 {
            let work = &work;
            scope.spawn(move || {
                for (_, vector) in work.iter().skip(shard).step_by(2) {
                    damage(vector);
                }
            });
        }
    });
}

fn damage(vector: &Value) {
    let (bytes, udp) = (unhex(text(&vector["hex"])), vector["transport"] == "udp");
    let mut all_keys = vec![keys(vector)];
    if !all_keys[0].is_empty() {
        // Damage behind a valid tag: what somebody with the key could send.
        let plain = if udp {
            datagram(&bytes, &all_keys[0]).map(|found| found.0)
        } else {
            stream(&bytes, &all_keys[0], 64).map(|found| found.0)
        };
        if let Some(plain) = plain {
            damage_octets(&plain, &[], udp);
        }
    } else {
        all_keys.push(vec![Key::new(&[0; 16]).unwrap()]);
    }
    for keys in all_keys {
        damage_octets(&bytes, &keys, udp);
    }
}

fn damage_octets(bytes: &[u8], keys: &[Key], udp: bool) {
    // Decoding a large stream once per octet takes minutes: the quick run visits every seventh, which meets every kind of
    // place; the long run (`cargo xtask test --long`) visits all.
    let long = std::env::var_os("LICTOR_LONG").is_some();
    let step = if bytes.len() > 4096 && !long { 7 } else { 1 };
    for at in (0..bytes.len()).step_by(step) {
        survive(&bytes[..at], keys, udp);
        let mut bad = bytes.to_vec();
        for flip in [0x01, 0x80, 0xff] {
            bad[at] = bytes[at] ^ flip;
            survive(&bad, keys, udp);
        }
    }
}

/// Re-compressing each captured payload by the two rules of gossip spec §4 gives every octet.
#[cfg(feature = "compress")]
#[test]
fn vectors_recompress_to_the_same_octets() {
    let mut count = 0;
    for (name, vector) in vectors() {
        if !vector["decoded"].is_object() || text(&vector["source"]).starts_with("constructed") {
            continue;
        }
        let (bytes, keys) = (unhex(text(&vector["hex"])), keys(&vector));
        let plain = if vector["transport"] == "udp" {
            datagram(&bytes, &keys).map(|f| f.0)
        } else {
            stream(&bytes, &keys, 64).map(|f| f.0)
        };
        let plain = plain.expect("decodes");
        let inner = if plain[0] == envelope::CRC { &plain[5..] } else { &plain[..] };
        if inner[0] != envelope::COMPRESS {
            continue;
        }
        let packed = envelope::compressed(&inner[1..]).unwrap();
        let (mut inflater, mut memory, mut whole) = (lzw::Inflater::default(), vec![0; lzw::INFLATER_MEMORY], vec![]);
        for &byte in packed {
            inflater.push(&mut memory, byte, &mut |part| whole.extend_from_slice(part)).unwrap();
        }
        let lead = text(&vector["source"]).starts_with("serf");
        let mut out = vec![0; whole.len() * 2 + 16];
        let len = lzw::deflate(&whole, lead, &mut vec![0; lzw::DEFLATE_MEMORY], &mut out).unwrap();
        assert_eq!(&out[..len], packed, "{name}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}
