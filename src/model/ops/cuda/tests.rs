//! What GPUs compute is held against the CPU's kernels, which have finite differences behind them. Without a
//! GPU these tests say so and check nothing.

use candle_core::{D, Device, Result, Tensor, Var};

use super::super::*;
use super::Once;
use crate::config::CodecConfig;
use crate::model::{Bottleneck, Choice, Network};

/// The GPU, if there is one that the kernels run on; where one is expected, its absence is a failure.
fn gpu() -> Option<&'static Device> {
    static GPU: Once<Device> = Once(std::sync::OnceLock::new());
    let found = GPU.get(|| Device::new_cuda(0));
    if let Err(error) = &found {
        assert!(std::env::var_os("TESSERA_EXPECT_GPU").is_none(), "{error}");
        eprintln!("skipped: no CUDA device");
    }
    found.ok()
}

fn values(t: &Tensor) -> Vec<f32> {
    host(&t.to_dtype(candle_core::DType::F32).unwrap()).unwrap()
}

/// Holds values against those of the CPU, relative to the largest of these.
fn close(what: &str, found: &Tensor, expected: &Tensor, tolerance: f32) {
    assert_eq!(found.dims(), expected.dims(), "{what}");
    let (found, expected) = (values(found), values(expected));
    let size = expected.iter().fold(1e-6f32, |m, v| m.max(v.abs()));
    for (i, (a, b)) in found.iter().zip(&expected).enumerate() {
        assert!((a - b).abs() <= tolerance * size, "{what} at {i}: {a}, on the CPU {b} of {size}");
    }
}

/// Holds value and gradients of `f` on the GPU against those on the CPU.
fn same(what: &str, inputs: &[Tensor], tolerance: f32, f: impl Fn(&[Tensor]) -> Result<Tensor>) {
    let Some(gpu) = gpu() else { return };
    let run = |device: &Device| {
        let vars: Vec<Var> = inputs
            .iter()
            .map(|t| Var::from_tensor(&t.to_device(device).unwrap()).unwrap())
            .collect();
        let tensors: Vec<Tensor> = vars.iter().map(|v| v.as_tensor().clone()).collect();
        let y = f(&tensors).unwrap_or_else(|error| panic!("{what}: {error}"));
        let weights = check::random(99, y.dims()).to_device(device).unwrap();
        let grads = (&y * weights).unwrap().sum_all().unwrap().backward().unwrap();
        let grads: Vec<Option<Tensor>> = vars.iter().map(|v| grads.get(v).cloned()).collect();
        (y, grads)
    };
    let ((a, a_grads), (b, b_grads)) = (run(gpu), run(&Device::Cpu));
    close(what, &a, &b, tolerance);
    for (i, (a, b)) in a_grads.iter().zip(&b_grads).enumerate() {
        match (a, b) {
            (Some(a), Some(b)) => close(&format!("{what}: gradient {i}"), a, b, tolerance),
            (None, None) => {}
            _ => panic!("{what}: gradient {i} is on one device only"),
        }
    }
}

#[test]
fn layers() {
    let x = (check::random(1, &[3, 70, 45]) * 3.0).unwrap();
    same("gelu", std::slice::from_ref(&x), 1e-5, |t| gelu(&t[0]));
    same("leaky relu", std::slice::from_ref(&x), 1e-5, |t| leaky_relu(&t[0]));
    same("normalize", std::slice::from_ref(&x), 1e-4, |t| normalize(&t[0]));
    let (w, b) = (check::random(2, &[33, 45]), check::random(3, &[33]));
    for (precision, tolerance) in
        [(Precision::F32, 1e-5), (Precision::Tf32, 3e-3), (Precision::Bf16, 2e-2)]
    {
        let inputs = [x.clone(), w.clone(), b.clone()];
        same("linear", &inputs, tolerance, |t| linear(&t[0], &t[1], &t[2], precision));
    }
    let (w, b) = (check::random(4, &[7, 45]), check::random(5, &[45]));
    let inputs = [x.clone(), w, b.clone()];
    same("depthwise", &inputs, 1e-5, |t| depthwise_causal(&t[0], &t[1], &t[2]));
    let short = [check::random(1, &[2, 3, 45]), inputs[1].clone(), b.clone()];
    same("depthwise of few frames", &short, 1e-5, |t| depthwise_causal(&t[0], &t[1], &t[2]));
    let inputs = [x, check::random(6, &[3, 70, 45]), b];
    same("residual", &inputs, 1e-5, |t| scaled_residual(&t[0], &t[1], &t[2]));
}

