//! `tessera eval`: how well a model codes a folder of audio.

mod opus;
mod rate;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{Cursor, Read as _, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tessera_codec::audio::{WavFormat, WavSink, open, resample_all};
use tessera_codec::bitstream::{ContainerReader, OutputFile, Overwrite};
use tessera_codec::engine::Model;
use tessera_codec::files::{self, Encoding, Ladder};
use tessera_codec::metrics::{self, CodebookStats, Meter};
use tessera_codec::prior::Prior;
use tessera_codec::token_files::TokenFile;

use crate::effort::{EffortArgs, FileCoder};
use crate::entropy::EntropyArgs;
use crate::interrupt::{Interrupt, Interruptible};
use crate::model::ModelArgs;
use crate::progress::Progress;
use crate::sound::{self, Clip};
use crate::{Outcome, encode, kbps, levels, report};

/// Name of the table of sizes beside decoded clips.
const SIZES: &str = "bytes.tsv";

/// Code every audio file of a folder and measure what comes back.
///
/// First-level subfolders are kinds, which are averaged separately as well. Figures are of mono mixes at
/// 48 kHz: log-mel and STFT distance (lower is better), SI-SDR in dB and fine structure (higher is
/// better).
#[derive(clap::Args)]
pub struct Args {
    /// Folder with the reference audio.
    ref_dir: PathBuf,
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    entropy: EntropyArgs,
    #[command(flatten)]
    pub effort: EffortArgs,
    /// Measure with so many levels, or with each number of them; the model's number by default.
    #[arg(long, value_name = "all|N", conflicts_with = "kbps")]
    levels: Option<Levels>,
    /// Measure the best files of at most this rate, as `encode --kbps` makes them.
    #[arg(long, value_name = "X", value_parser = encode::positive)]
    kbps: Option<f64>,
    /// Print everything, clip by clip, as JSON.
    #[arg(long)]
    json: bool,
    /// Write the decoded audio here as 32-bit floats, and the sizes to bytes.tsv; with `--levels all`
    /// into a subfolder for each number of levels.
    #[arg(long, value_name = "DEC_DIR")]
    out: Option<PathBuf>,
    /// Replace decoded audio that exists.
    #[arg(long)]
    force: bool,
    /// Measure another codec on the same clips as well; Opus needs the programs of opus-tools.
    #[arg(long)]
    against: Option<Rival>,
    /// Draw rate against quality into this PNG.
    #[arg(long, value_name = "PICTURE.png")]
    plot: Option<PathBuf>,
}

/// What people would use instead.
#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
enum Rival {
    Opus,
}

#[derive(Debug, Clone, Copy)]
enum Levels {
    All,
    Some(usize),
}

impl std::str::FromStr for Levels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            _ => text.parse().map(Self::Some).map_err(|_| "give a number or `all`".into()),
        }
    }
}

/// The columns of the figures, in order.
const COLUMNS: [&str; 5] = ["kbps", "mel", "stft", "sisdr", "fine"];

/// Which of the last four, as they are drawn, is better.
const FIGURES: [(&str, &str); 4] = [
    ("log-mel distance", "lower"),
    ("STFT distance", "lower"),
    ("SI-SDR in dB", "higher"),
    ("fine structure", "higher"),
];

/// How much is stored of a clip.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Amount {
    /// So many levels.
    Levels(usize),
    /// As much as fits so many thousands of bits a second.
    Kbps(f64),
}

/// What made the clips of a table.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Coder {
    /// The model with so much stored.
    Tessera(Amount),
    /// Opus at so many kbps a channel.
    Opus { kbps: u32 },
}

/// All clips as one coder makes them.
struct Table {
    coder: Coder,
    rows: Vec<Row>,
}

/// One clip from one coder.
struct Row {
    name: String,
    bytes: usize,
    seconds: f64,
    figures: [f64; COLUMNS.len()],
}

/// Where decoded audio goes.
struct Destination<'a> {
    folder: &'a Path,
    /// Whether there is a subfolder for each number of levels.
    by_levels: bool,
    force: bool,
}

