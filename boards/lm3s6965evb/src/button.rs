//! The board's buttons, low while pressed. Under QEMU they are the control and the arrow keys.

use embassy_time::Timer;

use crate::reg::{Reg, reg};

reg! {
    /// Port E, pins 0 to 2 alone: the address carries the mask.
    PINS_E = 0x4002_4000 + (0b111 << 2);
    /// Port E: pull-up.
    PUR_E = 0x4002_4510;
    /// Port E: digital function.
    DEN_E = 0x4002_451C;
    /// Port F, pin 1 alone.
    PINS_F = 0x4002_5000 + (1 << 1 << 2);
    /// Port F: pull-up.
    PUR_F = 0x4002_5510;
    /// Port F: digital function.
    DEN_F = 0x4002_551C;
}

/// Looked at this often; shorter presses are bounces.
const LOOK_MS: u64 = 100;

/// A button.
#[derive(Clone, Copy)]
pub enum Button {
    Up,
    Down,
    Left,
    Select,
}

/// The buttons, and which of them were pressed at the last look.
pub struct Buttons(u32);

impl Buttons {
    /// Sets the pins up.
    pub fn start() -> Self {
        let on = |register: Reg, pins: u32| register.write(register.read() | pins);
        on(PUR_E, 0b111);
        on(DEN_E, 0b111);
        on(PUR_F, 1 << 1);
        on(DEN_F, 1 << 1);
        Buttons(0)
    }

    /// The next button that was pressed and let go. The level alone tells nothing: QEMU's pins are low until their first
    /// key.
    pub async fn next(&mut self) -> Button {
        loop {
            Timer::after_millis(LOOK_MS).await;
            let pressed = !PINS_E.read() & 0b111 | (!PINS_F.read() & 1 << 1) << 2;
            let released = self.0 & !pressed;
            self.0 = pressed;
            match released.trailing_zeros() {
                0 => return Button::Up,
                1 => return Button::Down,
                2 => return Button::Left,
                3 => return Button::Select,
                _ => {}
            }
        }
    }
}
