//! AdamW (Loshchilov and Hutter 2019), with gradient clipping and a running mean of the weights.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{CpuStorage, InplaceOp2, InplaceOp3, Layout, Result, Tensor, Var};
use multiversion::multiversion;
use rayon::prelude::*;

use super::config::OptimizerConfig;
use crate::model::Params;
use crate::model::ops::{self, values};

const EPSILON: f64 = 1e-8;
/// Values given to a thread at a time.
const BLOCK: usize = 1 << 14;

/// State of one parameter.
struct Slot {
    var: Var,
    first: Tensor,
    second: Tensor,
    average: Tensor,
    decays: bool,
}

/// The optimizer: moments and running mean by parameter name.
pub struct AdamW {
    config: OptimizerConfig,
    slots: BTreeMap<String, Slot>,
    steps: u64,
}

impl AdamW {
    /// An optimizer of the parameters whose names `moves` accepts, not having moved yet.
    ///
    /// # Errors
    /// The device fails.
    pub fn new(
        params: &Params,
        config: &OptimizerConfig,
        moves: impl Fn(&str) -> bool,
    ) -> Result<Self> {
        let mut slots = BTreeMap::new();
        for (name, var) in params.iter().filter(|(name, _)| moves(name)) {
            let slot = Slot {
                var: var.clone(),
                first: var.zeros_like()?,
                second: var.zeros_like()?,
                average: var.as_detached_tensor().copy()?,
                decays: var.rank() > 1,
            };
            slots.insert(name.clone(), slot);
        }
        Ok(Self { config: config.clone(), slots, steps: 0 })
    }

    /// Moves all parameters that have a gradient against it, each at the learning rate of its name. Gives
    /// the norm of the gradient before clipping; if it is not finite, nothing has been moved.
    ///
    /// # Errors
    /// The device fails.
    pub fn step(&mut self, grads: &GradStore, rate: impl Fn(&str) -> f64) -> Result<f64> {
        let moved = self.slots.values().filter_map(|slot| grads.get(&slot.var));
        let norm = ops::norm(moved)?;
        if !norm.is_finite() {
            return Ok(norm);
        }
        self.steps += 1;
        let o = &self.config;
        let scale = (o.clip / norm.max(1e-12)).min(1.0) as f32;
        let steps = self.steps as f64;
        // The running mean follows closely at first, so that it forgets where it began.
        let keep = o.average.min((steps + 1.0) / (steps + 10.0));
        for (name, slot) in &self.slots {
            let Some(grad) = grads.get(&slot.var) else { continue };
            let grad = grad.contiguous()?;
            let rate = rate(name);
            let apply = Apply {
                rate: (rate / (1.0 - o.beta1.powf(steps))) as f32,
                correction: (1.0 / (1.0 - o.beta2.powf(steps))) as f32,
                decay: if slot.decays { (rate * o.weight_decay) as f32 } else { 0.0 },
            };
            let first = Toward { share: (1.0 - o.beta1) as f32, scale, square: false };
            let second = Toward { share: (1.0 - o.beta2) as f32, scale, square: true };
            let average = Toward { share: (1.0 - keep) as f32, scale: 1.0, square: false };
            #[cfg(feature = "cuda")]
            if slot.var.device().is_cuda() {
                let state = [slot.var.as_tensor(), &slot.first, &slot.second, &slot.average];
                let step = [
                    scale,
                    first.share,
                    second.share,
                    apply.rate,
                    apply.correction,
                    apply.decay,
                    average.share,
                ];
                ops::adamw_on_gpu(state, &grad, step)?;
                continue;
            }
            if slot.var.device().is_cpu() {
                slot.first.inplace_op2(&grad, &first)?;
                slot.second.inplace_op2(&grad, &second)?;
                slot.var.inplace_op3(&slot.first, &slot.second, &apply)?;
                slot.average.inplace_op2(slot.var.as_tensor(), &average)?;
            } else {
                first.on_device(&slot.first, &grad)?;
                second.on_device(&slot.second, &grad)?;
                apply.on_device(&slot.var, &slot.first, &slot.second)?;
                average.on_device(&slot.average, slot.var.as_tensor())?;
            }
        }
        Ok(norm)
    }

