//! A small Ethernet switch in the test process: boards and other ends plug in, and the test loses, delays or cuts.
//!
//! A cable is a pair of connected UDP sockets on loopback; each datagram is one frame. QEMU takes its end as an open
//! descriptor (`-netdev dgram,local.type=fd`), so no port number has to be agreed and nobody needs root. The switch
//! learns addresses like a real one, because the board's controller takes every frame that reaches it.

use std::{
    collections::{BTreeMap, BinaryHeap},
    io,
    net::{Ipv4Addr, UdpSocket},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// Longest frame taken from a cable: 1,500 octets of payload, header and a VLAN tag.
const MAX_FRAME: usize = 1518;

/// What happens to the frames that leave the switch through one port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weather {
    /// Frames lost, in thousandths.
    pub loss_per_mille: u32,
    /// Time every frame takes.
    pub delay: Duration,
    /// Up to this much more, chosen anew for each frame; frames may overtake each other.
    pub jitter: Duration,
    /// Nothing passes, in either direction.
    pub cut: bool,
}

/// A port of the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port(usize);

/// A switch. Dropping it unplugs everybody.
pub struct Switch {
    shared: Arc<Shared>,
    events: Sender<Event>,
    forwarder: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    ports: Mutex<Vec<(Arc<UdpSocket>, Weather)>>,
}

enum Event {
    Frame(Port, Vec<u8>),
    Stop,
}

impl Switch {
    /// A switch without cables. The same `seed` loses the same frames of the same sequence.
    pub fn new(seed: u64) -> Self {
        let (events, inbox) = channel();
        let shared = Arc::new(Shared::default());
        let forwarder = thread::spawn({
            let shared = shared.clone();
            move || Forwarder { shared, seed, delayed: BinaryHeap::new(), order: 0, known: BTreeMap::new() }.run(&inbox)
        });
        Switch { shared, events, forwarder: Some(forwarder) }
    }

    /// Adds a port and gives its number and the other end of the cable.
    ///
    /// # Errors
    /// When no socket can be had.
    pub fn plug(&self) -> io::Result<(Port, UdpSocket)> {
        let near = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?);
        let far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        near.connect(far.local_addr()?)?;
        far.connect(near.local_addr()?)?;
        let mut ports = self.lock();
        let port = Port(ports.len());
        ports.push((near.clone(), Weather::default()));
        let events = self.events.clone();
        thread::spawn(move || {
            let mut frame = [0; MAX_FRAME];
            loop {
                match near.recv(&mut frame) {
                    Ok(0) => return, // the switch's own sign to stop
                    Ok(len) => {
                        if events.send(Event::Frame(port, frame[..len].to_vec())).is_err() {
                            return;
                        }
                    }
                    // Nobody at the other end yet, or no longer; a board may be started again.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(_) => return,
                }
            }
        });
        Ok((port, far))
    }

    /// Changes the weather at `port`, at once; frames already delayed keep their time.
    pub fn set(&self, port: Port, weather: Weather) {
        self.lock()[port.0].1 = weather;
    }

    /// The weather at `port`.
    pub fn weather(&self, port: Port) -> Weather {
        self.lock()[port.0].1
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<(Arc<UdpSocket>, Weather)>> {
        self.shared.ports.lock().expect("no thread panics while holding it")
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.events.send(Event::Stop);
        if let Some(forwarder) = self.forwarder.take() {
            let _ = forwarder.join();
        }
        for (near, _) in self.lock().iter() {
            // Wakes the reader: a socket whose reading half is shut down returns zero octets.
            let _ = rustix::net::shutdown(near, rustix::net::Shutdown::Read);
        }
    }
}

/// A frame on its way, ordered so that the heap gives the earliest first.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Delayed {
    due: std::cmp::Reverse<(Instant, u64)>,
    to: Port,
    frame: Vec<u8>,
}

struct Forwarder {
    shared: Arc<Shared>,
    /// State of the loss and jitter generator.
    seed: u64,
    delayed: BinaryHeap<Delayed>,
    order: u64,
    /// Which port an address was last seen at.
    known: BTreeMap<[u8; 6], Port>,
}

