//! Partials of a pitch that is known, in the bins whose directions are noise.

use crate::config::CodecConfig;
use crate::lines::{COMB_BANDS, COMB_EDGES, Teeth};
use crate::math;

/// Hz over which a comb sets in above the learned phases, and ends at the top of its last band.
const SETS_IN: f64 = 200.0;
const ENDS: f64 = 1000.0;
/// A turn, where fractions of one are whole numbers.
const TURN: f64 = (1u64 << 32) as f64;

/// How a comb shapes the bins above the learned ones.
pub struct CombShape {
    /// The first bin, and the width of one in Hz.
    first: f64,
    width: f64,
    /// By bin and band: how much of the band's strength it has.
    shares: Box<[[f32; COMB_BANDS]]>,
}

impl CombShape {
    /// For `bins` bins from the bin `first`.
    pub fn new(config: &CodecConfig, first: usize, bins: usize) -> Self {
        let width = f64::from(config.sample_rate) / config.synthesis_window.max(1) as f64;
        let [bottom, between, top] = COMB_EDGES;
        let share = |bin: usize| {
            let hz = (first + bin) as f64 * width;
            let rise = ((hz - bottom) / SETS_IN).clamp(0.0, 1.0);
            let fall = ((top - hz) / ENDS).clamp(0.0, 1.0);
            let all = (rise * fall) as f32;
            if hz < between { [all, 0.0] } else { [0.0, all] }
        };
        let shares: Vec<_> = (0..bins).map(share).collect();
        let used = shares.iter().rposition(|s| *s != [0.0; COMB_BANDS]).map_or(0, |last| last + 1);
        Self { first: first as f64, width, shares: shares[..used].into() }
    }

    /// Adds to the log magnitudes of the bins what noise gains by a comb filter, `1 / (1 - g z)` for a turn `z` a period
    /// long and a strength `g`, and loses between its teeth. Over a period of the pitch the mean power stays.
    pub fn shape(&self, teeth: &Teeth, log_magnitudes: &mut [f32]) {
        let turn = |periods: f64| {
            let (cos, sin) =
                math::cos_sin_of_turn((periods.fract() * TURN) as usize, TURN as usize);
            [cos, sin]
        };
        let periods = self.width / teeth.hz;
        let (mut place, step) = (turn(self.first * periods), turn(periods));
        for (log_magnitude, shares) in log_magnitudes.iter_mut().zip(&self.shares) {
            let strengths = shares.iter().zip(&teeth.strengths);
            let g: f32 = strengths.map(|(share, strength)| share * strength).sum();
            if g > 0.0 {
                let power = (1.0 - g * g) / (1.0 - 2.0 * g * place[0] as f32 + g * g);
                *log_magnitude += 0.5 * math::ln(power);
            }
            place =
                [place[0] * step[0] - place[1] * step[1], place[0] * step[1] + place[1] * step[0]];
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.shares)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEETH: Teeth = Teeth { hz: 250.0, strengths: [0.6, 0.4] };

    fn shaped(teeth: &Teeth) -> Vec<f32> {
        // 25 Hz a bin, from 1 kHz.
        let mut logs = vec![0.0; 921];
        CombShape::new(&CodecConfig::default(), 40, 921).shape(teeth, &mut logs);
        logs
    }

    #[test]
    fn partials_stand_out_and_the_rest_gives_way() {
        let logs = shaped(&TEETH);
        let db = |hz: usize| 8.686 * logs[hz / 25 - 40];
        // (1 + g) / (1 - g) is 6 dB for 0.6, 3.7 for 0.4.
        assert!((db(1_500) - 6.02).abs() < 0.01, "{}", db(1_500));
        assert!((db(1_625) + 6.02).abs() < 0.01, "{}", db(1_625));
        assert!((db(3_000) - 3.68).abs() < 0.01, "{}", db(3_000));
        assert!(db(7_500) > 1.0 && db(7_500) < 2.5, "{}", db(7_500));
        assert_eq!(logs[(8_000 / 25) - 40..].iter().copied().map(f32::abs).sum::<f32>(), 0.0);
    }

    #[test]
    fn power_stays_over_a_period() {
        let logs = shaped(&TEETH);
        for first in [1_500, 1_775, 4_000] {
            let bins = &logs[first / 25 - 40..][..10];
            let power: f32 = bins.iter().map(|log| (2.0 * log).exp()).sum::<f32>() / 10.0;
            assert!((power - 1.0).abs() < 0.02, "{power} from {first} Hz");
        }
    }

    #[test]
    fn without_strength_no_bit_changes() {
        assert!(shaped(&Teeth { strengths: [0.0; 2], ..TEETH }).iter().all(|log| *log == 0.0));
    }
}