    /// Steps done.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The running means, by parameter name.
    pub fn averages(&self) -> BTreeMap<String, Tensor> {
        self.slots.iter().map(|(name, slot)| (name.clone(), slot.average.clone())).collect()
    }

    /// Starts moments and means anew from the parameters as they are, for parameters whose meaning has
    /// just been changed from outside.
    ///
    /// # Errors
    /// The device fails.
    pub fn restart(&mut self, changed: impl Fn(&str) -> bool) -> Result<()> {
        for (_, slot) in self.slots.iter_mut().filter(|(name, _)| changed(name)) {
            slot.first = slot.var.zeros_like()?;
            slot.second = slot.var.zeros_like()?;
            slot.average = slot.var.as_detached_tensor().copy()?;
        }
        Ok(())
    }

    /// Everything a checkpoint needs besides [`Self::steps`], by name.
    pub fn state(&self) -> BTreeMap<String, Tensor> {
        let mut tensors = BTreeMap::new();
        for (name, slot) in &self.slots {
            tensors.insert(format!("first.{name}"), slot.first.clone());
            tensors.insert(format!("second.{name}"), slot.second.clone());
            tensors.insert(format!("average.{name}"), slot.average.clone());
        }
        tensors
    }

    /// Puts back what [`Self::steps`] and [`Self::state`] gave.
    ///
    /// # Errors
    /// A tensor is missing or has another shape.
    pub fn set_state(&mut self, steps: u64, tensors: &BTreeMap<String, Tensor>) -> Result<()> {
        for (name, slot) in &mut self.slots {
            let get = |part: &str| -> Result<Tensor> {
                match tensors.get(&format!("{part}.{name}")) {
                    Some(t) if t.shape() == slot.var.shape() => {
                        t.to_device(slot.var.device())?.copy()
                    }
                    _ => candle_core::bail!("the optimizer's `{part}.{name}` is missing"),
                }
            };
            let (first, second, average) = (get("first")?, get("second")?, get("average")?);
            (slot.first, slot.second, slot.average) = (first, second, average);
        }
        self.steps = steps;
        Ok(())
    }
}

/// `state += share * (scale * x or its square - state)`.
struct Toward {
    share: f32,
    scale: f32,
    square: bool,
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn toward(state: &mut [f32], x: &[f32], share: f32, scale: f32, square: bool) {
    if square {
        for (s, x) in state.iter_mut().zip(x) {
            let x = scale * x;
            *s += share * (x * x - *s);
        }
    } else {
        for (s, x) in state.iter_mut().zip(x) {
            *s += share * (scale * x - *s);
        }
    }
}

impl Toward {
    fn on_device(&self, state: &Tensor, x: &Tensor) -> Result<()> {
        let x = (x.detach() * f64::from(self.scale))?;
        let x = if self.square { x.sqr()? } else { x };
        let share = f64::from(self.share);
        let new = ((state * (1.0 - share))? + (x * share)?)?;
        state.slice_set(&new.flatten_all()?.reshape(state.shape())?, 0, 0)
    }
}

impl InplaceOp2 for Toward {
    fn name(&self) -> &'static str {
        "toward"
    }

    fn cpu_fwd(
        &self,
        state: &mut CpuStorage,
        state_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        let state = values_mut(state, state_layout)?;
        let x = values(x, x_layout)?;
        state
            .par_chunks_mut(BLOCK)
            .zip(x.par_chunks(BLOCK))
            .for_each(|(s, x)| toward(s, x, self.share, self.scale, self.square));
        Ok(())
    }
}

