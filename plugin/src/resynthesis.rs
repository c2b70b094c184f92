//! The codec on the audio thread, at the model's rate: samples in, samples out, a fixed delay.
//!
//! A step's tokens need all of its samples, so its work can begin only when they are there. It is spread
//! evenly over the time in which the next step's samples come in, in small units, each due by what it costs
//! ([`Pace`]), so that no block carries much more than its share however small it is. That costs a step of
//! delay and no more.

use std::sync::Arc;

use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};
use tessera_codec::lines::{LineFinder, LinePlayer, Lines, Selection};

use crate::line_effects;
use crate::pace::Pace;
use crate::tokens::{self, FINE, Neighbours, Range, SCALES, TokenEffects};

/// The most codes that a step may have to be shown in the editor.
pub const SHOWN_CODES: usize = 64;

/// Below this (-60 dB) a step is not worth freezing.
const AUDIBLE: f32 = 1e-3;

/// Seconds of digital silence after which the output becomes digital silence, too: more than the network
/// remembers.
const SILENCE: f64 = 1.0;

/// Samples in which the output comes back from silence; before what broke the silence is heard.
const RETURN: usize = 240;

/// What a step is made with; read when its work begins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Settings {
    /// Levels that are decoded; more than the model has count as all.
    pub levels: usize,
    /// Factor on what each scale's levels add.
    pub gains: [f32; SCALES],
    /// Whether lines are drawn beside the codes, as many as suit the levels.
    pub lines: bool,
    /// What is done to the tokens.
    pub tokens: tokens::Settings,
}

/// Tokens of a step, as played, for the editor.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    /// Its number.
    pub number: u64,
    /// Codes of the first channel, level by level.
    pub codes: [u16; SHOWN_CODES],
    /// How many of them there are, with the levels that are decoded.
    pub count: usize,
    /// Whether it was lost on the way.
    pub lost: bool,
}

/// What happens while samples are made.
pub trait Observer {
    /// The tokens of a step are known.
    fn step(&mut self, step: &Step);
}

#[derive(Debug)]
struct Channel {
    encoder: StreamEncoder,
    /// None with a model that no lines suit.
    finder: Option<LineFinder>,
    decoder: StreamDecoder,
    player: LinePlayer,
    /// The samples that are made, and those that go out while the next ones come in.
    made: Box<[f32]>,
    ready: Box<[f32]>,
}

/// Units of work after which a step is encoded, its lines are found, it is known what its codes will sound like, and it is decoded.
#[derive(Debug, Clone, Copy)]
struct Ends {
    encoded: usize,
    found: usize,
    known: usize,
    decoded: usize,
}

/// Encoder, token effects and decoder of some channels.
#[derive(Debug)]
pub struct Resynthesis {
    model: Model,
    channels: Box<[Channel]>,
    /// By channel, the codes of the step at work, and the lines at its end.
    codes: Box<[Box<[u16]>]>,
    lines: Box<[Lines]>,
    /// The same before the effects, and whether they are what is decoded.
    coded: Box<[(Box<[u16]>, Lines)]>,
    as_coded: bool,
    /// By number of levels, less one: the lines that suit them.
    suiting: Box<[Selection]>,
    effects: TokenEffects,
    pace: Pace,
    ends: Ends,
    /// Samples of the current step that have come in.
    filled: usize,
    /// Whether the step before is being worked on, and the units of work done on it.
    working: bool,
    done: usize,
    settings: Settings,
    /// Largest sample of the step that comes in, and of the one at work.
    peak: f32,
    peak_at_work: f32,
    /// Steps of digital silence in a row, up to the one at work.
    silent: usize,
    /// Gain at the end of the last step, and the one to reach with the step at work.
    gain: f32,
    next_gain: f32,
    /// Whether nothing has come out yet.
    fresh: bool,
}

impl Channel {
    /// What the units of a step's work cost: encoding, finding lines, decoding in two parts, drawing lines.
    fn unit_costs(&self) -> [Vec<u64>; 5] {
        let (found, drawn) = match &self.finder {
            Some(finder) => {
                (finder.unit_costs().to_vec(), vec![LinePlayer::UNIT_COST; LinePlayer::UNITS])
            }
            None => Default::default(),
        };
        let (known, decoded) = self.decoder.unit_costs().split_at(self.decoder.units_to_trim());
        [self.encoder.unit_costs().to_vec(), found, known.to_vec(), decoded.to_vec(), drawn]
    }
}

