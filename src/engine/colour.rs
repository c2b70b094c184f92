//! What a stream has sounded like of late, for steps that are made up.

use crate::config::CodecConfig;

/// What the median of a log magnitude can move by in a second, in nepers: slow enough that a syllable does not
/// take it along, fast enough that it forgets within seconds.
const NEPERS_A_SECOND: f64 = 6.0;
/// Seconds of made-up sound before it begins to turn into the median.
const OWN: f64 = 0.08;
/// Seconds that this takes.
const TURN: f64 = 0.12;

/// Running medians of what the decoder's head says of magnitudes.
///
/// Sound that goes on for a while without anyone knowing how is best expected to be what it mostly was: of all
/// guesses that do not change, the median of the logarithms is the nearest to them. A stochastic approximation
/// (Robbins and Monro 1951): each value moves a fixed way towards the newest.
#[derive(Debug, Clone)]
pub struct Colour {
    medians: Box<[f32]>,
    heard: bool,
    /// Frames made up since the last that was not, and whether the next one is.
    made_up: u32,
    making_up: bool,
    /// The way that a median moves with a frame.
    step: f32,
    frame_seconds: f32,
}

impl Colour {
    /// Of streams of a codec whose head gives `magnitudes` log magnitudes for a frame.
    pub fn new(config: &CodecConfig, magnitudes: usize) -> Self {
        let frame_seconds = config.hop as f64 / f64::from(config.sample_rate);
        Self {
            medians: vec![0.0; magnitudes].into(),
            heard: false,
            made_up: 0,
            making_up: false,
            step: (NEPERS_A_SECOND * frame_seconds) as f32,
            frame_seconds: frame_seconds as f32,
        }
    }

    /// As if nothing had been heard.
    pub fn reset(&mut self) {
        (self.heard, self.made_up, self.making_up) = (false, 0, false);
    }

    /// Says whether the frames that follow are made up.
    pub fn make_up(&mut self, making_up: bool) {
        self.making_up = making_up;
    }

    /// Takes note of a frame's log magnitudes, or turns those of one that is made up into the medians, the more
    /// the longer this goes on.
    pub fn tint(&mut self, magnitudes: &mut [f32]) {
        if self.making_up {
            let seconds = self.made_up as f32 * self.frame_seconds;
            self.made_up = self.made_up.saturating_add(1);
            let share = ((seconds - OWN as f32) / TURN as f32).clamp(0.0, 1.0);
            if self.heard {
                for (own, median) in magnitudes.iter_mut().zip(&self.medians) {
                    *own += share * (median - *own);
                }
            }
            return;
        }
        self.made_up = 0;
        if !self.heard {
            self.medians.copy_from_slice(magnitudes);
            self.heard = true;
            return;
        }
        for (median, own) in self.medians.iter_mut().zip(magnitudes) {
            *median += (*own - *median).clamp(-self.step, self.step);
        }
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        size_of_val(&*self.medians)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_up_turns_into_what_was_mostly_heard() {
        let config = CodecConfig::default();
        let mut colour = Colour::new(&config, 2);
        // Loud for a seventh of the time, and another sound that stays.
        for frame in 0..700 {
            colour.tint(&mut [if frame % 7 == 3 { 5.0 } else { -4.0 }, 1.0]);
        }
        colour.make_up(true);
        let mut made_up: Vec<[f32; 2]> = (0..30)
            .map(|_| {
                let mut frame = [5.0, 1.0];
                colour.tint(&mut frame);
                frame
            })
            .collect();
        assert_eq!(made_up[7], [5.0, 1.0]);
        assert!(made_up.windows(2).all(|two| two[1][0] <= two[0][0]));
        let end = made_up.pop().unwrap();
        assert!((end[0] + 4.0).abs() < 0.2 && (end[1] - 1.0).abs() < 1e-6, "{end:?}");
        // Heard again: nothing is changed, and the next gap begins anew.
        colour.make_up(false);
        let mut frame = [2.0, 2.0];
        colour.tint(&mut frame);
        assert_eq!(frame, [2.0, 2.0]);
        colour.make_up(true);
        colour.tint(&mut frame);
        assert_eq!(frame, [2.0, 2.0]);
    }

    #[test]
    fn nothing_heard_changes_nothing() {
        let mut colour = Colour::new(&CodecConfig::default(), 1);
        colour.make_up(true);
        for _ in 0..40 {
            let mut frame = [3.0];
            colour.tint(&mut frame);
            assert_eq!(frame, [3.0]);
        }
    }
}