impl Destination<'_> {
    fn folder(&self, amount: Amount) -> PathBuf {
        match amount {
            Amount::Levels(levels) if self.by_levels => {
                self.folder.join(format!("levels-{levels}"))
            }
            _ => self.folder.to_path_buf(),
        }
    }

    fn write(&self, amount: Amount, name: &str, planar: &[Vec<f32>], rate: u32) -> Result<()> {
        let mut path = self.folder(amount).join(name);
        // The name of a FLAC must not be given to a WAV, nor that of the WAV beside it.
        if !path.extension().is_some_and(|e| e.eq_ignore_ascii_case("wav")) {
            path.as_mut_os_string().push(".wav");
        }
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)
                .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        }
        let channels = planar.len() as u16;
        let mut sink = WavSink::create(&path, rate, channels, WavFormat::Float32, self.force)?;
        sink.write(planar)?;
        Ok(sink.finish()?)
    }

    /// The sizes in the form that score.py reads.
    fn write_sizes(&self, amount: Amount, rows: &[Row]) -> Result<()> {
        let path = self.folder(amount).join(SIZES);
        let overwrite = if self.force { Overwrite::Replace } else { Overwrite::Refuse };
        let mut file = OutputFile::create(&path, overwrite)?;
        for row in rows {
            writeln!(file, "{}\t{}", row.name, row.bytes)
                .with_context(|| format!("cannot write {}", path.display()))?;
        }
        Ok(file.commit()?)
    }
}

pub fn run(args: Args) -> Result<Outcome> {
    let clips = sound::list(&args.ref_dir)?;
    let (model, prior) = (args.model.load()?, args.model.prior());
    let prior = args.entropy.choose(&prior)?;
    let coder = args.effort.coder(&args.model)?;
    let most = model.config().levels();
    let amounts: Vec<Amount> = match (args.levels, args.kbps) {
        (_, Some(kbps)) => vec![Amount::Kbps(kbps)],
        (Some(Levels::All), None) => (1..=most).map(Amount::Levels).collect(),
        (Some(Levels::Some(asked)), None) => {
            vec![Amount::Levels(levels::within(asked, model.config())?)]
        }
        (None, None) => vec![Amount::Levels(most)],
    };
    let destination = args.out.as_deref().map(|folder| Destination {
        folder,
        by_levels: amounts.len() > 1,
        force: args.force,
    });
    if let Some(destination) = &destination {
        for &amount in &amounts {
            let sizes = destination.folder(amount).join(SIZES);
            if sizes.exists() && !args.force {
                bail!("{} exists already: --force replaces decoded audio", sizes.display());
            }
        }
    }
    if args.against == Some(Rival::Opus) {
        opus::check()?;
    }
    let overwrite = if args.force { Overwrite::Replace } else { Overwrite::Refuse };
    let picture = args.plot.as_deref().map(|path| OutputFile::create(path, overwrite));
    let picture = picture.transpose().context(encode::hint(args.force))?;
    let interrupt = Interrupt::listen()?;
    let meter = Meter::new();
    let mut stats = CodebookStats::new(&model.config().layout().codebook_sizes);
    let coders = amounts.iter().copied().map(Coder::Tessera);
    let rivals = opus::RATES.iter().filter(|_| args.against == Some(Rival::Opus));
    let coders = coders.chain(rivals.map(|&kbps| Coder::Opus { kbps }));
    let mut tables: Vec<Table> = coders.map(|coder| Table { coder, rows: Vec::new() }).collect();
    let mut failed = Vec::new();
    let mut progress =
        Progress::new(clips.len() as u64, "[{bar:40}] {pos}/{len}  {msg}  {eta} left");
    for (done, (name, path)) in clips.iter().enumerate() {
        progress.update(done as u64, || format!("{done} of {}: {name}", clips.len()));
        let coded = Coded::of(&coder, &model, prior, (name, path), &amounts, &interrupt);
        let result = coded.and_then(|coded| {
            let measure = Measure { model: &model, prior, meter: &meter, name, coded: &coded };
            let rows = measure.rows(&tables, destination.as_ref())?;
            for channel in coded.tokens(prior)?.channels() {
                stats.add_tokens(channel)?;
            }
            Ok(rows)
        });
        match result {
            Ok(rows) => tables.iter_mut().zip(rows).for_each(|(table, row)| table.rows.push(row)),
            Err(error) if interrupt.asked() => return Err(error),
            Err(error) => {
                progress.warn(&format!("{name} is left out: {}", report::reasons(&error)));
                failed.push(name.clone());
            }
        }
    }
    drop(progress);
    if let Some(destination) = &destination {
        for table in &tables {
            if let (Coder::Tessera(amount), false) = (table.coder, table.rows.is_empty()) {
                destination.write_sizes(amount, &table.rows)?;
            }
        }
    }
    if tables.iter().all(|table| table.rows.is_empty()) {
        bail!("none of the {} files in {} could be measured", clips.len(), args.ref_dir.display());
    }
    if args.json {
        report::print_json(&as_json(&model, prior, &tables, &stats, &failed))?;
    } else {
        report::print(&as_text(&model, prior, &tables, &stats))?;
    }
    if let (Some(mut file), Some(path)) = (picture, &args.plot) {
        let drawn = rate::draw(&FIGURES, &curves(&tables)).encode();
        let drawn = drawn.with_context(|| format!("cannot draw {}", path.display()))?;
        file.write_all(&drawn).with_context(|| format!("cannot write {}", path.display()))?;
        file.commit()?;
    }
    if !failed.is_empty() {
        bail!("{} of {} files were left out: {}", failed.len(), clips.len(), failed.join(", "));
    }
    Ok(Outcome::Done)
}

