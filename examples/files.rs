//! An audio file to a `.tsr` file and back, in bounded memory: what `tessera encode` and
//! `tessera decode` do.
//!
//!     cargo run --release --example files -- assets/clip.wav clip.tsr decoded.wav

use std::error::Error;
use std::path::Path;

use tessera_codec::audio::{self, WavFormat, WavSink};
use tessera_codec::bitstream::{ContainerReader, OutputFile, Overwrite};
use tessera_codec::engine::Model;
use tessera_codec::files;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [input, coded, output] = &arguments[..] else {
        return Err("usage: files IN.wav OUT.tsr OUT.wav".into());
    };
    let model = Model::shipped()?;

    let mut source = audio::open(Path::new(input))?;
    let file = OutputFile::create(Path::new(coded), Overwrite::Refuse)?;
    let (file, report) = files::encode(&model, &mut *source, model.levels(), file, &mut |_| ())?;
    file.commit()?; // Until here there is no file of that name, not even half of one.
    println!("{:.1} s in {} bytes, {:.2} kbps", report.seconds, report.bytes, report.kbps);

    let mut reader = ContainerReader::open_path(Path::new(coded))?;
    let (rate, channels) = (reader.header().source_rate, reader.header().channels);
    let mut sink = WavSink::create(Path::new(output), rate, channels, WavFormat::Pcm16, false)?;
    let report = files::decode(&model, &mut reader, &mut |block| sink.write(block), &mut |_| ())?;
    sink.finish()?;
    for damage in &report.damages {
        println!("damaged: {damage}");
    }
    println!("{} samples", report.samples);
    Ok(())
}
