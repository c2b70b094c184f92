//! Rate control: of all encodings that fit a rate, the best.

use super::Encoding;
use crate::config::CodecConfig;
use crate::lines::Selection;

/// What a bit costs on the rungs of a level, from dear to cheap: beyond that, a level more or less does more for as many bits
/// (`docs/training.md`).
const PRICES: [f32; 6] = [1.25, 1.0, 0.8, 0.65, 0.5, 0.4];
/// A rate that is filled to this share is full: it is about half of what lies between two rungs.
const FULL: f64 = 0.985;
/// Lines between few and many.
const SOME: Selection = Selection {
    most: 5,
    begins: 26.0,
    goes_on: 19.0,
    comb: 4,
    beside: 0,
    grain: 2,
    trim: Selection::FEW.trim,
};
/// What codes take of their packed bits with a prior, and thousands of bits a second that lines, grains, trims and a short file's head
/// take beside them, few, some and many: where to begin.
const SQUEEZED: f64 = 0.8;
const BESIDE: [f64; 3] = [0.35, 0.8, 1.3];
/// What a price does to all of them, as a power of it.
const DEARER: f64 = -0.1;

/// The encodings of a model in the order of the bits that they take, from the fewest. Each is there because it does more with its bits
/// than others would.
///
/// ```
/// use tessera_codec::config::CodecConfig;
/// use tessera_codec::files::Ladder;
///
/// let config = CodecConfig::default(); // packed: 0.25, 0.75, 1.75, 2.75 kbps
/// let ladder = Ladder::new(&config, None);
/// // As if a file took what its codes take packed.
/// let best = ladder.climb(2.0, |rung| {
///     let kbps = config.bits_per_second(rung.levels) / 1000.0;
///     Ok::<_, ()>((kbps, rung.levels))
/// });
/// assert_eq!(best, Ok(Some(3)));
/// ```
#[derive(Debug, Clone)]
pub struct Ladder {
    rungs: Vec<Rung>,
}

#[derive(Debug, Clone, Copy)]
struct Rung {
    encoding: Encoding,
    /// Thousands of bits a second that a channel is thought to take.
    thought: f64,
}

impl Ladder {
    /// For a model of `config`: with `lines`, if they are given, and otherwise with as many as do most for their bits. These are few,
    /// unless there are no more levels or the next one's codes are more bits than there are.
    pub fn new(config: &CodecConfig, lines: Option<Selection>) -> Self {
        let mut rungs: Vec<Rung> = Vec::new();
        for levels in 1..=config.levels() {
            let suiting = Selection::suiting(config, levels);
            let with_trim = |lines: Selection| Selection { trim: suiting.trim, ..lines };
            let steps = [Selection::FEW, SOME, Selection::MANY].map(with_trim);
            let steps = match lines {
                Some(lines) => vec![lines],
                None if suiting == Selection::NONE => vec![suiting],
                None if levels < config.levels() => steps[..2].to_vec(),
                None => steps.to_vec(),
            };
            let codes = config.bits_per_second(levels) / 1000.0 * SQUEEZED;
            for (lines, beside) in steps.into_iter().zip(BESIDE) {
                let added = PRICES.map(|price| Rung {
                    encoding: Encoding { levels, lines: Some(lines), price },
                    thought: (codes + beside) * f64::from(price).powf(DEARER),
                });
                // Fewer codes or lines have their place below what is better.
                rungs.retain(|rung| added.iter().all(|other| rung.thought < other.thought));
                rungs.extend(added);
            }
        }
        Self { rungs }
    }

    /// The encodings, from the one of the fewest bits.
    pub fn encodings(&self) -> impl Iterator<Item = Encoding> {
        self.rungs.iter().map(|rung| rung.encoding)
    }

