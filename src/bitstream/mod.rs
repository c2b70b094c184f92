//! The `.tsr` container: tokens in a file that survives damage.
//!
//! A [`Header`] says what the tokens mean; chunks of a second or a few follow, each with its own sync
//! word, number and CRC-32; an index and a trailer end the file. `docs/format.md` has every byte.
//!
//! - [`ContainerWriter`] takes steps as the encoder makes them and needs no seeking.
//! - [`ContainerReader`] gives the chunks back in order, with [`Damage`] in place of those that are
//!   broken or missing, so that the timeline is kept. It also seeks, reads only the first levels, and
//!   sums a file up.
//! - [`repair`] writes what is intact of a damaged file as a file that is whole again, with what is lost
//!   marked.
//! - [`PayloadCoder`] is what codes the payloads of a file that was made with a prior: the container itself
//!   knows of no network.
//! - [`OutputFile`] is a file that appears under its name only when it is complete.
//!
//! ```
//! use std::io::Cursor;
//! use tessera_codec::bitstream::{ContainerReader, ContainerWriter, Header, Item};
//! use tessera_codec::lines::Kept;
//! use tessera_codec::tokens::{TokenLayout, Tokens};
//!
//! let layout = TokenLayout { strides: vec![2, 1], codebook_sizes: vec![1024, 1024] };
//! let header = Header {
//!     model_id: [0; 16],
//!     source_rate: 48_000,
//!     channels: 1,
//!     samples: None, // as when encoding from a pipe
//!     codec_rate: 48_000,
//!     hop: 480,
//!     pre_skip: 0,
//!     steps_per_chunk: Header::steps_per_second(48_000, 480, &layout, 1),
//!     warm_up_steps: 10,
//!     prior_id: None,
//!     lines: Kept::Nothing,
//!     layout,
//! };
//!
//! // Encoding: any number of steps at a time, one `Tokens` per channel.
//! let mut writer = ContainerWriter::new(Vec::new(), header)?;
//! for step in 0..120 {
//!     writer.push_steps(&[Tokens::of_codes(vec![vec![step], vec![0, 1]])])?;
//! }
//! let mut file = writer.finish(120 * 960)?;
//!
//! file[500] ^= 1; // somewhere in the second second
//!
//! // Decoding.
//! let mut reader = ContainerReader::open(Cursor::new(file))?;
//! let mut steps = Vec::new();
//! for item in &mut reader {
//!     match item? {
//!         Item::Chunk(chunk) => steps.push((chunk.number, chunk.steps as u64)),
//!         Item::Damage(damage) => {
//!             eprintln!("{damage}");
//!             steps.push((damage.first, damage.steps)); // to be concealed
//!         }
//!     }
//! }
//! assert_eq!(steps, [(0, 50), (1, 50), (2, 20)]);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod ahead;
mod arithmetic;
pub mod bits;
mod chunk;
mod combs;
mod damage;
mod file;
mod grains;
mod header;
mod index;
mod lines;
mod payload;
mod reader;
mod repair;
mod summary;
mod trims;
mod varint;
mod window;
mod writer;

pub use chunk::{CHUNK_OVERHEAD, Chunk, MAX_CHUNKS, MAX_PAYLOAD};
pub use damage::{Damage, DamageReason};
pub use file::{FileError, OutputFile, Overwrite, write_atomically};
pub use header::{
    FORMAT_VERSION, Header, HeaderError, MAGIC, MAX_CHANNELS, MAX_HOP, MAX_PRE_SKIP, MAX_RATE,
    MAX_SAMPLES,
};
pub use payload::{Coded, CoderError, PayloadCoder};
pub use reader::{ContainerReader, Item, ReadError};
pub use repair::{Repair, RepairError, repair};
pub use summary::{LevelSummary, Summary};
pub(crate) use trims::Before as TrimBefore;
pub use writer::{ContainerWriter, WriteError};
