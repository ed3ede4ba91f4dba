//! MT19937 (Matsumoto and Nishimura, "Mersenne Twister", 1998), PyTorch's source of uniform bits on processors.

const STATE: usize = 624;
const MIDDLE: usize = 397;

/// A generator of uniform 32-bit numbers.
#[derive(Debug, Clone)]
pub(super) struct MersenneTwister {
    state: [u32; STATE],
    /// The next number of the state to be given out.
    next: usize,
}

impl MersenneTwister {
    pub fn new(seed: u32) -> Self {
        let mut state = [seed; STATE];
        for i in 1..STATE {
            let last = state[i - 1];
            state[i] = 1_812_433_253u32.wrapping_mul(last ^ (last >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: STATE }
    }

    pub fn next_u32(&mut self) -> u32 {
        if self.next == STATE {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for k in 0..STATE {
            let following = self.state[(k + 1) % STATE];
            let mixed = (self.state[k] & 0x8000_0000) | (following & 0x7fff_ffff);
            let odd = if following & 1 == 1 { 0x9908_b0df } else { 0 };
            self.state[k] = self.state[(k + MIDDLE) % STATE] ^ (mixed >> 1) ^ odd;
        }
        self.next = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ten_thousandth_number_is_that_of_the_c_plus_plus_standard() {
        let mut twister = MersenneTwister::new(5489);
        let number = (0..10_000).map(|_| twister.next_u32()).last();
        assert_eq!(number, Some(4_123_659_995)); // [rand.predef]
    }
}
