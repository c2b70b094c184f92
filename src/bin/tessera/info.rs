//! `tessera info`: what a file or a model is.

use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tessera_codec::audio::{self, SampleFormat};
use tessera_codec::bitstream::{ContainerReader, MAGIC};
use tessera_codec::engine::{CONFIG_FILE, Model};
use tessera_codec::prior::Prior;

use super::{Outcome, report};

/// Say what a .tsr file, an audio file or a model folder holds.
#[derive(clap::Args)]
pub struct Args {
    /// The file or folder.
    file: PathBuf,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> Result<Outcome> {
    let path = args.file.as_path();
    let (text, json) = if path.is_dir() {
        model(path)?
    } else if is_tsr(path)? {
        tokens(path)?
    } else {
        sound(path)?
    };
    if args.json {
        report::print_json(&json)?
    } else {
        report::print(&text)?
    }
    Ok(Outcome::Done)
}

/// By its first bytes; by its name when they are damaged.
pub fn is_tsr(path: &Path) -> Result<bool> {
    let named = path.extension().is_some_and(|e| e.eq_ignore_ascii_case("tsr"));
    let fail = || format!("cannot read {}", path.display());
    let mut start = Vec::new();
    let file = File::open(path).with_context(fail)?;
    file.take(MAGIC.len() as u64).read_to_end(&mut start).with_context(fail)?;
    Ok(named || start == MAGIC)
}

fn tokens(path: &Path) -> Result<(String, Value)> {
    let fail = || format!("cannot read {}", path.display());
    let mut reader = ContainerReader::open_path(path).with_context(fail)?;
    let s = reader.summary().with_context(fail)?;
    let mut text = String::new();
    // Writing to a String does not fail.
    let mut line = |name: &str, value: String| {
        let _ = writeln!(text, "{name:10} {value}");
    };
    line("file", path.display().to_string());
    line("format", format!("Tessera tokens, version {}", s.version));
    line("model", s.model_id.clone());
    line(
        "coding",
        match &s.prior_id {
            Some(id) => format!("with the prior {id}"),
            None => "codes packed plainly".into(),
        },
    );
    let samples = s.samples.map_or("unknown length".into(), |n| format!("{n} samples"));
    line(
        "audio",
        format!("{:.3} s, {} Hz, {} channels, {samples}", s.seconds, s.source_rate, s.channels),
    );
    line("size", format!("{}, {:.2} kbps", report::bytes(s.file_bytes), s.kbps));
    for (i, level) in s.levels.iter().enumerate() {
        line(
            &format!("level {}", i + 1),
            format!(
                "{} codes, {:.1} a second, {:.2} kbps",
                level.codebook_size, level.codes_per_second, level.kbps
            ),
        );
    }
    if let Some(lines) = s.lines {
        line("lines", format!("{lines:.2} at a time beside the codes"));
    }
    line(
        "chunks",
        format!(
            "{} intact, {} damaged, {}",
            s.intact_chunks,
            s.damaged_chunks,
            if s.has_index { "index intact" } else { "no index" }
        ),
    );
    for damage in &s.damages {
        line("damage", damage.to_string());
    }
    if s.damage_count > s.damages.len() as u64 {
        line("damage", format!("and {} more", s.damage_count - s.damages.len() as u64));
    }
    let levels: Vec<Value> = s
        .levels
        .iter()
        .map(|l| {
            json!({
                "stride": l.stride,
                "codebook_size": l.codebook_size,
                "codes_per_second": l.codes_per_second,
                "kbps": l.kbps,
            })
        })
        .collect();
    let json = json!({
        "kind": "tokens",
        "file": path.display().to_string(),
        "version": s.version,
        "model_id": s.model_id,
        "entropy": if s.prior_id.is_some() { "prior" } else { "none" },
        "prior_id": s.prior_id,
        "sample_rate": s.source_rate,
        "channels": s.channels,
        "samples": s.samples,
        "seconds": s.seconds,
        "codec_rate": s.codec_rate,
        "step_seconds": s.step_seconds,
        "levels": levels,
        "lines": s.lines,
        "kbps": s.kbps,
        "bytes": s.file_bytes,
        "has_index": s.has_index,
        "intact_chunks": s.intact_chunks,
        "damaged_chunks": s.damaged_chunks,
        "damage_count": s.damage_count,
        "damages": s.damages.iter().map(ToString::to_string).collect::<Vec<_>>(),
    });
    Ok((text, json))
}

fn sound(path: &Path) -> Result<(String, Value)> {
    let mut source = audio::open(path)?;
    let info = source.info().clone();
    let (mut frames, mut peak, mut energy) = (0u64, 0f32, 0f64);
    let mut block = Vec::new();
    // What the header says of the length need not be true.
    loop {
        let read = source.read(&mut block, 1 << 14)?;
        if read == 0 {
            break;
        }
        frames += read as u64;
        for sample in block.iter().flatten() {
            peak = peak.max(sample.abs());
            energy += f64::from(*sample) * f64::from(*sample);
        }
    }
    let seconds = frames as f64 / f64::from(info.sample_rate);
    let format = match info.format {
        SampleFormat::Int(bits) => format!("{bits}-bit integers"),
        SampleFormat::Float(bits) => format!("{bits}-bit floats"),
        SampleFormat::Compressed => "compressed".into(),
    };
    let count = frames.max(1) as f64 * f64::from(info.channels);
    let decibels = |level: f64| (level > 0.0).then(|| 20.0 * level.log10());
    let (peak, mean) = (decibels(f64::from(peak)), decibels((energy / count).sqrt()));
    let warnings: Vec<String> = source.warnings().iter().map(ToString::to_string).collect();
    let level = |db: Option<f64>| db.map_or("silence".into(), |db| format!("{db:.1} dBFS"));
    let mut text = format!(
        "file       {}\nformat     {format}\naudio      {seconds:.3} s, {} Hz, {} channels, {frames} \
         samples\nlevel      peak {}, mean {}\n",
        path.display(),
        info.sample_rate,
        info.channels,
        level(peak),
        level(mean)
    );
    for warning in &warnings {
        text += &format!("warning    {warning}\n");
    }
    let json = json!({
        "kind": "audio",
        "file": path.display().to_string(),
        "format": format,
        "sample_rate": info.sample_rate,
        "channels": info.channels,
        "samples": frames,
        "seconds": seconds,
        "peak_dbfs": peak,
        "rms_dbfs": mean,
        "warnings": warnings,
    });
    Ok((text, json))
}

fn model(path: &Path) -> Result<(String, Value)> {
    if !path.join(CONFIG_FILE).exists() {
        if is_run(path) {
            bail!("{} is the folder of a run: make a model of it with export", path.display());
        }
        bail!("{} is a folder without {CONFIG_FILE}: no model", path.display());
    }
    let model = Model::load(path)?;
    let config = model.config();
    let latency = config.latency_samples() as f64 * 1000.0 / f64::from(config.sample_rate);
    let mut text = format!(
        "model      {}\nid         {}\nsize       {} parameters\nrate       {} Hz, {} samples a \
         frame\nlatency    {latency:.0} ms\n",
        config.name,
        model.id_hex(),
        model.parameters(),
        config.sample_rate,
        config.hop
    );
    let prior = Prior::load_if_any(path)?;
    if let Some(prior) = &prior {
        text += &format!("prior      {}, {} parameters\n", prior.id_hex(), prior.parameters());
    }
    let mut levels = Vec::new();
    for (i, stride) in config.vq.strides.iter().enumerate() {
        let codes = f64::from(config.sample_rate) / (config.hop * stride) as f64;
        let kbps = config.bits_per_second(i + 1) / 1000.0;
        text += &format!(
            "level {:<4} {} codes, {codes:.1} a second, {kbps:.2} kbps up to here\n",
            i + 1,
            config.vq.codebook_size
        );
        levels.push(json!({ "stride": stride, "codes_per_second": codes, "kbps": kbps }));
    }
    let json = json!({
        "kind": "model",
        "folder": path.display().to_string(),
        "name": config.name,
        "model_id": model.id_hex(),
        "parameters": model.parameters(),
        "prior_id": prior.as_ref().map(Prior::id_hex),
        "prior_parameters": prior.as_ref().map(Prior::parameters),
        "latency_ms": latency,
        "levels": levels,
        "config": config,
    });
    Ok((text, json))
}

/// Whether a folder is that of a training run.
fn is_run(path: &Path) -> bool {
    #[cfg(feature = "train")]
    let names = {
        use tessera_codec::train::checkpoint::{CHECKPOINT, CONFIG};
        [CHECKPOINT, CONFIG]
    };
    #[cfg(not(feature = "train"))]
    let names: [&str; 0] = [];
    names.iter().any(|name| path.join(name).exists())
}
