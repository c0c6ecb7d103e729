//! Bytes of a fuzzer taken apart into numbers and texts. The end gives zeros: every input means something.

/// What is left of an input.
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        match self.0.split_first() {
            Some((first, rest)) => {
                self.0 = rest;
                *first
            }
            None => 0,
        }
    }

    fn number<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.u8())
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.number())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.number())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.number())
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        if n <= 1 { 0 } else { usize::from(self.u8()) % n }
    }

    /// Small as a rule, wild sometimes.
    pub fn size(&mut self, small: u64) -> u64 {
        match self.u8() {
            0 => 0,
            b @ 1..=199 => u64::from(b) % (small + 1),
            b @ 200..=239 => 1u64 << (b % 64),
            b @ 240..=247 => (1u64 << (b % 8 * 8)).wrapping_sub(1),
            _ => self.u64(),
        }
    }

    /// Up to 255 bytes, their number first.
    pub fn text(&mut self) -> &'a [u8] {
        let n = usize::from(self.u8()).min(self.0.len());
        let (text, rest) = self.0.split_at(n);
        self.0 = rest;
        text
    }
}
