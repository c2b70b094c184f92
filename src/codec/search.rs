//! Analysis by synthesis: codes that are looked for by decoding them.
//!
//! The encoder answers at once, with one look at the sound. For a file there is time to hear what comes out:
//! the latents descend along the gradient of the loss that the model was trained with, through the decoder
//! and, straight through, the quantizer, and the codes of where they arrive decode to something closer to the
//! original. Neither the bits nor the decoder know of it. With a prior, codes that are likely after those
//! before them count as nearer, which saves the bits that better codes would cost. Speech coders choose their
//! excitation so (Schroeder and Atal 1985); descending in the latents is known from images (Campos et al.
//! 2019, "Content adaptive optimization for neural image compression").

use candle_core::{Tensor, Var};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;

use super::grains::GrainSearch;
use super::{Codec, CodecError, append, channels_expected};
use crate::lines::{LineFinder, LinePlayer, Lines, Selection, Trims};
use crate::model::ops::{EnvelopeLoss, SpectralLoss};
use crate::model::{Bottleneck, Choice, Quantizer};
use crate::prior::Prior;
use crate::threads::{cores, on_threads};
use crate::tokens::Tokens;
use crate::train::TrainConfig;
use crate::trims::TrimSearch;

/// Steps of codes that are looked for together: about five seconds.
const BLOCK_STEPS: usize = 128;
/// The most blocks that are looked for side by side unless more are asked for.
const MOST_BLOCKS: usize = 8;
/// Length of a move at first, as a share of the latents' size: of many moves, and of [`FEW_MOVES`] and fewer.
const RATE: [f64; 2] = [0.015, 0.008];
const FEW_MOVES: usize = 10;
/// What is left of it at the end.
const FINAL_SHARE: f64 = 0.1;
/// Decay of the gradient's running mean, and of its mean square's.
const DECAY: [f64; 2] = [0.8, 0.95];
/// What the logarithm of a code's odds weighs against half its squared distance: where bits are few, and where not.
const ODDS: [f64; 2] = [0.073, 0.02];
/// Moves after which the odds are asked for anew.
const MOVES_OF_ODDS: usize = 2;
/// Weight of the distance between latents and their codes: what the decoder is given is what was listened to.
const COMMITMENT: f64 = 0.25;

/// How long codes are looked for.
#[derive(Clone, Copy)]
pub struct Effort<'a> {
    /// Moves from the encoder's answer to a better one, for each block of about five seconds. Twenty find most of
    /// what there is.
    pub moves: usize,
    /// Blocks that are looked for side by side, each on a core of its own and with some 100 MB. What is found does not
    /// depend on it.
    pub at_once: usize,
    /// Asked before each block and move, on several threads: whether to give up with [`CodecError::Stopped`].
    pub stop: &'a (dyn Fn() -> bool + Sync),
}

impl Effort<'_> {
    /// A number of moves, on as many cores as there are, up to eight, and no stop before the end.
    pub fn moves(moves: usize) -> Self {
        Self { moves, at_once: cores().min(MOST_BLOCKS), stop: &|| false }
    }
}

/// Samples in, tokens out, like [`EncodeStream`](super::EncodeStream): later, and better ones.
///
/// Blocks know nothing of what was found for one another, so that as many are looked for side by side as there are
/// cores: what the decoder remembers when a block begins is taken to be what the encoder would have said before it.
pub struct SearchStream<'a> {
    codec: &'a Codec,
    quantizer: Quantizer,
    losses: Vec<SpectralLoss>,
    envelope: EnvelopeLoss,
    /// Weight of the envelope's loss.
    envelope_weight: f64,
    effort: Effort<'a>,
    prior: Option<&'a Prior>,
    /// Weight of the odds that it gives.
    odds: f64,
    /// Steps behind a block that are decoded with it, as they overlap with what it decodes to.
    ahead: usize,
    /// By channel: samples of the context, then those not coded yet.
    waiting: Vec<Vec<f32>>,
    /// By channel: what finds lines, if there are to be any, and those of the steps that wait.
    finders: Vec<Option<LineFinder>>,
    lines: Vec<Vec<Lines>>,
    /// What finds grains, if there are to be any, and the steps that each stays for.
    grains: Option<(GrainSearch, usize)>,
    /// What chooses trims, if there are to be any.
    trims: Option<TrimSearch>,
    /// Steps of the context: what the encoder has to hear for what the decoder remembers.
    context_steps: usize,
    /// Steps before the context.
    dropped: u64,
}

