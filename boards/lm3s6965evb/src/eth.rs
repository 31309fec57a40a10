//! The chip's Ethernet controller as an embassy-net driver.
//!
//! Sending is synchronous: a frame is copied to the FIFO and on its way before the next. Receiving takes one frame at
//! a time from a FIFO of up to 31, and lets the agent run before the next: its socket has room for a few datagrams, and
//! all members answer a query at once. The MAC address is read from the controller, where QEMU's `mac=` or the boot loader
//! put it, so that one image serves many boards.

use core::task::Context;

use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;
use static_cell::ConstStaticCell;

use crate::{irq, reg::reg};

reg! {
    /// Interrupt status; writing ones clears.
    STATUS = 0x4004_8000;
    /// Interrupt mask.
    MASK = 0x4004_8004;
    /// Receive control.
    RCTL = 0x4004_8008;
    /// Transmit control.
    TCTL = 0x4004_800C;
    /// Both FIFOs.
    DATA = 0x4004_8010;
    /// MAC address, octets 0 to 3.
    MAC_LOW = 0x4004_8014;
    /// MAC address, octets 4 and 5.
    MAC_HIGH = 0x4004_8018;
    /// Frames waiting.
    WAITING = 0x4004_8034;
    /// Start sending.
    SEND = 0x4004_8038;
}

const RX_ARRIVED: u32 = 1;
/// RX overrun: the FIFO was full and is reset.
const RX_OVERRUN: u32 = 1 << 4;
/// Enable, drop frames with a bad checksum.
const RX_ON: u32 = 1 | 8;
const RX_RESET: u32 = 0x10;
/// Enable, pad to 60 octets, append the checksum, full duplex.
const TX_ON: u32 = 1 | 2 | 4 | 0x10;

/// Ethernet header and payload, without checksum.
const FRAME: usize = 1514;
/// The same, padded to whole words together with the two octets of length in front.
const BUFFER: usize = (2 + FRAME).next_multiple_of(4);

static ARRIVED: AtomicWaker = AtomicWaker::new();
static RX: ConstStaticCell<[u8; BUFFER]> = ConstStaticCell::new([0; BUFFER]);
static TX: ConstStaticCell<[u8; BUFFER]> = ConstStaticCell::new([0; BUFFER]);

/// The controller. There is one.
pub struct Ethernet {
    rx: &'static mut [u8; BUFFER],
    tx: &'static mut [u8; BUFFER],
    mac: [u8; 6],
    /// A frame was taken and the agent has not run since.
    is_full: bool,
}

impl Ethernet {
    /// Resets and starts the controller.
    ///
    /// # Panics
    /// When called twice.
    pub fn start() -> Self {
        let [a, b, c, d] = MAC_LOW.read().to_le_bytes();
        let [e, f, ..] = MAC_HIGH.read().to_le_bytes();
        RCTL.write(RX_RESET);
        RCTL.write(RX_ON);
        TCTL.write(TX_ON);
        STATUS.write(u32::MAX);
        MASK.write(RX_ARRIVED | RX_OVERRUN);
        irq::enable(irq::ETHERNET);
        Ethernet { rx: RX.take(), tx: TX.take(), mac: [a, b, c, d, e, f], is_full: false }
    }

    /// The board's MAC address.
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// True when a frame waits; otherwise `cx` is woken when one does.
    fn has_frame(&self, cx: &mut Context<'_>) -> bool {
        ARRIVED.register(cx.waker());
        let waiting = WAITING.read() & 0x3f != 0;
        // The handler masked the line's source; open it again now that somebody listens.
        MASK.write(RX_ARRIVED | RX_OVERRUN);
        waiting
    }
}

/// A frame arrived (vector in irq.rs).
pub fn on_interrupt() {
    let status = STATUS.read();
    if status & RX_OVERRUN != 0 {
        RCTL.write(RX_RESET);
        RCTL.write(RX_ON);
    }
    STATUS.write(status);
    MASK.write(0);
    ARRIVED.wake();
}

impl Driver for Ethernet {
    type RxToken<'a> = Rx<'a>;
    type TxToken<'a> = Tx<'a>;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Rx<'_>, Tx<'_>)> {
        if core::mem::take(&mut self.is_full) {
            cx.waker().wake_by_ref();
            return None;
        }
        self.is_full = self.has_frame(cx);
        self.is_full.then_some((Rx(self.rx), Tx(self.tx)))
    }

    fn transmit(&mut self, _cx: &mut Context<'_>) -> Option<Tx<'_>> {
        Some(Tx(self.tx))
    }

    fn link_state(&mut self, _cx: &mut Context<'_>) -> LinkState {
        LinkState::Up // The model has no PHY to ask.
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME;
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.mac)
    }
}

/// The next frame of the receive FIFO.
pub struct Rx<'a>(&'a mut [u8; BUFFER]);

impl RxToken for Rx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        // The first word: in its low half the length of length, frame and checksum; in its high half the first two
        // octets of the frame.
        let first = DATA.read();
        let total = (first & 0xffff) as usize;
        self.0[..4].copy_from_slice(&first.to_le_bytes());
        for word in 1..total.div_ceil(4) {
            let octets = DATA.read().to_le_bytes();
            // Longer than we announced to our peers: empty the FIFO, keep what fits.
            if let Some(room) = self.0.get_mut(word * 4..word * 4 + 4) {
                room.copy_from_slice(&octets);
            }
        }
        let end = total.saturating_sub(4).clamp(2, 2 + FRAME);
        f(&mut self.0[2..end])
    }
}

/// Room for one frame to send.
pub struct Tx<'a>(&'a mut [u8; BUFFER]);

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let result = f(&mut self.0[2..2 + len]);
        // In front of the frame: the length of what follows its 14-octet header.
        let payload = len.saturating_sub(14) as u16;
        self.0[..2].copy_from_slice(&payload.to_le_bytes());
        for word in self.0[..(2 + len).next_multiple_of(4)].chunks_exact(4) {
            DATA.write(u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        }
        SEND.write(1);
        result
    }
}