#[test]
fn frames_and_transforms() {
    let Some(gpu) = gpu() else { return };
    let x = check::random(1, &[3, 24 * 9]);
    let expected = frames(&x, 96, 24).unwrap();
    close("frames", &frames(&x.to_device(gpu).unwrap(), 96, 24).unwrap(), &expected, 0.0);
    for (window, hop) in [(64, 16), (60, 25), (128, 128)] {
        let stft = Stft::new(window, hop).unwrap();
        same("stft", std::slice::from_ref(&x), 1e-5, |t| stft.forward(&t[0]));
    }
    for bands in [5, 12, 49] {
        let levels = BandLevels::new(96, 24, 48_000, bands);
        let expected = levels.forward(&x).unwrap();
        close("levels", &levels.forward(&x.to_device(gpu).unwrap()).unwrap(), &expected, 1e-4);
    }
}

fn synthesis(noise_bands: usize, voiced_bands: usize, led_top: u32) -> InverseStft {
    let config = CodecConfig {
        led_top,
        hop: 24,
        synthesis_window: 96,
        noise_band: [1000, 2500],
        noise_bands,
        voiced_bands,
        voiced_top: 12_000,
        ..CodecConfig::default()
    };
    InverseStft::new(&config).unwrap()
}

#[test]
fn inverse_transforms() {
    for (noise_bands, voiced_bands, led_top, frames) in [
        (5, 0, 0, 9),
        (8, 3, 0, 9),
        (8, 3, 0, 2),
        (5, 0, 6000, 9),
        (8, 3, 6000, 9),
        (8, 3, 100_000, 3),
    ] {
        let stft = synthesis(noise_bands, voiced_bands, led_top);
        let head = (check::random(1, &[3, frames, stft.inputs()]) * 2.0).unwrap();
        // The last is far into a stream.
        let at = [0, 5, u64::MAX];
        same("inverse stft", &[head], 1e-4, |t| stft.forward(&t[0], &at));
    }
}

#[test]
fn losses() {
    let Some(gpu) = gpu() else { return };
    let resolutions = [
        Resolution { window: 32, hop: 8, mel_bands: 6, stft: true, gain: 1.0 },
        Resolution { window: 64, hop: 20, mel_bands: 0, stft: true, gain: 0.5 },
        Resolution { window: 16, hop: 4, mel_bands: 4, stft: false, gain: 2.0 },
        Resolution { window: 2048, hop: 512, mel_bands: 4, stft: true, gain: 2.0 },
    ];
    let (x, y) = (check::random(1, &[3, 150]), check::random(2, &[3, 150]));
    for (log, linear, complex_top) in [(0.0, 0.0, 24_000.0), (1.0, 0.5, 9_000.0)] {
        let weights = SpectralWeights { log, linear, complex_top, ..SpectralWeights::default() };
        let loss = SpectralLoss::new(48_000, &resolutions, weights).unwrap();
        let target = |t: &Tensor| y.to_device(t.device());
        same("spectral loss", std::slice::from_ref(&x), 1e-3, |t| {
            Ok(loss.forward(&t[0], &target(&t[0])?)?.0)
        });
        let terms = |x: &Tensor| loss.forward(x, &target(x).unwrap()).unwrap().1.read().unwrap();
        let (a, b) = (terms(&x.to_device(gpu).unwrap()), terms(&x));
        let pairs = [(a.mel, b.mel), (a.log, b.log), (a.linear, b.linear), (a.complex, b.complex)];
        assert!(pairs.iter().all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b)), "{a:?} {b:?}");
    }
    let stft = synthesis(8, 3, 6000);
    let (head, samples) =
        (check::random(1, &[3, 9, stft.inputs()]), check::random(2, &[3, 9 * 24]));
    let own = [gpu, &Device::Cpu].map(|d| EnvelopeLoss::new(&stft, d).unwrap());
    same("envelope", std::slice::from_ref(&head), 1e-4, |t| {
        let loss = if t[0].device().is_cuda() { &own[0] } else { &own[1] };
        loss.forward(&t[0], &samples.to_device(t[0].device())?)
    });
    let lead = LeadLoss::new(&stft).unwrap().unwrap();
    same("lead", &[head], 1e-4, |t| lead.forward(&t[0], &samples.to_device(t[0].device())?));
}

