//! Emulated boards: QEMU started, watched and stopped by the test that wants one.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Ipv4Addr, UdpSocket},
    os::{fd::AsRawFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex, OnceLock},
    thread,
    time::{Duration, Instant},
};

use agent_embedded::provision::{MAX_IMAGE, Settings};
use defmt_decoder::{DecodeError, Table};

use crate::{Result, peers, ports, wait};

/// Where the firmware looks for its settings (boards/lm3s6965evb/memory.x).
const SETTINGS_ADDRESS: u32 = 0x0003_F000;
/// Start and size of the board's RAM.
const RAM: (u32, u32) = (0x2000_0000, 0x1_0000);
/// What cortex-m-rt paints unused stack with.
const PAINT: u32 = 0xCCCC_CCCC;

/// How a board reaches the world.
pub enum Network {
    /// Behind QEMU's own router, without root: the gossip and DNS ports of a loopback address lead to the board's
    /// 8301 and 8600. The board reaches every address of this machine.
    Forward(Forward),
    /// On a cable of a [`Switch`](crate::ether::Switch).
    Cable(UdpSocket),
}

/// A loopback address whose ports lead to a board.
#[derive(Clone, Copy, Debug)]
pub struct Forward {
    /// The address; what the board should advertise, with `gossip` as port.
    pub address: Ipv4Addr,
    /// Port that leads to the board's 8301, UDP and TCP.
    pub gossip: u16,
    /// Port that leads to the board's 8600, UDP and TCP.
    pub dns: u16,
}

impl Forward {
    /// Host `host` of `network` is the board.
    pub fn new(network: &ports::Network, host: u8) -> Self {
        let IpAddr::V4(address) = network.address(host) else { unreachable!("loopback networks are 127.0.0.0/8") };
        Forward { address, gossip: network.ports.serf_lan, dns: network.ports.dns }
    }

    /// What the board's settings need to say.
    pub fn advertise(&self) -> Option<([u8; 4], u16)> {
        Some((self.address.octets(), self.gossip))
    }
}

/// A button of the board; what each does is in the board's README.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Button {
    /// Leaves.
    Select,
    /// Fires the user event `button`.
    Up,
    /// Asks the query `button`.
    Down,
    /// Logs whom the board knows.
    Left,
}

/// A running board. Dropping it stops its QEMU.
pub struct Board {
    qemu: Child,
    sensor: ChildStdin,
    log: Arc<Log>,
    control: Mutex<BufReader<UnixStream>>,
    elf: PathBuf,
    _folder: tempfile::TempDir,
}

/// The board's log so far.
#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grew: Condvar,
}

impl Board {
    /// Starts a board with MAC address 02:00:00:00:00:`number`.
    ///
    /// # Panics
    /// When the firmware cannot be built or QEMU does not start; the text says why.
    pub fn start(number: u8, network: Network, settings: &Settings<'_>) -> Self {
        let mut page = [0; MAX_IMAGE];
        let len = settings.encode(&mut page).expect("the settings fit their page");
        Board::start_with_page(number, network, &page[..len])
    }

    /// Starts a board like [`Board::start`], with anything in its settings page.
    ///
    /// # Panics
    /// As [`Board::start`].
    pub fn start_with_page(number: u8, network: Network, page: &[u8]) -> Self {
        let elf = firmware().to_owned();
        let folder = tempfile::tempdir().expect("a temporary folder");
        let image = folder.path().join("settings");
        std::fs::write(&image, page).expect("the folder was just made");
        let socket = folder.path().join("control");

        let mac = format!("02:00:00:00:00:{number:02x}");
        let mut command = Command::new("qemu-system-arm");
        command.args(["-M", "lm3s6965evb", "-display", "none", "-serial", "stdio", "-kernel"]).arg(&elf);
        command.args(["-semihosting-config", "enable=on,target=native"]);
        command.arg("-qmp").arg(format!("unix:{},server=on,wait=off", socket.display()));
        command.arg("-device");
        command.arg(format!("loader,file={},addr={SETTINGS_ADDRESS:#x},force-raw=on", image.display()));
        let cable = match network {
            Network::Forward(Forward { address: host, gossip, dns }) => {
                command.arg("-nic").arg(format!(
                    "user,mac={mac},hostfwd=udp:{host}:{gossip}-:8301,hostfwd=tcp:{host}:{gossip}-:8301,\
                     hostfwd=udp:{host}:{dns}-:8600,hostfwd=tcp:{host}:{dns}-:8600"
                ));
                None
            }
            Network::Cable(cable) => {
                let number = cable.as_raw_fd();
                command.arg("-netdev").arg(format!("dgram,id=lan,local.type=fd,local.str={number}"));
                command.arg("-net").arg(format!("nic,netdev=lan,macaddr={mac}"));
                rustix::io::fcntl_setfd(&cable, rustix::io::FdFlags::empty()).expect("the cable is open");
                Some(cable)
            }
        };
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut qemu = command.spawn().expect("qemu-system-arm starts: is the package installed?");
        drop(cable); // QEMU has its own copy now.

        let log = Arc::new(Log::default());
        let (stdout, stderr) = (qemu.stdout.take().expect("piped"), qemu.stderr.take().expect("piped"));
        let name = format!("board {number}");
        thread::spawn({
            let (log, elf, name) = (log.clone(), elf.clone(), name.clone());
            move || decode(&name, &elf, stdout, &log)
        });
        thread::spawn({
            let log = log.clone();
            move || BufReader::new(stderr).lines().map_while(|line| line.ok()).for_each(|line| log.push(&name, line))
        });
        let control = connect(&socket, &log, &mut qemu);
        let sensor = qemu.stdin.take().expect("piped");
        let board = Board { qemu, sensor, log, control: Mutex::new(control), elf, _folder: folder };
        board.control("qmp_capabilities", "{}");
        board
    }