/// A clip and its files of tokens.
struct Coded {
    clip: Clip,
    /// By how much of it they store; the last one has the most.
    files: Vec<(Amount, Vec<u8>)>,
}

impl Coded {
    fn of(
        coder: &FileCoder,
        model: &Model,
        prior: Option<&Prior>,
        (name, path): (&str, &Path),
        amounts: &[Amount],
        interrupt: &Interrupt,
    ) -> Result<Self> {
        // Read first: it checks the length.
        let clip = Clip::read(path)?;
        let file = |encoding: Encoding, output: &mut dyn Write| {
            let (watched, label) = (interrupt.clone(), path.display().to_string());
            let mut source = Interruptible { source: open(path)?, interrupt: watched, path: label };
            let watch = &mut |_| {};
            let done =
                coder.encode(model, prior, &mut source, encoding, output, 1, interrupt, watch)?;
            anyhow::Ok(done.1)
        };
        let bytes = |&amount: &Amount| {
            let mut bytes = Vec::new();
            match amount {
                Amount::Levels(levels) => {
                    file(levels.into(), &mut bytes)?;
                }
                Amount::Kbps(kbps) => {
                    let channels = clip.channels.len() as u16;
                    let ladder = Ladder::new(model.config(), None);
                    let attempt = |encoding, mut held| {
                        let done = file(encoding, &mut held)?;
                        Ok((held, done))
                    };
                    let (mut held, _) = kbps::fill(kbps, channels, &ladder, name, attempt)?;
                    held.read_to_end(&mut bytes).context("cannot read back a temporary file")?;
                }
            }
            Ok((amount, bytes))
        };
        let files = amounts.iter().map(bytes).collect::<Result<_>>()?;
        Ok(Self { clip, files })
    }

    /// The file with so much of it.
    fn file(&self, amount: Amount) -> Result<&[u8]> {
        let file = self.files.iter().find(|(own, _)| *own == amount);
        file.map(|(_, file)| file.as_slice()).context("the tokens of a clip are lost")
    }

    /// The tokens of the file with the most of it.
    fn tokens(&self, prior: Option<&Prior>) -> Result<TokenFile> {
        let (_, file) = self.files.last().context("the tokens of a clip are lost")?;
        let mut reader = ContainerReader::open(Cursor::new(file.as_slice()))?;
        files::attach(&mut reader, prior)?;
        let levels = reader.header().layout.levels();
        Ok(TokenFile::from_tsr(&mut reader, levels)?)
    }
}

