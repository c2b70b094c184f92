//! A coder of payloads as simple as can be: a byte for a small code, and three for another.

use tessera_codec::bitstream::{Coded, PayloadCoder};
use tessera_codec::tokens::{TokenLayout, Tokens};

/// Two bytes of a larger code follow.
const ESCAPE: u8 = 255;

/// The coder for files that name a prior.
#[derive(Debug)]
pub struct Escapes {
    /// The prior's id, whatever it is.
    pub id: [u8; 16],
    /// The file's levels.
    pub layout: TokenLayout,
}

impl PayloadCoder for Escapes {
    fn id(&self) -> [u8; 16] {
        self.id
    }

    fn fits(&self, layout: &TokenLayout) -> bool {
        *layout == self.layout
    }

    fn chunks_at_once(&self) -> usize {
        3
    }

    fn encode(&mut self, chunks: &[Vec<Tokens>]) -> Vec<Option<Vec<u8>>> {
        chunks.iter().map(|channels| Some(self.encode_chunk(channels))).collect()
    }

    fn decode(&mut self, channels: usize, chunks: &[Coded]) -> Vec<Option<Vec<Tokens>>> {
        chunks.iter().map(|chunk| self.decode_chunk(channels, chunk.steps, chunk.bytes)).collect()
    }
}

impl Escapes {
    fn encode_chunk(&self, channels: &[Tokens]) -> Vec<u8> {
        let mut codes = Vec::new();
        channels.iter().for_each(|tokens| tokens.append_steps_to(&mut codes, &self.layout));
        let mut bytes = Vec::new();
        for code in codes {
            match u8::try_from(code) {
                Ok(small) if small != ESCAPE => bytes.push(small),
                _ => {
                    bytes.push(ESCAPE);
                    bytes.extend(code.to_be_bytes());
                }
            }
        }
        bytes
    }

    fn decode_chunk(&self, channels: usize, steps: usize, bytes: &[u8]) -> Option<Vec<Tokens>> {
        let levels = 0..self.layout.levels();
        let per_step: usize = levels.map(|level| self.layout.codes_per_step(level)).sum();
        let mut bytes = bytes.iter();
        let mut next = || match *bytes.next()? {
            ESCAPE => Some(u16::from_be_bytes([*bytes.next()?, *bytes.next()?])),
            small => Some(u16::from(small)),
        };
        let codes: Vec<u16> =
            (0..channels * steps * per_step).map(|_| next()).collect::<Option<_>>()?;
        if next().is_some() {
            return None;
        }
        let all = codes.chunks(steps * per_step).map(|codes| {
            let mut tokens = Tokens::new(self.layout.levels());
            tokens.extend_steps(codes, &self.layout);
            let in_book = |(codes, size): (&Vec<u16>, &usize)| {
                codes.iter().all(|code| usize::from(*code) < *size)
            };
            tokens.levels.iter().zip(&self.layout.codebook_sizes).all(in_book).then_some(tokens)
        });
        all.collect()
    }
}
