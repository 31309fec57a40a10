//! Memory-mapped registers of the LM3S6965 (Stellaris data sheet, register maps of chapters 5, 9, 12 and 15).

/// A 32-bit register at a fixed address.
#[derive(Clone, Copy)]
pub struct Reg(usize);

impl Reg {
    /// The register at `address`.
    ///
    /// # Safety
    /// `address` is a 32-bit register of this chip, and reading or writing it touches no memory that Rust owns.
    pub const unsafe fn new(address: usize) -> Self {
        Reg(address)
    }

    /// Reads it. Some registers change by being read.
    pub fn read(self) -> u32 {
        // SAFETY: promised to `new`.
        unsafe { (self.0 as *const u32).read_volatile() }
    }

    /// Writes it.
    pub fn write(self, value: u32) {
        // SAFETY: promised to `new`.
        unsafe { (self.0 as *mut u32).write_volatile(value) }
    }
}

/// Declares registers: `reg!(NAME = address, "what it is")`.
macro_rules! reg {
    ($($(#[$doc:meta])* $name:ident = $address:expr;)*) => {
        $($(#[$doc])* const $name: $crate::reg::Reg =
            // SAFETY: the addresses are those of the data sheet's register maps.
            unsafe { $crate::reg::Reg::new($address) };)*
    };
}
pub(crate) use reg;