impl Forwarder {
    fn run(mut self, inbox: &Receiver<Event>) {
        loop {
            let now = Instant::now();
            while let Some(next) = self.delayed.peek()
                && next.due.0.0 <= now
            {
                if let Some(next) = self.delayed.pop() {
                    self.send(next.to, &next.frame);
                }
            }
            let event = match self.delayed.peek() {
                Some(next) => inbox.recv_timeout(next.due.0.0 - now),
                None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match event {
                Ok(Event::Frame(from, frame)) => self.forward(from, frame),
                Err(RecvTimeoutError::Timeout) => {}
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn forward(&mut self, from: Port, frame: Vec<u8>) {
        let Some((header, _)) = frame.split_first_chunk::<14>() else { return };
        let [d0, d1, d2, d3, d4, d5, s0, s1, s2, s3, s4, s5, ..] = *header;
        let (destination, source) = ([d0, d1, d2, d3, d4, d5], [s0, s1, s2, s3, s4, s5]);
        let weather: Vec<Weather> = {
            let ports = self.shared.ports.lock().expect("no thread panics while holding it");
            ports.iter().map(|&(_, weather)| weather).collect()
        };
        if weather[from.0].cut {
            return;
        }
        self.known.insert(source, from);
        let one = self.known.get(&destination).copied();
        for (to, weather) in weather.into_iter().enumerate().map(|(i, w)| (Port(i), w)) {
            let wanted = one.is_none_or(|one| one == to);
            if to == from || !wanted || weather.cut || self.chance(1000) < u64::from(weather.loss_per_mille) {
                continue;
            }
            let jitter = self.chance(weather.jitter.as_micros() as u64 + 1);
            let wait = weather.delay + Duration::from_micros(jitter);
            if wait.is_zero() {
                self.send(to, &frame);
            } else {
                self.order += 1;
                let due = std::cmp::Reverse((Instant::now() + wait, self.order));
                self.delayed.push(Delayed { due, to, frame: frame.clone() });
            }
        }
    }

    /// A number below `bound` (splitmix64; the bias does not matter here).
    fn chance(&mut self, bound: u64) -> u64 {
        self.seed = self.seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % bound
    }

    fn send(&self, to: Port, frame: &[u8]) {
        let socket = {
            let ports = self.shared.ports.lock().expect("no thread panics while holding it");
            ports[to.0].0.clone()
        };
        // A full or closed cable loses frames, like a real one.
        let _ = socket.send(frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BROADCAST: u8 = 0xff;

    fn frame(to: u8, from: u8, text: &[u8]) -> Vec<u8> {
        let to = if to == BROADCAST { [0xff; 6] } else { [2, 0, 0, 0, 0, to] };
        [&to[..], &[2, 0, 0, 0, 0, from], &[0x88, 0xb5], text].concat()
    }

    fn three() -> (Switch, Vec<(Port, UdpSocket)>) {
        let switch = Switch::new(1);
        let ends = (0..3).map(|_| switch.plug().unwrap()).collect::<Vec<_>>();
        for (_, socket) in &ends {
            socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        }
        (switch, ends)
    }

    fn receive(end: &(Port, UdpSocket)) -> Vec<u8> {
        let mut buf = [0; MAX_FRAME];
        let len = end.1.recv(&mut buf).unwrap();
        buf[14..len].to_vec()
    }

    #[test]
    fn floods_until_it_has_learned() {
        let (_switch, ends) = three();
        ends[0].1.send(&frame(BROADCAST, 0, b"who")).unwrap();
        assert_eq!(receive(&ends[1]), b"who");
        assert_eq!(receive(&ends[2]), b"who");
        ends[1].1.send(&frame(0, 1, b"me")).unwrap();
        assert_eq!(receive(&ends[0]), b"me");
        // End 2 must not have seen "me": the next it gets is the flood that follows.
        ends[0].1.send(&frame(BROADCAST, 0, b"next")).unwrap();
        assert_eq!(receive(&ends[2]), b"next");
    }

    #[test]
    fn a_cut_port_is_deaf_and_dumb_and_heals() {
        let (switch, ends) = three();
        switch.set(ends[1].0, Weather { cut: true, ..Weather::default() });
        ends[0].1.send(&frame(BROADCAST, 0, b"one")).unwrap();
        assert_eq!(receive(&ends[2]), b"one");
        switch.set(ends[1].0, Weather::default());
        ends[0].1.send(&frame(BROADCAST, 0, b"two")).unwrap();
        assert_eq!(receive(&ends[1]), b"two");
    }

    #[test]
    fn delay_and_loss_are_as_told() {
        let (switch, ends) = three();
        let delay = Duration::from_millis(60);
        switch.set(ends[1].0, Weather { delay, ..Weather::default() });
        let start = Instant::now();
        ends[0].1.send(&frame(BROADCAST, 0, b"late")).unwrap();
        assert_eq!(receive(&ends[1]), b"late");
        assert!(start.elapsed() >= delay);
        switch.set(ends[1].0, Weather::default());

        switch.set(ends[2].0, Weather { loss_per_mille: 300, ..Weather::default() });
        while ends[2].1.recv(&mut [0; MAX_FRAME]).unwrap() != 14 + 4 {} // "late", the last before the loss
        for i in 0..200u8 {
            ends[0].1.send(&frame(BROADCAST, 0, &[i])).unwrap();
            assert_eq!(receive(&ends[1]), [i]);
        }
        switch.set(ends[2].0, Weather::default());
        ends[0].1.send(&frame(BROADCAST, 0, b"end")).unwrap();
        let mut arrived = 0;
        while receive(&ends[2]) != b"end" {
            arrived += 1;
        }
        assert!((110..170).contains(&arrived), "{arrived} of 200 at 30 % loss");
    }
}
