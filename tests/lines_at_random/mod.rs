//! Lines as a file may hold them, from numbers at random.

use tessera_codec::lines::{
    COMB_PITCHES, Comb, Grain, Kept, LEVELS, Line, Lines, MOST_TRIMMED, PITCHES, SLOTS, Trims,
};

/// Lines of `steps` steps that follow `before`: in each slot one begins now and then, goes on as far as it may
/// and ends. And combs, grains and trims, if they are kept.
pub fn following(
    kept: Kept,
    mut before: Lines,
    steps: usize,
    mut number: impl FnMut() -> u32,
) -> Vec<Lines> {
    let step = |_| {
        let mut now = Lines::NONE;
        for slot in 0..SLOTS {
            let [dice, a, b] = [number() % 8, number(), number()];
            let within = |value: u32, most: u32| value.min(most - 1);
            let (pitches, levels) = (u32::from(PITCHES), u32::from(LEVELS));
            let (pitch, level) = match before.slots()[slot] {
                Some(_) if dice == 0 => continue,
                Some(line) => (
                    within((u32::from(line.pitch()) + a % 21).saturating_sub(10), pitches),
                    within((u32::from(line.level()) + b % 15).saturating_sub(7), levels),
                ),
                None if dice == 1 => (a % pitches, b % levels),
                None => continue,
            };
            now.set(slot, Line::new(pitch as u16, level as u8));
        }
        if kept.combs() {
            let [dice, any, bent] = [number() % 8, number(), number() % 16];
            let pitch = match before.comb() {
                Some(comb) if dice > 1 => (u32::from(comb.pitch()) + bent).saturating_sub(8),
                _ => any,
            } % u32::from(COMB_PITCHES);
            let [low, high] = [any / 1000 % 4, any / 4000 % 4].map(|strength| strength as u8);
            now.set_comb(Comb::new(pitch as u8, [low, high]).filter(|_| dice > 0));
        }
        if kept.grains() {
            let mut rows = before.grain().rows();
            for row in &mut rows {
                let [dice, any] = [number() % 8, number()];
                match dice {
                    0 => *row = 0,
                    1 => *row = any as u8,
                    _ => {}
                }
            }
            now.set_grain(Grain::new(rows));
        }
        if kept.trims() {
            let mut bands = before.trims().bands();
            for trim in &mut bands {
                let any = number();
                if any.is_multiple_of(8) {
                    *trim = (any / 8 % 13) as i8 - MOST_TRIMMED;
                }
            }
            now.set_trims(Trims::new(bands).unwrap_or_default());
        }
        before = now;
        now
    };
    (0..steps).map(step).collect()
}