/// A clip to be measured.
struct Measure<'a> {
    model: &'a Model,
    prior: Option<&'a Prior>,
    meter: &'a Meter,
    name: &'a str,
    coded: &'a Coded,
}

impl Measure<'_> {
    /// The clip's row of every table.
    fn rows(&self, tables: &[Table], destination: Option<&Destination<'_>>) -> Result<Vec<Row>> {
        let original = &self.coded.clip;
        let reference = at_meter_rate(original)?;
        let one = |table: &Table| -> Result<Row> {
            let (bytes, decoded) = match table.coder {
                Coder::Tessera(amount) => {
                    let (bytes, decoded) = self.decode(amount)?;
                    if let Some(destination) = destination {
                        destination.write(amount, self.name, &decoded.channels, decoded.rate)?;
                    }
                    (bytes, decoded)
                }
                Coder::Opus { kbps } => opus::code(original, kbps)?,
            };
            let scores = self.meter.compare(&reference, &at_meter_rate(&decoded)?)?;
            let seconds = original.seconds();
            let kbps = bytes as f64 * 8.0 / seconds / 1000.0;
            Ok(Row {
                name: self.name.into(),
                bytes,
                seconds,
                figures: [kbps, scores.mel, scores.stft, scores.si_sdr, scores.fine],
            })
        };
        tables.iter().map(one).collect()
    }

    /// Size of the file with so much of it, and the sound that it decodes to.
    fn decode(&self, amount: Amount) -> Result<(usize, Clip)> {
        let file = self.coded.file(amount)?;
        let mut channels = vec![Vec::new(); self.coded.clip.channels.len()];
        let mut sink = |block: &[Vec<f32>]| {
            channels.iter_mut().zip(block).for_each(|(all, part): (&mut Vec<f32>, _)| {
                all.extend_from_slice(part);
            });
            Ok(())
        };
        let mut reader = ContainerReader::open(Cursor::new(file))?;
        files::decode_with(self.model, self.prior, &mut reader, &mut sink, &mut |_| {})?;
        Ok((file.len(), Clip { channels, rate: self.coded.clip.rate }))
    }
}

fn at_meter_rate(clip: &Clip) -> Result<Vec<f32>> {
    Ok(resample_all(&clip.mono(), clip.rate, metrics::SAMPLE_RATE)?)
}

/// The means of a kind.
struct Mean {
    kind: String,
    clips: usize,
    figures: [f64; COLUMNS.len()],
}

/// By kind in the order of names, and of all at the end.
fn means(rows: &[Row]) -> Vec<Mean> {
    let mut kinds: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows {
        // Files directly in the folder are of no kind.
        let kind = row.name.split_once('/').map_or(".", |(kind, _)| kind);
        kinds.entry(kind).or_default().push(row);
    }
    let mean = |kind: &str, rows: &[&Row]| {
        let mut figures = [0.0; COLUMNS.len()];
        for (column, figure) in figures.iter_mut().enumerate() {
            *figure = rows.iter().map(|r| r.figures[column]).sum::<f64>() / rows.len() as f64;
        }
        Mean { kind: kind.into(), clips: rows.len(), figures }
    };
    let all: Vec<&Row> = rows.iter().collect();
    let mut means: Vec<Mean> = kinds.iter().map(|(kind, rows)| mean(kind, rows)).collect();
    means.push(mean("all", &all));
    means
}

/// The means over all clips by rate.
fn curves(tables: &[Table]) -> Vec<rate::Curve<'static>> {
    let of = |wanted: fn(&Coder) -> bool| {
        let tables = tables.iter().filter(|t| wanted(&t.coder) && !t.rows.is_empty());
        let point = |mean: Mean| (mean.figures[0], mean.figures[1..].to_vec());
        tables.filter_map(|table| means(&table.rows).pop().map(point)).collect()
    };
    let curves = [
        rate::Curve { name: "tessera", points: of(|c| matches!(c, Coder::Tessera(_))) },
        rate::Curve { name: "opus", points: of(|c| matches!(c, Coder::Opus { .. })) },
    ];
    curves.into_iter().filter(|curve| !curve.points.is_empty()).collect()
}