#[test]
fn codes_and_steps() {
    let Some(gpu) = gpu() else { return };
    let (vectors, codes) = (check::random(1, &[300, 8]), check::random(2, &[77, 8]));
    let at = |d: &Device| {
        nearest(&vectors.to_device(d).unwrap(), &codes.to_device(d).unwrap())
            .unwrap()
            .to_vec1::<u32>()
            .unwrap()
    };
    assert_eq!(at(gpu), at(&Device::Cpu));
    let tensors = [check::random(1, &[70, 33]), check::random(2, &[5])];
    let on_gpu = tensors.clone().map(|t| t.to_device(gpu).unwrap());
    let (a, b) = (norm(on_gpu.iter()).unwrap(), norm(tensors.iter()).unwrap());
    assert!((a / b - 1.0).abs() < 1e-5, "{a} {b}");
}

/// The whole network forward and backward at the sizes that ship, with parameters as they start.
#[test]
fn a_network() {
    let Some(gpu) = gpu() else { return };
    let config = CodecConfig {
        level_bands: 64,
        noise_bands: 192,
        voiced_bands: 16,
        noise_band: [900, 1000],
        ..CodecConfig::default()
    };
    let cpu = Network::random(&config, 1, &Device::Cpu).unwrap();
    let tensors = cpu.params.snapshot().unwrap();
    let gpu_network = Network::from_tensors(&config, &tensors, gpu).unwrap();
    let samples = (check::random(3, &[2, 40 * config.hop]) * 0.3).unwrap();
    let resolutions = [(2048, 320), (512, 80), (32, 5)].map(|(window, mel_bands)| Resolution {
        window,
        hop: window / 4,
        mel_bands,
        stft: window > 32,
        gain: 1.0,
    });
    let weights = SpectralWeights { complex_top: 900.0, ..SpectralWeights::default() };
    let loss = SpectralLoss::new(config.sample_rate, &resolutions, weights).unwrap();
    let run = |network: &Network, device: &Device| {
        let samples = samples.to_device(device).unwrap();
        let latents = network.encoder.forward(&samples).unwrap();
        let mut rng = rand::SeedableRng::seed_from_u64(1);
        let codes = Bottleneck::Quantized(Choice::Nearest);
        let quantized = network.quantizer.train(&latents, codes, None, true, &mut rng).unwrap();
        // Codes of equal distance may differ; latents go on as they are.
        let head = network.decoder.describe(&latents).unwrap();
        let envelope = EnvelopeLoss::new(network.decoder.synthesis(), device).unwrap();
        let envelope = envelope.forward(&head, &samples).unwrap();
        let decoded = network.decoder.synthesis().forward(&head, &[3, 900]).unwrap();
        let spectral = loss.forward(&decoded, &samples).unwrap().0;
        let other = (quantized.commitment + quantized.diversity).unwrap();
        let total = ((spectral + envelope).unwrap() + (other * 0.1).unwrap()).unwrap();
        (latents, decoded, total.clone(), total.backward().unwrap())
    };
    let (a, b) = (run(&gpu_network, gpu), run(&cpu, &Device::Cpu));
    close("latents", &a.0, &b.0, 1e-3);
    close("samples", &a.1, &b.1, 1e-3);
    close("loss", &a.2, &b.2, 1e-3);
    let mut compared = 0;
    for ((name, var), (_, own)) in gpu_network.params.iter().zip(cpu.params.iter()) {
        let (Some(found), Some(expected)) = (a.3.get(var), b.3.get(own)) else { continue };
        let distance = (found.to_device(&Device::Cpu).unwrap() - expected).unwrap();
        let size = |t: &Tensor| values(&t.sqr().unwrap().sum_all().unwrap())[0].sqrt();
        let (distance, size) = (size(&distance), size(expected));
        assert!(distance <= 2e-2 * size + 1e-7, "gradient of {name}: {distance} of {size}");
        compared += 1;
    }
    assert!(compared > 40, "{compared} gradients");
    assert!(values(&a.0.mean_keepdim(D::Minus1).unwrap()).iter().all(|v| v.abs() < 1e-3));
}
