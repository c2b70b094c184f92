//! Which model plays: the embedded one, or one from a folder, loaded off the audio thread.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};

use nice_plug::params::persist::PersistentField;
use nice_plug::prelude::Enum;
use serde::{Deserialize, Serialize};
use tessera_codec::Shipped;
use tessera_codec::config::CodecConfig;
use tessera_codec::engine::{Model, ModelError};

use crate::tokens::Neighbours;

/// A model with what the effects need to know of it. Cloning copies pointers.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The model.
    pub model: Model,
    /// Near neighbours of its codes.
    pub neighbours: Arc<Neighbours>,
}

impl Loaded {
    fn new(model: Model) -> Self {
        let neighbours = Arc::new(Neighbours::new(&model));
        Self { model, neighbours }
    }

    /// An embedded model, loaded once for all instances.
    ///
    /// # Errors
    /// It is damaged, which a build with its tests passed does not have.
    pub fn shipped(shipped: Shipped) -> Result<Self, String> {
        type Slot = OnceLock<Result<Loaded, String>>;
        static GENERAL: Slot = Slot::new();
        static LIVE: Slot = Slot::new();
        let slot = match shipped {
            Shipped::General => &GENERAL,
            Shipped::Live => &LIVE,
        };
        let load = || Model::load_shipped(shipped).map(Self::new);
        slot.get_or_init(|| load().map_err(|e: ModelError| e.to_string())).clone()
    }

    /// The embedded model for general use.
    ///
    /// # Errors
    /// As [`shipped`](Self::shipped).
    pub fn embedded() -> Result<Self, String> {
        Self::shipped(Shipped::General)
    }

    /// The model in a folder.
    ///
    /// # Errors
    /// Says what is wrong with which file.
    pub fn folder(folder: &Path) -> Result<Self, String> {
        Model::load(folder).map(Self::new).map_err(|e| e.to_string())
    }
}

/// The parameter that chooses between the models.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Enum)]
pub enum Choice {
    /// The model for general use inside the plugin.
    #[id = "embedded"]
    #[name = "Built-in"]
    Embedded,
    /// The model from the folder that the editor was given.
    #[id = "folder"]
    #[name = "From folder"]
    Folder,
    /// The model of low latency inside the plugin.
    // Last, so that what hosts have automated still means what it did.
    #[id = "live"]
    #[name = "Built-in, low latency"]
    Live,
}

/// A folder with a model, as it is saved with a project.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Source {
    /// The folder; empty for none.
    pub path: PathBuf,
    /// Id of the model that was found there, in hexadecimal; empty if none was yet.
    pub id: String,
}

/// What the editor shows about the model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// Its id in hexadecimal.
    pub id: String,
    /// What went wrong last.
    pub problem: Option<String>,
}

/// What audio thread, background task and editor share about models.
#[derive(Debug)]
pub struct Models {
    /// The folder, saved with the project.
    pub source: RwLock<Source>,
    status: Mutex<Status>,
    /// Counts how often another folder was chosen, so that the audio thread asks for it.
    chosen: AtomicU64,
    /// The last model from a folder.
    cached: Mutex<Option<(PathBuf, Loaded)>>,
    /// Bits a second of one channel by number of levels, for the text of the parameter.
    bits: [AtomicU32; LEVELS_SHOWN],
}

/// Numbers of levels whose rate is known.
const LEVELS_SHOWN: usize = 16;

impl Default for Models {
    fn default() -> Self {
        let models = Self {
            source: RwLock::default(),
            status: Mutex::default(),
            chosen: AtomicU64::new(0),
            cached: Mutex::default(),
            bits: std::array::from_fn(|_| AtomicU32::new(0)),
        };
        // The embedded model's, without loading it: hosts ask for texts when they scan.
        if let Ok(config) = Shipped::General.config() {
            models.note_rates(&config);
        }
        models
    }
}

impl Models {
    /// Sets the folder, to be loaded next.
    pub fn choose(&self, path: PathBuf) {
        *self.source.write().unwrap_or_else(PoisonError::into_inner) =
            Source { path, id: String::new() };
        self.chosen.fetch_add(1, Ordering::Release);
    }

    /// Changes whenever another folder is chosen.
    pub fn chosen(&self) -> u64 {
        self.chosen.load(Ordering::Acquire)
    }

    /// What the editor shows.
    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    /// The model that `choice` asks for. If it cannot be loaded, `playing` or else the embedded one, and
    /// the status says why.
    pub fn load(&self, choice: Choice, playing: Option<Loaded>) -> Option<Loaded> {
        let (loaded, problem) = match choice {
            Choice::Embedded => (Loaded::embedded(), None),
            Choice::Live => (Loaded::shipped(Shipped::Live), None),
            Choice::Folder => match self.load_folder() {
                Ok((loaded, remark)) => (Ok(loaded), remark),
                Err(problem) => (playing.map_or_else(Loaded::embedded, Ok), Some(problem)),
            },
        };
        let mut status = lock(&self.status);
        match loaded {
            Ok(loaded) => {
                *status = Status {
                    name: loaded.model.config().name.clone(),
                    id: loaded.model.id_hex(),
                    problem,
                };
                self.note_rates(loaded.model.config());
                Some(loaded)
            }
            Err(error) => {
                *status = Status { problem: Some(error), ..Status::default() };
                None
            }
        }
    }