/// Steps of a channel that are looked for together.
struct Block {
    channel: usize,
    /// Steps before it among those waiting.
    start: usize,
    steps: usize,
}

impl Codec {
    /// Begins coding `channels` channels at the codec's rate to the first `levels` levels, and looks for
    /// better codes than the encoder's. On another kind of processor others may be found. The tokens have the
    /// lines that `lines` select; what those will stand for is not asked of the codes, nor what trims will put right, which
    /// [`files::encode_searching`](crate::files::encode_searching) finds for what the codes have become. With the `prior` that
    /// they will be coded with, they are such that it takes fewer bits.
    ///
    /// # Errors
    /// The network fails.
    pub fn searching_encoder<'a>(
        &'a self,
        channels: usize,
        levels: usize,
        lines: Selection,
        prior: Option<&'a Prior>,
        effort: Effort<'a>,
    ) -> Result<SearchStream<'a>, CodecError> {
        let config = self.config();
        let levels = levels.min(config.levels());
        let mut training = TrainConfig { codec: config.clone(), ..TrainConfig::default() };
        // Phases are compared where the decoder has any.
        training.loss.complex_top = f64::from(config.noise_band[0]);
        let longest = training.resolutions.iter().flatten().map(|r| r.window).max().unwrap_or(0);
        let overlap = config.lag_samples();
        let period = usize::from(lines.grain);
        let search = || GrainSearch::new(config, self.network.decoder.synthesis());
        let grains = if period > 0 { search() } else { None };
        // Another device shares out what there is to do by itself.
        let at_once = if self.device.is_cpu() { effort.at_once.max(1) } else { 1 };
        let losses = training
            .resolutions
            .iter()
            .map(|turn| SpectralLoss::new(config.sample_rate, turn, training.loss))
            .collect::<candle_core::Result<_>>()?;
        Ok(SearchStream {
            codec: self,
            quantizer: self.network.quantizer.prefix(levels),
            losses,
            envelope: EnvelopeLoss::new(self.network.decoder.synthesis(), &self.device)?,
            envelope_weight: training.envelope,
            effort: Effort { at_once, ..effort },
            prior: prior.filter(|prior| *prior.layout() == config.layout()),
            odds: ODDS[usize::from(config.bits_per_second(levels) >= Selection::LOW_RATE)],
            ahead: (overlap + longest).div_ceil(config.samples_per_step()),
            waiting: vec![Vec::new(); channels],
            finders: vec![LineFinder::of_codec(config, lines); channels],
            lines: vec![Vec::new(); channels],
            grains: grains.map(|search| (search, period)),
            trims: (lines.trim > 0.0).then(|| TrimSearch::new(config, lines.trim)),
            context_steps: 0,
            dropped: 0,
        })
    }
}

