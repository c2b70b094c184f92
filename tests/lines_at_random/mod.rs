//! Lines as a file may hold them, from numbers at random.

use tessera_codec::lines::{LEVELS, Line, Lines, PITCHES, SLOTS};

/// Lines of `steps` steps that follow `before`: in each slot one begins now and then, goes on as far as it may
/// and ends.
pub fn following(mut before: Lines, steps: usize, mut number: impl FnMut() -> u32) -> Vec<Lines> {
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
        before = now;
        now
    };
    (0..steps).map(step).collect()
}