    /// The folder's model, and what is to be said about it.
    fn load_folder(&self) -> Result<(Loaded, Option<String>), String> {
        let source = self.source.read().unwrap_or_else(PoisonError::into_inner).clone();
        if source.path.as_os_str().is_empty() {
            let remark = "No folder was chosen; the built-in model plays".into();
            return Ok((Loaded::embedded()?, Some(remark)));
        }
        let cached = lock(&self.cached).clone().filter(|(path, loaded)| {
            *path == source.path && (source.id.is_empty() || source.id == loaded.model.id_hex())
        });
        let loaded = match cached {
            Some((_, loaded)) => loaded,
            None => Loaded::folder(&source.path)?,
        };
        let id = loaded.model.id_hex();
        let remark = (!source.id.is_empty() && source.id != id).then(|| {
            format!(
                "{} is not the model that the project was saved with ({}..., now {}...)",
                source.path.display(),
                source.id.chars().take(8).collect::<String>(),
                &id[..8],
            )
        });
        *lock(&self.cached) = Some((source.path.clone(), loaded.clone()));
        if remark.is_none() {
            let mut kept = self.source.write().unwrap_or_else(PoisonError::into_inner);
            if kept.path == source.path {
                kept.id = id;
            }
        }
        Ok((loaded, remark))
    }

    fn note_rates(&self, config: &CodecConfig) {
        let layout = config.layout();
        let frames = f64::from(config.sample_rate) / config.hop as f64;
        let steps = frames / layout.frames_per_step() as f64;
        for (i, bits) in self.bits.iter().enumerate() {
            let levels = (i + 1).min(layout.levels());
            bits.store((layout.bits_per_step(levels) as f64 * steps) as u32, Ordering::Relaxed);
        }
    }

    /// Bits a second of one channel with `levels` levels of the model that plays.
    pub fn bits_per_second(&self, levels: usize) -> u32 {
        self.bits[levels.clamp(1, LEVELS_SHOWN) - 1].load(Ordering::Relaxed)
    }
}

// A state brings a folder. While the plugin plays nothing else says that there is another model to load.
impl PersistentField<'_, Source> for Arc<Models> {
    fn set(&self, saved: Source) {
        let mut source = self.source.write().unwrap_or_else(PoisonError::into_inner);
        if *source != saved {
            *source = saved;
            self.chosen.fetch_add(1, Ordering::Release);
        }
    }

    fn map<F: Fn(&Source) -> R, R>(&self, f: F) -> R {
        f(&self.source.read().unwrap_or_else(PoisonError::into_inner))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/tessera-48k")
    }

    #[test]
    fn a_folder_is_loaded_and_its_id_kept() {
        let models = Models::default();
        assert_eq!(models.bits_per_second(usize::MAX), 5250);
        models.choose(shipped());
        let loaded = models.load(Choice::Folder, None).unwrap();
        let id = loaded.model.id_hex();
        assert_eq!(
            models.status(),
            Status { name: "tessera-48k".into(), id: id.clone(), problem: None }
        );
        assert_eq!(models.source.read().unwrap().id, id);
        assert_eq!(models.bits_per_second(4), 2750);
        assert_eq!(models.bits_per_second(1), 250);
    }

    #[test]
    fn the_model_of_low_latency_is_built_in() {
        let models = Models::default();
        let loaded = models.load(Choice::Live, None).unwrap();
        assert_eq!(loaded.model.config().latency_samples(), 1200);
        assert_eq!(models.status().name, "tessera-live-48k");
        assert_eq!(models.bits_per_second(1), 500);
        assert_eq!(Choice::from_index(1), Choice::Folder);
    }

    #[test]
    fn a_bad_folder_leaves_the_model_and_says_why() {
        let models = Models::default();
        let embedded = models.load(Choice::Embedded, None).unwrap();
        let empty = tempfile::tempdir().unwrap();
        let damaged = tempfile::tempdir().unwrap();
        std::fs::copy(shipped().join("config.json"), damaged.path().join("config.json")).unwrap();
        std::fs::write(damaged.path().join("weights.safetensors"), b"not weights").unwrap();
        for (folder, says) in [
            (PathBuf::new(), "No folder"),
            (PathBuf::from("/nowhere/at/all"), "/nowhere/at/all"),
            (empty.path().into(), "config.json"),
            (damaged.path().into(), "weights.safetensors"),
        ] {
            models.choose(folder);
            for playing in [Some(embedded.clone()), None] {
                let loaded = models.load(Choice::Folder, playing).unwrap();
                assert_eq!(loaded.model.id(), embedded.model.id());
                let problem = models.status().problem.unwrap();
                assert!(problem.contains(says), "{problem}");
            }
        }
        assert_eq!(models.load(Choice::Embedded, None).unwrap().model.id(), embedded.model.id());
        assert_eq!(models.status().problem, None);
    }

    #[test]
    fn another_model_than_the_saved_one_is_remarked_on() {
        let models = Models::default();
        let saved = Source { path: shipped(), id: "00".repeat(16) };
        *models.source.write().unwrap() = saved.clone();
        assert!(models.load(Choice::Folder, None).is_some());
        assert!(models.status().problem.unwrap().contains("00000000"));
        assert_eq!(*models.source.read().unwrap(), saved);
    }
}