impl SearchStream<'_> {
    /// With odds that count for so many times as much: a bit of a code costs that many times what suits the codes' rate.
    pub(crate) fn with_price(self, price: f32) -> Self {
        Self { odds: self.odds * f64::from(price), ..self }
    }

    /// Takes samples, one slice per channel and all of one length, and gives the tokens of the blocks they complete, one
    /// `Tokens` per channel; often of no steps.
    ///
    /// # Errors
    /// Channels of different lengths, the network fails, or the search was to stop.
    pub fn push<S: AsRef<[f32]>>(&mut self, samples: &[S]) -> Result<Vec<Tokens>, CodecError> {
        channels_expected(self.waiting.len(), samples)?;
        for (channel, samples) in samples.iter().enumerate() {
            self.take(channel, samples.as_ref());
        }
        let mut tokens = self.none();
        let steps = self.steps_at_once();
        while self.steps_waiting() >= steps + self.ahead {
            self.code(steps, &mut tokens)?;
        }
        Ok(tokens)
    }

    /// Codes what is left, the last step filled up with silence.
    ///
    /// # Errors
    /// The network fails, or the search was to stop.
    pub fn finish(mut self) -> Result<Vec<Tokens>, CodecError> {
        let mut tokens = self.none();
        let step = self.codec.config().samples_per_step();
        let length = self.waiting.first().map_or(0, Vec::len);
        let mut left = length.div_ceil(step) - self.context_steps;
        let end = (length.div_ceil(step) + self.ahead) * step;
        let silence = vec![0.0; end - length];
        (0..self.waiting.len()).for_each(|channel| self.take(channel, &silence));
        while left > 0 {
            let now = left.min(self.steps_at_once());
            self.code(now, &mut tokens)?;
            left -= now;
        }
        Ok(tokens)
    }

    fn take(&mut self, channel: usize, samples: &[f32]) {
        self.waiting[channel].extend_from_slice(samples);
        if let Some(finder) = &mut self.finders[channel] {
            finder.find(samples, &mut self.lines[channel]);
        }
    }

    fn none(&self) -> Vec<Tokens> {
        vec![Tokens::new(self.quantizer.levels.len()); self.waiting.len()]
    }

    /// Steps of the blocks that are looked for side by side.
    fn steps_at_once(&self) -> usize {
        self.effort.at_once.div_ceil(self.waiting.len().max(1)) * BLOCK_STEPS
    }

    /// Whole steps that wait to be coded.
    fn steps_waiting(&self) -> usize {
        let length = self.waiting.first().map_or(0, Vec::len);
        length / self.codec.config().samples_per_step() - self.context_steps
    }

    /// Codes the next `steps` steps, and makes the last of them context.
    fn code(&mut self, steps: usize, tokens: &mut [Tokens]) -> Result<(), CodecError> {
        let config = self.codec.config();
        let coded = self.context_steps + steps;
        let blocks: Vec<Block> = (self.context_steps..coded)
            .step_by(BLOCK_STEPS)
            .flat_map(|start| {
                let steps = BLOCK_STEPS.min(coded - start);
                (0..self.waiting.len()).map(move |channel| Block { channel, start, steps })
            })
            .collect();
        let search = |_: &mut (), block: &Block| on_one_thread(|| self.search(block));
        let mut states = vec![(); blocks.len()];
        let (found, ()) = on_threads(self.effort.at_once - 1, &mut states, &blocks, search, || ());
        for (block, (codes, lines)) in blocks.iter().zip(found?) {
            append(&mut tokens[block.channel..=block.channel], &codes)?;
            tokens[block.channel].lines.extend(lines);
        }
        let keep = coded.min(self.codec.encoder_context_steps() + config.warm_up_steps());
        for waiting in &mut self.waiting {
            waiting.drain(..(coded - keep) * config.samples_per_step());
        }
        for lines in &mut self.lines {
            lines.drain(..(coded - keep).min(lines.len()));
        }
        self.context_steps = keep;
        self.dropped += (coded - keep) as u64;
        Ok(())
    }

    /// A block's codes, by level (1, codes), and the lines of its steps, if there are any.
    fn search(&self, block: &Block) -> Result<(Vec<Tensor>, Vec<Lines>), CodecError> {
        if (self.effort.stop)() {
            return Err(CodecError::Stopped);
        }
        let config = self.codec.config();
        let network = &self.codec.network;
        let synthesis = network.decoder.synthesis();
        let levels = self.quantizer.levels.len();
        let layout = config.layout();
        let frames_per_step = layout.frames_per_step();
        let step = config.samples_per_step();
        // Steps that the decoder remembers, and those that the encoder has to hear for them.
        let known = block.start.min(config.warm_up_steps());
        let heard = block.start.min(known + self.codec.encoder_context_steps());
        let samples = (block.start - heard) * step..(block.start + block.steps + self.ahead) * step;
        let samples = &self.waiting[block.channel][samples];
        let samples = Tensor::new(samples, &self.codec.device)?.unsqueeze(0)?;
        let latents = network.encoder.forward(&samples)?.detach();
        let skipped = heard - known;
        let from = |step: usize, steps: usize| {
            latents.narrow(1, step * frames_per_step, steps * frames_per_step)?.contiguous()
        };
        let start = from(heard, block.steps + self.ahead)?;
        let context = match known {
            0 => None,
            _ => {
                let codes = self.quantizer.encode(&from(skipped, known)?, levels)?;
                Some(self.quantizer.decode(&codes)?.detach())
            }
        };
        let first = (self.dropped + (block.start - known) as u64) * frames_per_step as u64;
        let samples = samples.narrow(1, skipped * step, samples.dim(1)? - skipped * step)?;
        let samples = samples.contiguous()?;
        let sound = samples.clone();
        // What is behind the last samples of the overlap is not known yet.
        let complete = samples.dim(1)? - config.lag_samples();
        // Lines will stand in for what the sound has there, whatever the codes say.
        let lines = self.lines[block.channel].get(block.start - known..).unwrap_or_default();
        let silent = LinePlayer::new(config.sample_rate, step);
        let clear = |sound: &Tensor| -> candle_core::Result<Tensor> {
            let (mut player, lag) = (silent.clone(), config.lag_samples());
            let mut late = vec![0.0; lag];
            late.extend(sound.squeeze(0)?.to_vec1::<f32>()?);
            for (lines, samples) in lines.iter().zip(late.chunks_mut(step)) {
                player.clear(lines, samples);
            }
            Tensor::new(&late[lag..], sound.device())?.unsqueeze(0)
        };
        let any_lines = lines.iter().any(|lines| *lines != Lines::NONE);
        let samples = if any_lines { clear(&samples)? } else { samples };
        let target = samples.narrow(1, 0, complete)?;
        let describe = |latents: &Tensor| match &context {
            Some(context) => network.decoder.describe(&Tensor::cat(&[context, latents], 1)?),
            None => network.decoder.describe(latents),
        };
        let answer = self.quantizer.encode(&start, levels)?;
        let moves = self.effort.moves;
        // What trims put right, codes need not.
        let trimmed = match &self.trims {
            Some(search) if moves > 0 => {
                let head = describe(&self.quantizer.decode(&answer)?.detach())?;
                let decoded = synthesis.forward(&head, &[first])?.narrow(1, 0, complete)?;
                let sound = sound.narrow(1, 0, complete)?;
                let [sound, decoded] = [sound, decoded].map(|x| x.flatten_all()?.to_vec1());
                let trims = search.trims_of(&sound?, &decoded?, lines);
                Some(self.added_by(&trims, head.dim(1)?)?)
            }
            _ => None,
        };
        // The loss of latents, in these turns of its resolutions.
        let loss = |latents: &Tensor, turns: &[usize]| -> candle_core::Result<Tensor> {
            let head = describe(latents)?;
            let head = trimmed.iter().try_fold(head, |head, more| head + more)?;
            let decoded = synthesis.forward(&head, &[first])?;
            let decoded = decoded.narrow(1, 0, complete)?;
            // There, what is decoded is as good as any.
            let target = match any_lines {
                true => {
                    let decoded = decoded.detach();
                    (&target + (&decoded - clear(&decoded)?)?)?
                }
                false => target.clone(),
            };
            let mut sum = (self.envelope.forward(&head, &samples)? * self.envelope_weight)?;
            for turn in turns {
                let (spectral, _) = self.losses[*turn].forward(&decoded, &target)?;
                sum = (sum + (spectral / turns.len() as f64)?)?;
            }
            Ok(sum)
        };
        let every: Vec<usize> = (0..self.losses.len()).collect();
        let distance = |codes: &[Tensor]| -> candle_core::Result<f32> {
            loss(&self.quantizer.decode(codes)?.detach(), &every)?.to_scalar()
        };
        let own = |codes: &[Tensor]| -> candle_core::Result<Vec<Tensor>> {
            let cut = |(level, codes): (usize, &Tensor)| {
                codes.narrow(1, 0, block.steps * layout.codes_per_step(level))
            };
            codes.iter().enumerate().map(cut).collect()
        };
        // The codes that it comes to, and the lines, with the noise that is most like the sound.
        let done = |codes: &[Tensor]| -> Result<(Vec<Tensor>, Vec<Lines>), CodecError> {
            let mut lines = lines.to_vec();
            if let Some((search, period)) = &self.grains {
                let rows = describe(&self.quantizer.decode(codes)?.detach())?;
                let rows = rows.flatten_all()?.to_vec1::<f32>()?;
                let sound = sound.flatten_all()?.to_vec1::<f32>()?;
                let steps = (known, block.steps);
                let grains = search.find(synthesis, (first, &rows), &sound, &lines, steps, *period);
                lines.resize(lines.len().max(known + block.steps), Lines::NONE);
                let own = lines[known..].iter_mut();
                own.zip(grains).for_each(|(lines, grain)| lines.set_grain(grain));
            }
            lines.truncate(known + block.steps);
            Ok((own(codes)?, lines.split_off(known.min(lines.len()))))
        };
        if moves == 0 {
            return done(&answer);
        }
        let latents = Var::from_tensor(&start)?;
        let size = f64::from(start.sqr()?.mean_all()?.sqrt()?.to_scalar::<f32>()?);
        let mut mean = start.zeros_like()?;
        let mut square = 0.0;
        let rate = RATE[usize::from(moves <= FEW_MOVES)];
        // Nearest codes need no chance.
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut quantizer = self.with_odds_after(&own(&answer)?, start.dim(1)?)?;
        let nearest = Bottleneck::Quantized(Choice::Nearest);
        for i in 0..moves {
            if (self.effort.stop)() {
                return Err(CodecError::Stopped);
            }
            let quantized = quantizer.train(&latents, nearest, None, false, &mut rng)?;
            if (i + 1) % MOVES_OF_ODDS == 0 {
                let codes = quantized.assignments.iter().map(|(_, codes)| codes.unsqueeze(0));
                let codes = own(&codes.collect::<candle_core::Result<Vec<_>>>()?)?;
                quantizer = self.with_odds_after(&codes, start.dim(1)?)?;
            }
            let turns = [i % every.len(), (i + every.len() / 2) % every.len()];
            let loss = (loss(&quantized.latents, &turns)? + (quantized.commitment * COMMITMENT)?)?;
            let grads = loss.backward()?;
            let Some(gradient) = grads.get(&latents) else {
                return done(&answer);
            };
            // As Adam (Kingma and Ba 2015), but with one scale for all latents: where the sound is soft they matter less.
            mean = ((mean * DECAY[0])? + (gradient * (1.0 - DECAY[0]))?)?.detach();
            let now = f64::from(gradient.sqr()?.mean_all()?.to_scalar::<f32>()?);
            square = DECAY[1] * square + (1.0 - DECAY[1]) * now;
            let corrected = DECAY.map(|decay| 1.0 - decay.powi(i as i32 + 1));
            let along = corrected[0] * (square / corrected[1]).sqrt();
            if !(along.is_finite() && along > 0.0) {
                return done(&answer);
            }
            let turn = std::f64::consts::PI * i as f64 / moves as f64;
            let share = FINAL_SHARE + (1.0 - FINAL_SHARE) * (0.5 + 0.5 * turn.cos());
            let moved = (&mean * (rate * share * size / along))?;
            latents.set(&(latents.as_detached_tensor() - moved)?)?;
        }
        let found = quantizer.encode(&latents, levels)?;
        // Against codes that are as likely: the encoder's may be closer, and take more bits than they are worth.
        let likely = quantizer.encode(&start, levels)?;
        done(if distance(&found)? < distance(&likely)? { &found } else { &likely })
    }

    /// What the trims of some steps add to the outputs of the decoder's head for `frames` frames.
    fn added_by(&self, trims: &[Trims], frames: usize) -> candle_core::Result<Tensor> {
        let synthesis = self.codec.network.decoder.synthesis();
        let (head, outputs) = (synthesis.head(), synthesis.inputs());
        let per_step = self.codec.config().layout().frames_per_step();
        let mut added = vec![0.0; frames * outputs];
        let steps = added.chunks_exact_mut(outputs * per_step).zip(trims);
        for (frames, trims) in steps {
            frames.chunks_exact_mut(outputs).for_each(|frame| head.trim(*trims, frame));
        }
        Tensor::from_vec(added, (1, frames, outputs), &self.codec.device)
    }

    /// The quantizer of a block of `frames`, where codes count as nearer the likelier they are after those before them,
    /// which are `codes`, by level (1, codes). A block begins where a chunk does.
    fn with_odds_after(&self, codes: &[Tensor], frames: usize) -> Result<Quantizer, CodecError> {
        let Some(prior) = self.prior else { return Ok(self.quantizer.clone()) };
        let mut tokens = [Tokens::new(codes.len())];
        append(&mut tokens, codes)?;
        let scores = prior.scores_of(&tokens[0]).map_err(candle_core::Error::wrap)?;
        let (layout, size) = (self.codec.config().layout(), prior.config().codebook_size);
        let odds = |(level, scores): (usize, Vec<f32>)| {
            let known = scores.len() / size;
            let odds = Tensor::from_vec(scores, (known, size), &self.codec.device)?;
            // What lies ahead has none.
            let all = frames / layout.frames_per_step() * layout.codes_per_step(level);
            odds.pad_with_zeros(0, 0, all - known)
        };
        let odds: Vec<_> =
            scores.into_iter().enumerate().map(odds).collect::<candle_core::Result<_>>()?;
        Ok(self.quantizer.with_odds(&odds, self.odds)?)
    }
}