impl Resynthesis {
    /// A stream at its beginning.
    pub fn new(model: &Model, neighbours: Arc<Neighbours>, channels: usize) -> Self {
        let per_step = model.codes_per_step(model.levels());
        let (config, chunk) = (model.config(), model.chunk_samples());
        let suiting: Box<[Selection]> =
            (1..=model.levels()).map(|levels| Selection::suiting(config, levels).live()).collect();
        let most = suiting.last().copied().unwrap_or(Selection::NONE);
        let finder = LineFinder::of_codec(config, most).map(|finder| finder.with_trims(config));
        let player = LinePlayer::new(config.sample_rate, chunk);
        let streams: Box<[Channel]> = (0..channels)
            .map(|_| Channel {
                encoder: StreamEncoder::new(model),
                finder: finder.clone(),
                decoder: StreamDecoder::new(model),
                player: player.clone(),
                made: vec![0.0; chunk].into(),
                ready: vec![0.0; chunk].into(),
            })
            .collect();
        let costs = streams.first().map_or(Default::default(), Channel::unit_costs);
        let mut end = 0;
        let [encoded, found, known, decoded, _] = costs.each_ref().map(|costs| {
            end += costs.len() * channels;
            end
        });
        // Each unit is done for one channel after the other.
        let costs = costs.iter().flatten().flat_map(|cost| std::iter::repeat_n(*cost, channels));
        Self {
            pace: Pace::new(costs, chunk),
            ends: Ends { encoded, found, known, decoded },
            channels: streams,
            codes: (0..channels).map(|_| vec![0; per_step].into()).collect(),
            lines: vec![Lines::NONE; channels].into(),
            coded: (0..channels).map(|_| (vec![0; per_step].into(), Lines::NONE)).collect(),
            as_coded: false,
            suiting,
            effects: TokenEffects::new(model, neighbours, channels),
            filled: 0,
            working: false,
            done: 0,
            settings: Settings {
                levels: model.levels(),
                gains: [1.0; SCALES],
                lines: true,
                tokens: tokens::Settings::default(),
            },
            peak: 0.0,
            peak_at_work: 0.0,
            silent: 0,
            gain: 1.0,
            next_gain: 1.0,
            fresh: true,
            model: model.clone(),
        }
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Delay in samples.
    pub fn latency(&self) -> usize {
        let lag = self.channels.first().map_or(0, |channel| channel.decoder.latency_samples());
        2 * self.model.chunk_samples() + lag
    }

    /// Has frozen scales play a range of steps that have been.
    pub fn hold(&mut self, range: Range) {
        self.effects.hold(range);
    }

    /// Replaces `frames` samples of each channel by those `latency` before. Samples must be finite.
    pub fn process(
        &mut self,
        samples: &mut [Box<[f32]>],
        frames: usize,
        settings: &Settings,
        observer: &mut impl Observer,
    ) {
        let chunk = self.model.chunk_samples();
        let mut at = 0;
        while at < frames {
            let count = (frames - at).min(chunk - self.filled);
            for (channel, samples) in self.channels.iter_mut().zip(samples.iter_mut()) {
                let samples = &mut samples[at..at + count];
                self.peak = samples.iter().fold(self.peak, |peak, sample| peak.max(sample.abs()));
                channel.encoder.fill(samples);
                if let Some(finder) = &mut channel.finder {
                    finder.fill(samples);
                }
                samples.copy_from_slice(&channel.ready[self.filled..self.filled + count]);
            }
            self.filled += count;
            at += count;
            self.work(observer);
            if self.filled == chunk {
                self.finish_step();
                self.begin_step(settings);
            }
        }
    }

    /// Does as much of the work as is due.
    fn work(&mut self, observer: &mut impl Observer) {
        if !self.working {
            return;
        }
        let channels = self.channels.len();
        while self.pace.is_due(self.done, self.filled) {
            // Channels take turns, so that a unit's weights are still in the cache for the next one.
            let channel = &mut self.channels[self.done % channels];
            let Channel { encoder, finder, decoder, player, made, .. } = channel;
            match self.done {
                done if done < self.ends.encoded => drop(encoder.advance(1)),
                done if done < self.ends.found => {
                    if let Some(finder) = finder {
                        finder.advance(1);
                    }
                }
                done if done < self.ends.decoded => drop(decoder.advance(1)),
                done => {
                    let unit = (done - self.ends.decoded) / channels;
                    player.play_unit(unit, &self.lines[done % channels], made);
                }
            }
            self.done += 1;
            if self.done == self.ends.found {
                self.exchange(observer);
            }
            if self.done == self.ends.known {
                self.trim();
            }
            if self.done == self.ends.decoded {
                self.take();
            }
        }
    }

    /// When it is known what the codes will sound like: levels that are off are put right, unless that would undo what the effects do.
    fn trim(&mut self) {
        if !self.as_coded {
            return;
        }
        for Channel { finder, decoder, .. } in &mut self.channels {
            if let Some(finder) = finder {
                let trims = finder.trims(decoder.powers());
                // Cannot fail: the decoder has just come this far.
                let _ = decoder.trim(trims);
            }
        }
    }

    /// Between decoding and drawing: the codes' sound is there.
    fn take(&mut self) {
        for Channel { decoder, made, .. } in &mut self.channels {
            if decoder.take(made).is_err() {
                made.fill(0.0);
            }
        }
    }

    /// Between encoding and decoding: the tokens are there.
    fn exchange(&mut self, observer: &mut impl Observer) {
        // None of the calls to the engine can fail here: the steps are complete, the slices as long as they
        // have to be, the codes from their codebooks. If one did, the step would be silent.
        for (channel, codes) in self.channels.iter_mut().zip(&mut self.codes) {
            if channel.encoder.take(codes).is_err() {
                codes.fill(0);
            }
        }
        for (channel, lines) in self.channels.iter_mut().zip(&mut self.lines) {
            *lines = channel.finder.as_mut().and_then(LineFinder::take).unwrap_or_default();
        }
        let number = self.effects.step();
        let audible = self.peak_at_work > AUDIBLE;
        let effects = &self.settings.tokens;
        for ((coded, codes), lines) in self.coded.iter_mut().zip(&self.codes).zip(&self.lines) {
            coded.0.copy_from_slice(codes);
            coded.1 = *lines;
        }
        let sent = self.effects.apply(&mut self.codes, &mut self.lines, effects, audible);
        let weight = self.settings.gains[FINE];
        self.lines.iter_mut().for_each(|lines| line_effects::weigh(lines, weight));
        let silence = self.silent as f64 * self.model.chunk_samples() as f64;
        let keep = silence < SILENCE * f64::from(self.model.config().sample_rate)
            || self.effects.is_frozen();
        self.next_gain = if keep { sent } else { 0.0 };
        let levels = self.settings.levels.clamp(1, self.model.levels());
        let count = self.model.codes_per_step(levels);
        let played = self.codes.iter().zip(&self.lines).zip(&self.coded);
        self.as_coded = self.settings.gains == [1.0; SCALES]
            && played.into_iter().all(|((codes, lines), (coded, own))| {
                codes[..count] == coded[..count] && lines == own
            });
        let tokens = self.codes.iter().zip(&self.lines);
        for (channel, (codes, lines)) in self.channels.iter_mut().zip(tokens) {
            for level in 0..levels {
                channel.decoder.set_gain(level, self.settings.gains[tokens::scale(level)]);
            }
            if channel.decoder.begin_with_lines(&codes[..count], levels, lines).is_err() {
                self.next_gain = 0.0;
            }
        }
        let mut step = Step {
            number,
            codes: [0; SHOWN_CODES],
            count: count.min(SHOWN_CODES),
            lost: sent < 1.0,
        };
        if let Some(codes) = self.codes.first() {
            step.codes[..step.count].copy_from_slice(&codes[..step.count]);
        }
        observer.step(&step);
    }

    /// What was worked on becomes what goes out.
    fn finish_step(&mut self) {
        if !self.working {
            return;
        }
        for channel in &mut self.channels {
            std::mem::swap(&mut channel.made, &mut channel.ready);
            if self.gain != 1.0 || self.next_gain != 1.0 {
                fade(&mut channel.ready, self.gain, self.next_gain);
            }
        }
        self.gain = self.next_gain;
        if std::mem::take(&mut self.fresh) {
            // The decoder's lag: sound from before the beginning.
            for channel in &mut self.channels {
                let lag = channel.decoder.latency_samples().min(channel.ready.len());
                channel.ready[..lag].fill(0.0);
            }
        }
    }

    fn begin_step(&mut self, settings: &Settings) {
        self.settings = *settings;
        self.peak_at_work = self.peak;
        self.silent = if self.peak == 0.0 { self.silent.saturating_add(1) } else { 0 };
        self.peak = 0.0;
        self.filled = 0;
        self.done = 0;
        self.working = true;
        let levels = settings.levels.clamp(1, self.suiting.len().max(1));
        let lines = self.suiting.get(levels - 1).filter(|_| settings.lines);
        let lines = lines.copied().unwrap_or(Selection::NONE);
        for channel in &mut self.channels {
            if let Some(finder) = &mut channel.finder {
                finder.select(lines);
                finder.begin();
            }
            // All levels, so that those that are not decoded are there when they are wanted.
            self.working &= channel.encoder.begin(self.model.levels()).is_ok();
        }
    }

    /// As if nothing had been given.
    pub fn reset(&mut self) {
        for channel in &mut self.channels {
            channel.encoder.reset();
            channel.finder.iter_mut().for_each(LineFinder::reset);
            channel.decoder.reset();
            channel.player.reset();
            channel.ready.fill(0.0);
        }
        self.effects.reset();
        (self.filled, self.done, self.working) = (0, 0, false);
        (self.peak, self.peak_at_work, self.silent) = (0.0, 0.0, 0);
        (self.gain, self.next_gain, self.fresh) = (1.0, 1.0, true);
    }
}

/// From one gain to another: down over the whole slice, up at its beginning.
fn fade(samples: &mut [f32], from: f32, to: f32) {
    let length = if to > from { RETURN.min(samples.len()) } else { samples.len() };
    for (n, sample) in samples.iter_mut().enumerate() {
        *sample *= if n < length { from + (to - from) * (n as f32 / length as f32) } else { to };
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    struct Nobody;

    impl Observer for Nobody {
        fn step(&mut self, _step: &Step) {}
    }

    static MODEL: LazyLock<(Model, Arc<Neighbours>)> = LazyLock::new(|| {
        let model = Model::shipped().unwrap();
        let neighbours = Arc::new(Neighbours::new(&model));
        (model, neighbours)
    });

    fn settings() -> Settings {
        Settings { levels: 4, gains: [1.0; 3], lines: true, tokens: tokens::Settings::default() }
    }

    fn sound(samples: usize) -> Vec<f32> {
        (0..samples)
            .map(|n| {
                let t = n as f32 / 48_000.0;
                let high = (t * 14_000.0).sin() * 0.1;
                (t * 1800.0).sin() * 0.3 + ((t * 400.0).sin() * 40.0).sin() * 0.2 + high
            })
            .collect()
    }

    fn run(sound: &[f32], block: usize, settings: &Settings) -> Vec<f32> {
        let mut stage = Resynthesis::new(&MODEL.0, MODEL.1.clone(), 1);
        let mut out = Vec::new();
        for block in sound.chunks(block) {
            let mut samples = [block.to_vec().into_boxed_slice()];
            stage.process(&mut samples, block.len(), settings, &mut Nobody);
            out.extend_from_slice(&samples[0]);
        }
        out
    }

    fn coded(sound: &[f32], levels: usize, selection: Selection) -> Vec<f32> {
        crate::coded::coded(&MODEL.0, sound, levels, selection)
    }

    #[test]
    fn it_is_the_codec_and_nothing_else() {
        let sound = sound(30_000);
        for (levels, lines) in [(1, false), (4, true), (7, false), (7, true)] {
            let selection = match lines {
                true => Selection::suiting(MODEL.0.config(), levels).live(),
                false => Selection::NONE,
            };
            let coded = coded(&sound, levels, selection);
            for block in [64, 1000, 30_000] {
                let out = run(&sound, block, &Settings { levels, lines, ..settings() });
                assert_eq!(out[..5280], [0.0; 5280][..]);
                assert_eq!(out[5280..], coded[..sound.len() - 5280], "{levels} levels in {block}");
            }
        }
    }

    #[test]
    fn only_what_is_played_as_it_was_coded_is_trimmed() {
        let mut shifted = settings();
        shifted.tokens.shift = 1;
        let quieter = Settings { gains: [1.0, 1.0, 0.9], ..settings() };
        for (settings, as_coded) in [(settings(), true), (shifted, false), (quieter, false)] {
            let mut stage = Resynthesis::new(&MODEL.0, MODEL.1.clone(), 1);
            let mut samples = [sound(9600).into_boxed_slice()];
            stage.process(&mut samples, 9600, &settings, &mut Nobody);
            assert_eq!(stage.as_coded, as_coded, "{settings:?}");
        }
    }

    #[test]
    fn every_block_carries_about_the_same() {
        let stage = Resynthesis::new(&MODEL.0, MODEL.1.clone(), 2);
        let costs = stage.channels[0].unit_costs();
        let costs: Vec<u64> = costs.iter().flatten().flat_map(|cost| [*cost, *cost]).collect();
        let chunk = MODEL.0.chunk_samples();
        let (mut done, mut largest) = (0, 0);
        for filled in (64..=chunk).step_by(64) {
            let first = done;
            while stage.pace.is_due(done, filled) {
                done += 1;
            }
            largest = largest.max(costs[first..done].iter().sum());
        }
        assert_eq!(done, costs.len(), "all of it is done when the next step begins");
        let share = costs.iter().sum::<u64>() as f64 * 64.0 / chunk as f64;
        assert!((largest as f64) < 1.2 * share, "{largest} of {share}");
    }

    #[test]
    fn a_scale_without_gain_is_not_there() {
        let sound = sound(20_000);
        let muted = Settings { gains: [1.0, 0.0, 0.0], ..settings() };
        let one = Settings { levels: 1, lines: false, ..settings() };
        let (muted, one) = (run(&sound, 480, &muted), run(&sound, 480, &one));
        assert!(muted.iter().zip(&one).all(|(a, b)| (a - b).abs() < 1e-6));
        assert_ne!(one, run(&sound, 480, &settings()));
    }

    #[test]
    fn long_silence_becomes_digital_silence_and_sound_returns_whole() {
        let mut all = sound(20_000);
        all.resize(200_000, 0.0);
        all.extend(sound(40_000));
        let out = run(&all, 512, &settings());
        let tail = 20_000 + 48_000 + 3 * 1920 + 5280;
        assert!(out[20_000..40_000].iter().any(|s| *s != 0.0));
        assert!(out[tail..200_000].iter().all(|s| *s == 0.0));
        // From where it begins again it is what it would be without the fade.
        let selection = Selection::suiting(MODEL.0.config(), 4).live();
        let coded = coded(&all, 4, selection);
        assert_eq!(out[205_280..], coded[200_000..234_720]);
    }

    #[test]
    fn what_is_frozen_sounds_without_input() {
        let mut stage = Resynthesis::new(&MODEL.0, MODEL.1.clone(), 2);
        let mut frozen = settings();
        frozen.tokens.freeze = [true; 3];
        let sound = sound(9600);
        let mut samples = [sound.clone().into_boxed_slice(), sound.into_boxed_slice()];
        stage.process(&mut samples, 9600, &settings(), &mut Nobody);
        let mut samples =
            [self::sound(9600).into_boxed_slice(), self::sound(9600).into_boxed_slice()];
        stage.process(&mut samples, 9600, &frozen, &mut Nobody);
        let mut silence =
            [vec![0.0; 192_000].into_boxed_slice(), vec![0.0; 192_000].into_boxed_slice()];
        stage.process(&mut silence, 192_000, &frozen, &mut Nobody);
        for second in silence[0].chunks(48_000) {
            let power: f32 = second.iter().map(|s| s * s).sum::<f32>() / 48_000.0;
            assert!(power > 1e-6 && power < 1.0, "{power}");
        }
    }
}
