//! What happens to a block of the host's samples, from input gain to limiter.

use crate::dsp::{Limiter, clean};
use crate::line::{BLOCK, Line};
use crate::resynthesis::{Observer, Settings};
use crate::tokens::Range;

/// Channels at most.
pub const CHANNELS: usize = 2;

/// Seconds by which the limiter looks ahead.
const LOOKAHEAD: f64 = 0.0015;

/// Seconds in which bypass switches.
const BYPASS_FADE: f32 = 0.01;

/// Seconds in which one model takes over from another.
const MODEL_FADE: f32 = 0.05;

/// The codec is not given anything louder (+24 dB): no sound is, and its network need not see it.
const LOUDEST: f32 = 16.0;

/// What the knobs say for up to [`BLOCK`] samples.
#[derive(Debug, Clone)]
pub struct Controls {
    /// Factor on what the codec is given.
    pub input: [f32; BLOCK],
    /// Factor on what comes out.
    pub output: [f32; BLOCK],
    /// Share of the codec's sound against the sound as it came in.
    pub mix: [f32; BLOCK],
    /// Factor on the difference between the channels of the codec's sound.
    pub width: [f32; BLOCK],
    /// Highest sample that is let out, if any.
    pub ceiling: Option<f32>,
    /// Whether the sound passes as it came in.
    pub bypass: bool,
    /// For the codec.
    pub settings: Settings,
}

/// Highest samples of a piece.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Levels {
    /// Of what came in.
    pub input: f32,
    /// Of what goes out.
    pub output: f32,
    /// Lowest gain of the limiter.
    pub gain: f32,
}

/// A line that is to take over.
#[derive(Debug)]
struct Coming {
    line: Box<Line>,
    /// Samples that it has been given.
    age: usize,
}

/// All that runs on the audio thread of one instance.
#[derive(Debug)]
pub struct Processor {
    line: Box<Line>,
    coming: Option<Coming>,
    limiter: Limiter,
    rate: f32,
    channels: usize,
    /// 0: the codec is heard, 1: bypassed. `None` until the first block says which.
    bypass: Option<f32>,
}

/// Samples of delay that the limiter has at `rate` Hz.
pub fn lookahead(rate: f32) -> usize {
    (LOOKAHEAD * f64::from(rate)).ceil() as usize
}

impl Processor {
    /// For a line made for the same rate and channels with [`lookahead`].
    pub fn new(line: Box<Line>, rate: f32, channels: usize) -> Self {
        let limiter = Limiter::new(channels, lookahead(rate), rate);
        Self { line, coming: None, limiter, rate, channels, bypass: None }
    }

    /// The line that is heard.
    pub fn line(&self) -> &Line {
        &self.line
    }

    /// Whether this was made for such a host.
    pub fn suits(&self, rate: f32, channels: usize) -> bool {
        self.rate == rate && self.channels == channels
    }

    /// Delay in samples, the same for all blocks.
    pub fn latency(&self) -> usize {
        self.line.latency() + self.limiter.latency()
    }

    /// Has frozen scales play a range of steps that have been.
    pub fn hold(&mut self, range: Range) {
        self.line.hold(range);
    }

    /// Lets a line take over as soon as it has something to give. Gives back a line that is not needed: one
    /// made for another host, or one that had not taken over yet.
    pub fn replace(&mut self, line: Box<Line>) -> Option<Box<Line>> {
        if !line.suits(self.rate, self.channels) {
            return Some(line);
        }
        self.coming.replace(Coming { line, age: 0 }).map(|coming| coming.line)
    }

    /// The line that has been replaced, once nothing of it is heard; the latency may have changed then.
    pub fn replaced(&mut self) -> Option<Box<Line>> {
        let done = self.coming.as_ref().is_some_and(|c| c.age >= start(&c.line) + self.fade());
        let coming = self.coming.take_if(|_| done)?;
        Some(std::mem::replace(&mut self.line, coming.line))
    }

