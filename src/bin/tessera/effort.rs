//! `--effort`: codes that are looked for, or those that the encoder gives at once.

use std::io::Write;

use anyhow::Result;
use tessera_codec::audio::{AudioInfo, AudioSource};
#[cfg(feature = "train")]
use tessera_codec::codec::{Codec, Effort};
use tessera_codec::engine::Model;
use tessera_codec::files::{self, EncodeReport, Encoding, FilesError};
use tessera_codec::prior::Prior;

use super::interrupt::Interrupt;
use super::model::ModelArgs;

/// The option that commands which encode files have in common.
#[derive(clap::Args)]
pub struct EffortArgs {
    /// Look for codes that decode to something closer to the original, from 0, at once, to 10, a few
    /// times as long as the sound lasts; 1 and 2 have most of what there is to gain. By default 1 for
    /// what lasts less than a minute, all channels together; for what is longer the encoder's codes, but with
    /// noise that is looked for, and 0 for what comes through a pipe and does not say how long it is.
    #[cfg(feature = "train")]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=10))]
    effort: Option<u8>,
    /// Only 0: this build has nothing that looks for better codes.
    #[cfg(not(feature = "train"))]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(..=0))]
    effort: Option<u8>,
}

/// Moves of the search for each step of effort.
#[cfg(feature = "train")]
const MOVES: usize = 10;
/// Seconds, of all channels together, below which better codes are looked for unasked: what takes seconds
/// is done, and what takes minutes is to be asked for.
#[cfg(feature = "train")]
const SEARCHED_UNASKED: f64 = 60.0;

impl EffortArgs {
    /// Has candle make element-wise operations on the thread that asks for them: it shares the large ones
    /// out among threads that wait for one another without sleeping, which is in the way of searches that
    /// have a core each. For before there is another thread; what the user set stays.
    #[cfg(feature = "train")]
    pub fn one_thread_a_search(&self) {
        const THREADS: &str = "CANDLE_NUM_THREADS";
        if self.effort != Some(0) && std::env::var_os(THREADS).is_none() {
            // SAFETY: no other thread runs that could read the environment meanwhile.
            unsafe { std::env::set_var(THREADS, "1") };
        }
    }

    /// What encodes with that effort; the model is loaded for it unless there is to be none.
    #[cfg(feature = "train")]
    pub fn coder(&self, model: &ModelArgs) -> Result<FileCoder> {
        let codec = (self.effort != Some(0)).then(|| model.load_codec()).transpose()?;
        Ok(FileCoder { asked: self.effort, codec })
    }

    /// What encodes: this build has nothing that looks for codes.
    #[cfg(not(feature = "train"))]
    pub fn coder(&self, _: &ModelArgs) -> Result<FileCoder> {
        Ok(FileCoder {})
    }
}

/// Encodes files, with codes that are looked for or without.
pub struct FileCoder {
    #[cfg(feature = "train")]
    asked: Option<u8>,
    #[cfg(feature = "train")]
    codec: Option<Codec>,
}

impl FileCoder {
    /// Encodes a source, one of so many files that may be encoded side by side (at least 1).
    #[cfg_attr(not(feature = "train"), expect(unused_variables))]
    #[expect(clippy::too_many_arguments)]
    pub fn encode<W: Write>(
        &self,
        model: &Model,
        prior: Option<&Prior>,
        source: &mut dyn AudioSource,
        encoding: Encoding,
        output: W,
        files_at_once: usize,
        interrupt: &Interrupt,
        watch: &mut dyn FnMut(u64),
    ) -> Result<(W, EncodeReport), FilesError> {
        #[cfg(feature = "train")]
        if let Some(codec) = &self.codec
            && (self.asked.is_some() || source.info().frames.is_some())
        {
            let stop = || interrupt.asked();
            // Without a move there is still noise to choose.
            let effort = Effort::moves(MOVES * usize::from(self.effort(source.info())));
            let at_once = (effort.at_once / files_at_once).max(1);
            let effort = Effort { at_once, stop: &stop, ..effort };
            return files::encode_searching(
                model, codec, effort, prior, source, encoding, output, watch,
            );
        }
        files::encode_with(model, prior, source, encoding, output, watch)
    }

    /// The effort for a source: as asked, or by its length.
    #[cfg(feature = "train")]
    pub fn effort(&self, source: &AudioInfo) -> u8 {
        let seconds = |frames: u64| {
            frames as f64 / f64::from(source.sample_rate) * f64::from(source.channels)
        };
        let quick = source.frames.map(seconds).is_some_and(|all| all < SEARCHED_UNASKED);
        self.asked.unwrap_or(u8::from(quick))
    }

    /// The effort for a source: this build has nothing that looks for codes.
    #[cfg(not(feature = "train"))]
    pub fn effort(&self, _: &AudioInfo) -> u8 {
        0
    }

    /// What is said of a source whose codes are not looked for because of its length, if that is known.
    pub fn note(&self, source: &AudioInfo) -> Option<&'static str> {
        #[cfg(feature = "train")]
        if self.asked.is_none() && source.frames.is_some() && self.effort(source) == 0 {
            return Some(
                "no codes were looked for, for its length; --effort 1 takes longer and sounds better",
            );
        }
        let _ = source;
        None
    }
}
