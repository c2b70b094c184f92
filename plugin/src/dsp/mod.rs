//! Signal processing that knows nothing of tokens: delay, rate conversion, limiting.
//!
//! Everything allocates when it is made and never afterwards, and gives the same samples however its
//! input is cut into calls.

mod delay;
mod history;
mod limiter;
mod resample;

pub use delay::Delay;
pub use history::History;
pub use limiter::Limiter;
pub use resample::{Kernel, Ratio, ToHost, ToModel};

/// The sample itself, or silence for what no host should have to see: NaN, infinity, subnormal numbers.
pub fn clean(sample: f32) -> f32 {
    if sample.is_normal() { sample } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_normal_numbers_pass() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -f32::from_bits(1)] {
            assert_eq!(clean(bad).to_bits(), 0);
        }
        for good in [1.0, -0.3, f32::MIN_POSITIVE, f32::MAX] {
            assert_eq!(clean(good), good);
        }
    }
}
