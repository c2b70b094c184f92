//! Lines made off the audio thread, and those it has done with.

use std::sync::{Arc, Mutex, PoisonError};

use rtrb::{Consumer, Producer, RingBuffer};

use crate::line::Line;
use crate::models::{Choice, Loaded, Models};
use crate::processor::lookahead;

/// Lines that can be on their way at once.
const WAITING: usize = 8;

/// The host as it was when it last activated the plugin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Host {
    /// Samples a second.
    pub rate: f32,
    /// Channels.
    pub channels: usize,
}

/// The end that makes lines and drops them; used by one task at a time.
#[derive(Debug)]
pub struct Workshop {
    models: Arc<Models>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    host: Option<Host>,
    playing: Option<Loaded>,
    made: Producer<Box<Line>>,
    used: Consumer<Box<Line>>,
}

/// The audio thread's end.
#[derive(Debug)]
pub struct Shelf {
    made: Consumer<Box<Line>>,
    used: Producer<Box<Line>>,
}

/// Both ends.
pub fn exchange(models: Arc<Models>) -> (Arc<Workshop>, Shelf) {
    let (made_in, made) = RingBuffer::new(WAITING);
    let (used, used_out) = RingBuffer::new(WAITING);
    let inner = Inner { host: None, playing: None, made: made_in, used: used_out };
    (Arc::new(Workshop { models, inner: Mutex::new(inner) }), Shelf { made, used })
}

impl Workshop {
    /// A line for `host` with the model that `choice` asks for, to be used at once; waits for the model. If
    /// `present` is one already there is none to make. `None` also if the host's rate is absurd or no model
    /// can be loaded at all.
    pub fn line_for(
        &self,
        host: Host,
        choice: Choice,
        present: Option<&Line>,
    ) -> Option<Box<Line>> {
        let loaded = self.models.load(choice, None)?;
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.host = Some(host);
        inner.playing = Some(loaded.clone());
        while inner.used.pop().is_ok() {}
        drop(inner);
        let fits = |line: &Line| {
            line.suits(host.rate, host.channels) && line.loaded().model.id() == loaded.model.id()
        };
        if present.is_some_and(fits) { None } else { make(&loaded, host) }
    }

    /// Makes a line with the model that `choice` asks for, and puts it on the shelf, unless that model plays
    /// already or cannot be loaded. For a background thread.
    pub fn make(&self, choice: Choice) {
        let playing = self.inner.lock().unwrap_or_else(PoisonError::into_inner).playing.clone();
        let Some(loaded) = self.models.load(choice, playing.clone()) else { return };
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(host) = inner.host else { return };
        if playing.is_some_and(|playing| playing.model.id() == loaded.model.id()) {
            return;
        }
        if let Some(line) = make(&loaded, host)
            && inner.made.push(line).is_ok()
        {
            inner.playing = Some(loaded);
        }
    }

    /// The model that plays, or is about to.
    pub fn playing(&self) -> Option<Loaded> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).playing.clone()
    }

    /// Drops the lines that the audio thread has done with. For a background thread.
    pub fn clear(&self) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        while inner.used.pop().is_ok() {}
    }
}

fn make(loaded: &Loaded, host: Host) -> Option<Box<Line>> {
    Line::new(loaded, host.rate, host.channels, lookahead(host.rate)).map(Box::new)
}

impl Shelf {
    /// The next line that is ready.
    pub fn take(&mut self) -> Option<Box<Line>> {
        self.made.pop().ok()
    }

    /// Leaves a line to be dropped elsewhere. With no room left, which takes more changes of model at once
    /// than anyone makes, it is leaked: the audio thread must not free memory.
    pub fn put_back(&mut self, line: Box<Line>) {
        if let Err(rtrb::PushError::Full(line)) = self.used.push(line) {
            std::mem::forget(line);
        }
    }
}