    /// Processes up to [`BLOCK`] samples of each channel in place.
    pub fn process(
        &mut self,
        block: &mut [[f32; BLOCK]; CHANNELS],
        frames: usize,
        controls: &Controls,
        observer: &mut impl Observer,
    ) -> Levels {
        let mut levels = Levels { gain: 1.0, ..Levels::default() };
        let mut driven = [[0.0; BLOCK]; CHANNELS];
        for (block, driven) in block.iter_mut().zip(&mut driven).take(self.channels) {
            let gains = controls.input.iter().take(frames);
            for ((sample, driven), gain) in block.iter_mut().zip(driven).zip(gains) {
                *sample = clean(*sample);
                levels.input = levels.input.max(sample.abs());
                *driven = clean(*sample * gain).clamp(-LOUDEST, LOUDEST);
            }
        }
        let mut wet = driven;
        self.line.process(&mut wet, frames, &controls.settings, observer);
        let mut coming_wet = driven;
        if let Some(coming) = &mut self.coming {
            coming.line.process(&mut coming_wet, frames, &controls.settings, &mut Unobserved);
        }
        let (fade, behind) = (self.fade(), self.limiter.latency());
        for n in 0..frames {
            let mut heard = mix(&mut self.line, block, &wet, n, controls, behind);
            if let Some(Coming { line, age }) = &mut self.coming {
                let other = mix(line, block, &coming_wet, n, controls, behind);
                *age += 1;
                let share = (age.saturating_sub(start(line)) as f32 / fade as f32).min(1.0);
                if share > 0.0 {
                    heard = heard.blend(&other, share);
                }
            }
            let frame = &mut heard.frame[..self.channels];
            let gain = self.limiter.process(frame, controls.ceiling);
            levels.gain = levels.gain.min(gain);
            let bypass = self.bypass(controls.bypass);
            for (channel, block) in block.iter_mut().enumerate().take(self.channels) {
                let (processed, dry) = (heard.frame[channel], heard.dry[channel]);
                block[n] = if bypass <= 0.0 {
                    clean(processed)
                } else if bypass >= 1.0 {
                    dry
                } else {
                    clean(processed + (dry - processed) * bypass)
                };
                levels.output = levels.output.max(block[n].abs());
            }
        }
        levels
    }

    /// Sample `n` of the last `count` as the editor shows it: as it came in, at the time of what goes out.
    pub fn shown(&self, block: &[[f32; BLOCK]; CHANNELS], count: usize, n: usize) -> (f32, f32) {
        let behind = self.limiter.latency() + count - 1 - n;
        let mut sums = (0.0, 0.0);
        for (channel, block) in block.iter().enumerate().take(self.channels) {
            sums.0 += self.line.dry(channel, behind);
            sums.1 += block[n];
        }
        (sums.0 / self.channels as f32, sums.1 / self.channels as f32)
    }

    /// How far bypass is on, moved by a sample.
    fn bypass(&mut self, on: bool) -> f32 {
        let target = if on { 1.0 } else { 0.0 };
        let step = 1.0 / (BYPASS_FADE * self.rate).max(1.0);
        let now = self.bypass.map_or(target, |now| now + (target - now).clamp(-step, step));
        self.bypass = Some(now);
        now
    }

    /// Samples in which one line takes over from another.
    fn fade(&self) -> usize {
        ((MODEL_FADE * self.rate) as usize).max(1)
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        self.line.reset();
        if let Some(coming) = &mut self.coming {
            coming.line.reset();
            coming.age = 0;
        }
        self.limiter.reset();
        self.bypass = None;
    }
}

/// Samples that a line has to be given before it is heard: until its network has seen all that it sees.
fn start(line: &Line) -> usize {
    2 * line.latency()
}

/// A sample of each channel before the limiter, and as it came in, at the time of the limiter's output.
struct Heard {
    frame: [f32; CHANNELS],
    dry: [f32; CHANNELS],
}

impl Heard {
    fn blend(&self, other: &Self, share: f32) -> Self {
        let blend = |a: [f32; CHANNELS], b: [f32; CHANNELS]| {
            std::array::from_fn(|channel| a[channel] + (b[channel] - a[channel]) * share)
        };
        Self { frame: blend(self.frame, other.frame), dry: blend(self.dry, other.dry) }
    }
}

/// Sample `n` of what came in and of what the codec made of what came in before, put together.
fn mix(
    line: &mut Line,
    block: &[[f32; BLOCK]; CHANNELS],
    wet: &[[f32; BLOCK]; CHANNELS],
    n: usize,
    controls: &Controls,
    behind: usize,
) -> Heard {
    let mut heard = Heard { frame: [0.0; CHANNELS], dry: [0.0; CHANNELS] };
    let channels = line.channels();
    let mut made: [f32; CHANNELS] = std::array::from_fn(|channel| wet[channel][n]);
    let width = controls.width[n];
    if channels == 2 && width != 1.0 {
        let (mid, side) = ((made[0] + made[1]) * 0.5, (made[0] - made[1]) * 0.5 * width);
        made = [mid + side, mid - side];
    }
    let (share, gain) = (controls.mix[n], controls.output[n]);
    for channel in 0..channels {
        line.push_dry(channel, block[channel][n]);
        // Factors of 1 and 0 change nothing, so that the codec alone is heard bit for bit.
        let mixed = made[channel] * share + line.dry(channel, 0) * (1.0 - share);
        heard.frame[channel] = bounded(mixed * gain);
        heard.dry[channel] = line.dry(channel, behind);
    }
    heard
}

/// What the limiter can calculate with.
fn bounded(sample: f32) -> f32 {
    if sample.is_nan() { 0.0 } else { sample.clamp(-1e30, 1e30) }
}

/// For a line that is not heard yet.
struct Unobserved;

impl Observer for Unobserved {
    fn step(&mut self, _step: &crate::resynthesis::Step) {}
}