    /// Waits until a log line contains `text`, also one from before the call, and gives that line.
    ///
    /// # Panics
    /// After `limit`, or at once when the board panicked.
    pub fn wait_for(&self, text: &str, limit: Duration) -> String {
        self.log.wait_for(text, 0, limit)
    }

    /// Waits like [`Board::wait_for`], for a line after the first `seen` lines.
    ///
    /// # Panics
    /// After `limit`, or at once when the board panicked.
    pub fn wait_for_new(&self, seen: usize, text: &str, limit: Duration) -> String {
        self.log.wait_for(text, seen, limit)
    }

    /// Whether a log line contains `text` by now.
    pub fn has_logged(&self, text: &str) -> bool {
        self.count_logged(text) > 0
    }

    /// How many log lines contain `text` by now.
    pub fn count_logged(&self, text: &str) -> usize {
        self.log.lock().iter().filter(|line| line.contains(text)).count()
    }

    /// What the board has logged.
    pub fn log(&self) -> String {
        self.log.lock().join("\n")
    }

    /// How many lines the board has written.
    pub fn lines(&self) -> usize {
        self.log.lock().len()
    }

    /// Lets the thermometer show `tenths` of a degree.
    ///
    /// # Panics
    /// When QEMU is gone.
    pub fn set_sensor(&mut self, tenths: i32) {
        self.sensor.write_all(format!("{tenths}\n").as_bytes()).and_then(|()| self.sensor.flush()).expect("QEMU reads");
    }

    /// Takes the power away for good; what starts again is a new board.
    pub fn power_off(&mut self) {
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }

    /// Stops the core and the clock; [`Board::resume`] goes on where it stopped.
    pub fn pause(&self) {
        self.control("stop", "{}");
    }

    /// Undoes [`Board::pause`].
    pub fn resume(&self) {
        self.control("cont", "{}");
    }

    /// Presses the reset button.
    pub fn reset(&self) {
        self.control("system_reset", "{}");
    }