/// Does `work` on one thread of its own, whatever it would share out among more: so that others can work beside it, and
/// sums come in one order on every machine.
fn on_one_thread<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match rayon::ThreadPoolBuilder::new().num_threads(1).build() {
        Ok(pool) => pool.install(work),
        // Where the system gives no thread, this one does the work.
        Err(_) => work(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::tests::{codec, small};
    use super::*;
    use crate::lines::Grain;
    use crate::model::ops::{check, host};

    fn sound(steps: usize) -> Vec<Vec<f32>> {
        let length = steps * small().samples_per_step();
        (0..2).map(|c| host(&(check::random(c, &[length]) * 0.3).unwrap()).unwrap()).collect()
    }

    /// All tokens of a sound that is pushed in pieces.
    fn coded(codec: &Codec, sound: &[Vec<f32>], moves: usize, piece: usize) -> Vec<Tokens> {
        coded_by(codec, sound, moves, piece, 2)
    }

    /// As `coded`, with so many blocks looked for side by side.
    fn coded_by(
        codec: &Codec,
        sound: &[Vec<f32>],
        moves: usize,
        piece: usize,
        at_once: usize,
    ) -> Vec<Tokens> {
        let effort = Effort { at_once, ..Effort::moves(moves) };
        let mut stream = codec.searching_encoder(2, 3, Selection::NONE, None, effort).unwrap();
        let mut tokens = vec![Tokens::new(3); 2];
        for start in (0..sound[0].len()).step_by(piece) {
            let end = (start + piece).min(sound[0].len());
            let pieces: Vec<&[f32]> = sound.iter().map(|s| &s[start..end]).collect();
            let new = stream.push(&pieces).unwrap();
            tokens.iter_mut().zip(&new).for_each(|(all, new)| all.extend(new));
        }
        let rest = stream.finish().unwrap();
        tokens.iter_mut().zip(&rest).for_each(|(all, new)| all.extend(new));
        tokens
    }

    #[test]
    fn without_a_move_it_is_the_encoder() {
        let folder = tempfile::tempdir().unwrap();
        let codec = codec(folder.path());
        let steps = 2 * BLOCK_STEPS + 9;
        let sound = sound(steps);
        let mut encoder = codec.encoder(2, 3);
        let mut plain = encoder.push(&sound).unwrap();
        let given = plain[0].steps(&codec.config().layout().prefix(3)).unwrap();
        let rest = encoder.finish((steps - given) as u64).unwrap();
        plain.iter_mut().zip(&rest).for_each(|(all, new)| all.extend(new));
        assert_eq!(coded(&codec, &sound, 0, 777), plain);
        // A last step that is not full counts.
        let short: Vec<Vec<f32>> = sound.iter().map(|s| s[..s.len() - 5].to_vec()).collect();
        let tokens = coded(&codec, &short, 0, 777);
        assert_eq!(tokens[0].steps(&codec.config().layout().prefix(3)), Some(steps));
        assert!(coded(&codec, &[vec![], vec![]], 0, 777)[0].levels.iter().all(Vec::is_empty));
    }

    #[test]
    fn what_is_found_decodes_to_something_closer() {
        let folder = tempfile::tempdir().unwrap();
        let codec = codec(folder.path());
        // Two blocks, so that one has a context.
        let sound = sound(BLOCK_STEPS + 40);
        let judge = SpectralLoss::new(
            codec.config().sample_rate,
            &TrainConfig::default().resolutions[0],
            TrainConfig::default().loss,
        )
        .unwrap();
        let distance = |tokens: &[Tokens]| {
            let decoded = codec.decoder(2).push(tokens).unwrap();
            let length = decoded[0].len();
            let tensor = |rows: &[Vec<f32>]| {
                let flat: Vec<f32> = rows.iter().flat_map(|r| r[..length].to_vec()).collect();
                Tensor::from_vec(flat, (2, length), &codec.device).unwrap()
            };
            let (loss, _) = judge.forward(&tensor(&decoded), &tensor(&sound)).unwrap();
            loss.to_scalar::<f32>().unwrap()
        };
        let (plain, found) = (coded(&codec, &sound, 0, 5000), coded(&codec, &sound, 40, 5000));
        let layout = codec.config().layout().prefix(3);
        assert_eq!(plain[0].steps(&layout), found[0].steps(&layout));
        let (before, after) = (distance(&plain), distance(&found));
        assert!(after < 0.99 * before, "{before} {after}");
        assert_eq!(found, coded(&codec, &sound, 40, 12_345), "pieces make no difference");
    }

    #[test]
    fn blocks_side_by_side_are_those_in_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let codec = codec(folder.path());
        let sound = sound(3 * BLOCK_STEPS + 40);
        let in_a_row = coded_by(&codec, &sound, 2, 5000, 1);
        for at_once in [3, 5, 9] {
            assert_eq!(coded_by(&codec, &sound, 2, 5000, at_once), in_a_row, "{at_once}");
        }
    }

    #[test]
    fn a_search_stops_between_moves() {
        let folder = tempfile::tempdir().unwrap();
        let codec = codec(folder.path());
        let asked = AtomicUsize::new(0);
        let stop = || asked.fetch_add(1, Ordering::SeqCst) >= 2;
        let effort = Effort { moves: 1000, at_once: 1, stop: &stop };
        let mut stream = codec.searching_encoder(2, 3, Selection::NONE, None, effort).unwrap();
        stream.push(&sound(10)).unwrap();
        assert!(matches!(stream.finish(), Err(CodecError::Stopped)));
        // Three times for the first channel; the other does not begin.
        assert_eq!(asked.load(Ordering::SeqCst), 4);
    }

    #[test]
    fn silence_is_coded() {
        let folder = tempfile::tempdir().unwrap();
        let codec = codec(folder.path());
        let silence = vec![vec![0.0; 10 * small().samples_per_step()]; 2];
        let tokens = coded(&codec, &silence, 3, 1000);
        assert_eq!(tokens[0].steps(&codec.config().layout().prefix(3)), Some(10));
    }

    #[test]
    fn channels_of_different_lengths_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let codec = codec(folder.path());
        let mut stream =
            codec.searching_encoder(2, 3, Selection::NONE, None, Effort::moves(1)).unwrap();
        assert!(stream.push(&[vec![0.0; 10], vec![0.0; 9]]).is_err());
        assert!(stream.push(&[vec![0.0; 10]]).is_err());
    }

    #[test]
    fn lines_are_those_that_are_found_without_a_search() {
        let folder = tempfile::tempdir().unwrap();
        let codec = codec(folder.path());
        let config = codec.config();
        let length = (2 * BLOCK_STEPS + 5) * config.samples_per_step();
        let turn = |n: usize| 1_500.0 * n as f32 / config.sample_rate as f32;
        let tone: Vec<f32> =
            (0..length).map(|n| (turn(n).fract() * std::f32::consts::TAU).sin() * 0.3).collect();
        let mut expected = Vec::new();
        let finder = LineFinder::of_codec(config, Selection::MANY);
        finder.unwrap().find(&tone, &mut expected);
        assert!(expected.iter().any(|lines| *lines != Lines::NONE));
        let effort = Effort { at_once: 1, ..Effort::moves(1) };
        let mut stream = codec.searching_encoder(1, 3, Selection::MANY, None, effort).unwrap();
        let mut tokens = stream.push(&[&tone[..length / 2]]).unwrap();
        tokens[0].extend(&stream.push(&[&tone[length / 2..]]).unwrap()[0]);
        tokens[0].extend(&stream.finish().unwrap()[0]);
        // Grains are for the search alone to find.
        let found = tokens[0].lines.iter().map(|lines| {
            let mut lines = *lines;
            lines.set_grain(Grain::NONE);
            lines
        });
        assert_eq!(found.collect::<Vec<_>>(), expected);
        assert_eq!(tokens[0].steps(&config.layout().prefix(3)), Some(expected.len()));
    }
}
