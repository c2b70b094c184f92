//! `cargo xtask bundle`: the plugin in the folders that hosts look for.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::run::{cargo, run, succeeds, target};
use crate::system;

/// Builds the plugin in release and lays it out as CLAP and VST3.
pub fn bundle() -> Result<()> {
    system::packages()?;
    run(&mut cargo(&["build", "--release", "--package", "tessera-plugin"]))?;
    let target = target()?;
    let library = target.join("release").join(match std::env::consts::OS {
        "windows" => "tessera_plugin.dll",
        "macos" => "libtessera_plugin.dylib",
        _ => "libtessera_plugin.so",
    });
    let bundled = target.join("bundled");
    let (clap, vst3) = (bundled.join("Tessera.clap"), bundled.join("Tessera.vst3"));
    remove(&clap)?;
    remove(&vst3)?;
    let contents = vst3.join("Contents");
    match (std::env::consts::OS, std::env::consts::ARCH) {
        ("linux", arch) => {
            copy(&library, &clap)?;
            // Half of the file is for debuggers. The tool belongs to the linker's package.
            if !succeeds("strip", &["--strip-debug", &clap.to_string_lossy()]) {
                println!(
                    "strip is not there or failed: the bundles are larger than they have to be"
                );
            }
            copy(&clap, &contents.join(format!("{arch}-linux/Tessera.so")))?;
        }
        ("windows", arch) => {
            copy(&library, &clap)?;
            copy(&library, &contents.join(format!("{arch}-win/Tessera.vst3")))?;
        }
        ("macos", _) => {
            for bundle in [&clap, &vst3] {
                let contents = bundle.join("Contents");
                copy(&library, &contents.join("MacOS/Tessera"))?;
                fs::write(contents.join("PkgInfo"), "BNDL????")?;
                fs::write(contents.join("Info.plist"), INFO_PLIST)?;
            }
        }
        (os, _) => bail!("no plugin bundle is known for {os}"),
    }
    println!("\n{}\n{}", clap.display(), vst3.display());
    println!(
        "To use it, copy them to ~/.clap and ~/.vst3 (Linux; README for others) and let your host scan."
    );
    Ok(())
}

fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
    match removed {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(e).with_context(|| format!("cannot replace {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn copy(library: &Path, to: &Path) -> Result<()> {
    if let Some(folder) = to.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::copy(library, to)
        .with_context(|| format!("cannot copy {} to {}", library.display(), to.display()))?;
    Ok(())
}

const INFO_PLIST: &str = concat!(
    r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>CFBundleExecutable</key><string>Tessera</string>
<key>CFBundleIdentifier</key><string>org.tessera-codec.tessera</string>
<key>CFBundleName</key><string>Tessera</string>
<key>CFBundlePackageType</key><string>BNDL</string>
<key>CFBundleSignature</key><string>????</string>
<key>CFBundleVersion</key><string>"#,
    env!("CARGO_PKG_VERSION"),
    "</string>\n</dict></plist>\n"
);