/// The step itself.
struct Apply {
    rate: f32,
    correction: f32,
    decay: f32,
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn apply(p: &mut [f32], first: &[f32], second: &[f32], rate: f32, correction: f32, decay: f32) {
    for ((p, m), v) in p.iter_mut().zip(first).zip(second) {
        *p -= decay * *p + rate * m / ((v * correction).sqrt() + EPSILON as f32);
    }
}

impl Apply {
    fn on_device(&self, var: &Var, first: &Tensor, second: &Tensor) -> Result<()> {
        let root = ((second * f64::from(self.correction))?.sqrt()? + EPSILON)?;
        let step = ((first * f64::from(self.rate))? / root)?;
        let kept = (var.as_detached_tensor() * (1.0 - f64::from(self.decay)))?;
        var.set(&(kept - step)?)
    }
}

impl InplaceOp3 for Apply {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn cpu_fwd(
        &self,
        p: &mut CpuStorage,
        p_layout: &Layout,
        first: &CpuStorage,
        first_layout: &Layout,
        second: &CpuStorage,
        second_layout: &Layout,
    ) -> Result<()> {
        let p = values_mut(p, p_layout)?;
        let (first, second) = (values(first, first_layout)?, values(second, second_layout)?);
        p.par_chunks_mut(BLOCK)
            .zip(first.par_chunks(BLOCK).zip(second.par_chunks(BLOCK)))
            .for_each(|(p, (m, v))| apply(p, m, v, self.rate, self.correction, self.decay));
        Ok(())
    }
}

fn values_mut<'a>(storage: &'a mut CpuStorage, layout: &Layout) -> Result<&'a mut [f32]> {
    let (CpuStorage::F32(all), Some((start, end))) = (storage, layout.contiguous_offsets()) else {
        candle_core::bail!("the optimizer was given a parameter that is not contiguous f32")
    };
    Ok(&mut all[start..end])
}

