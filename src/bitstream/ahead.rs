//! What a reader has found in a file and not given yet: chunks whose payloads are decoded together.

use std::collections::VecDeque;
use std::io;

use super::chunk::{ChunkHead, HEAD_BYTES};
use super::damage::{Damage, DamageReason};
use super::header::Header;
use super::payload::{self, BadPayload, Coded, PayloadCoder};
use crate::tokens::Tokens;

/// What is next in a file: a chunk whose checksum holds, or something else.
#[derive(Debug)]
pub(super) enum Found {
    Chunk(Intact),
    Damage(Damage),
}

/// A chunk whose checksum holds.
#[derive(Debug)]
pub(super) struct Intact {
    pub head: ChunkHead,
    /// All of it, head and checksum included.
    pub bytes: Vec<u8>,
    /// What the coder made of its payload.
    pub tokens: Option<Vec<Tokens>>,
    /// What it is when its payload is bad, but for the reason.
    pub if_bad: Damage,
}

impl Intact {
    fn payload(bytes: &[u8]) -> &[u8] {
        bytes.get(HEAD_BYTES..bytes.len().saturating_sub(4)).unwrap_or_default()
    }

    /// The tokens of the first `levels` levels, and the chunk's bytes.
    pub fn decode(self, header: &Header, levels: usize) -> Result<(Vec<Tokens>, Vec<u8>), Damage> {
        let (steps, payload) = (self.head.steps.into(), Self::payload(&self.bytes));
        match payload::decode(header, levels, steps, payload, self.tokens) {
            Ok(channels) => Ok((channels, self.bytes)),
            Err(bad) => {
                let reason = match bad {
                    BadPayload::Code { channel, level, code } => {
                        DamageReason::Code { channel, level, code }
                    }
                    BadPayload::Coding => DamageReason::Coding,
                };
                Err(Damage { reason, ..self.if_bad })
            }
        }
    }
}

/// What was found, in order.
#[derive(Debug)]
pub(super) struct Ahead {
    found: VecDeque<io::Result<Found>>,
    /// How many to find next.
    count: usize,
    /// And at most.
    most: usize,
}

impl Default for Ahead {
    fn default() -> Self {
        Self { found: VecDeque::new(), count: 1, most: usize::MAX }
    }
}

impl Ahead {
    /// As if nothing had been found.
    pub fn clear(&mut self) {
        self.found.clear();
        self.count = 1;
    }

    /// Finds at most `most` at a time, at least one.
    pub fn limit(&mut self, most: usize) {
        self.most = most.max(1);
    }

    /// Whether all that was found has been given.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many to find now, where `most` are worth while: few at first, so that who reads one chunk here and
    /// one there does not wait for many.
    pub fn next_count(&mut self, most: usize) -> usize {
        let count = self.count.min(most.min(self.most).max(1));
        self.count = 2 * count;
        count
    }

    /// Takes what was found; nothing at the end.
    pub fn push(&mut self, found: Option<io::Result<Found>>) {
        self.found.extend(found);
    }

    /// Has `coder` decode all payloads that are for it.
    pub fn decode(&mut self, header: &Header, coder: Option<&mut (dyn PayloadCoder + 'static)>) {
        let Some(coder) = coder else { return };
        let mut places = Vec::new();
        let mut coded = Vec::new();
        for (place, found) in self.found.iter().enumerate() {
            let Ok(Found::Chunk(chunk)) = found else { continue };
            let payload = Intact::payload(&chunk.bytes);
            let steps = chunk.head.steps.into();
            if let Some(bytes) = payload::coded(header, steps, payload) {
                places.push(place);
                coded.push(Coded { steps, bytes });
            }
        }
        let decoded = coder.decode(header.channels.into(), &coded);
        for (place, tokens) in places.into_iter().zip(decoded) {
            if let Some(Ok(Found::Chunk(chunk))) = self.found.get_mut(place) {
                chunk.tokens = tokens;
            }
        }
    }

    /// The next that was found.
    pub fn pop(&mut self) -> io::Result<Option<Found>> {
        self.found.pop_front().transpose()
    }
}
