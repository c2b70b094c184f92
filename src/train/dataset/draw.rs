//! Drawing crops: which file, which channel, which part.

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

use super::cache::{BLOCKS_PER_SECOND, Cache, mean_square};
use super::{DatasetError, DatasetOptions};

/// A file counts by its length up to this: long files do not swamp the others, and short sounds do
/// not come up as often as whole pieces.
pub(crate) const MAX_COUNTED_SECONDS: f64 = 30.0;

/// Crops below this level (in half decibels below full scale, here -60 dBFS) are drawn again.
const SILENCE: u8 = 120;

/// Attempts to find a part with sound; after that the loudest of them has to do.
const ATTEMPTS: usize = 16;

/// Random numbers that depend on seed and step alone, on every machine and with every version of
/// the libraries.
pub(crate) struct Rng(ChaCha8Rng);

impl Rng {
    pub fn new(seed: u64, step: u64) -> Self {
        let mut key = *b"tessera training set, crops v001";
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&step.to_le_bytes());
        Self(ChaCha8Rng::from_seed(key))
    }

    /// In 0..1.
    pub fn uniform(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// In 0..count, for a count above 0.
    pub fn below(&mut self, count: u64) -> u64 {
        ((u128::from(self.0.next_u64()) * u128::from(count)) >> 64) as u64
    }
}

/// A part of a channel, and where it goes in the crop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub clip: usize,
    pub channel: usize,
    /// First frame.
    pub start: u64,
    pub frames: usize,
    /// Zeros before it in the crop.
    pub offset: usize,
}

/// A discrete distribution.
#[derive(Debug, Default)]
pub(crate) struct Weighted {
    items: Vec<usize>,
    /// Sums of the weights up to and including each item.
    sums: Vec<f64>,
}

impl Weighted {
    pub fn push(&mut self, item: usize, weight: f64) {
        if weight > 0.0 {
            self.items.push(item);
            self.sums.push(self.sums.last().unwrap_or(&0.0) + weight);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Not from an empty one.
    pub fn draw(&self, rng: &mut Rng) -> usize {
        self.at(rng.uniform())
    }

    /// The item at a number from 0 to 1; not from an empty one.
    pub fn at(&self, number: f64) -> usize {
        let point = number * self.sums.last().unwrap_or(&0.0);
        let at = self.sums.partition_point(|sum| *sum <= point);
        self.items[at.min(self.items.len() - 1)]
    }
}

/// The files of the training or the validation set, ready to be drawn from.
#[derive(Debug)]
pub(super) struct Draw {
    kinds: Weighted,
    /// Clips by kind.
    clips: Vec<Weighted>,
}

impl Draw {
    /// Takes the clips that `wanted` picks and that are not silent throughout.
    pub fn new(
        cache: &Cache,
        options: &DatasetOptions,
        wanted: impl Fn(usize) -> bool,
    ) -> Result<Self, DatasetError> {
        let index = cache.index();
        let mut by_kind: BTreeMap<&str, Weighted> = BTreeMap::new();
        for (number, clip) in index.clips.iter().enumerate() {
            let clips = by_kind.entry(&clip.kind).or_default();
            let sounding = (0..usize::from(clip.channels))
                .any(|channel| cache.loudness(number, channel).iter().any(|l| *l <= SILENCE));
            if wanted(number) && sounding {
                let seconds = clip.frames as f64 / f64::from(index.sample_rate);
                clips.push(number, seconds.min(MAX_COUNTED_SECONDS));
            }
        }
        if let Some(unknown) = options.kind_weights.keys().find(|k| !by_kind.contains_key(&k[..])) {
            let kinds: Vec<&str> = by_kind.into_keys().collect();
            return Err(DatasetError::Option {
                option: "kind_weights",
                value: unknown.clone(),
                expected: format!("the folder's kinds are {}", kinds.join(", ")),
            });
        }
        let mut kinds = Weighted::default();
        let mut clips = Vec::new();
        for (kind, weighted) in by_kind {
            if !weighted.is_empty() {
                kinds.push(clips.len(), options.kind_weights.get(kind).copied().unwrap_or(1.0));
                clips.push(weighted);
            }
        }
        Ok(Self { kinds, clips })
    }

    /// Whether there is nothing to draw.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// Draws a crop of `samples` samples; not from an empty set.
    pub fn place(&self, cache: &Cache, samples: usize, rng: &mut Rng) -> Place {
        let number = self.clips[self.kinds.draw(rng)].draw(rng);
        let index = cache.index();
        let clip = &index.clips[number];
        let frames = (samples as u64).min(clip.frames);
        let block = u64::from(index.sample_rate / BLOCKS_PER_SECOND);
        let level = |place: &Place| {
            let blocks = cache.loudness(place.clip, place.channel);
            let covered = (place.start / block) as usize
                ..(place.start + frames).div_ceil(block).min(blocks.len() as u64) as usize;
            let blocks = &blocks[covered];
            blocks.iter().map(|b| mean_square(*b)).sum::<f64>() / blocks.len().max(1) as f64
        };
        let mut best = None;
        for _ in 0..ATTEMPTS {
            let place = Place {
                clip: number,
                channel: rng.below(u64::from(clip.channels)) as usize,
                start: rng.below(clip.frames - frames + 1),
                frames: frames as usize,
                offset: rng.below((samples as u64 - frames) + 1) as usize,
            };
            let level = level(&place);
            if best.is_none_or(|(loudest, _)| level > loudest) {
                best = Some((level, place));
            }
            if level >= mean_square(SILENCE) {
                return place;
            }
        }
        // Nothing but long silence around one sound: go where the clip is loudest.
        let loudest = (0..usize::from(clip.channels))
            .flat_map(|channel| {
                let blocks = cache.loudness(number, channel).iter().enumerate();
                blocks.map(move |(at, loudness)| (*loudness, channel, at as u64))
            })
            .min();
        let (channel, at) = loudest.map_or((0, 0), |(_, channel, at)| (channel, at));
        let centred = (at * block + block / 2).saturating_sub(frames / 2);
        let place = Place {
            clip: number,
            channel,
            start: centred.min(clip.frames - frames),
            frames: frames as usize,
            offset: best.map_or(0, |(_, place)| place.offset),
        };
        match best {
            Some((level_of_best, best)) if level_of_best > level(&place) => best,
            _ => place,
        }
    }
}
