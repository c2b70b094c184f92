//! Level dropout: a share of the crops gets only the first levels, so that fewer levels are a codec, too.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::config::VqTraining;
use super::dataset::Weighted;

/// Which levels each item of a batch gets, (batch, levels) of 1 and 0; `levels` is not 0.
pub(super) fn draw(
    training: &VqTraining,
    batch: usize,
    levels: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<f32> {
    let mut prefixes = Weighted::default();
    for kept in 1..=levels {
        prefixes.push(kept, *training.prefix_weights.get(kept - 1).unwrap_or(&1.0));
    }
    let mut keep = vec![1.0; batch * levels];
    for item in keep.chunks_exact_mut(levels) {
        if rng.random::<f64>() < training.level_dropout {
            item[prefixes.at(rng.random())..].fill(0.0);
        }
    }
    keep
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn prefixes_come_as_often_as_their_weights_say() {
        let training = VqTraining {
            level_dropout: 0.8,
            prefix_weights: vec![0.0, 3.0],
            ..VqTraining::default()
        };
        let count = 20_000;
        let keep = draw(&training, count, 4, &mut ChaCha8Rng::seed_from_u64(1));
        let mut found = [0; 5];
        for item in keep.chunks_exact(4) {
            let kept = item.partition_point(|&level| level == 1.0);
            assert!(item[kept..].iter().all(|&level| level == 0.0), "no prefix: {item:?}");
            found[kept] += 1;
        }
        // Two, three and four levels as 3 to 1 to 1 in 0.8 of the crops, and all four in the rest.
        for (found, share) in found.into_iter().zip([0.0, 0.0, 0.48, 0.16, 0.36]) {
            assert!((f64::from(found) / count as f64 - share).abs() < 0.015, "{found} {share}");
        }
    }
}
