//! The loss on NVIDIA GPUs: value and gradient in one pass, as on the CPU, with the transforms as matrix
//! products.

use std::f32::consts::LN_10;

use candle_core::{Device, Result, Tensor};

use super::super::cuda::{self, Arg, Frames};
use super::super::explicit::explicit;
use super::plan::Plan;
use super::terms::{FLOOR, SOFT, TINY};
use super::{LEAST, SpectralLoss, SpectralTerms, Terms, mel};

/// Sums that a resolution has: of the mel, log, linear and complex distances.
const SUMS: usize = 4;

/// What a resolution keeps on the device.
pub struct Tables {
    window: Tensor,
    basis: Tensor,
    bank: Option<Tensor>,
}

impl Tables {
    fn new(plan: &Plan, device: &Device) -> Result<Self> {
        let n = plan.resolution.window;
        let bank = match plan.bands.is_empty() {
            true => None,
            false => Some(mel::matrix(&plan.bands, n, device)?),
        };
        Ok(Self {
            window: Tensor::from_slice(&plan.window, n, device)?,
            basis: cuda::analysis(n, 0, n / 2 + 1, device)?,
            bank,
        })
    }
}

/// The loss as a scalar with its gradient, and its terms.
pub fn forward(
    loss: &SpectralLoss,
    prediction: &Tensor,
    target: &Tensor,
) -> Result<(Tensor, Terms)> {
    let device = prediction.device();
    let (batch, samples) = prediction.dims2()?;
    let (x, y) = (prediction.detach(), target.detach());
    let sums = Tensor::zeros((loss.plans.len(), SUMS), candle_core::DType::F32, device)?;
    let mut gradient = None;
    // What each sum counts for in the mean of its term.
    let mut shares = Vec::with_capacity(loss.plans.len());
    for (i, plan) in loss.plans.iter().enumerate() {
        let rows = batch * plan.frame_count(samples);
        let mut means = SpectralTerms::default();
        if rows > 0 {
            let tables = plan.tables.get(|| Tables::new(plan, device))?;
            let of_plan = OfPlan { loss, plan, tables, batch };
            let sums = sums.narrow(0, i, 1)?;
            (gradient, means) = of_plan.add(&x, &y, &sums, gradient)?;
        }
        shares.push(means);
    }
    let Some(gradient) = gradient else {
        let nothing = (prediction.sum_all()? * 0.0)?;
        return Ok((nothing, Terms::Known(SpectralTerms::default())));
    };
    let w = &loss.weights;
    let weighted = shares
        .iter()
        .flat_map(|m| [m.mel * w.mel, m.log * w.log, m.linear * w.linear, m.complex * w.complex]);
    let weighted = Tensor::from_iter(weighted.map(|v| v as f32), device)?;
    let value = (sums.flatten_all()? * weighted)?.sum_all()?;
    let loss = explicit(prediction, value, move |grad| gradient.broadcast_mul(grad))?;
    Ok((loss, Terms::OnDevice { sums, shares }))
}

/// One resolution, with what it needs to be computed.
struct OfPlan<'a> {
    loss: &'a SpectralLoss,
    plan: &'a Plan,
    tables: &'a Tables,
    batch: usize,
}

impl OfPlan<'_> {
    /// Adds the distances to `sums` and the gradient in `x` to `gradient`; gives the latter, and what the sums
    /// count for.
    fn add(
        &self,
        x: &Tensor,
        y: &Tensor,
        sums: &Tensor,
        gradient: Option<Tensor>,
    ) -> Result<(Option<Tensor>, SpectralTerms)> {
        let Self { loss, plan, tables, batch } = self;
        let device = cuda::device(x)?;
        let (n, gain) = (plan.resolution.window, plan.resolution.gain);
        let (bins, top, bands) = (n / 2 + 1, plan.complex_bins, plan.bands.len());
        let samples = x.dim(1)?;
        let frames =
            Frames { count: plan.frame_count(samples), hop: plan.resolution.hop, offset: 0 };
        let rows = batch * frames.count;
        let spectrum = |s: &Tensor| frames.of(s, n, Some(&tables.window))?.matmul(&tables.basis);
        let (sx, sy) = (spectrum(x)?, spectrum(y)?);
        let per = |count: usize| gain / (rows * count.max(1)) as f64;
        let stft = if plan.resolution.stft { 1.0 } else { 0.0 };
        let ln_10 = f64::from(LN_10);
        let means = SpectralTerms {
            mel: per(bands) / ln_10,
            log: stft * per(bins) * 2.0 / ln_10,
            linear: stft * per(bins),
            complex: stft * per(top),
        };
        let w = &loss.weights;
        let terms = Arg::Terms(cuda::Packed([
            (w.mel * means.mel) as f32,
            (w.log * means.log) as f32,
            (w.linear * means.linear) as f32,
            (w.complex * means.complex) as f32,
            w.power as f32,
            plan.scale,
            FLOOR,
            TINY,
            SOFT,
            LEAST,
        ]));
        let sum = |place: usize| -> Result<Arg> { cuda::of(&sums.narrow(1, place, 1)?) };
        let count = |n: usize| Arg::count(n);
        let d_magnitude = match &tables.bank {
            Some(bank) => {
                let magnitudes = |s: &Tensor| -> Result<Tensor> {
                    let out = cuda::empty(&device, rows * bins)?;
                    let args = [
                        cuda::of(s)?,
                        cuda::start(&out, 0)?,
                        count(bins)?,
                        count(rows * bins)?,
                        Arg::Float(TINY),
                    ];
                    cuda::launch(&device, "magnitudes", rows * bins, &args)?;
                    Ok(cuda::tensor(out, (rows, bins)))
                };
                let (a, b) = (magnitudes(&sx)?.matmul(bank)?, magnitudes(&sy)?.matmul(bank)?);
                let n = rows * bands;
                let args = [cuda::of(&a)?, cuda::of(&b)?, sum(0)?, count(n)?, terms];
                cuda::launch(&device, "mel_terms", n, &args)?;
                Some(a.matmul(&bank.t()?)?)
            }
            None => None,
        };
        let size = Tensor::zeros(1, candle_core::DType::F32, x.device())?;
        if plan.resolution.stft && w.complex > 0.0 {
            let n = rows * top;
            let args = [cuda::of(&sy)?, cuda::of(&size)?, count(bins)?, count(top)?, count(n)?];
            cuda::launch(&device, "compressed_size", n, &[&args[..], &[terms]].concat())?;
        }
        let d_spectrum = cuda::empty(&device, rows * 2 * bins)?;
        let args = [
            cuda::of(&sx)?,
            cuda::of(&sy)?,
            d_magnitude.as_ref().map_or(Ok(Arg::NULL), cuda::of)?,
            cuda::of(&size)?,
            sum(1)?,
            cuda::start(&d_spectrum, 0)?,
            count(bins)?,
            count(top)?,
            count(rows * bins)?,
            Arg::Float((rows * top) as f32),
            terms,
        ];
        cuda::launch(&device, "spectrum_terms", rows * bins, &args)?;
        let d_frames = cuda::tensor(d_spectrum, (rows, 2 * bins)).matmul(&tables.basis.t()?)?;
        let gradient = frames.overlap(&d_frames, &tables.window, *batch, samples, gradient)?;
        Ok((Some(gradient), means))
    }
}