/// The learning rate at a step and a share of the run: linear warm-up, then half a cosine.
pub fn learning_rate(config: &OptimizerConfig, step: u64, progress: f64) -> f64 {
    let warm = ((step + 1) as f64 / config.warm_up.max(1) as f64).min(1.0);
    let cosine = 0.5 + 0.5 * (std::f64::consts::PI * progress.clamp(0.0, 1.0)).cos();
    config.learning_rate * warm * (config.final_share + (1.0 - config.final_share) * cosine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn finds_the_minimum_of_a_bowl() {
        let mut params = Params::new(&Device::Cpu);
        let x = params.random(1).normal("x", (3, 4), 1.0).unwrap();
        let config = OptimizerConfig { weight_decay: 0.0, ..OptimizerConfig::default() };
        let mut optimizer = AdamW::new(&params, &config, |_| true).unwrap();
        for step in 0..400 {
            let loss = (&x - 0.5).unwrap().sqr().unwrap().sum_all().unwrap();
            let grads = loss.backward().unwrap();
            optimizer.step(&grads, |_| 0.05 * (1.0 - step as f64 / 400.0)).unwrap();
        }
        let values: Vec<f32> = x.flatten_all().unwrap().to_vec1().unwrap();
        assert!(values.iter().all(|v| (v - 0.5).abs() < 1e-2), "{values:?}");
        let average = &optimizer.averages()["x"];
        let average: Vec<f32> = average.flatten_all().unwrap().to_vec1().unwrap();
        assert!(average.iter().all(|v| (v - 0.5).abs() < 0.1), "{average:?}");
    }

    #[test]
    fn the_device_path_is_the_same() {
        let device = Device::Cpu;
        let state = Tensor::new(&[[1.0f32, -2.0], [3.0, 4.0]], &device).unwrap();
        let x = Tensor::new(&[[0.5f32, 0.5], [-1.0, 2.0]], &device).unwrap();
        for square in [false, true] {
            let op = Toward { share: 0.3, scale: 0.7, square };
            let (a, b) = (state.copy().unwrap(), state.copy().unwrap());
            a.inplace_op2(&x, &op).unwrap();
            op.on_device(&b, &x).unwrap();
            let (a, b) = (a.flatten_all().unwrap(), b.flatten_all().unwrap());
            let (a, b): (Vec<f32>, Vec<f32>) = (a.to_vec1().unwrap(), b.to_vec1().unwrap());
            assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-6), "{a:?} {b:?}");
        }
        let op = Apply { rate: 0.1, correction: 2.0, decay: 0.01 };
        let (a, b) = (Var::from_tensor(&x).unwrap(), Var::from_tensor(&x).unwrap());
        let (m, v) = (state.clone(), state.sqr().unwrap());
        a.inplace_op3(&m, &v, &op).unwrap();
        op.on_device(&b, &m, &v).unwrap();
        let (a, b): (Vec<Vec<f32>>, Vec<Vec<f32>>) = (a.to_vec2().unwrap(), b.to_vec2().unwrap());
        assert!(a.concat().iter().zip(&b.concat()).all(|(a, b)| (a - b).abs() < 1e-6));
    }

    /// Where there is no GPU nothing is checked.
    #[cfg(feature = "cuda")]
    #[test]
    fn a_gpu_steps_as_the_cpu_does() {
        let Ok(gpu) = Device::new_cuda(0) else { return };
        let random = |seed| crate::model::ops::check::random(seed, &[70, 33]);
        let run = |device: &Device| {
            let mut params = Params::new(device);
            let tensors = BTreeMap::from([("x".into(), random(5))]);
            let x = params.from(&tensors).constant("x", (70, 33), 0.0).unwrap();
            // The same gradient in each step: nothing turns on the last bits of a small one.
            let slope = random(6).to_device(device).unwrap();
            let config = OptimizerConfig::default();
            let mut optimizer = AdamW::new(&params, &config, |_| true).unwrap();
            let mut norm = 0.0;
            for step in 0..20 {
                let grads = (&x * &slope).unwrap().sum_all().unwrap().backward().unwrap();
                norm = optimizer.step(&grads, |_| 0.001 * f64::from(step)).unwrap();
            }
            let state = optimizer.state().into_values().chain([x]);
            let values: Vec<f32> =
                state.flat_map(|t| t.flatten_all().unwrap().to_vec1::<f32>().unwrap()).collect();
            (norm, values)
        };
        let ((a_norm, a), (b_norm, b)) = (run(&gpu), run(&Device::Cpu));
        assert!((a_norm / b_norm - 1.0).abs() < 1e-4);
        assert!(a.iter().zip(&b).all(|(a, b)| (a - b).abs() < 1e-4 * (1.0 + b.abs())));
    }

    #[test]
    fn a_gradient_that_is_not_finite_moves_nothing() {
        let mut params = Params::new(&Device::Cpu);
        let x = params.random(1).normal("x", 4, 1.0).unwrap();
        let before: Vec<f32> = x.to_vec1().unwrap();
        let mut optimizer = AdamW::new(&params, &OptimizerConfig::default(), |_| true).unwrap();
        let grads = (&x / 0.0).unwrap().sum_all().unwrap().backward().unwrap();
        assert!(!optimizer.step(&grads, |_| 0.1).unwrap().is_finite());
        assert_eq!(x.to_vec1::<f32>().unwrap(), before);
    }

    #[test]
    fn the_rate_rises_then_falls() {
        let config = OptimizerConfig::default();
        assert!(learning_rate(&config, 0, 0.0) < config.learning_rate / 50.0);
        assert!((learning_rate(&config, 1000, 0.0) - config.learning_rate).abs() < 1e-9);
        let end = learning_rate(&config, 1000, 1.0);
        assert!((end - config.learning_rate * config.final_share).abs() < 1e-9);
    }
}
