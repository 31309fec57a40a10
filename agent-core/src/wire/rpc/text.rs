//! Text of bounded length: the rest is counted as lost, never stored.

/// Up to `N` octets of text.
#[derive(Clone, Copy)]
pub struct Text<const N: usize> {
    octets: [u8; N],
    len: u8,
    cut: bool,
}

impl<const N: usize> Text<N> {
    /// Nothing.
    pub const EMPTY: Self = Text { octets: [0; N], len: 0, cut: false };

    /// `text`, cut when it is too long.
    pub fn new(text: &str) -> Self {
        let mut new = Self::EMPTY;
        new.push(text.as_bytes());
        new
    }

    /// Appends what fits.
    pub fn push(&mut self, octets: &[u8]) {
        const { assert!(N <= 255, "the length is one octet") };
        let at = usize::from(self.len);
        let taken = octets.len().min(N - at);
        self.octets[at..at + taken].copy_from_slice(&octets[..taken]);
        self.len = (at + taken) as u8;
        self.cut |= taken < octets.len();
    }

    /// Appends `number` in decimal digits.
    pub fn push_number(&mut self, number: u64) {
        if number >= 10 {
            self.push_number(number / 10);
        }
        self.push(&[b'0' + (number % 10) as u8]);
    }

    /// The text; an octet that is not UTF-8 ends it.
    pub fn as_str(&self) -> &str {
        let octets = &self.octets[..usize::from(self.len)];
        match core::str::from_utf8(octets) {
            Ok(text) => text,
            Err(error) => core::str::from_utf8(&octets[..error.valid_up_to()]).unwrap_or(""),
        }
    }

    /// True when there is nothing.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// False when something did not fit or is not text: the value must not be taken for a name.
    pub fn is_whole(&self) -> bool {
        !self.cut && self.as_str().len() == usize::from(self.len)
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.len = 0;
        self.cut = false;
    }
}

impl<const N: usize> core::fmt::Write for Text<N> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}

impl<const N: usize> core::fmt::Debug for Text<N> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        core::fmt::Debug::fmt(self.as_str(), f)
    }
}
