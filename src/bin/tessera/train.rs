//! `tessera train`: a model from a folder of audio.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use candle_core::Device;
use tessera_codec::bitstream::write_atomically;
use tessera_codec::train::checkpoint::{CHECKPOINT, CONFIG};
use tessera_codec::train::dataset::{Dataset, DatasetOptions};
use tessera_codec::train::{Budget, TrainConfig, Trainer};

/// Train a model on a folder of audio files.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with audio; its first-level subfolders are kinds, which are sampled evenly.
    dir: PathBuf,
    /// Folder of the run: checkpoint, metrics, plots.
    #[arg(long)]
    out: PathBuf,
    /// Training configuration (JSON).
    #[arg(long)]
    config: Option<PathBuf>,
    /// Train this many steps.
    #[arg(long)]
    steps: Option<u64>,
    /// Train for this many minutes of wall-clock time, over all sessions.
    #[arg(long)]
    max_minutes: Option<f64>,
    /// Go on from the run's checkpoint.
    #[arg(long)]
    resume: bool,
    /// Seed of everything random.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub fn run(args: Args) -> Result<()> {
    let budget = match (args.steps, args.max_minutes) {
        (Some(steps), None) => Budget::Steps(steps),
        (None, Some(m)) => Budget::Time(Duration::from_secs_f64(m * 60.0)),
        _ => bail!("one of --steps and --max-minutes is needed"),
    };
    std::fs::create_dir_all(&args.out)?;
    let config_path = args.out.join(CONFIG);
    let checkpoint = args.out.join(CHECKPOINT);
    let source = if args.resume { Some(config_path.clone()) } else { args.config };
    let config = match source {
        Some(path) => TrainConfig::from_json(&std::fs::read_to_string(&path)?)
            .with_context(|| path.display().to_string())?,
        None => TrainConfig::default(),
    };
    let options =
        DatasetOptions { kind_weights: config.kind_weights.clone(), ..Default::default() };
    let (dataset, report) = Dataset::open(&args.dir, &args.out, &options, &mut |p| {
        if p.files_done % 500 == 0 {
            eprintln!("decoded {}/{}", p.files_done, p.files);
        }
    })?;
    eprintln!("{} files, {} skipped", report.files, report.skipped.len());
    let dataset = Arc::new(dataset);
    let mut trainer = if args.resume {
        Trainer::resume(&config, budget, dataset, &checkpoint, &Device::Cpu)?
    } else {
        let text = serde_json::to_string_pretty(&config)?;
        write_atomically(&config_path, text.as_bytes())?;
        Trainer::new(&config, budget, dataset, args.seed, &Device::Cpu)?
    };
    eprintln!("{} parameters", trainer.parameters());
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    ctrlc::set_handler(move || flag.store(true, Ordering::SeqCst))?;
    let mut saved = Instant::now();
    let mut since = (Instant::now(), 0.0);
    let mut sums = [0.0f64; 5];
    let mut count = 0.0;
    while let Some(r) = trainer.step()? {
        since.1 += r.audio_seconds;
        count += 1.0;
        for (sum, v) in
            sums.iter_mut().zip([r.loss, r.terms.mel, r.terms.complex, r.commitment, r.diversity])
        {
            *sum += v;
        }
        if r.step % 60 == 0 {
            println!(
                "{} {:.3} {} loss {:.3} mel {:.3} complex {:.3} commit {:.3} div {:.3} grad {:.2} used {:?} {:.1} s/s",
                r.step,
                r.progress,
                r.stage,
                sums[0] / count,
                sums[1] / count,
                sums[2] / count,
                sums[3] / count,
                sums[4] / count,
                r.gradient,
                r.used,
                since.1 / since.0.elapsed().as_secs_f64()
            );
            since = (Instant::now(), 0.0);
            sums = [0.0; 5];
            count = 0.0;
        }
        if saved.elapsed() > Duration::from_secs(180) || stop.load(Ordering::SeqCst) {
            trainer.save(&checkpoint)?;
            saved = Instant::now();
            if stop.load(Ordering::SeqCst) {
                eprintln!("stopped; continue with --resume");
                return Ok(());
            }
        }
    }
    trainer.save(&checkpoint)?;
    Ok(())
}
