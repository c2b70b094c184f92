//! The codec at the host's rate: rate conversion around [`Resynthesis`], with one delay for all blocks.

use crate::dsp::{Delay, Ratio, ToHost, ToModel};
use crate::models::Loaded;
use crate::resynthesis::{Observer, Resynthesis, Settings};
use crate::tokens::Range;

/// Samples of the host that are taken at once at most.
pub const BLOCK: usize = 64;

/// Everything that one model needs on the audio thread, made off it.
#[derive(Debug)]
pub struct Line {
    loaded: Loaded,
    rate: f32,
    channels: usize,
    stage: Resynthesis,
    /// By channel, none if the host runs at the model's rate.
    converters: Box<[(ToModel, ToHost)]>,
    /// By channel, samples at the model's rate.
    samples: Box<[Box<[f32]>]>,
    /// By channel, what came in.
    dry: Box<[Delay]>,
    latency: usize,
}

impl Line {
    /// For a host that runs at `rate` Hz; `None` if the rate is absurd. What came in can be had again up to
    /// `behind` samples later than what the codec made of it.
    pub fn new(loaded: &Loaded, rate: f32, channels: usize, behind: usize) -> Option<Self> {
        let stage = Resynthesis::new(&loaded.model, loaded.neighbours.clone(), channels);
        let ratio = Ratio::new(rate, loaded.model.config().sample_rate)?;
        let (converters, latency, room): (Box<[_]>, _, _) = if ratio.is_one() {
            (Box::default(), stage.latency(), BLOCK)
        } else {
            let room = ratio.inverse().times_rounded_up(BLOCK) + 2;
            let pair = (ToModel::new(ratio), ToHost::new(ratio, stage.latency(), room));
            let latency = pair.0.delay() + pair.1.delay();
            (vec![pair; channels].into(), latency, room)
        };
        Some(Self {
            loaded: loaded.clone(),
            rate,
            channels,
            stage,
            converters,
            samples: (0..channels).map(|_| vec![0.0; room].into()).collect(),
            dry: vec![Delay::new(latency + behind + BLOCK); channels].into(),
            latency,
        })
    }

    /// The model and what belongs to it.
    pub fn loaded(&self) -> &Loaded {
        &self.loaded
    }

    /// Whether this was made for such a host.
    pub fn suits(&self, rate: f32, channels: usize) -> bool {
        self.rate == rate && self.channels == channels
    }

    /// Number of channels.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Delay in samples of the host.
    pub fn latency(&self) -> usize {
        self.latency
    }

    /// Has frozen scales play a range of steps that have been.
    pub fn hold(&mut self, range: Range) {
        self.stage.hold(range);
    }

    /// Replaces the first `frames` (at most [`BLOCK`]) samples of each channel by those `latency` before.
    /// Samples must be finite.
    pub fn process(
        &mut self,
        block: &mut [[f32; BLOCK]],
        frames: usize,
        settings: &Settings,
        observer: &mut impl Observer,
    ) {
        let mut made = frames;
        for (channel, block) in block.iter().enumerate().take(self.channels) {
            let samples = &mut self.samples[channel];
            match self.converters.get_mut(channel) {
                None => samples[..frames].copy_from_slice(&block[..frames]),
                Some((to_model, _)) => {
                    made = 0;
                    for sample in &block[..frames] {
                        to_model.push(*sample, |sample| {
                            samples[made] = sample;
                            made += 1;
                        });
                    }
                }
            }
        }
        self.stage.process(&mut self.samples, made, settings, observer);
        for (channel, block) in block.iter_mut().enumerate().take(self.channels) {
            let samples = &self.samples[channel][..made];
            match self.converters.get_mut(channel) {
                None => block[..frames].copy_from_slice(samples),
                Some((_, to_host)) => {
                    samples.iter().for_each(|sample| to_host.push(*sample));
                    block[..frames].iter_mut().for_each(|sample| *sample = to_host.pull());
                }
            }
        }
    }

    /// Takes a sample as it came in.
    pub fn push_dry(&mut self, channel: usize, sample: f32) {
        self.dry[channel].push(sample);
    }

    /// The sample that came in `latency` samples and `behind` before the last.
    pub fn dry(&self, channel: usize, behind: usize) -> f32 {
        self.dry[channel].tap(self.latency + behind)
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        self.stage.reset();
        self.dry.iter_mut().for_each(Delay::reset);
        for (to_model, to_host) in &mut self.converters {
            to_model.reset();
            to_host.reset();
        }
    }
}
