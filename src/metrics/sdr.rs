//! Scale-invariant signal-to-distortion ratio.

/// SI-SDR of `y` against `x` in dB after removal of the means; equal lengths, at least 1.
pub(super) fn si_sdr(x: &[f64], y: &[f64]) -> f64 {
    // Keeps silence from dividing by nothing.
    const FLOOR: f64 = 1e-12;
    let mean = |s: &[f64]| s.iter().sum::<f64>() / s.len() as f64;
    let (mean_x, mean_y) = (mean(x), mean(y));
    let centred = || x.iter().zip(y).map(|(a, b)| (a - mean_x, b - mean_y));
    let (xy, xx) = centred().fold((0.0, 0.0), |(xy, xx), (a, b)| (xy + a * b, xx + a * a));
    let scale = xy / (xx + FLOOR);
    let (target, noise) = centred().fold((0.0, 0.0), |(target, noise), (a, b)| {
        let t = scale * a;
        (target + t * t, noise + (b - t) * (b - t))
    });
    10.0 * ((target + FLOOR) / (noise + FLOOR)).log10()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scale_and_offset_are_forgiven() {
        // x and the error are orthogonal, the error 20 dB below.
        let x = [1.0, -1.0, 1.0, -1.0];
        let error = [0.1, 0.1, -0.1, -0.1];
        let y: Vec<f64> = x.iter().zip(error).map(|(a, e)| 0.5 * (a + e) + 0.25).collect();
        assert!((si_sdr(&x, &y) - 20.0).abs() < 1e-6);
    }
}
