//! `tessera generate`: sound that nobody recorded.

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::json;
use tessera_codec::audio::{WavFormat, WavSink, resample_all};
use tessera_codec::engine::{Model, StreamDecoder, StreamEncoder};
use tessera_codec::prior::{Generator, Prior, Sampling};

use super::decode::Format;
use super::interrupt::Interrupt;
use super::model::ModelArgs;
use super::progress::Progress;
use super::sound::Clip;
use super::{Outcome, encode, levels, report};

/// The longest sound that is made in one go: a day.
const MAX_SECONDS: f64 = 86_400.0;

/// Invent sound: the prior draws tokens, which are decoded. With a prompt, go on where a recording ends.
///
/// The result has one channel at the model's rate. The same seed, prompt and options give the same sound, on any
/// machine.
#[derive(clap::Args)]
pub struct Args {
    /// The WAV to write.
    #[cfg_attr(feature = "live", arg(required_unless_present = "play"))]
    #[cfg_attr(not(feature = "live"), arg(required = true))]
    output: Option<PathBuf>,
    /// Length of what is invented.
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    seconds: f64,
    /// A recording to go on from; it is mixed to mono, and stands before what is invented, coded as well.
    #[arg(long, value_name = "IN.wav")]
    prompt: Option<PathBuf>,
    /// Below 1 likely codes become likelier, above 1 unlikely ones; 0 draws the likeliest only.
    #[arg(long, value_name = "T", default_value_t = Sampling::default().temperature())]
    temperature: f32,
    /// Draw only from the likeliest codes that together have this probability.
    #[arg(long, value_name = "P", default_value_t = Sampling::default().top_p())]
    top_p: f32,
    /// Use only the first levels; all by default.
    #[arg(long, value_name = "N")]
    levels: Option<usize>,
    /// Another seed gives another sound.
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    model: ModelArgs,
    /// How samples are written.
    #[arg(long, value_enum, default_value_t = Format::S16)]
    format: Format,
    /// Play it while it is made.
    #[cfg(feature = "live")]
    #[arg(long)]
    play: bool,
    /// Device to play on, by id, name or a part of the name; the default one otherwise.
    #[cfg(feature = "live")]
    #[arg(long, value_name = "DEVICE", requires = "play")]
    device: Option<String>,
    /// Replace the output if it exists.
    #[arg(long)]
    force: bool,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<Outcome> {
    ensure!(
        args.seconds > 0.0 && args.seconds <= MAX_SECONDS,
        "--seconds is {}, but must be above 0 and at most {MAX_SECONDS}",
        args.seconds
    );
    let (model, prior) = (args.model.load()?, args.model.prior());
    let prior = prior.get()?.context(
        "this model has no prior: `tessera prior train` fits one, and `tessera prior export` puts it \
         into the model's folder",
    )?;
    prior.check_codec(model.id())?;
    let levels = match args.levels {
        Some(asked) => levels::within(asked, model.config())?,
        None => prior.levels(),
    };
    let sampling = Sampling::new(args.temperature, args.top_p, args.seed)?;
    let mut stream = Stream::new(&model, prior, levels, sampling)?;
    let rate = model.config().sample_rate;
    let prompt = match &args.prompt {
        Some(path) => prompt(path, &model, levels)
            .with_context(|| format!("cannot go on from {}", path.display()))?,
        None => Vec::new(),
    };
    let steps = prompt.len() / model.codes_per_step(levels);
    let prompted = steps * model.chunk_samples();
    let samples = prompted as u64 + (args.seconds * f64::from(rate)).round() as u64;

    let interrupt = Interrupt::listen()?;
    let mut destination = Destination::open(&args, &interrupt, rate, samples)?;
    let mut progress = Progress::of_audio(Some(samples));
    let started = Instant::now();
    let mut left = samples;
    let pieces = prompt.chunks(model.codes_per_step(levels)).map(Some);
    for given in pieces.chain(std::iter::repeat(None)) {
        if left == 0 {
            break;
        }
        if interrupt.asked() {
            bail!("stopped before the end");
        }
        let new = stream.step(given)?;
        let new = &new[..new.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
        left -= new.len() as u64;
        if !destination.give(new)? {
            return Ok(Outcome::Done);
        }
        progress.update(samples - left, || {
            let done = (samples - left) as f64 / f64::from(rate);
            let speed = done / started.elapsed().as_secs_f64().max(1e-3);
            format!("{done:.0} s made, {speed:.1}x real time")
        });
    }
    drop(progress);
    let elapsed = started.elapsed().as_secs_f64();
    destination.finish()?;
    let seconds = samples as f64 / f64::from(rate);
    let speed = seconds / elapsed.max(1e-3);
    if args.json {
        report::print_json(&json!({
            "output": args.output,
            "seconds": seconds,
            "prompt_seconds": prompted as f64 / f64::from(rate),
            "levels": levels,
            "seed": args.seed,
            "model_id": model.id_hex(),
            "prior_id": prior.id_hex(),
            "real_time_factor": speed,
        }))?;
    } else {
        let name = args.output.as_ref().map_or("played".into(), |path| path.display().to_string());
        report::note(&format!("{name}: {seconds:.2} s, {speed:.1}x real time"));
    }
    Ok(Outcome::Done)
}

/// Tokens drawn and decoded, a step at a time.
struct Stream {
    generator: Generator,
    decoder: StreamDecoder,
    levels: usize,
    codes: Vec<u16>,
    samples: Vec<f32>,
    /// Samples that the decoder is late by and that are still to be dropped.
    late: usize,
}

impl Stream {
    fn new(model: &Model, prior: &Prior, levels: usize, sampling: Sampling) -> Result<Self> {
        let decoder = StreamDecoder::new(model);
        Ok(Self {
            generator: Generator::new(prior, levels, sampling)?,
            levels,
            codes: vec![0; model.codes_per_step(levels)],
            samples: vec![0.0; model.chunk_samples()],
            late: decoder.latency_samples(),
            decoder,
        })
    }

    /// The samples of the next step: of the codes `given`, or of codes drawn.
    fn step(&mut self, given: Option<&[u16]>) -> Result<&[f32]> {
        match given {
            Some(codes) => {
                self.generator.listen(codes)?;
                self.codes.copy_from_slice(codes);
            }
            None => self.generator.draw(&mut self.codes)?,
        }
        let done = self.decoder.process_into(&self.codes, self.levels, &mut self.samples)?;
        let drop = self.late.min(done.produced);
        self.late -= drop;
        Ok(&self.samples[drop..done.produced])
    }
}

/// The codes of a recording, whole steps of its mono mix.
fn prompt(path: &Path, model: &Model, levels: usize) -> Result<Vec<u16>> {
    let clip = Clip::read(path)?;
    let samples = resample_all(&clip.mono(), clip.rate, model.config().sample_rate)?;
    let steps = samples.len() / model.chunk_samples();
    ensure!(
        steps > 0,
        "it has less than {} ms, the shortest that there is a code for",
        1000 * model.chunk_samples() as u64 / u64::from(model.config().sample_rate)
    );
    let mut codes = vec![0; steps * model.codes_per_step(levels)];
    let done = StreamEncoder::new(model).process_into(&samples, levels, &mut codes)?;
    codes.truncate(done.produced);
    Ok(codes)
}

/// Where the sound goes.
struct Destination {
    wav: Option<WavSink>,
    #[cfg(feature = "live")]
    player: Option<super::play::Player>,
}

impl Destination {
    fn open(args: &Args, interrupt: &Interrupt, rate: u32, samples: u64) -> Result<Self> {
        let format = WavFormat::from(args.format);
        let wav = args.output.as_deref().map(|path| {
            WavSink::create(path, rate, 1, format, args.force).context(encode::hint(args.force))
        });
        #[cfg(not(feature = "live"))]
        let _ = (interrupt, samples);
        Ok(Self {
            wav: wav.transpose()?,
            #[cfg(feature = "live")]
            player: match args.play {
                true => {
                    let device = args.device.as_deref();
                    let interrupt = interrupt.clone();
                    Some(super::play::Player::open(device, rate, 1, Some(samples), interrupt)?)
                }
                false => None,
            },
        })
    }

    /// Whether it goes on: not when the user has ended what is only played.
    fn give(&mut self, samples: &[f32]) -> Result<bool> {
        let block = [samples.to_vec()];
        if let Some(wav) = &mut self.wav {
            wav.write(&block)?;
        }
        #[cfg(feature = "live")]
        if let Some(player) = &mut self.player {
            let given = player.push(&block);
            return Ok(player.ended(given)?.is_some() || self.wav.is_some());
        }
        Ok(true)
    }

    fn finish(self) -> Result<()> {
        #[cfg(feature = "live")]
        if let Some(player) = self.player {
            player.finish()?;
        }
        if let Some(wav) = self.wav {
            wav.finish()?;
        }
        Ok(())
    }
}