    /// Presses a button for half a second.
    pub fn press(&self, button: Button) {
        let key = match button {
            Button::Select => "ctrl",
            Button::Up => "up",
            Button::Down => "down",
            Button::Left => "left",
        };
        let keys = format!(r#"{{"keys":[{{"type":"qcode","data":"{key}"}}],"hold-time":500}}"#);
        self.control("send-key", &keys);
    }

    /// Octets of RAM that statics leave to the stack.
    ///
    /// # Panics
    /// When the firmware is gone.
    pub fn stack_room(&self) -> u32 {
        RAM.0 + RAM.1 - ram_end_of_statics(&std::fs::read(&self.elf).expect("the firmware is there"))
    }

    /// Octets of stack used at most since the start, by the paint that is left; stops nothing.
    ///
    /// # Panics
    /// When QEMU does not answer.
    pub fn stack_high_water(&self) -> u32 {
        let dump = self._folder.path().join("ram");
        let (start, size) = RAM;
        let arguments = format!(r#"{{"val":{start},"size":{size},"filename":"{}"}}"#, dump.display());
        self.control("pmemsave", &arguments);
        let ram = std::fs::read(&dump).expect("QEMU wrote it");
        let statics = ram_end_of_statics(&std::fs::read(&self.elf).expect("the firmware is there"));
        let free = &ram[(statics - start) as usize..];
        let painted = free.chunks_exact(4).take_while(|word| **word == PAINT.to_le_bytes()).count();
        size - (statics - start) - painted as u32 * 4
    }

    /// Keeps the deepest stack of this firmware's tests for `cargo xtask size`.
    ///
    /// # Errors
    /// When the stack used all of its room, or the note cannot be kept.
    pub fn note_stack(&self) -> Result<()> {
        /// Tests of one program run side by side; programs run one after the other.
        static NOTE: Mutex<()> = Mutex::new(());
        let stack = self.stack_high_water();
        wait::check(stack < self.stack_room(), || format!("the stack used all of its {} octets", self.stack_room()))?;
        let _one = NOTE.lock().map_err(|_| "another test failed here")?;
        let note = self.elf.with_extension("stack");
        let built = std::fs::metadata(&self.elf)?.modified()?;
        let is_of_this = std::fs::metadata(&note).and_then(|meta| meta.modified()).is_ok_and(|noted| noted >= built);
        let before = if is_of_this { std::fs::read_to_string(&note)?.trim().parse().unwrap_or(0) } else { 0 };
        println!("stack: {stack} octets of {} here, {before} before", self.stack_room());
        Ok(std::fs::write(note, format!("{}\n", stack.max(before)))?)
    }

    /// One command to QEMU's monitor; gives its answer as JSON text.
    fn control(&self, command: &str, arguments: &str) -> String {
        let mut control = self.control.lock().expect("no thread panics while holding it");
        let request = format!(r#"{{"execute":"{command}","arguments":{arguments}}}"#);
        control.get_mut().write_all(request.as_bytes()).expect("QEMU runs");
        loop {
            let mut line = String::new();
            let len = control.read_line(&mut line).expect("QEMU answers its monitor");
            assert!(len > 0 && !line.contains(r#""error""#), "QEMU on {command}: {line}");
            // Everything else is a greeting or an event.
            if line.contains(r#""return""#) {
                return line;
            }
        }
    }
}

impl Drop for Board {
    fn drop(&mut self) {
        self.power_off();
    }
}

impl Log {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.lines.lock().expect("no thread panics while holding it")
    }

    fn push(&self, name: &str, line: String) {
        // Shown by the test runner when a test fails.
        eprintln!("{name}: {line}");
        self.lock().push(line);
        self.grew.notify_all();
    }

    fn wait_for(&self, text: &str, seen: usize, limit: Duration) -> String {
        let end = Instant::now() + limit;
        let mut lines = self.lock();
        loop {
            if let Some(line) = lines.iter().skip(seen).find(|line| line.contains(text)) {
                return line.clone();
            }
            if let Some(line) =
                lines.iter().skip(seen).find(|line| line.contains("panic at") || line.contains("fault at"))
            {
                panic!("the board stopped while waiting for {text:?}: {line}");
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no log line with {text:?} within {limit:?}");
            lines = self.grew.wait_timeout(lines, left).expect("no thread panics while holding it").0;
        }
    }
}

/// The firmware's ELF file, built if need be, once per process.
///
/// # Panics
/// When it cannot be built; the reason is on standard error.
pub fn firmware() -> &'static Path {
    static ELF: OnceLock<PathBuf> = OnceLock::new();
    ELF.get_or_init(|| {
        let root = peers::root();
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut build = Command::new(cargo);
        build
            .args(["run", "--quiet", "--package", "xtask", "--", "firmware", "build", "lm3s6965evb"])
            .current_dir(&root);
        let output = build.stderr(Stdio::inherit()).output().expect("cargo starts");
        assert!(output.status.success(), "`cargo xtask firmware build` failed: {}", output.status);
        let text = String::from_utf8(output.stdout).expect("a path");
        root.join(text.trim())
    })
}

/// Connects to the monitor as soon as QEMU has made its socket.
fn connect(socket: &Path, log: &Log, qemu: &mut Child) -> BufReader<UnixStream> {
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        if let Ok(stream) = UnixStream::connect(socket) {
            stream.set_read_timeout(Some(Duration::from_secs(10))).expect("the socket is open");
            return BufReader::new(stream);
        }
        if let Ok(Some(status)) = qemu.try_wait() {
            panic!("QEMU ended with {status}: {:?}", log.lock());
        }
        assert!(Instant::now() < end, "QEMU did not open its monitor within 10 s");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Turns what the firmware writes by semihosting into log lines, until QEMU ends.
fn decode(name: &str, elf: &Path, mut stdout: impl Read, log: &Log) {
    let elf = std::fs::read(elf).expect("the firmware is there");
    let table = Table::parse(&elf).expect("the ELF file is whole").expect("built with log lines");
    let mut decoder = table.new_stream_decoder();
    let mut buf = [0; 1024];
    while let Ok(len @ 1..) = stdout.read(&mut buf) {
        decoder.received(&buf[..len]);
        loop {
            match decoder.decode() {
                Ok(frame) => log.push(name, frame.display(false).to_string()),
                Err(DecodeError::UnexpectedEof) => break,
                Err(DecodeError::Malformed) => log.push(name, "(a log frame that does not decode)".into()),
            }
        }
    }
}

/// The first address of RAM behind all statics: where the paint begins.
fn ram_end_of_statics(elf: &[u8]) -> u32 {
    let word = |at: usize| u32::from_le_bytes(elf[at..at + 4].try_into().expect("four octets"));
    let half = |at: usize| usize::from(u16::from_le_bytes(elf[at..at + 2].try_into().expect("two octets")));
    let (table, size, count) = (word(0x20) as usize, half(0x2e), half(0x30));
    let sections = (0..count).map(|i| table + i * size).map(|at| (word(at + 12), word(at + 20)));
    let ends = sections.filter(|(address, _)| (RAM.0..RAM.0 + RAM.1).contains(address)).map(|(a, size)| a + size);
    ends.max().expect("the firmware has statics").next_multiple_of(4)
}