fn as_text(
    model: &Model,
    prior: Option<&Prior>,
    tables: &[Table],
    stats: &CodebookStats,
) -> String {
    let config = model.config();
    // Writing to a String does not fail.
    let mut text = format!("model {} ({})\n", config.name, model.id_hex());
    if let Some(prior) = prior {
        let _ = writeln!(text, "coded with its prior ({})", prior.id_hex());
    }
    for Table { coder, rows } in tables {
        let _ = match coder {
            Coder::Tessera(Amount::Levels(levels)) => {
                writeln!(text, "\n{levels} of {} levels", config.levels())
            }
            Coder::Tessera(Amount::Kbps(kbps)) => writeln!(text, "\nat most {kbps} kbps"),
            Coder::Opus { kbps } => writeln!(text, "\nOpus at {kbps} kbps a channel"),
        };
        let names: String = COLUMNS.iter().map(|name| format!(" {name:>8}")).collect();
        let _ = writeln!(text, "{:12} {:>5}{names}", "kind", "clips");
        for mean in means(rows) {
            let figures: String = mean.figures.iter().map(|f| format!(" {f:8.3}")).collect();
            let _ = writeln!(text, "{:12} {:>5}{figures}", mean.kind, mean.clips);
        }
    }
    let _ = writeln!(text, "\nlevel   codes    used   usage  perplexity  entropy  given the last");
    for (level, s) in stats.levels().iter().enumerate().filter(|(_, s)| s.count > 0) {
        let _ = writeln!(
            text,
            "{:5} {:7} {:7} {:6.1}% {:5.0} {:4.1}% {:5.2} bit       {:5.2} bit",
            level + 1,
            s.count,
            s.used,
            s.usage * 100.0,
            s.perplexity,
            s.perplexity_share * 100.0,
            s.entropy_bits,
            s.conditional_entropy_bits
        );
    }
    text
}

fn as_json(
    model: &Model,
    prior: Option<&Prior>,
    tables: &[Table],
    stats: &CodebookStats,
    failed: &[String],
) -> Value {
    let named = |figures: &[f64; COLUMNS.len()]| -> BTreeMap<&str, f64> {
        COLUMNS.iter().copied().zip(figures.iter().copied()).collect()
    };
    let table = |Table { coder, rows }: &Table| {
        let summary: BTreeMap<String, Value> = means(rows)
            .into_iter()
            .map(|m| (m.kind.clone(), json!({ "clips": m.clips, "means": named(&m.figures) })))
            .collect();
        let clips: BTreeMap<&str, Value> = rows
            .iter()
            .map(|r| {
                let figures = named(&r.figures);
                let value = json!({ "seconds": r.seconds, "bytes": r.bytes, "figures": figures });
                (r.name.as_str(), value)
            })
            .collect();
        match coder {
            Coder::Tessera(Amount::Levels(levels)) => {
                json!({ "levels": levels, "summary": summary, "clips": clips })
            }
            Coder::Tessera(Amount::Kbps(kbps)) => {
                json!({ "most_kbps": kbps, "summary": summary, "clips": clips })
            }
            Coder::Opus { kbps } => {
                json!({ "opus_kbps": kbps, "summary": summary, "clips": clips })
            }
        }
    };
    let codebooks: Vec<Value> = stats
        .levels()
        .iter()
        .map(|s| {
            json!({
                "codes": s.count,
                "size": s.size,
                "used": s.used,
                "usage": s.usage,
                "perplexity": s.perplexity,
                "perplexity_share": s.perplexity_share,
                "entropy_bits": s.entropy_bits,
                "conditional_entropy_bits": s.conditional_entropy_bits,
            })
        })
        .collect();
    json!({
        "model": model.config().name,
        "model_id": model.id_hex(),
        "prior_id": prior.map(Prior::id_hex),
        "results": tables.iter().map(table).collect::<Vec<_>>(),
        "codebooks": codebooks,
        "left_out": failed,
    })
}
