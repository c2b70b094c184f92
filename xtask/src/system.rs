//! What has to be on the machine before cargo can build everything.

use std::process::Command;

use anyhow::{Result, bail};

use crate::run::{run, succeeds};

/// Something that is needed, how to see whether it is there, and the Debian packages that bring it.
struct Need {
    what: &'static str,
    probe: (&'static str, &'static [&'static str]),
    packages: &'static [&'static str],
}

/// What every build of the workspace needs beside Rust.
const NEEDS: &[Need] = &[
    Need { what: "a C compiler", probe: ("cc", &["--version"]), packages: &["gcc", "libc6-dev"] },
    #[cfg(target_os = "linux")]
    Need {
        what: "ALSA, for sound devices",
        probe: ("pkg-config", &["--exists", "alsa"]),
        packages: &["libasound2-dev", "pkg-config"],
    },
];

/// What the tests need on top: JACK for the plugin's program of its own, a screen for a picture of its
/// window, and Python for hosts.
#[cfg(target_os = "linux")]
const TEST_NEEDS: &[Need] = &[
    Need {
        what: "JACK",
        probe: ("pkg-config", &["--exists", "jack"]),
        packages: &["pkg-config", "libjack-jackd2-dev"],
    },
    Need {
        what: "a virtual screen",
        probe: ("sh", &["-c", "command -v Xvfb && command -v import && command -v openbox"]),
        packages: &["xvfb", "xauth", "imagemagick", "openbox", "libgl1", "libgl1-mesa-dri"],
    },
    Need {
        what: "python3 with venv",
        probe: ("python3", &["-c", "import venv, ensurepip"]),
        packages: &["python3", "python3-venv"],
    },
];
#[cfg(not(target_os = "linux"))]
const TEST_NEEDS: &[Need] = &[];

/// Installs what builds need and is missing; does nothing, and needs no network, when nothing is.
pub fn packages() -> Result<()> {
    install(NEEDS.iter())
}

/// The same with what the tests need on top.
pub fn test_packages() -> Result<()> {
    install(NEEDS.iter().chain(TEST_NEEDS))
}

fn install(needs: impl Iterator<Item = &'static Need>) -> Result<()> {
    let missing: Vec<&Need> = needs.filter(|need| !succeeds(need.probe.0, need.probe.1)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let what = missing.iter().map(|need| need.what).collect::<Vec<_>>().join(", ");
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.packages).copied().collect();
    let list = packages.join(" ");
    println!("Missing: {what}. Installing the Debian packages {list}");
    if !succeeds("apt-get", &["--version"]) {
        bail!("{what} is missing and there is no apt-get here: install it (in Debian: {list})");
    }
    let apt = |arguments: &[&str]| {
        let mut command = if succeeds("sh", &["-c", "[ \"$(id -u)\" = 0 ]"]) {
            Command::new("apt-get")
        } else {
            let mut command = Command::new("sudo");
            command.arg("apt-get");
            command
        };
        run(command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive"))
    };
    apt(&["update", "-q"])?;
    apt(&[&["install", "-q", "-y", "--no-install-recommends"], &packages[..]].concat())
}

/// Adds the components of the Rust toolchain that a minimal installation lacks.
pub fn components() -> Result<()> {
    let missing: Vec<&str> = [("fmt", "rustfmt"), ("clippy", "clippy")]
        .into_iter()
        .filter(|(command, _)| !succeeds("cargo", &[command, "--version"]))
        .map(|(_, component)| component)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    run(Command::new("rustup").args(["component", "add"]).args(missing))
}
