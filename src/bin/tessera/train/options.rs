//! The options of everything that trains, and what they say of the folder of a run.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use candle_core::Device;
use tessera_codec::config::ConfigError;
use tessera_codec::train::Budget;
use tessera_codec::train::checkpoint::{CHECKPOINT, CONFIG};

/// A run: where it is, how long it goes on, and how it begins.
#[derive(clap::Args)]
#[command(group(clap::ArgGroup::new("budget").required(true)))]
pub struct RunArgs {
    /// Folder of the run.
    #[arg(long, value_name = "RUN")]
    pub out: PathBuf,
    /// Training configuration (JSON); what it does not name keeps its default.
    #[arg(long, value_name = "FILE.json")]
    pub config: Option<PathBuf>,
    /// Train until so many steps are done, over all sessions.
    #[arg(long, value_name = "N", group = "budget")]
    steps: Option<u64>,
    /// Train for so many minutes, over all sessions; preparing the data does not count.
    #[arg(long, value_name = "M", group = "budget", value_parser = minutes)]
    max_minutes: Option<f64>,
    /// Go on from the run's checkpoint.
    #[arg(long)]
    pub resume: bool,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
    /// Seed of everything random; 0 by default.
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DeviceName {
    Cpu,
    Cuda,
    Metal,
}

fn minutes(text: &str) -> Result<f64, String> {
    // A thousand years are enough, and fit a duration.
    match text.parse() {
        Ok(value) if (f64::MIN_POSITIVE..=5e8).contains(&value) => Ok(value),
        _ => Err("give a number above 0".into()),
    }
}

/// How a configuration is read from JSON text and checked.
type FromJson<C> = fn(&str) -> Result<C, ConfigError>;

impl RunArgs {
    /// How long to train.
    pub fn budget(&self) -> Result<Budget> {
        match (self.steps, self.max_minutes) {
            (Some(steps), _) => Ok(Budget::Steps(steps)),
            (None, Some(minutes)) => Ok(Budget::Time(Duration::from_secs_f64(minutes * 60.0))),
            (None, None) => bail!("one of --steps and --max-minutes is needed"),
        }
    }

    /// Opens the device to compute on.
    pub fn open_device(&self) -> Result<Device> {
        let (name, built) = match self.device {
            DeviceName::Cpu => return Ok(Device::Cpu),
            DeviceName::Cuda => ("cuda", cfg!(feature = "cuda")),
            DeviceName::Metal => ("metal", cfg!(feature = "metal")),
        };
        if !built {
            bail!(
                "--device {name}: this program was built without it; build it with \
                 `cargo build --release --features {name}`"
            );
        }
        let device = match self.device {
            DeviceName::Metal => Device::new_metal(0),
            _ => Device::new_cuda(0),
        };
        device.with_context(|| format!("--device {name}: there is no such device to be used"))
    }

    /// Makes the run's folder; its checkpoint, which may not be there yet.
    pub fn make_folder(&self) -> Result<PathBuf> {
        std::fs::create_dir_all(&self.out)
            .with_context(|| format!("cannot make the folder {}", self.out.display()))?;
        Ok(self.out.join(CHECKPOINT))
    }

    /// The configuration of a new run, in a folder without one.
    pub fn begun<C: Default>(&self, from_json: FromJson<C>) -> Result<C> {
        if self.out.join(CHECKPOINT).exists() {
            bail!(
                "{} holds a run already ({CHECKPOINT}): go on with it by --resume, or name another folder",
                self.out.display()
            );
        }
        Ok(self.asked(from_json)?.unwrap_or_default())
    }

    /// The configuration of the run to go on with, and the one that is asked for, if one is.
    pub fn continued<C>(&self, from_json: FromJson<C>) -> Result<(C, Option<C>)> {
        if !self.out.join(CHECKPOINT).exists() {
            let run = self.out.display();
            bail!(
                "--resume: there is no {CHECKPOINT} in {run}; without --resume a run begins there"
            );
        }
        Ok((read_config(&self.out.join(CONFIG), from_json)?, self.asked(from_json)?))
    }

    /// Whether the configuration that is asked for says anything of `key`.
    pub fn names(&self, key: &str) -> Result<bool> {
        let Some(path) = &self.config else { return Ok(false) };
        let about = || format!("cannot use the configuration {}", path.display());
        let text = std::fs::read_to_string(path).with_context(about)?;
        let value: serde_json::Value = serde_json::from_str(&text).with_context(about)?;
        Ok(value.get(key).is_some())
    }

    fn asked<C>(&self, from_json: FromJson<C>) -> Result<Option<C>> {
        self.config.as_deref().map(|path| read_config(path, from_json)).transpose()
    }

    /// The seed of a new run.
    pub fn new_seed(&self) -> u64 {
        self.seed.unwrap_or_default()
    }

    /// Refuses another seed than that of the run to go on with.
    pub fn check_seed(&self, own: u64) -> Result<()> {
        match self.seed.filter(|seed| *seed != own) {
            Some(seed) => bail!(
                "--seed {seed}: the run {} has the seed {own}; leave --seed out",
                self.out.display()
            ),
            None => Ok(()),
        }
    }
}

fn read_config<C>(path: &Path, from_json: FromJson<C>) -> Result<C> {
    let name = || format!("cannot use the configuration {}", path.display());
    let text = std::fs::read_to_string(path).with_context(name)?;
    from_json(&text).with_context(name)
}
