//! Any tokens of any layout, packed into bits and unpacked.

use std::io::Cursor;

use super::draw::Draw;
use super::escapes::Escapes;
use super::lines_at_random::following;
use tessera_codec::bitstream::bits::{BitReader, BitWriter};
use tessera_codec::bitstream::{ContainerReader, ContainerWriter, Header, Item};
use tessera_codec::lines::Kept;
use tessera_codec::tokens::{TokenLayout, Tokens};

/// Bits as they were written, and a file of the tokens that the bytes describe: what goes in comes
/// out, however it is pushed.
pub fn attack(bytes: &[u8]) {
    bits(bytes);
    file(&mut Draw(bytes));
}

/// The codes of a file that an input describes: more teach nothing new.
const MOST_CODES: usize = 1 << 12;

impl Draw<'_> {
    fn number(&mut self) -> u32 {
        u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()])
    }
}

/// Reads the bytes in pieces of widths that they name themselves, and writes the pieces again.
fn bits(bytes: &[u8]) {
    let widths = bytes.iter().map(|&byte| u32::from(byte) % 36).take(4096);
    let (mut reader, mut writer) = (BitReader::new(bytes), BitWriter::new());
    for width in widths {
        let before = reader.remaining();
        match reader.read(width) {
            Some(value) => {
                assert_eq!(before - reader.remaining(), width as usize);
                assert!(u64::from(value) < 1 << width);
                writer.write(value, width);
            }
            None => assert!(width > 32 || before < width as usize),
        }
    }
    let read = bytes.len() * 8 - reader.remaining();
    let written = writer.into_bytes();
    assert_eq!(written.len(), read.div_ceil(8));
    assert_eq!(written[..read / 8], bytes[..read / 8]);
}

fn file(draw: &mut Draw) {
    let levels = usize::from(draw.byte() % 18);
    let layout = TokenLayout {
        strides: (0..levels).map(|_| usize::from(draw.byte())).collect(),
        codebook_sizes: (0..levels).map(|_| draw.number() as usize % 70_000).collect(),
    };
    let header = Header {
        model_id: [draw.byte(); 16],
        source_rate: draw.number() % 800_000,
        channels: u16::from(draw.byte() % 34),
        samples: None,
        codec_rate: draw.number() % 800_000,
        hop: draw.number() % 70_000,
        pre_skip: draw.number() % 1_100_000,
        steps_per_chunk: draw.byte(),
        warm_up_steps: draw.number() as u16,
        prior_id: (draw.byte() % 2 == 1).then_some([7; 16]),
        lines: Kept::EVERY[usize::from(draw.byte()) % Kept::EVERY.len()],
        layout,
    };
    let valid = header.validate().is_ok();
    let coder = || Some(Box::new(Escapes { id: [7; 16], layout: header.layout.clone() }) as Box<_>);
    let begun = ContainerWriter::with_coder(Vec::new(), header.clone(), coder());
    assert_eq!(begun.is_ok(), valid);
    let Ok(mut writer) = begun else { return };

    // As many steps as the bytes ask for, but no megabytes of them.
    let step_codes: usize =
        (0..header.layout.levels()).map(|l| header.layout.codes_per_step(l)).sum();
    let most = MOST_CODES / (step_codes * usize::from(header.channels));
    let wanted = u64::from(draw.byte()).min(most as u64);
    // The longest source that has no more, found by halving.
    let (mut low, mut high) = (0, 1u64 << 30);
    while low < high {
        let middle = (low + high).div_ceil(2);
        match header.steps(middle) <= wanted {
            true => low = middle,
            false => high = middle - 1,
        }
    }
    let (samples, steps) = (low, header.steps(low));
    let mut all = vec![Tokens::new(header.layout.levels()); header.channels.into()];
    let mut left = steps as usize;
    while left > 0 {
        let now = (1 + usize::from(draw.byte()) % 64).min(left);
        let mut code = |size: usize| (draw.number() as usize % size) as u16;
        let mut level = |l: usize| {
            let count = now * header.layout.codes_per_step(l);
            (0..count).map(|_| code(header.layout.codebook_sizes[l])).collect()
        };
        let mut part: Vec<Tokens> = all
            .iter()
            .map(|_| Tokens::of_codes((0..header.layout.levels()).map(&mut level).collect()))
            .collect();
        if header.lines.any() {
            for (part, all) in part.iter_mut().zip(&all) {
                let before = all.lines.last().copied().unwrap_or_default();
                part.lines = following(header.lines, before, now, || u32::from(draw.byte()));
            }
        }
        writer.push_steps(&part).unwrap();
        all.iter_mut().zip(&part).for_each(|(all, part)| all.extend(part));
        left -= now;
    }
    let bytes = writer.finish(samples).unwrap();
    let mut reader = ContainerReader::open(Cursor::new(&bytes)).unwrap();
    assert!(reader.has_index());
    reader.set_coder(coder()).unwrap();
    assert_eq!((reader.header(), reader.samples()), (&header, Some(samples)));
    let mut read = vec![Tokens::new(header.layout.levels()); header.channels.into()];
    for item in &mut reader {
        let Item::Chunk(chunk) = item.unwrap() else { panic!("damage in an intact file") };
        read.iter_mut().zip(&chunk.channels).for_each(|(all, part)| all.extend(part));
    }
    assert_eq!(read, all);
}