    /// What `encode` makes of the highest rung that takes at most `most` thousands of bits a second, or nearly so; `None` where none takes
    /// so few. `encode` gives the rate of what it makes beside it; rates are those of one channel. It is asked three to six times.
    ///
    /// # Errors
    /// That of `encode`, as soon as there is one.
    pub fn climb<T, E>(
        &self,
        most: f64,
        mut encode: impl FnMut(Encoding) -> Result<(f64, T), E>,
    ) -> Result<Option<T>, E> {
        // Rungs below `low` fit, and those from `high` on do not.
        let (mut low, mut high) = (0, self.rungs.len());
        let mut best: Option<(f64, T)> = None;
        // How many times what was thought this sound takes.
        let mut scale = 1.0;
        while low < high {
            let fits = |rung: &Rung| rung.thought * scale <= most;
            let next = low + self.rungs[low..high].iter().rposition(fits).unwrap_or(0);
            let rung = &self.rungs[next];
            let (rate, made) = encode(rung.encoding)?;
            scale = rate / rung.thought;
            if rate > most {
                high = next;
                continue;
            }
            // Where a sound has few lines, dear bits beside more of them may be fewer than cheap ones beside less.
            if best.as_ref().is_none_or(|(other, _)| rate >= *other) {
                best = Some((rate, made));
            }
            if rate >= most * FULL {
                break;
            }
            low = next + 1;
        }
        Ok(best.map(|(_, made)| made))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seven_levels() -> CodecConfig {
        let mut config = CodecConfig::default();
        config.vq.strides = vec![4, 2, 1, 1, 2, 1, 1];
        config
    }

    #[test]
    fn rungs_rise() {
        let ladder = Ladder::new(&seven_levels(), None);
        let encodings: Vec<Encoding> = ladder.encodings().collect();
        assert!(encodings.windows(2).all(|pair| pair[0].levels <= pair[1].levels));
        assert!(ladder.rungs.windows(2).all(|pair| pair[0].thought < pair[1].thought));
        let lines = |levels: usize| -> Vec<usize> {
            let own = encodings.iter().filter(|e| e.levels == levels);
            let mut most: Vec<usize> = own.map(|e| e.lines.unwrap().most).collect();
            most.dedup();
            most
        };
        // A sixth level is many more bits than a fifth, and a fifth next to none more than some lines.
        assert_eq!([4, 5, 7].map(lines), [vec![3], vec![3, 5], vec![3, 5, 8]]);
        // What was asked for, on every rung.
        let none = Ladder::new(&seven_levels(), Some(Selection::NONE));
        assert!(none.encodings().all(|e| e.lines == Some(Selection::NONE)));
        // A codec whose lines would come late.
        let quick = CodecConfig { hop: 240, synthesis_window: 480, ..CodecConfig::default() };
        let ladder = Ladder::new(&quick, None);
        assert!(ladder.encodings().all(|e| e.lines == Some(Selection::NONE)));
    }

    #[test]
    fn an_error_ends_the_climb() {
        let ladder = Ladder::new(&seven_levels(), None);
        let mut asked = 0;
        let climbed = ladder.climb(3.0, |_| {
            asked += 1;
            Err::<(f64, ()), _>("no space")
        });
        assert_eq!((climbed, asked), (Err("no space"), 1));
    }

    proptest! {
        /// Whatever the sound: nothing above the rate, and no rung left unused but those that would bring next to nothing.
        #[test]
        fn rates_are_filled(
            most in 0.05..20.0f64,
            scale in 0.3..3.0f64,
            head in 0.0..1.0f64,
            steepness in 0.5..1.5f64,
        ) {
            let ladder = Ladder::new(&seven_levels(), None);
            let rates: Vec<f64> =
                ladder.rungs.iter().map(|r| head + scale * r.thought.powf(steepness)).collect();
            // These need not rise with the rungs, where one level's dearest bits follow the cheapest of another.
            let rises = rates.windows(2).all(|pair| pair[0] < pair[1]);
            let mut asked = Vec::new();
            let found = ladder.climb(most, |encoding| {
                let place = ladder.rungs.iter().position(|r| r.encoding == encoding).unwrap();
                asked.push(place);
                Ok::<_, ()>((rates[place], place))
            });
            let found = found.unwrap();
            if let Some(place) = found {
                prop_assert!(rates[place] <= most);
                prop_assert!(asked.iter().all(|&p| rates[p] > most || rates[p] <= rates[place]));
            }
            if rises {
                let best = rates.iter().rposition(|&rate| rate <= most);
                match (best, found) {
                    (Some(best), Some(found)) => {
                        prop_assert!(best == found || rates[found] >= FULL * most);
                    }
                    (best, found) => prop_assert_eq!(best, found),
                }
            }
            prop_assert!(asked.len() <= 8, "{} of {}", asked.len(), rates.len());
        }
    }
}
