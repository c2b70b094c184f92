//! verify, repair and encode --verify.

use candle_core::Device;
use tessera_codec::audio::WavFormat;
use tessera_codec::codec::save_model;
use tessera_codec::model::Network;

use crate::common::{Folder, Ran, model, shape, tessera, tiny, tone};

/// A folder with `a.tsr`, ten seconds and a bit of two channels.
fn encoded() -> (Folder, Vec<u8>) {
    let folder = Folder::new();
    tone(&folder.path("a.wav"), 44_100, 2, 441_999, WavFormat::Pcm16);
    let (wav, tsr) = (folder.text("a.wav"), folder.text("a.tsr"));
    tessera(&["encode", &wav, &tsr, "--model", model()]).expect(0, &[]);
    let bytes = std::fs::read(&tsr).unwrap();
    (folder, bytes)
}

/// Where chunk `number` begins.
fn chunk(bytes: &[u8], number: u8) -> usize {
    bytes.windows(5).position(|head| head == [0xF5, 0xC3, 0, 0, number]).unwrap()
}

fn verify(folder: &Folder, name: &str) -> Ran {
    tessera(&["verify", &folder.text(name), "--model", model(), "--json"])
}

#[test]
fn verified_files_are_the_same_files() {
    let (folder, bytes) = encoded();
    let (wav, again) = (folder.text("a.wav"), folder.text("b.tsr"));
    let args = ["encode", &wav, &again, "--model", model(), "--verify", "--json"];
    let json = tessera(&args).json();
    assert_eq!(json["verified"], true);
    assert_eq!(std::fs::read(&again).unwrap(), bytes);
    let json = verify(&folder, "b.tsr").json();
    assert_eq!((&json["whole"], &json["damage_count"]), (&true.into(), &0.into()));
    assert_eq!(json["samples"], 441_999);
    assert_eq!(folder.names(), ["a.tsr", "a.wav", "b.tsr"]);
}

#[test]
fn whatever_is_damaged_is_found() {
    let (folder, bytes) = encoded();
    let path = folder.path("b.tsr");
    let check = |bytes: &[u8], code: i32, words: &[&str]| {
        std::fs::write(&path, bytes).unwrap();
        let ran = verify(&folder, "b.tsr");
        ran.expect(code, words);
        if code != 1 {
            let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
            assert_eq!(json["whole"], code == 0, "{words:?}");
        }
    };
    check(&bytes, 0, &[]);
    check(&[&bytes[..], b"TAG and more"].concat(), 0, &["12 bytes after the end"]);
    check(&bytes[..bytes.len() - 1], 3, &["index"]);
    check(&bytes[..chunk(&bytes, 5)], 3, &["ends early"]);
    check(&bytes[..40], 1, &["b.tsr", "truncated header"]);
    // Every byte matters: a change anywhere is found, in the header or after it.
    for at in (0..bytes.len()).step_by(97).chain([bytes.len() - 1]) {
        let mut changed = bytes.clone();
        changed[at] ^= 4;
        check(&changed, if at < 80 { 1 } else { 3 }, &["b.tsr"]);
    }
    // A model that is not this file's.
    std::fs::write(&path, &bytes).unwrap();
    let network = Network::random(&tiny(), 8, &Device::Cpu).unwrap();
    save_model(&folder.path("other"), &tiny(), &network.params.snapshot().unwrap()).unwrap();
    let other = folder.text("other");
    let args = ["verify", &folder.text("b.tsr"), "--model", &other];
    tessera(&args).expect(1, &["b.tsr", "--model"]);
    tessera(&["verify", &folder.text("none.tsr")]).expect(1, &["none.tsr"]);
}

#[test]
fn what_is_left_is_repaired_and_keeps_its_time() {
    let (folder, bytes) = encoded();
    let [broken, mended, out] = ["b.tsr", "c.tsr", "d.wav"].map(|name| folder.text(name));
    let repair = |bytes: &[u8], more: &[&str]| {
        std::fs::write(&broken, bytes).unwrap();
        tessera(&[&["repair", &broken, &mended], more].concat())
    };
    // Nothing lost: the very same file.
    repair(&bytes, &[]).expect(0, &[]);
    assert_eq!(std::fs::read(&mended).unwrap(), bytes);
    repair(&bytes, &[]).expect(1, &["c.tsr", "exists already", "--force"]);

    // A bit, some bytes lost, some put in, the trailer gone.
    let mut harmed = bytes.clone();
    harmed[chunk(&bytes, 7) + 30] ^= 1;
    harmed.drain(chunk(&bytes, 4) + 9..chunk(&bytes, 5) + 9);
    harmed.splice(chunk(&bytes, 2)..chunk(&bytes, 2), *b"garbage");
    let ran = repair(&harmed, &["--force", "--json"]);
    ran.expect(3, &["chunks 4 to 5", "chunk 7", "7 bytes between chunks"]);
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!((&json["kept_chunks"], &json["lost_chunks"]), (&8.into(), &3.into()));
    assert_eq!((&json["samples"], &json["lost_steps"]), (&441_999.into(), &75.into()));
    assert_eq!(std::fs::read(&broken).unwrap(), harmed, "the damaged file stays as it was");
    let checked = verify(&folder, "c.tsr");
    checked.expect(3, &["chunks 4 to 5", "chunk 7", "lost before the file was repaired"]);
    assert!(!checked.stderr.contains("checksum") && checked.stdout.contains("\"has_index\": true"));

    // What decodes is what decodes from the damaged file.
    let decode = |tsr: &str, out: &str| {
        tessera(&["decode", tsr, out, "--model", model(), "--format", "f32", "--force"])
            .expect(3, &[]);
        assert_eq!(shape(out.as_ref()), (44_100, 2, 441_999));
        std::fs::read(out).unwrap()
    };
    assert!(decode(&mended, &out) == decode(&broken, &folder.text("e.wav")));

    repair(&bytes[..chunk(&bytes, 6)], &["--force"]).expect(3, &["length is lost"]);
    verify(&folder, "c.tsr").expect(0, &[]);
    repair(&bytes[..70], &["--force"]).expect(1, &["b.tsr", "truncated header"]);
    let onto_itself = tessera(&["repair", &broken, &broken, "--force"]);
    onto_itself.expect(1, &["b.tsr", "damaged file itself"]);
    let link = folder.path("link.tsr");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&broken, &link).unwrap();
        let link = folder.text("link.tsr");
        tessera(&["repair", &broken, &link, "--force"]).expect(1, &["damaged file itself"]);
    }
    let _ = std::fs::remove_file(link);
    assert_eq!(folder.names(), ["a.tsr", "a.wav", "b.tsr", "c.tsr", "d.wav", "e.wav"]);
}
